// The Bochs display: a linear framebuffer on PCI whose mode is set by a dozen registers, without any of a
// VGA's past; what Linux's `bochs` driver drives.
//
// Implements: the legacy-free variant of QEMU's "Standard VGA" specification (docs/specs/standard-vga):
// 1234:1111, video memory in BAR 0; in BAR 2 the EDID, the DISPI registers of Bochs' VBE extension (Bochs,
// iodev/display/vbe.h) and the extended registers. 16, 24 and 32 bits a pixel.
//
// Video memory is host memory that harts write as they write RAM: drawing exits nowhere, and what changed is
// for the viewer to find out. It is not a target of DMA.
//
// Untrusted input: every register. They keep whatever was written; the mode is worked out when a picture is
// taken, and one that does not lie in video memory shows nothing.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/host_pages.h"
#include "devices/display.h"
#include "devices/edid.h"
#include "devices/hardware/pci_device.h"

namespace wirt::devices::hardware {

class BochsDisplay final : public PciDevice, public memory::MmioDevice, public Display {
  public:
    BochsDisplay(std::string name, const DisplayMode& mode);
    ~BochsDisplay() override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

    void capture(Picture& out) override;

  private:
    class VideoMemory;
    static constexpr unsigned dispi_registers = 11;

    // What the registers say is shown; all of it lies in video memory.
    struct Scanout {
        u32 width, height;
        u32 bytes_per_pixel;
        u64 start, stride;  // bytes
        bool big_endian;
    };
    std::optional<Scanout> scanout() const;
    u8 read_byte(u32 offset) const;
    u16 dispi(unsigned index) const;

    const std::string name_;
    const DisplayMode power_on_mode_;
    const Edid edid_;
    const std::unique_ptr<VideoMemory> video_memory_;
    std::array<u16, dispi_registers> dispi_{};
    bool big_endian_ = false;
};

}  // namespace wirt::devices::hardware

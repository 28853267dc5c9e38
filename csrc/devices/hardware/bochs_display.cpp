#include "devices/hardware/bochs_display.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::devices::hardware {

namespace {

constexpr u64 mmio_bytes = 0x1000;
constexpr u64 least_video_memory = 16 * MiB;

// Bochs, iodev/display/vbe.h
enum : unsigned {
    VBE_DISPI_INDEX_ID,
    VBE_DISPI_INDEX_XRES,
    VBE_DISPI_INDEX_YRES,
    VBE_DISPI_INDEX_BPP,
    VBE_DISPI_INDEX_ENABLE,
    VBE_DISPI_INDEX_BANK,
    VBE_DISPI_INDEX_VIRT_WIDTH,
    VBE_DISPI_INDEX_VIRT_HEIGHT,
    VBE_DISPI_INDEX_X_OFFSET,
    VBE_DISPI_INDEX_Y_OFFSET,
    VBE_DISPI_INDEX_VIDEO_MEMORY_64K,
};
constexpr u16 VBE_DISPI_ID5 = 0xb0c5;
constexpr u16 VBE_DISPI_ENABLED = 0x01;

// QEMU, docs/specs/standard-vga, "MMIO area spec"
constexpr u32 edid_area = 0x000, dispi_area = 0x500, dispi_end = 0x516, qext_size = 0x600,
              qext_endian = 0x604, qext_end = 0x608;
constexpr u32 little_endian = 0x1e1e1e1e, big_endian = 0xbebebebe;

using enum memory::RegisterAccess;
constexpr const char* vbe = "Bochs, vbe.h";
constexpr const char* area = "QEMU, standard-vga, MMIO area";

constexpr memory::Register register_table[] = {
    {edid_area, 0x400, ro, "EDID", 0, area},
    {dispi_area + 0x00, 2, ro, "ID", VBE_DISPI_ID5, vbe},
    {dispi_area + 0x02, 2, rw, "XRES", 0, vbe},
    {dispi_area + 0x04, 2, rw, "YRES", 0, vbe},
    {dispi_area + 0x06, 2, rw, "BPP", 0, vbe},
    {dispi_area + 0x08, 2, rw, "ENABLE", 0, vbe},
    {dispi_area + 0x0a, 2, rw, "BANK", 0, vbe},
    {dispi_area + 0x0c, 2, rw, "VIRT_WIDTH", 0, vbe},
    {dispi_area + 0x0e, 2, rw, "VIRT_HEIGHT", 0, vbe},
    {dispi_area + 0x10, 2, rw, "X_OFFSET", 0, vbe},
    {dispi_area + 0x12, 2, rw, "Y_OFFSET", 0, vbe},
    {dispi_area + 0x14, 2, ro, "VIDEO_MEMORY_64K", 0, vbe},
    {qext_size, 4, ro, "extended register size", qext_end - qext_size, area},
    {qext_endian, 4, rw, "framebuffer byte order", little_endian, area},
};

u64 video_memory_bytes(const DisplayMode& mode) {
    return std::max(least_video_memory, std::bit_ceil(u64{mode.width} * mode.height * 4));
}

u32 expand(u32 value, unsigned bits) {
    return value << (8 - bits) | value >> (2 * bits - 8);
}

void copy_row(u32* to, const u8* from, u32 width, u32 bytes_per_pixel, bool swapped) {
    for (u32 x = 0; x < width; ++x, from += bytes_per_pixel) {
        if (bytes_per_pixel == 4) {
            const u32 pixel = load_le<u32>(from);
            to[x] = (swapped ? __builtin_bswap32(pixel) : pixel) & 0xff'ffff;
        } else if (bytes_per_pixel == 3) {
            to[x] = u32{from[swapped ? 0 : 2]} << 16 | u32{from[1]} << 8 | from[swapped ? 2 : 0];
        } else {
            const u16 stored = load_le<u16>(from);
            const u32 pixel = swapped ? __builtin_bswap16(stored) : stored;
            to[x] = expand(pixel >> 11, 5) << 16 | expand(pixel >> 5 & 63, 6) << 8 | expand(pixel & 31, 5);
        }
    }
}

}  // namespace

class BochsDisplay::VideoMemory final : public memory::MmioDevice {
  public:
    VideoMemory(std::string name, u64 size)
        : name_(std::move(name)), pages_(std::make_shared<HostPages>(size)) {
        if (!*pages_) {
            throw ConfigError("the host cannot reserve " + std::to_string(size / MiB) +
                              " MiB of video memory: " + std::strerror(errno));
        }
    }

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return {&whole_, 1}; }
    std::shared_ptr<HostPages> host_pages() override { return pages_; }
    u64 read(u64 offset, unsigned size) override {
        u64 value = 0;
        std::memcpy(&value, pages_->data() + offset, size);
        return value;
    }
    void write(u64 offset, unsigned size, u64 value) override {
        std::memcpy(pages_->data() + offset, &value, size);
    }
    void reset() override { pages_->clear(0, pages_->size()); }
    void visit_state(StateVisitor& v) override {
        v.section(name_, 2);
        pages_->visit_state(v, "content");
    }

    const u8* data() const { return pages_->data(); }
    u64 size() const { return pages_->size(); }

  private:
    const std::string name_;
    const std::shared_ptr<HostPages> pages_;
    const memory::Register whole_{
        0, static_cast<u32>(pages_->size()), rw, "video memory", 0, "QEMU, standard-vga"};
};

BochsDisplay::BochsDisplay(std::string name, const DisplayMode& mode)
    : PciDevice({.vendor = 0x1234,
                 .device = 0x1111,
                 .revision = 2,             // has the extended registers
                 .class_code = 0x03'80'00,  // display, other: no VGA
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100}),
      name_(std::move(name)),
      power_on_mode_(mode),
      edid_(make_edid(mode)),
      video_memory_(std::make_unique<VideoMemory>(name_ + " video memory", video_memory_bytes(mode))) {
    add_bar(0, BarKind::memory64_prefetchable, video_memory_->size(), *video_memory_);
    add_bar(2, BarKind::memory32, mmio_bytes, *this);
}

BochsDisplay::~BochsDisplay() = default;

std::span<const memory::Register> BochsDisplay::registers() const {
    return register_table;
}

u16 BochsDisplay::dispi(unsigned index) const {
    if (index == VBE_DISPI_INDEX_ID) return VBE_DISPI_ID5;
    if (index == VBE_DISPI_INDEX_VIDEO_MEMORY_64K)
        return static_cast<u16>(video_memory_->size() / (64 * KiB));
    return dispi_[index];
}

u8 BochsDisplay::read_byte(u32 offset) const {
    if (offset < edid_.size()) return edid_[offset];
    if (offset >= dispi_area && offset < dispi_end) {
        const u16 value = dispi((offset - dispi_area) / 2);
        return static_cast<u8>(offset & 1 ? value >> 8 : value);
    }
    if (offset >= qext_size && offset < qext_endian) {
        return static_cast<u8>((qext_end - qext_size) >> (8 * (offset - qext_size)));
    }
    if (offset >= qext_endian && offset < qext_end) {
        return static_cast<u8>((big_endian_ ? big_endian : little_endian) >> (8 * (offset - qext_endian)));
    }
    return 0;
}

u64 BochsDisplay::read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value |= u64{read_byte(static_cast<u32>(offset) + i)} << (8 * i);
    return value;
}

// DISPI registers are written as words, one or several at once; the byte order as its whole register. Other
// writes change nothing.
void BochsDisplay::write(u64 offset, unsigned size, u64 value) {
    if (offset == qext_endian && size == 4) {
        if (value == big_endian) big_endian_ = true;
        if (value == little_endian) big_endian_ = false;
        return;
    }
    for (unsigned i = 0; i + 1 < size; i += 2) {
        const u64 at = offset + i;
        if (at < dispi_area || at >= dispi_end) continue;
        const unsigned index = static_cast<unsigned>(at - dispi_area) / 2;
        if (index == VBE_DISPI_INDEX_ID || index == VBE_DISPI_INDEX_VIDEO_MEMORY_64K) continue;
        dispi_[index] = static_cast<u16>(value >> (8 * i));
    }
}

void BochsDisplay::reset() {
    dispi_ = {};
    big_endian_ = false;
}

// The products are of 16-bit registers, so nothing here wraps.
std::optional<BochsDisplay::Scanout> BochsDisplay::scanout() const {
    Scanout out;
    out.width = dispi_[VBE_DISPI_INDEX_XRES];
    out.height = dispi_[VBE_DISPI_INDEX_YRES];
    out.big_endian = big_endian_;
    const u32 bits = dispi_[VBE_DISPI_INDEX_BPP];
    if ((dispi_[VBE_DISPI_INDEX_ENABLE] & VBE_DISPI_ENABLED) == 0 || out.width == 0 || out.height == 0 ||
        (bits != 16 && bits != 24 && bits != 32)) {
        return std::nullopt;
    }
    out.bytes_per_pixel = bits / 8;
    const u64 virtual_width = std::max<u64>(dispi_[VBE_DISPI_INDEX_VIRT_WIDTH], out.width);
    out.stride = virtual_width * out.bytes_per_pixel;
    out.start = dispi_[VBE_DISPI_INDEX_Y_OFFSET] * out.stride +
                u64{dispi_[VBE_DISPI_INDEX_X_OFFSET]} * out.bytes_per_pixel;
    const u64 length = (out.height - 1) * out.stride + u64{out.width} * out.bytes_per_pixel;
    if (!range_inside(out.start, length, 0, video_memory_->size())) return std::nullopt;
    return out;
}

void BochsDisplay::capture(Picture& out) {
    std::optional<Scanout> shown;
    {
        std::lock_guard lock(mutex());
        shown = scanout();
    }
    if (!shown) return out.clear(power_on_mode_.width, power_on_mode_.height);
    out.clear(shown->width, shown->height);
    // A guest that draws meanwhile is seen half way, as on a screen.
    const u8* from = video_memory_->data() + shown->start;
    for (u32 y = 0; y < shown->height; ++y, from += shown->stride) {
        copy_row(out.row(y), from, shown->width, shown->bytes_per_pixel, shown->big_endian);
    }
}

void BochsDisplay::visit_state(StateVisitor& v) {
    v.section(name_, 1);
    for (unsigned index = VBE_DISPI_INDEX_XRES; index < VBE_DISPI_INDEX_VIDEO_MEMORY_64K; ++index) {
        v.field("dispi" + std::to_string(index), dispi_[index]);
    }
    v.field("big endian", big_endian_);
}

}  // namespace wirt::devices::hardware

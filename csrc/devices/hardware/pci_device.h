// A PCI function: type 0 configuration space, base address registers, MSI, MSI-X and INTx.
//
// Implements: PCI Local Bus 3.0, 6.1-6.2 (configuration space), 6.7 (capabilities list), 6.8 (MSI, MSI-X);
// PCI Express Base 3.1, 7.5 (the same registers behind ECAM).
//
// Untrusted input: every configuration write, BAR address, message address and datum. A BAR that does not lie
// inside a window of the host bridge, or that overlaps something, decodes nothing. A message goes where the
// MessageSink allows, never to RAM.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "base/interrupt.h"
#include "memory/dma.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

struct PciIdentity {
    u16 vendor = 0;
    u16 device = 0;
    u8 revision = 0;
    u32 class_code = 0;  // base class, subclass, programming interface: 0xBBSSPP
    u16 subsystem_vendor = 0;
    u16 subsystem = 0;
};

enum class BarKind : u8 { io, memory32, memory64, memory64_prefetchable };

// What a function needs from the bus it sits on. The bus knows from the slot who makes a request.
class PciBus {
  public:
    virtual ~PciBus() = default;
    virtual memory::GuestRam& ram() = 0;
    // `pin` 0 is INTA.
    virtual void set_intx(unsigned slot, unsigned pin, bool level) = 0;
    // A memory read or write of the function's, as DmaTranslator::translate: through the IOMMU where the
    // board has one.
    virtual std::optional<u64> translate(unsigned slot, u64 address, memory::DmaDirection direction,
                                         u64& contiguous) = 0;
    // So is a message.
    virtual bool send_message(unsigned slot, u64 address, u32 data) = 0;
    // Registers the region of a BAR; it decodes nothing until move_bar gives it a bus address.
    virtual void add_bar(memory::MmioDevice& target, u64 size) = 0;
    virtual void move_bar(memory::MmioDevice& target, BarKind kind, u64 size,
                          std::optional<u64> bus_address) = 0;
};

class PciDevice {
  public:
    static constexpr unsigned config_space_bytes = 4096;
    static constexpr unsigned bar_count = 6;

    explicit PciDevice(const PciIdentity& identity);
    virtual ~PciDevice();
    PciDevice(const PciDevice&) = delete;
    PciDevice& operator=(const PciDevice&) = delete;

    // --- the bus's side ---

    // Plugs the function in: its BARs become regions and its interrupts and DMA work from here on. Once.
    void attach(PciBus& bus, unsigned slot);
    // Naturally aligned accesses of 1, 2 or 4 bytes.
    u32 config_read(u32 offset, unsigned size) const;
    void config_write(u32 offset, unsigned size, u32 value);
    // Both go on to the registers behind the BARs. Only while the machine is still.
    void reset_function();  // RST#
    void visit_function_state(StateVisitor& v);

  protected:
    // --- the device's side, while it is being built ---

    // `size` is a power of two, at least 16 (memory) or 4 (I/O). A 64-bit BAR takes index + 1 as well.
    void add_bar(unsigned index, BarKind kind, u64 size, memory::MmioDevice& target);
    // Appends a capability of `length` bytes at `offset` (0x40..0xfc, a multiple of 4), returns `offset`.
    // Bytes behind the two of the header are given by define().
    unsigned add_capability(unsigned offset, u8 id, unsigned length);
    // A configuration register: reset value and which bits software may write.
    void define(unsigned offset, unsigned size, u32 reset, u32 writable);
    void set_interrupt_pin(unsigned pin);  // 1 is INTA
    void add_msi(unsigned offset);         // one message, 64-bit address
    // `vectors` messages (1..128) with table and pending bits in a BAR of their own. `name` is the region's.
    void add_msix(unsigned offset, unsigned bar, unsigned vectors, std::string name);

    // --- the device's side, running; any of these with the device's own mutex held ---

    // The level of the function's interrupt pin; invisible on the line while messages are enabled.
    void set_intx(bool level);
    // Sends message `vector` if messages are enabled (MSI-X before MSI). False when they are not: the INTx
    // level then speaks. A message masked by MSI-X becomes pending.
    bool notify(unsigned vector);
    bool messages_enabled() const;
    // DMA through this view fails while the function may not master the bus (PCI 3.0, 6.2.2: Bus Master).
    memory::DmaView dma();

  private:
    class BusMasterGate final : public memory::DmaTranslator {
      public:
        explicit BusMasterGate(const PciDevice& function) : function_(function) {}
        std::optional<u64> translate(u64 address, memory::DmaDirection direction, u64& contiguous) override {
            if (!enabled.load(std::memory_order_acquire)) return std::nullopt;
            return function_.bus_->translate(function_.slot_, address, direction, contiguous);
        }
        std::atomic<bool> enabled{false};

      private:
        const PciDevice& function_;
    };
    class MsixRegion;
    struct Bar {
        memory::MmioDevice* target = nullptr;
        BarKind kind = BarKind::memory32;
        u64 size = 0;
        std::optional<u64> decoded;  // where the bus has been told to decode it
    };

    u32 load(unsigned offset, unsigned size) const;
    void store(unsigned offset, unsigned size, u32 value);
    u16 command() const;
    bool msix_enabled() const;
    bool msi_enabled() const;
    void apply();
    void update_bars();
    void update_intx();
    void send_pending();

    // Guards all below. Taken with the device's mutex held (set_intx, notify) or the bus's (config_*); the
    // function takes neither while it holds this one.
    mutable std::mutex config_mutex_;
    std::array<u8, config_space_bytes> config_{};
    std::array<u8, config_space_bytes> reset_{};
    std::array<u8, config_space_bytes> writable_{};
    std::array<Bar, bar_count> bars_;
    unsigned last_capability_ = 0;
    unsigned msi_ = 0;  // offsets of the capabilities; 0: none
    unsigned msix_ = 0;
    unsigned msix_vectors_ = 0;
    std::unique_ptr<MsixRegion> msix_region_;
    bool intx_level_ = false;
    bool intx_driven_ = false;  // what the line was last told
    PciBus* bus_ = nullptr;
    unsigned slot_ = 0;
    BusMasterGate gate_{*this};
};

}  // namespace wirt::devices::hardware

// A PCI function: configuration space, base address registers, capabilities, MSI, MSI-X and INTx.
//
// Implements: PCI Local Bus 3.0, 6.1-6.2 (configuration space), 6.7 (capabilities list), 6.8 (MSI with
// per-vector masking, MSI-X); PCI Bus Power Management 1.2 (D0 and D3hot); PCI Express Base 3.1, 6.6.2
// (function-level reset), 7.5 (the same registers behind ECAM), 7.8 (PCI Express capability), 7.9 (extended
// capabilities). What a type 1 header adds is in pci_bridge.h.
//
// Untrusted input: every configuration write, BAR address, message address and datum. A BAR that does not lie
// inside a window of the host bridge and of every bridge above the function, or that overlaps something,
// decodes nothing. A message goes where the MessageSink allows, never to RAM.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/description.h"
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
enum class PciHeader : u8 { type0, type1 };

// Device/Port Type of the PCI Express capability (7.8.2).
enum class PcieKind : u8 { endpoint = 0, root_port = 4, root_complex_endpoint = 9 };

// What a function needs from the bus it sits on: bus 0, or the one behind a bridge. The first four may be
// called from any thread with the function's config lock held; the others only with the host bridge's mutex
// held, or while the machine is still.
class PciBus {
  public:
    virtual ~PciBus() = default;
    // What the guest has numbered this bus.
    virtual u8 number() const = 0;
    // `pin` 0 is INTA.
    virtual void set_intx(unsigned slot, unsigned pin, bool level) = 0;
    // A request on its way to memory, and a message. Any bridge on the way may refuse it.
    virtual std::optional<u64> translate(u16 requester, u64 address, memory::DmaDirection direction,
                                         u64& contiguous) = 0;
    virtual bool send_message(u16 requester, u64 address, u32 data) = 0;

    virtual bool is_root() const = 0;
    virtual memory::GuestRam& ram() = 0;
    // Registers the region of a BAR; it decodes nothing until move_bar gives it a bus address.
    virtual void add_bar(memory::MmioDevice& target, u64 size) = 0;
    virtual void move_bar(memory::MmioDevice& target, BarKind kind, u64 size,
                          std::optional<u64> bus_address) = 0;
};

class PciDevice {
  public:
    static constexpr unsigned config_space_bytes = 4096;
    static constexpr unsigned bar_count = 6;

    explicit PciDevice(const PciIdentity& identity, PciHeader header = PciHeader::type0);
    virtual ~PciDevice();
    PciDevice(const PciDevice&) = delete;
    PciDevice& operator=(const PciDevice&) = delete;

    // --- the bus's side: with the host bridge's mutex held, or while the machine is still ---

    // Plugs the function in: its BARs become regions and its interrupts and DMA work from here on. Once.
    void attach(PciBus& bus, unsigned slot);
    // Cuts the function off (out of its slot, or the slot's power is off) or connects it again: while it is
    // cut off its BARs decode nothing, its DMA fails and its interrupts are silent.
    void connect(bool connected);
    // The regions that attach() made; whoever unplugs the function takes them off the address space.
    std::vector<memory::MmioDevice*> bar_targets() const;
    // Naturally aligned accesses of 1, 2 or 4 bytes. A function with registers among them that are more than
    // they store overrides these; there it may take its own mutex, before the base takes the config lock.
    virtual u32 config_read(u32 offset, unsigned size);
    virtual void config_write(u32 offset, unsigned size, u32 value);
    // The function at `slot` of bus `number` where this is a bridge that leads there; null otherwise.
    virtual PciDevice* behind(u8 number, unsigned slot);
    // Every function behind this one; none unless it is a bridge.
    virtual void for_each_behind(const std::function<void(PciDevice&)>& visit) const;
    // Decides again where BARs decode: a bridge above has changed.
    virtual void refresh();
    // Both go on to the registers behind the BARs.
    virtual void reset_function();  // RST#
    virtual void visit_function_state(StateVisitor& v);
    // A function with queues of its own stops and starts them, without losing any work.
    virtual void pause_function() {}
    virtual void resume_function() {}

    // True while software lets the function reach memory: Bus Master, and D0. Clear when a driver has let go
    // of it.
    bool masters_bus() const;
    // Bus, device and function as the guest numbered them (PCI Express 2.2.4.2).
    u16 requester_id() const;
    // Address, identity, BARs, and how it interrupts: "MSI-X, 3 of 5 unmasked", "MSI", "INTA".
    void describe_function(DeviceDescription& out) const;

  protected:
    // --- the device's side, while it is being built ---

    // `size` is a power of two, at least 16 (memory) or 4 (I/O). A 64-bit BAR takes index + 1 as well.
    void add_bar(unsigned index, BarKind kind, u64 size, memory::MmioDevice& target);
    // Appends a capability of `length` bytes at `offset` (0x40..0xfc, a multiple of 4), returns `offset`.
    // Bytes behind the two of the header are given by define().
    unsigned add_capability(unsigned offset, u8 id, unsigned length);
    // The same from 0x100 on, where the first must be.
    unsigned add_extended_capability(unsigned offset, u16 id, unsigned version, unsigned length);
    // A configuration register: reset value and which bits software may write.
    void define(unsigned offset, unsigned size, u32 reset, u32 writable);
    // The bits of a register that software clears by writing ones.
    void define_write_one_clears(unsigned offset, unsigned size, u32 mask);
    void set_interrupt_pin(unsigned pin);  // 1 is INTA
    // D0 and D3hot, nothing lost between them; no PME. In D3hot only configuration space answers.
    void add_power_management(unsigned offset);
    // Version 2 of the capability, 60 bytes. An endpoint can be reset by itself (FLR); on bus 0 it calls
    // itself a root complex integrated endpoint and has no link.
    void add_pci_express(unsigned offset, PcieKind kind = PcieKind::endpoint);
    // `vectors` messages (1, 2, 4, .. 32) to a 64-bit address: 14 bytes, or 24 with a mask for each.
    void add_msi(unsigned offset, unsigned vectors = 1, bool per_vector_masking = false);
    // `vectors` messages (1..128) with table and pending bits in a BAR of their own. `name` is the region's.
    void add_msix(unsigned offset, unsigned bar, unsigned vectors, std::string name);

    // --- the device's side, running; any of these with the device's own mutex held ---

    // The level of the function's interrupt pin; invisible on the line while messages are enabled.
    void set_intx(bool level);
    // Sends message `vector` if messages are enabled (MSI-X before MSI). False when they are not: the INTx
    // level then speaks. A masked message becomes pending. Of MSI, a vector beyond those that software has
    // enabled is sent as 0.
    bool notify(unsigned vector);
    bool messages_enabled() const;
    // DMA through this view fails while the function may not master the bus (PCI 3.0, 6.2.2: Bus Master).
    memory::DmaView dma();

    // --- what a device may override; called without the config lock and without the device's mutex ---

    // PCI Express 6.6.2, after configuration space was reset: all of the function's state, except what
    // outlives a reset on the board. As it stands, every register block behind a BAR is reset, each with its
    // mutex held.
    virtual void function_level_reset();

    // --- for bridges ---

    PciBus* bus() const { return bus_; }
    unsigned slot() const { return slot_; }
    // Bytes [offset, offset + size) were written and are in force.
    virtual void configured(u32 offset, unsigned size);
    // Drives the function's own pin, 0 is INTA.
    virtual void drive_pin(unsigned pin, bool level);
    u32 config(unsigned offset, unsigned size) const;
    // For registers that hardware changes.
    void set_config(unsigned offset, unsigned size, u32 mask, u32 value);
    bool awake() const;  // connected, and in D0

  private:
    // Stands between the function and memory.
    class BusMasterGate final : public memory::DmaTranslator {
      public:
        explicit BusMasterGate(PciDevice& owner) : owner_(owner) {}
        std::optional<u64> translate(u64 address, memory::DmaDirection direction, u64& contiguous) override {
            if (!enabled.load(std::memory_order_acquire)) return std::nullopt;
            return owner_.bus_->translate(owner_.requester_id(), address, direction, contiguous);
        }
        std::atomic<bool> enabled{false};

      private:
        PciDevice& owner_;
    };
    class MsixRegion;
    struct Bar {
        memory::MmioDevice* target = nullptr;
        BarKind kind = BarKind::memory32;
        u64 size = 0;
        std::optional<u64> decoded;  // where the bus has been told to decode it
    };

    // These with config_mutex_ held.
    u32 load(unsigned offset, unsigned size) const;
    void store(unsigned offset, unsigned size, u32 value);
    u16 command() const;
    bool active() const;
    bool may_master() const;
    bool msix_enabled() const;
    bool msi_enabled() const;
    void apply();
    void update_bars(bool again);
    void update_intx();
    void send_pending();
    void send_pending_msi();
    void send_pending_msix();
    u32 msi_enabled_vectors() const;
    u32 power_state() const;
    bool initiates_flr(u32 offset, unsigned size, u32 value) const;
    void integrate_into_root_complex();
    void flr();  // without it

    // Guards all below. Taken with the device's mutex held (set_intx, notify) or the host bridge's
    // (config_*); the function takes neither while it holds this one, nor another function's.
    mutable std::mutex config_mutex_;
    std::array<u8, config_space_bytes> config_{};
    std::array<u8, config_space_bytes> reset_{};
    std::array<u8, config_space_bytes> writable_{};
    std::array<u8, config_space_bytes> clears_{};
    std::array<Bar, bar_count> bars_;
    unsigned last_capability_ = 0;
    unsigned last_extended_ = 0;
    unsigned power_ = 0;  // offsets of the capabilities; 0: none
    unsigned express_ = 0;
    unsigned msi_ = 0;
    unsigned msi_vectors_ = 0;
    bool msi_maskable_ = false;
    u32 msi_pending_ = 0;
    unsigned msix_ = 0;
    std::unique_ptr<MsixRegion> msix_region_;
    bool intx_level_ = false;
    bool intx_driven_ = false;  // what the line was last told
    bool connected_ = false;
    PciBus* bus_ = nullptr;
    unsigned slot_ = 0;
    BusMasterGate gate_{*this};
};

}  // namespace wirt::devices::hardware

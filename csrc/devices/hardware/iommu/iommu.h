// A RISC-V IOMMU: the registers, and the translation of whatever devices ask for.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0 with the clarifications published up to 20260222,
// and its extensions for non-leaf and for range invalidation. Off, Bare and one to three levels of device
// directory in base and extended format; process directories of 8, 17 and 20 bits; Sv32, Sv39, Sv48, Sv57 and
// their x4 forms, nested; MSI page tables with both kinds of entry; hardware update of A and D; command,
// fault and page-request queues; interrupts by wire and by message; 31 event counters; the debug interface;
// either byte order.
//
// Untrusted input: every register, and everything in memory that they lead to. A structure is read once and
// checked as the specification says; what it may lead to is a fault record. A command queue has at most 2^13
// entries, so that one register write is bounded work.
//
// Locks: lock_ guards all state below, and nests inside mutex() and inside a device's mutex. With it held the
// IOMMU drives interrupt lines, sends messages, and calls its AtsLink; none of them comes back in here.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/counters.h"
#include "base/description.h"
#include "base/interrupt.h"
#include "devices/hardware/iommu/ioatc.h"
#include "devices/hardware/iommu/page_walk.h"
#include "devices/hardware/iommu/performance_monitor.h"
#include "devices/hardware/iommu/request.h"
#include "devices/hardware/iommu/table_memory.h"
#include "memory/dma.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class Iommu final : public memory::MmioDevice,
                    public memory::DmaRemapper,
                    public CountedDevice,
                    public DescribedDevice {
  public:
    static constexpr u64 region_size = 0x1000;
    static constexpr unsigned vectors = 4;  // one a cause, if software likes
    // Offsets of what a PCIe function shows as MSI-X table and pending bits.
    static constexpr u32 message_table = 0x300, pending_messages = 0x400;

    // Messages whose address is not RAM go to `messages` (null: nowhere). Throws ConfigError when `options`
    // ask for what the specification excludes.
    Iommu(std::string name, memory::GuestRam& ram, Clock& clock, MessageSink* messages,
          std::array<InterruptLine, vectors> wires, const IommuOptions& options = {});

    const IommuOptions& options() const { return options_; }

    // --- requests; from any thread, with a device's mutex held or not ---

    // 3.3, the whole process. What goes wrong has been reported in the fault queue when this returns.
    IommuResponse request(const IommuRequest& request);
    // Untranslated requests without process_id, the cached ones without a lock. A page that an MRIF stands
    // behind is no memory: nullopt.
    std::optional<u64> translate(u32 device_id, u64 address, memory::DmaDirection direction,
                                 u64& contiguous) override;
    bool send_message(u32 device_id, u64 address, u32 data) override;
    // 3.7: a "Page Request" or "Stop Marker".
    void page_request(const AtsMessage& message);
    // An "Invalidation Completion"; false when none was expected from there.
    bool invalidation_completed(const AtsMessage& message);
    // No completion came in time for the invalidations of these ITags.
    void invalidation_timed_out(u32 itags);

    // Where messages to devices go; null: no device takes any. Only while no hart runs.
    void set_ats_link(AtsLink* link) { ats_link_ = link; }
    // Asked before a message interrupt is sent: as a PCIe function, MSI-X may be off or masked as a whole.
    // The interrupt then waits for release_messages(). Only while no hart runs.
    void set_message_gate(std::function<bool()> open) { message_gate_ = std::move(open); }
    void release_messages();

    // --- MmioDevice ---

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    // 4 or 8 bytes; anything else, and an access that spans two registers, reads 0 and writes nothing.
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;
    const DeviceCounters& counters() const override { return counters_; }
    void describe(DeviceDescription& out) override;

  private:
    // A queue's registers: base, head, tail and csr.
    struct Queue {
        u64 base = 0;
        u32 head = 0, tail = 0, csr = 0;

        u32 mask() const { return (u32{2} << bits<u64>(base, 0, 5)) - 1; }
        u64 address(u32 index, u64 entry_bytes) const {
            return bits<u64>(base, 10, 44) << iommu::page_shift | index * entry_bytes;
        }
        u32 next(u32 index) const { return (index + 1) & mask(); }
        bool on() const;
    };
    struct Message {
        u64 address = 0;
        u32 data = 0, control = 0;
    };
    struct Invalidation {
        bool waiting = false, dsv = false;
        u8 dseg = 0, responses = 0;
        u16 rid = 0;
    };
    struct Command {
        u64 low = 0, high = 0;
    };
    enum class Execution : u8 { done, illegal, stalled };
    enum InterruptCause : unsigned { cip, fip, pmip, pip };

    // The way of one request.
    struct Passage {
        const IommuRequest& request;
        iommu::PageWalk walk;
        iommu::Access access;
        u64 iotval2 = 0;
        bool dtf = false;
        bool debug = false;
        IommuResponse response;
    };

    // translation.cpp
    IommuResponse process(const IommuRequest& request, bool debug);
    iommu::Cause translate_request(Passage& p);
    iommu::Cause translate_address(Passage& p, const iommu::DeviceContext& dc, iommu::SpaceTag space);
    iommu::Cause translate_msi(Passage& p, const iommu::DeviceContext& dc, u64 address, iommu::Leaf& leaf);
    void answer(Passage& p, iommu::Cause cause);
    bool store_in_mrif(u64 mrif, u64 address, u32 data);

    // directories.cpp
    bool device_id_too_wide(u32 device_id) const;
    iommu::Cause locate_device(iommu::PageWalk& walk, u32 device_id, iommu::DeviceContext& dc);
    iommu::Cause locate_process(Passage& p, const iommu::DeviceContext& dc, u32 process_id,
                                iommu::ProcessContext& pc);
    bool well_configured(const iommu::DeviceContext& dc) const;
    bool well_configured(const iommu::DeviceContext& dc, const iommu::ProcessContext& pc) const;
    bool first_stage_mode_exists(unsigned mode, bool sxl) const;

    // queues.cpp
    struct FaultRecord {
        iommu::Cause cause;
        iommu::TransactionType type = iommu::TransactionType::none;
        u32 device_id = 0;
        std::optional<u32> process_id = {};
        bool privileged = false;
        u64 iotval = 0, iotval2 = 0;
    };
    void report(const FaultRecord& record, bool dtf);
    void handle_page_request(const AtsMessage& message);
    void respond_to_page_request(const AtsMessage& message, u64 code, bool with_pasid);
    bool write_word(u64 address, u32 data);
    void raise(InterruptCause cause);
    void update_interrupts();
    void update_wires();
    void send_vector(unsigned vector);

    // commands.cpp
    void process_commands();
    Execution execute(const Command& command);
    Execution execute_iotinval(const Command& command);
    Execution execute_iofence(const Command& command);
    Execution execute_iodir(const Command& command);
    Execution execute_ats(const Command& command);
    bool command_queue_ready() const;

    // registers.cpp
    u64 read_wide(u64 offset) const;
    u32 read_narrow(u64 offset) const;
    void write_wide(u64 offset, u64 value);
    void write_narrow(u64 offset, u32 value);
    void write_fctl(u32 value);
    void write_ddtp(u64 value);
    void write_base(Queue& queue, u64 value, u32 Queue::*index);
    void write_csr(Queue& queue, u32 value, u32 Queue::*index, u32 error_bits);
    void write_debug_request(u64 value);
    u64 capabilities() const;
    void reset_registers();
    void adopt_loaded_state();

    bool big_endian() const { return bit(fctl_, 0); }
    bool wired() const { return bit(fctl_, 1); }
    bool gxl() const { return bit(fctl_, 2); }
    IommuMode mode() const { return static_cast<IommuMode>(bits<u64>(ddtp_, 0, 4)); }

    const std::string name_;
    const IommuOptions options_;
    const iommu::TableMemory memory_;
    MessageSink* const messages_;
    const std::array<InterruptLine, vectors> wires_;
    AtsLink* ats_link_ = nullptr;
    std::function<bool()> message_gate_;
    DeviceCounters counters_;

    mutable std::mutex lock_;
    iommu::PerformanceMonitor monitor_;
    iommu::Ioatc ioatc_;
    std::atomic<IommuMode> quick_mode_{IommuMode::off};  // mode(), for translate() without the lock
    u32 fctl_ = 0;
    u64 ddtp_ = 0;
    Queue command_, fault_, page_;
    u32 ipsr_ = 0;
    u64 icvec_ = 0;
    u64 tr_req_iova_ = 0, tr_req_ctl_ = 0, tr_response_ = 0;
    std::array<Message, vectors> message_{};
    u32 waiting_ = 0;
    std::array<Invalidation, 32> invalidations_{};
    bool invalidation_timed_out_ = false;
};

}  // namespace wirt::devices::hardware

// One RISC-V hart: registers, privileged state, address translation and execution.
//
// Implements RV64 with the extensions of extensions.def, of which each hart has those of its IsaConfig;
// Sv39/48/57, M, S and U mode, 16 PMP entries (Unprivileged ISA 20240411, Privileged Architecture 1.13);
// Smaia and Ssaia where it has an IMSIC (Advanced Interrupt Architecture 1.0); with the hypervisor extension
// VS and VU mode.
//
// A hart knows the physical address space and its environment, and no device. One host thread runs it at a
// time. Others may call the members under "any thread".
//
// Code written by others. A store by this hart, another hart, a device or the host to a page that holds
// decoded code raises the page's generation (GuestRam) and an event in every hart; each drops its blocks of
// the page at its next block boundary. The other way round, a page that a hart decodes from for the first
// time must leave the store TLBs of all harts: each is told by an event, and where it had such an entry it
// raises the generation, for it may have written unseen. FENCE ends a block, hence settles events, so that
// a writer cannot have announced its write (which takes a FENCE or an AMO with release) before it was seen.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/interrupt.h"
#include "base/state_visitor.h"
#include "memory/address_space.h"
#include "riscv/block.h"
#include "riscv/csr_fields.h"
#include "riscv/hypervisor.h"
#include "riscv/isa_config.h"
#include "riscv/page_attributes.h"
#include "riscv/performance.h"
#include "riscv/tlb.h"
#include "riscv/triggers.h"

namespace wirt::riscv {

namespace vector {
class Unit;
struct Op;
}  // namespace vector

class Hart;
struct WalkEntry;

// What a hart asks of the machine around it.
class HartEnvironment {
  public:
    virtual ~HartEnvironment() = default;
    // The `time` CSR, as of `hart.cycles()`.
    virtual u64 time(const Hart& hart) = 0;
    // How many cycles `hart` may run before it must look at the time again, given the deadline it waits for
    // (in ticks; ~0: none). Deterministic machines answer exactly.
    virtual u64 cycles_until(const Hart& hart, u64 deadline_ticks) = 0;
    // True when the machine serves the SBI: an ecall from S-mode then goes to `supervisor_call`.
    virtual bool serves_sbi() const = 0;
    virtual void supervisor_call(Hart& hart) = 0;
    // `page` of guest RAM was decoded from for the first time; every other hart has to be told.
    virtual void code_page_marked(const Hart& by, u64 page) = 0;
    // Returns when every hart that runs has taken note of all such pages: what they had stored there before
    // is noticed then.
    virtual void await_code_marks(Hart& self) = 0;
    // `hart` spins: others may have its host core for a moment.
    virtual void relax(const Hart& hart) = 0;
    // Called (any thread) when an event arrives for a hart that may be parked.
    virtual void wake(const Hart& hart) = 0;
    // Sixteen bits of the machine's entropy, for the `seed` CSR.
    virtual u16 draw_entropy() = 0;
    // Whether what the guest sees may depend on nothing that the host decides.
    virtual bool deterministic() const = 0;
};

enum class RunResult : u8 {
    limit,       // ran as many cycles as asked
    wfi,         // waits for an interrupt; run again when one is pending or the timer deadline has passed
    exit,        // request_exit() was called
    breakpoint,  // stands at a breakpoint
};

class Hart {
  public:
    Hart(unsigned id, memory::AddressSpace& bus, HartEnvironment& environment, const IsaConfig& isa = {});
    ~Hart();
    Hart(const Hart&) = delete;
    Hart& operator=(const Hart&) = delete;

    unsigned id() const { return id_; }
    const IsaConfig& isa() const { return isa_; }
    void reset(u64 pc, Privilege privilege);
    // Before the hart runs: the files of its IMSIC, which outlive it. With them it has the Advanced Interrupt
    // Architecture's CSRs, which are illegal otherwise.
    // `guests`: its guest interrupt files, by which GEILEN is known.
    void connect_imsic(InterruptFile& machine, InterruptFile& supervisor, std::vector<InterruptFile*> guests);

    // --- running (the hart's thread) ---
    // Runs until cycles() reaches `until`, or something in RunResult happens. An exception of a host-side
    // device passes through; the hart then stands at the instruction that accessed it.
    // `resumes`: a breakpoint at which it stands has stopped it before.
    RunResult run(u64 until, bool resumes = true);
    // Ticks at which the supervisor timer is due; ~0 when it is off.
    u64 timer_deadline() const;
    // True when WFI would not wait.
    bool wakeup_pending();

    // --- any thread ---
    // Drives an interrupt input (irq_msi, irq_mti, irq_mei, irq_sei) or, for the SBI, irq_ssi.
    void set_interrupt(Interrupt which, bool level);
    // That of a guest interrupt file, 1 to GEILEN: its bit of hgeip.
    void set_guest_interrupt(unsigned file, bool level);
    void request_exit();
    void request_fence_i();
    // Which translations a fence is about: the hart's own, or guests'.
    struct FenceScope {
        bool guest = false;
        std::optional<u16> vmid = {};  // nullopt: any
        std::optional<u16> asid = {};
    };
    // Translations of [start, start + size) in `scope`; size 0 or ~0: all.
    void request_sfence(u64 start, u64 size, const FenceScope& scope);
    // True when all requests made before were carried out, or will be before the next instruction.
    bool fences_done() const { return fences_pending_.load(std::memory_order_acquire) == 0; }
    void service_fences();
    bool code_marks_taken() const { return !code_marks_pending_.load(std::memory_order_acquire); }
    void take_code_marks();
    // Called by the machine for HartEnvironment::code_page_marked and GuestRam::on_code_write.
    void note_code_page(u64 page);
    void note_code_write();
    // Called by the machine for AddressSpace::on_host_pages_moved.
    void note_host_pages_moved();
    // For GuestRam::on_stores_watched: forgets the store TLBs. Done when `stores_forgotten`, or before the
    // next instruction of a hart that does not run.
    void forget_stores();
    bool stores_forgotten() const { return (events_.load(std::memory_order_seq_cst) & ev_stores) == 0; }
    // On the thread that runs the hart, between its turns: does so now.
    void forget_stores_now();
    // Something that cycles_until or the interrupts depend on has changed: looks again at the next boundary.
    void request_settle() { post(ev_settle); }

    // --- looking and changing (while the hart does not run) ---
    u64 pc() const { return pc_; }
    void set_pc(u64 value) { pc_ = value; }
    u64 x(unsigned index) const { return x_[index]; }
    void set_x(unsigned index, u64 value) {
        if (index != 0) x_[index] = value;
    }
    u64 f(unsigned index) const { return f_[index]; }
    void set_f(unsigned index, u64 value) { f_[index] = value; }
    // VLEN / 8 bytes; none without V.
    std::span<u8> v(unsigned index);
    Privilege privilege() const { return privilege_; }
    // V: the mode is VS or VU.
    bool virtualized() const { return virtual_; }
    bool has_hypervisor() const { return has_h_; }
    // Of the hgatp register.
    u16 vmid() const { return static_cast<u16>((h_.hgatp >> 44) & 0x3fff); }
    void set_privilege(Privilege privilege);
    u64 cycles() const { return cycles_; }
    u64 instructions() const { return cycles_ - exceptions_; }
    std::optional<u64> peek_csr(u16 number);
    bool poke_csr(u16 number, u64 value);
    std::optional<u64> translate(u64 virtual_address, Access access);
    // For the SBI, on the hart's own thread. ram_range is empty when the range is not RAM.
    bool ram_contains(u64 address) const { return ram_.contains(address, 4); }
    std::span<u8> ram_range(u64 address, u64 length) const {
        u8* host = ram_.host(address, length);
        return host != nullptr ? std::span<u8>(host, length) : std::span<u8>();
    }
    void write_ram(std::span<u8> range, u64 address, std::span<const u8> data) {
        ram_.will_write(address, data.size());
        std::copy(data.begin(), data.end(), range.begin());
        ram_.note_write(address, data.size());
    }
    // Waits like WFI once the present call returns.
    void suspend() { suspended_ = true; }
    bool has_events() const { return events_.load(std::memory_order_seq_cst) != 0; }
    void set_breakpoints(std::vector<u64> virtual_addresses);
    // Whether mhpmevent may hold this selector.
    bool counts_event(u64 selector) const;
    void visit_state(StateVisitor& v);
    // What a hart that was just loaded has not: translations and decoded code. Every hart, and then
    // GuestRam::forget_code(), or none.
    void forget_caches();

    struct Stats {
        u64 traps = 0, interrupts = 0, tlb_misses = 0, page_walks = 0, tlb_flushes = 0;
        u64 blocks_built = 0, block_lookups = 0, mmio_accesses = 0, wfi = 0;
        u64 table_reads = 0;  // entries of page tables that the walks read
        // Traps by the mode that they were taken into, and by cause: exceptions, then interrupts.
        enum Level : u8 { machine, supervisor, guest };
        std::array<std::array<u64, 128>, 3> trap_causes{};
        void count_trap(Level into, u64 cause, bool interrupt) {
            ++trap_causes[into][(interrupt ? 64 : 0) + cause];
        }
    };
    const Stats& stats() const { return stats_; }
    u64 blocks_dropped() const { return blocks_.dropped; }
    std::size_t block_cache_bytes() const { return blocks_.bytes(); }

  private:
    friend struct vector::Op;  // a vector instruction

    enum Event : u32 {
        ev_interrupt = 1,
        ev_exit = 2,
        ev_fence = 4,
        ev_code_page = 8,
        ev_code_write = 16,
        ev_settle = 32,
        ev_host_pages = 64,
        ev_stores = 128,
        ev_triggers = 256
    };
    enum class CsrOp : u8 { write, set, clear };
    enum class CacheOp : u8 { inval, clean, flush, zero };
    enum class AtomicUse : u8 { load, store, modify };
    // What a slow operation wants the interpreter to do next.
    enum class Next : u8 { resume /* look up pc_ */, settle /* look at interrupts first */, trap, stop };

    struct Fault {
        Exception cause;
        u64 value;
        u64 guest_physical = 0;      // of a guest-page fault
        u32 instruction = 0;         // the pseudoinstruction of an implicit access by VS-stage translation
        bool guest_address = false;  // `value` is a guest's although V = 0: HLV, HLVX, HSV
    };
    // Whether a load or store is made as though in VS- or VU-mode, and needs X in the place of R.
    enum class GuestAccess : u8 { none, data, execute };
    class GuestAccessScope;
    enum class Verdict : u8 { allowed, illegal, virtual_instruction };

    // interpreter.cpp
    // With `table` non-null only stores the address of the handler table there: labels have no other way out.
    RunResult interpret(u64 until, const void* const** table);
    void raise(Exception cause, u64 value) { fault_ = {cause, value}; }
    Next illegal_instruction();
    Next refuse_instruction(Exception cause);

    // hart.cpp
    void post(Event event);
    Next settle(u64 until, RunResult& result);
    void update_timer();
    bool breakpoint_at(u64 address) const;
    bool breakpoint_near(u64 address) const;  // one has this page offset
    void standing_after_throw();
    void drop_decoded_code();

    // decode.cpp
    Block* block_at(u64 pc);  // null: fault_ says why
    Block* lookup(u64 pc);    // the same, where the cached jumps do not know it
    Block* build(u64 pc, u64 physical, unsigned max_instructions, bool keep = true);
    Block* build_scratch(u64 pc, unsigned max_instructions);
    Block* build_split(u64 pc, u64 physical);
    static Block* block_of(const Insn* insn);
    struct Position {
        u64 pc, cycles;
    };
    Position position() const;  // before the instruction that runs
    void locate();              // makes it that of pc_ and cycles_
    // How many instructions cycles_ counts that have not been executed.
    u64 ahead() const { return cycles_ - position().cycles; }
    struct FetchPage {
        u64 index;   // in guest RAM
        bool whole;  // what is true of one address of it is true of all; else PMP splits it
    };
    std::optional<FetchPage> fetch_page(u64 pc);
    void drop_stale_code();
    void flush_jump_caches();

    // mmu.cpp
    struct Translation {
        u64 physical;
        u64 page_bytes;  // extent of the leaf
        bool cacheable;  // the whole 4 KiB page may be accessed alike
    };
    std::optional<Translation> walk(u64 address, Access access, Mode mode, bool update, unsigned size);
    WalkEntry walk_entry(u64 entry_address, Access use, Access reports, u64 address, bool update);
    std::optional<Translation> translate_for(u64 address, Access access, unsigned size);
    // The first entry lets everyone do anything everywhere: so does our own firmware.
    bool pmp_is_open() const { return pmpcfg_[0] == 0x1f && pmpaddr_[0] == (u64{1} << 54) - 1; }
    bool pmp_allows(u64 physical, u64 length, Access access, Privilege mode, bool& whole_page) const;
    void select_translation();
    TlbSet& set_for(Mode mode, bool data);
    TranslationSpace& space_for(bool guest);
    Mode data_mode() const;
    void flush_all();
    void drop_spaces();  // and the memory of what was translated; select_translation() comes next
    void flush_range(u64 start, u64 size, const FenceScope& scope);
    void drop_store_entries(u64 ram_page);
    void drop_store_entries_of_code();
    void drop_all_store_entries();
    // Whether somebody wants to hear of stores to the page, which then is in no store TLB. A device's host
    // memory nobody does.
    bool watched(u64 physical) const {
        return ram_.contains(physical, 1) && !ram_.stores_unwatched((physical - ram_.base()) >> page_shift);
    }
    template <typename T>
    bool load_slow(u64 address, T& value);
    template <typename T>
    bool store_slow(u64 address, T value);
    u8* plain_page(u64 address, unsigned size, Access access);
    bool load_any(u64 address, unsigned size, u64& value);
    bool store_any(u64 address, unsigned size, u64 value);
    bool load_misaligned(u64 address, unsigned size, u64& value);
    bool store_misaligned(u64 address, unsigned size, u64 value);
    u8* atomic_host(u64 address, unsigned size, AtomicUse use);  // null: fault_ says why
    // Ssnpm and Smnpm: the address that a pointer of the data context stands for.
    u64 unmasked(u64 pointer) const { return pointer_bits_ == 0 ? pointer : masked_address(pointer); }
    u64 masked_address(u64 pointer) const;
    PageAttributes page_attributes(u64 configuration) const {
        return {isa_.has(Extension::svnapot), (configuration & envcfg::pbmte) != 0};
    }
    unsigned pointer_mask_length(Mode mode) const;
    bool remembered(Access access, const Translation& translation, u64 address) const {
        return translation.cacheable && !(triggers_.data_armed && trigger_page(access, address));
    }
    bool cache_block(CacheOp op, u64 address);

    // two_stage.cpp
    std::optional<Translation> walk_two_stage(u64 address, Access access, Privilege level, bool update,
                                              unsigned size);
    std::optional<Translation> walk_guest_physical(u64 gpa, u64 address, Access access, Access reports,
                                                   bool implicit, bool update);
    bool may_access_guest();
    bool guest_load(u64 address, unsigned size, bool execute, u64& value);
    bool guest_store(u64 address, unsigned size, u64 value);
    Next hfence_vvma(u64 address, u64 asid, bool has_address, bool has_asid);
    Next hfence_gvma(u64 vmid, bool has_vmid);
    void fence_guest(u64 address, bool has_address, std::optional<u16> asid);

    // csr.cpp
    // False: fault_ says why.
    bool csr_access(u16 number, CsrOp op, u64 operand, bool writes, bool reads, u64& old);
    bool perform_csr_access(u16 number, CsrOp op, u64 operand, bool writes, bool reads, u64& old);
    bool csr_read(u16 number, u64& value);
    bool csr_write(u16 number, u64 value);
    std::optional<bool> unit_is_on(u16 number) const;
    bool comparator_is_open() const;
    bool csr_accessible(u16 number, bool writes) const;
    // Which bits of a register there are, by the extensions.
    u64 misa() const;
    u64 mstatus_writable() const;
    u64 menvcfg_writable() const;
    u64 henvcfg_writable() const;
    u64 mstateen_writable(unsigned index) const;
    u64 interrupts() const;             // bits of mie and mip that there are
    u64 supervisor_interrupts() const;  // those that may be delegated
    u64 senvcfg_writable() const;
    void write_mstatus(u64 value, u64 mask);
    u64 mip();
    void update_float_mode();
    void update_unit_states();
    void mark_float_dirty();
    void mark_vector_dirty();
    static u64 write_envcfg(u64 old, u64 value, u64 writable);
    void require_legal(bool legal, const char* what) const;
    void require_legal_state() const;

    // csr_extensions.cpp
    bool extension_csr_accessible(u16 number, bool writes) const;
    bool withheld_from_guest(u16 number) const;
    bool extension_csr_read(u16 number, u64& value);
    bool extension_csr_write(u16 number, u64 value);
    void visit_extension_state(StateVisitor& v);

    // performance.cpp
    u64 event_flags() const;
    u64 event_total(u64 event, u64 ahead) const;
    bool counter_runs(unsigned counter) const;
    void accrue(u64 ahead);
    void update_performance();
    void performance_mode_changed();
    u64 until_overflow();
    bool performance_read(u16 number, u64& value, u64 ahead);
    bool performance_write(u16 number, u64 value, u64 ahead);

    // triggers.cpp
    bool trigger_read(u16 number, u64& value) const;
    bool trigger_write(u16 number, u64 value);
    u64 legal_tdata1(u64 value) const;
    bool trigger_fires(Access access, u64 address, unsigned size);  // fault_ is then its exception
    bool trigger_page(Access access, u64 address) const;  // the page of data may hold such an address
    bool trigger_near(u64 pc) const;                      // code at this offset in a page may
    void update_triggers();

    // vector/configuration.cpp
    bool execute_vector(const Insn& insn);
    // hypervisor.cpp
    u64 effective_henvcfg() const;
    bool hypervisor_read(u16 number, u64& value);
    bool hypervisor_write(u16 number, u64 value);
    bool hypervisor_aia_read(u16 number, u64& value);
    bool hypervisor_aia_write(u16 number, u64 value);
    void write_vssip(u64 value);
    void write_vsstatus(u64 value);
    InterruptFile* guest_file() const;
    Verdict judge_guest_access(u16 number, bool writes);
    bool guest_csr_access(u16 number, CsrOp op, u64 operand, bool writes, bool reads, u64& old);
    void refresh_guest_interrupts();
    void update_guest_timer();
    u64 guest_timer_deadline() const;
    Next virtual_instruction();
    void enter_guest_trap(u64 cause, u64 value, bool interrupt);
    Next trap_return_guest();
    bool faulted_in_guest() const;
    u64 trap_instruction();
    void visit_hypervisor_state(StateVisitor& v);
    void require_legal_hypervisor_state() const;

    // aia.cpp
    static bool reaches_interrupt_file(u16 number);
    static bool selects_interrupt_file(u64 select);
    bool supervisor_file_accessible(u16 number) const;
    bool interrupt_file_access(u16 number, u64 mask, u64 value, bool writes, u64& old);
    bool iprio_access(u64 select, Privilege level, u64 mask, u64 value, u64& old);
    u64 configurable_interrupts(Privilege level) const;
    bool aia_read(u16 number, u64& value);
    bool aia_write(u16 number, u64 value);
    u64 mvip() const;
    void write_mvip(u64 value, u64 mask);
    void write_virtual_sie(u64 value);
    void update_virtual_interrupts();
    u32 priority_number(Interrupt which, Privilege level) const;
    u64 topi(Privilege level);
    void visit_aia_state(StateVisitor& v);

    // hart.cpp
    void visit_registers(StateVisitor& v);

    // trap.cpp
    struct TopInterrupt {
        Interrupt cause;
        u32 priority;  // lower is more urgent
    };
    TopInterrupt top_guest_interrupt();      // priority::none: there is none
    std::optional<u32> instruction_at_pc();  // without it fault_ says why
    void take_exception();
    bool take_interrupt();
    // Those that would trap to `level`, whatever mstatus says.
    u64 pending_interrupts(Privilege level);
    TopInterrupt top_interrupt(u64 pending, Privilege level) const;
    void enter_trap(u64 cause, u64 value, bool interrupt, Privilege to);
    Next environment_call();
    Next trap_return_machine();
    Next trap_return_supervisor();
    Next wait_for_interrupt();
    Next sfence_vma(u64 address, u64 asid, bool has_address, bool has_asid);
    Next sfence_ordering();
    Next fence_i();
    Next relax();
    Next wait_on_reservation(bool unlimited);

    // ---- state, hottest first ----
    u64 x_[33] = {};  // x_[32] swallows writes to x0
    TlbSet* data_set_ = nullptr;
    TlbSet* fetch_set_ = nullptr;
    std::atomic<u64> limit_{0};  // cycles at which the run loop must look up; 0 after an event
    u64 cycles_ = 0;             // retired instructions plus those that trapped
    u64 pc_ = 0;
    u64 f_[32] = {};
    u8 fflags_ = 0;
    u8 frm_ = 0;
    bool float_fast_ = false;  // rounding to nearest and inexact already sticky: host arithmetic will do
    // mstatus.FS and VS, in a guest the lesser of them and those of vsstatus: 0 Off, 1, 2, 3 Dirty
    u8 float_state_ = 0, vector_state_ = 0;
    Privilege privilege_ = Privilege::machine;
    bool virtual_ = false;  // V
    u64 mstatus_ = 0;
    std::atomic<u32> events_{0};
    Fault fault_{};
    u64 atomic_note_ = 0;  // RAM address + 1 of an atomic's target on a watched page: noted after the write
    // Where a slow operation was called from; null: pc_ and cycles_ say it. Else cycles_ is the count as of
    // the end of the instruction's block, at_page_ the page that it is on, and locate() makes of them what
    // pc_ and cycles_ are before the instruction.
    const Insn* at_insn_ = nullptr;
    u64 at_page_ = 0;
    u64 reservation_ = ~u64{0};  // physical address
    u64 reservation_value_ = 0;
    u64 exceptions_ = 0;

    std::unique_ptr<vector::Unit> vector_;  // null without V

    // interrupts
    std::atomic<u64> mip_{0};  // software-writable bits, and the lines
    std::atomic<bool> seip_line_{false};
    u64 mie_ = 0, mideleg_ = 0, medeleg_ = 0;

    // Advanced Interrupt Architecture
    InterruptFile* machine_file_ = nullptr;  // null: the hart does not have it
    InterruptFile* supervisor_file_ = nullptr;
    struct Aia {
        u64 miselect = 0, siselect = 0;
        u64 mvien = 0;
        u64 sie = 0;            // the bits that mvien makes and mideleg does not
        bool mvip_ssi = false;  // used while mvien has that bit
        u8 miprio[64] = {}, siprio[64] = {};
    } aia_;
    // Pending and enabled for S-mode by mvip, mvien and sie; and `injected_hint` while hvictl.VTI is set.
    u64 virtual_interrupts_ = 0;
    static constexpr u64 injected_hint = u64{1} << 63;

    // hypervisor extension
    const bool has_h_;
    GuestAccess guest_access_ = GuestAccess::none;
    HypervisorState h_;
    u64 delegated_always_ = 0;  // read-only one in mideleg: the interrupts of hie
    std::vector<InterruptFile*> guest_files_;
    std::atomic<u64> guest_lines_{0};  // hgeip

    // traps and the rest of the privileged registers
    u64 mtvec_ = 0, mepc_ = 0, mcause_ = 0, mtval_ = 0, mscratch_ = 0;
    u64 stvec_ = 0, sepc_ = 0, scause_ = 0, stval_ = 0, sscratch_ = 0;
    u64 satp_ = 0, stimecmp_ = ~u64{0}, menvcfg_ = 0, senvcfg_ = 0, mseccfg_ = 0;
    u64 mstateen_[4] = {}, hstateen_[4] = {};
    u64 mcounteren_ = 0, scounteren_ = 0, mcountinhibit_ = 0;
    u64 cycle_offset_ = 0, instret_offset_ = 0;
    Performance performance_;
    Triggers triggers_;
    unsigned pointer_bits_ = 0;  // PMLEN of the data context
    bool pointer_signed_ = false;
    u8 pmpcfg_[16] = {};
    u64 pmpaddr_[16] = {};

    const unsigned id_;
    const IsaConfig isa_;
    memory::AddressSpace& bus_;
    memory::GuestRam& ram_;
    HartEnvironment& environment_;

    const void* const* handlers_ = nullptr;  // by Opcode and PseudoOp

    // translation and code caches
    static constexpr unsigned space_count = 8;
    std::array<TranslationSpace, space_count> spaces_;
    u64 space_clock_ = 0;
    // Of the data context, where plain_page may be asked: the bits of an entry that it accepts; otherwise 0.
    TranslationSpace* data_space_ = nullptr;
    u64 plain_entry_ = 0;
    BlockCache blocks_;
    u64 code_epoch_seen_ = 0;
    u64 code_version_ = 0;  // changes whenever blocks were dropped: links looked up before are void
    std::unique_ptr<u8[]> scratch_;
    std::vector<u64> breakpoints_;
    bool suspended_ = false;
    u64 step_over_ = ~u64{0};  // a breakpoint address that is passed once

    // requests of other threads
    std::mutex request_mutex_;
    struct FenceRequest {
        bool instruction;  // FENCE.I; else the rest says which translations
        u64 start, size;
        FenceScope scope = {};
    };
    void request_fence(const FenceRequest& request);
    // A stopped hart carries out nothing, and a guest may go on asking: so many wait, then they become one
    // that covers all.
    static constexpr std::size_t most_requests = 256;
    std::vector<FenceRequest> fence_requests_;
    std::atomic<u32> fences_pending_{0};
    std::vector<u64> code_pages_;
    bool every_code_page_ = false;
    std::atomic<bool> code_marks_pending_{false};
    Stats stats_;
};

}  // namespace wirt::riscv

// A hart's life: reset, events from other threads, the settling of interrupts and time, state.
#include "riscv/hart.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"
#include "riscv/softfloat.h"
#include "riscv/vector/unit.h"

namespace wirt::riscv {

Hart::Hart(unsigned id, memory::AddressSpace& bus, HartEnvironment& environment, const IsaConfig& isa)
    : has_h_(isa.has(Extension::h)),
      id_(id),
      isa_(isa),
      bus_(bus),
      ram_(bus.ram()),
      environment_(environment) {
    if (has_h_) delegated_always_ = vs_irqs;
    interpret(0, &handlers_);
    if (isa_.has(Extension::v)) vector_ = std::make_unique<vector::Unit>(isa_);
    spaces_[0].valid = true;
    scratch_ = std::make_unique<u8[]>(sizeof(Block) + (BlockCache::max_slots + 1) * sizeof(Insn));
    reset(ram_.base(), Privilege::machine);
}

Hart::~Hart() = default;

void Hart::reset(u64 pc, Privilege privilege) {
    std::fill(std::begin(x_), std::end(x_), 0);
    std::fill(std::begin(f_), std::end(f_), 0);
    fflags_ = frm_ = 0;
    float_fast_ = false;
    pc_ = pc;
    privilege_ = privilege;
    virtual_ = false;
    // UXL and SXL are fixed at 64 bits.
    mstatus_ = u64{2} << 32 | u64{2} << 34;
    mie_ = mideleg_ = medeleg_ = 0;
    mip_.store(0);
    mtvec_ = mepc_ = mcause_ = mtval_ = mscratch_ = 0;
    stvec_ = sepc_ = scause_ = stval_ = sscratch_ = 0;
    satp_ = menvcfg_ = senvcfg_ = mseccfg_ = mcounteren_ = scounteren_ = mcountinhibit_ = 0;
    std::fill(std::begin(mstateen_), std::end(mstateen_), 0);
    std::fill(std::begin(hstateen_), std::end(hstateen_), 0);
    performance_ = {};
    triggers_ = {};
    if (isa_.has(Extension::sdtrig)) update_triggers();
    stimecmp_ = ~u64{0};
    aia_ = {};
    h_ = {};
    virtual_interrupts_ = 0;
    std::fill(std::begin(pmpcfg_), std::end(pmpcfg_), 0);
    std::fill(std::begin(pmpaddr_), std::end(pmpaddr_), 0);
    reservation_ = ~u64{0};
    if (vector_) vector_->reset();
    at_insn_ = nullptr;
    flush_all();
    select_translation();
}

std::span<u8> Hart::v(unsigned index) {
    return vector_ ? vector_->bytes(index) : std::span<u8>();
}

void Hart::set_privilege(Privilege privilege) {
    privilege_ = privilege;
    virtual_ = false;
    select_translation();
}

// ---------------------------------------------------------------- running

RunResult Hart::run(u64 until, bool resumes) {
    const fp::DefaultEnvironment float_environment;
    step_over_ = resumes && breakpoint_at(pc_) ? pc_ : ~u64{0};
    try {
        return interpret(until, nullptr);
    } catch (...) {
        standing_after_throw();
        throw;
    }
}

void Hart::standing_after_throw() {
    locate();
}

Hart::Next Hart::settle(u64 until, RunResult& result) {
    for (;;) {
        const u32 events = events_.exchange(0, std::memory_order_seq_cst);
        if (has_h_ && (events & ev_interrupt) != 0) refresh_guest_interrupts();
        if ((events & ev_fence) != 0) service_fences();
        if ((events & ev_host_pages) != 0) flush_all();
        if ((events & ev_code_page) != 0) take_code_marks();
        if ((events & ev_code_write) != 0) drop_stale_code();
        if ((events & ev_stores) != 0) drop_all_store_entries();
        if ((events & ev_triggers) != 0) drop_decoded_code();
        if ((events & ev_exit) != 0) {
            result = RunResult::exit;
            return Next::stop;
        }
        if (cycles_ >= until) {
            result = RunResult::limit;
            return Next::stop;
        }
        update_timer();
        const u64 overflow = performance_.active ? until_overflow() : ~u64{0};
        take_interrupt();

        const bool timer_on = (menvcfg_ & envcfg::stce) != 0 && (mip_.load() & (u64{1} << irq_sti)) == 0;
        u64 deadline = timer_on ? stimecmp_ : ~u64{0};
        if (has_h_) deadline = std::min(deadline, guest_timer_deadline());
        const u64 slice = environment_.cycles_until(*this, deadline);
        // So far below what an exit without target adds that this passes every limit.
        constexpr u64 longest = u64{1} << 40;
        u64 limit = std::min(until, cycles_ + std::clamp<u64>(slice, 1, longest));
        if (overflow < limit - cycles_) limit = cycles_ + overflow;
        limit_.store(limit, std::memory_order_seq_cst);
        // An event that came in between had its zero overwritten.
        if (events_.load(std::memory_order_seq_cst) == 0) return Next::resume;
    }
}

u64 Hart::timer_deadline() const {
    return std::min((menvcfg_ & envcfg::stce) != 0 ? stimecmp_ : ~u64{0}, guest_timer_deadline());
}

bool Hart::wakeup_pending() {
    update_timer();
    if (has_h_) refresh_guest_interrupts();
    return (mip() & mie_) != 0 || (virtual_interrupts_ & ~injected_hint) != 0 ||
           (virtual_ && top_guest_interrupt().priority != priority::none);
}

// ---------------------------------------------------------------- from other threads

void Hart::post(Event event) {
    events_.fetch_or(event, std::memory_order_seq_cst);
    limit_.store(0, std::memory_order_seq_cst);
    environment_.wake(*this);
}

void Hart::set_interrupt(Interrupt which, bool level) {
    const u64 mask = u64{1} << which;
    if (which == irq_sei) {
        if (seip_line_.exchange(level) == level) return;
    } else {
        const u64 old = level ? mip_.fetch_or(mask) : mip_.fetch_and(~mask);
        if (((old & mask) != 0) == level) return;
    }
    if (level) post(ev_interrupt);
}

void Hart::request_exit() {
    post(ev_exit);
}

void Hart::request_fence_i() {
    request_fence({true, 0, 0});
}

void Hart::request_sfence(u64 start, u64 size, const FenceScope& scope) {
    request_fence({false, start, size, scope});
}

void Hart::request_fence(const FenceRequest& request) {
    {
        std::lock_guard lock(request_mutex_);
        if (fence_requests_.size() < most_requests) {
            fence_requests_.push_back(request);
        } else {
            fence_requests_ = {{true, 0, 0}, {false, 0, 0}, {false, 0, 0, {.guest = true}}};
        }
        fences_pending_.store(static_cast<u32>(fence_requests_.size()), std::memory_order_release);
    }
    post(ev_fence);
}

void Hart::service_fences() {
    std::vector<FenceRequest> requests;
    {
        std::lock_guard lock(request_mutex_);
        requests.swap(fence_requests_);
    }
    for (const FenceRequest& request : requests) {
        if (request.instruction) {
            environment_.await_code_marks(*this);
            drop_stale_code();
        } else {
            flush_range(request.start, request.size, request.scope);
        }
    }
    std::lock_guard lock(request_mutex_);
    fences_pending_.store(static_cast<u32>(fence_requests_.size()), std::memory_order_release);
}

void Hart::take_code_marks() {
    for (;;) {
        std::vector<u64> pages;
        bool every;
        {
            std::lock_guard lock(request_mutex_);
            pages.swap(code_pages_);
            every = std::exchange(every_code_page_, false);
            if (pages.empty() && !every) {
                code_marks_pending_.store(false, std::memory_order_release);
                return;
            }
        }
        if (every) drop_store_entries_of_code();
        for (const u64 page : pages) drop_store_entries(page);
    }
}

void Hart::note_code_page(u64 page) {
    {
        std::lock_guard lock(request_mutex_);
        if (code_pages_.size() < most_requests) {
            code_pages_.push_back(page);
        } else {
            code_pages_.clear();
            every_code_page_ = true;
        }
        code_marks_pending_.store(true, std::memory_order_release);
    }
    post(ev_code_page);
}

void Hart::note_code_write() {
    post(ev_code_write);
}

void Hart::forget_stores() {
    post(ev_stores);
}

void Hart::forget_stores_now() {
    if (stores_forgotten()) return;
    drop_all_store_entries();
    events_.fetch_and(~u32{ev_stores}, std::memory_order_seq_cst);
}

void Hart::note_host_pages_moved() {
    post(ev_host_pages);
}

// ---------------------------------------------------------------- breakpoints

void Hart::set_breakpoints(std::vector<u64> virtual_addresses) {
    breakpoints_ = std::move(virtual_addresses);
    std::sort(breakpoints_.begin(), breakpoints_.end());
    // Blocks carry the checks.
    drop_decoded_code();
}

void Hart::drop_decoded_code() {
    blocks_.clear();
    ++code_version_;
    flush_jump_caches();
}

bool Hart::breakpoint_at(u64 address) const {
    return std::binary_search(breakpoints_.begin(), breakpoints_.end(), address);
}

bool Hart::breakpoint_near(u64 address) const {
    // Blocks are shared by all virtual addresses of a page.
    return std::any_of(breakpoints_.begin(), breakpoints_.end(),
                       [&](u64 b) { return (b & page_mask) == (address & page_mask); });
}

// ---------------------------------------------------------------- state

void Hart::forget_caches() {
    flush_all();
    drop_decoded_code();
}

void Hart::visit_state(StateVisitor& v) {
    try {
        visit_registers(v);
        if (v.loading()) require_legal_state();
        if (has_h_) visit_hypervisor_state(v);
    } catch (...) {
        // A hart must not stand with what no guest could have brought about.
        if (v.loading()) {
            guest_lines_.store(0);
            reset(ram_.base(), Privilege::machine);
            cycles_ = exceptions_ = 0;
        }
        throw;
    }
    if (!v.loading()) return;
    if (has_h_) {
        h_.timer_due = false;
        refresh_guest_interrupts();
    }
    update_float_mode();
    update_virtual_interrupts();
    // Decoded code stays: what of it does not fit the memory any more, the pages' generations say.
    drop_spaces();
    at_insn_ = nullptr;
    select_translation();
}

void Hart::visit_registers(StateVisitor& v) {
    v.section("hart" + std::to_string(id_), 1);
    for (unsigned i = 1; i < 32; ++i) v.field("x" + std::to_string(i), x_[i]);
    for (unsigned i = 0; i < 32; ++i) v.field("f" + std::to_string(i), f_[i]);
    v.field("pc", pc_);
    v.field("privilege", privilege_);
    v.field("cycles", cycles_);
    v.field("exceptions", exceptions_);
    v.field("fflags", fflags_);
    v.field("frm", frm_);
    v.field("reservation", reservation_);
    v.field("reservation_value", reservation_value_);
    v.field("mstatus", mstatus_);
    v.field("mip", mip_);
    v.field("seip_line", seip_line_);
    v.field("mie", mie_);
    v.field("mideleg", mideleg_);
    v.field("medeleg", medeleg_);
    v.field("mtvec", mtvec_);
    v.field("mepc", mepc_);
    v.field("mcause", mcause_);
    v.field("mtval", mtval_);
    v.field("mscratch", mscratch_);
    v.field("stvec", stvec_);
    v.field("sepc", sepc_);
    v.field("scause", scause_);
    v.field("stval", stval_);
    v.field("sscratch", sscratch_);
    v.field("satp", satp_);
    v.field("stimecmp", stimecmp_);
    v.field("menvcfg", menvcfg_);
    v.field("senvcfg", senvcfg_);
    v.field("mcounteren", mcounteren_);
    v.field("scounteren", scounteren_);
    v.field("mcountinhibit", mcountinhibit_);
    v.field("cycle_offset", cycle_offset_);
    v.field("instret_offset", instret_offset_);
    v.field("pmpcfg", pmpcfg_);
    v.field("pmpaddr", pmpaddr_);
    if (machine_file_ != nullptr) visit_aia_state(v);
    if (vector_) vector_->visit_state(v, "hart" + std::to_string(id_) + ".vector");
    visit_extension_state(v);
}

}  // namespace wirt::riscv

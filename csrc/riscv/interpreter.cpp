// The interpreter: direct-threaded code over pre-decoded blocks.
//
// What it assumes, and everything it calls keeps to:
//  - `block` is the block being run, `pc` the virtual address of its first instruction, `insn` the current
//  one,
//    `cycles` the count as of the *end* of the block. Counting, interrupts and the timer are settled when a
//    block is entered: `cycles` passes `limit_` when the time has come, and other threads set `limit_` to 0
//    to be heard.
//  - `data` is the TLB set of the current translation context. It changes only in instructions that end a
//  block.
//  - An instruction that calls out of line stores the state first (SYNC): pc_ is then the address of the
//    instruction itself. A call that fails has set fault_.
//  - x0 is never written: the decoder redirected such destinations.
//  - No block is freed while one runs: that happens in lookup() and settle() only, between blocks.
//
// Guest memory is accessed with host atomics of the access's size. On x86-64 they are plain moves, and TSO is
// stronger than RVWMO; elsewhere relaxed order is RVWMO's, and FENCE and the AMOs are host fences.
#include "riscv/interpreter.h"

#include <bit>
#include <limits>

#include "base/atomic128.h"
#include "base/bits.h"
#include "riscv/crypto.h"
#include "riscv/hart.h"
#include "riscv/softfloat.h"
#include "riscv/zfa.h"

namespace wirt::riscv {

namespace {

template <typename T>
T divide(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if constexpr (std::is_signed_v<T>) {
        if (a == std::numeric_limits<T>::min() && b == -1) return a;
    }
    return a / b;
}

template <typename T>
T remainder(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
    }
    return a % b;
}

// Each byte becomes all ones if any of its bits is set.
u64 or_combine(u64 value) {
    constexpr u64 low7 = 0x7f7f7f7f7f7f7f7f;
    const u64 nonzero = ((((value & low7) + low7) | value) & ~low7) >> 7;
    return nonzero * 0xff;
}

// A single-precision value that is not NaN-boxed reads as the canonical NaN (chapter 20, "NaN Boxing").
u32 unbox(u64 value) {
    return (value >> 32) == 0xffffffff ? static_cast<u32>(value) : 0x7fc00000u;
}

u16 unbox_half(u64 value) {
    return (value >> 16) == 0xffff'ffff'ffff ? static_cast<u16>(value) : 0x7e00;
}

Exit& exit_of(const Insn* last) {
    return *reinterpret_cast<Exit*>(const_cast<Insn*>(last + 1));
}

}  // namespace

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

// --- operands ---
#define RD x_[insn->rd]
#define RS1 x_[insn->rs1]
#define RS2 x_[insn->rs2]
#define IMM static_cast<i64>(insn->imm)
#define SHAMT insn->imm
#define UIMM static_cast<u64>(insn->rs1)
#define PC (pc + 2u * insn->offset)
#define NEXT_PC (PC + insn->rs2) /* JAL and JALR: the decoder put the length into rs2 */
#define SEXT32(value) static_cast<u64>(static_cast<i64>(static_cast<i32>(value)))

// --- flow ---
#define DISPATCH goto * insn->handler
#define NEXT      \
    do {          \
        ++insn;   \
        DISPATCH; \
    } while (0)
// Out of line: the state is in the hart, as of this instruction.
#define SYNC               \
    do {                   \
        pc_ = PC;          \
        cycles_ = cycles;  \
        at_block_ = block; \
        at_insn_ = insn;   \
    } while (0)
// Enters a block. Written out at each use, so that every way into a block is an indirect jump of its own that
// the host predicts by itself.
#define ENTER(next)                                                                  \
    do {                                                                             \
        block = (next);                                                              \
        cycles += block->count;                                                      \
        if (UNLIKELY(cycles > limit_.load(std::memory_order_relaxed))) goto put_off; \
        insn = block->insns;                                                         \
        DISPATCH;                                                                    \
    } while (0)
#define GO(slot, distance)                          \
    do {                                            \
        delta = (distance);                         \
        pc += static_cast<u64>(delta);              \
        if (LIKELY((slot) != nullptr)) ENTER(slot); \
        link = &(slot);                             \
        goto link_up;                               \
    } while (0)
#define TAKE GO(exit_of(insn).taken, IMM)
#define FALL_THROUGH GO(exit_of(insn).next, i64{2} * insn->offset + 4)
#define BRANCH(condition)                                         \
    do {                                                          \
        if (condition) TAKE;                                      \
        GO(exit_of(insn).next, i64{2} * insn->offset + insn->rd); \
    } while (0)
#define JUMP(target)                                                       \
    do {                                                                   \
        pc = (target);                                                     \
        const JumpEntry& jump_ = fetch_set_->jump[TlbSet::jump_index(pc)]; \
        if (LIKELY(jump_.pc == pc)) ENTER(jump_.block);                    \
        pc_ = pc;                                                          \
        cycles_ = cycles;                                                  \
        goto find;                                                         \
    } while (0)
#define RAISE(cause, value)  \
    do {                     \
        SYNC;                \
        raise(cause, value); \
        goto exception;      \
    } while (0)
#define SLOW(call)                     \
    do {                               \
        SYNC;                          \
        switch (call) {                \
            case Next::resume:         \
                goto resume;           \
            case Next::settle:         \
                goto settle;           \
            case Next::trap:           \
                goto exception;        \
            case Next::stop:           \
                at_block_ = nullptr;   \
                return RunResult::wfi; \
        }                              \
    } while (0)
#define SLOW_FALLIBLE(call)          \
    do {                             \
        SYNC;                        \
        if (!(call)) goto exception; \
    } while (0)

// --- CSRs ---
#define CSR_NUMBER static_cast<u16>(insn->imm)
#define WRITES ((insn->rs2 & csr_writes) != 0)
#define READS ((insn->rs2 & csr_reads) != 0)
#define csr_access(...) csr_access(__VA_ARGS__, csr_old)
#define CSR_OP(call)                       \
    do {                                   \
        SYNC;                              \
        u64 csr_old;                       \
        if (!(call)) goto exception;       \
        RD = csr_old;                      \
        if ((insn->rs2 & csr_ends) != 0) { \
            pc_ += 4;                      \
            goto resume;                   \
        }                                  \
    } while (0)

// --- memory ---
// A tag matches when page and alignment do; the entry then holds the distance to host memory. What an access
// out of line has caused (an interrupt, code that is stale) is heard before the next instruction and not at
// the block's end, so that it does not depend on where a bound has cut the block.
#define ACCESS(T, table, address, hit, miss, finish)                             \
    do {                                                                         \
        const u64 address_ = (address);                                          \
        const TlbEntry& entry_ = data->table[TlbSet::data_index(address_)];      \
        if (LIKELY(entry_.tag == (address_ & (~page_mask | (sizeof(T) - 1))))) { \
            T* const host_ = reinterpret_cast<T*>(address_ + entry_.addend);     \
            hit;                                                                 \
            finish;                                                              \
        } else {                                                                 \
            SYNC;                                                                \
            if (!(miss)) goto exception;                                         \
            finish;                                                              \
            if (events_.load(std::memory_order_relaxed) != 0) goto disturbed;    \
        }                                                                        \
    } while (0)
#define READ_MEMORY(T, address, finish)                                             \
    do {                                                                            \
        T value_;                                                                   \
        ACCESS(T, load, address, value_ = __atomic_load_n(host_, __ATOMIC_RELAXED), \
               load_slow<T>(address_, value_), finish);                             \
    } while (0)
#define LOAD(T, address) READ_MEMORY(T, address, RD = static_cast<u64>(value_))
#define FLOAD(T, address) \
    READ_MEMORY(T, address, f_[insn->rd] = sizeof(T) == 4 ? 0xffffffff00000000u | value_ : u64{value_})
#define STORE(T, address, source)                                                    \
    do {                                                                             \
        const T value_ = static_cast<T>(source);                                     \
        ACCESS(T, store, address, __atomic_store_n(host_, value_, __ATOMIC_RELAXED), \
               store_slow<T>(address_, value_), );                                   \
    } while (0)
// HLV, HLVX and HSV: always out of line, in the guest's translation context.
#define GUEST_LOAD(T, execute)                                            \
    do {                                                                  \
        u64 wide_ = 0;                                                    \
        SLOW_FALLIBLE(guest_load(RS1, sizeof(T), execute, wide_));        \
        RD = static_cast<u64>(static_cast<T>(wide_));                     \
        if (events_.load(std::memory_order_relaxed) != 0) goto disturbed; \
    } while (0)
#define GUEST_STORE(T)                                                    \
    do {                                                                  \
        SLOW_FALLIBLE(guest_store(RS1, sizeof(T), RS2));                  \
        if (events_.load(std::memory_order_relaxed) != 0) goto disturbed; \
    } while (0)
#define ATOMIC_TARGET(T, use)                                     \
    SYNC;                                                         \
    u8* const raw_ = atomic_host(RS1, sizeof(T), AtomicUse::use); \
    if (raw_ == nullptr) goto exception;                          \
    T* const target_ = reinterpret_cast<T*>(raw_)
#define ATOMIC_DONE(T)                                    \
    do {                                                  \
        if (UNLIKELY(atomic_note_ != 0)) {                \
            ram_.note_write(atomic_note_ - 1, sizeof(T)); \
            atomic_note_ = 0;                             \
        }                                                 \
    } while (0)
#define AMO(T, operation)                                                                                   \
    do {                                                                                                    \
        ATOMIC_TARGET(T, modify);                                                                           \
        const T b = static_cast<T>(RS2);                                                                    \
        T a = __atomic_load_n(target_, __ATOMIC_RELAXED);                                                   \
        while (!__atomic_compare_exchange_n(target_, &a, static_cast<T>(operation), true, __ATOMIC_SEQ_CST, \
                                            __ATOMIC_RELAXED)) {                                            \
        }                                                                                                   \
        static_cast<void>(b);                                                                               \
        ATOMIC_DONE(T);                                                                                     \
        RD = static_cast<u64>(static_cast<i64>(static_cast<std::make_signed_t<T>>(a)));                     \
    } while (0)
// The destination of register 0 holds what nobody asked for, and compares as zero.
#define AMOCAS(T)                                                                                   \
    do {                                                                                            \
        ATOMIC_TARGET(T, modify);                                                                   \
        T found_ = static_cast<T>(insn->rd < 32 ? RD : 0);                                          \
        __atomic_compare_exchange_n(target_, &found_, static_cast<T>(RS2), false, __ATOMIC_SEQ_CST, \
                                    __ATOMIC_SEQ_CST);                                              \
        ATOMIC_DONE(T);                                                                             \
        RD = static_cast<u64>(static_cast<i64>(static_cast<std::make_signed_t<T>>(found_)));        \
    } while (0)
#define AMOCAS_PAIR                                                                             \
    do {                                                                                        \
        ATOMIC_TARGET(Pair, modify);                                                            \
        const bool named_ = insn->rd < 32;                                                      \
        const Pair expected_ = named_ ? Pair{x_[insn->rd], x_[insn->rd + 1]} : Pair{};          \
        const Pair desired_ = insn->rs2 != 0 ? Pair{x_[insn->rs2], x_[insn->rs2 + 1]} : Pair{}; \
        const Pair found_ = compare_exchange_pair(target_, expected_, desired_);                \
        ATOMIC_DONE(Pair);                                                                      \
        if (named_) {                                                                           \
            x_[insn->rd] = found_.low;                                                          \
            x_[insn->rd + 1] = found_.high;                                                     \
        }                                                                                       \
    } while (0)
// A reservation is an address and the value read: SC succeeds when the value is still there.
#define LOAD_RESERVED(T)                                             \
    do {                                                             \
        ATOMIC_TARGET(T, load);                                      \
        const T value_ = __atomic_load_n(target_, __ATOMIC_SEQ_CST); \
        reservation_ = static_cast<u64>(raw_ - ram_.data());         \
        reservation_value_ = static_cast<u64>(value_);               \
        RD = static_cast<u64>(i64{value_});                          \
    } while (0)
#define STORE_CONDITIONAL(T)                                                                              \
    do {                                                                                                  \
        ATOMIC_TARGET(T, store);                                                                          \
        T expected_ = static_cast<T>(reservation_value_);                                                 \
        const bool stored_ = reservation_ == static_cast<u64>(raw_ - ram_.data()) &&                      \
                             __atomic_compare_exchange_n(target_, &expected_, static_cast<T>(RS2), false, \
                                                         __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);             \
        reservation_ = ~u64{0};                                                                           \
        ATOMIC_DONE(T);                                                                                   \
        RD = !stored_;                                                                                    \
    } while (0)

// --- floating point ---
#define FS1 f_[insn->rs1]
#define FS2 f_[insn->rs2]
#define F1_D f_[insn->rs1]
#define F2_D f_[insn->rs2]
#define F3_D f_[insn->imm & 31]
#define F1_S unbox(f_[insn->rs1])
#define F2_S unbox(f_[insn->rs2])
#define F3_S unbox(f_[insn->imm & 31])
#define F1_H unbox_half(f_[insn->rs1])
#define F2_H unbox_half(f_[insn->rs2])
#define F3_H unbox_half(f_[insn->imm & 31])
#define SIGN_H 0x8000u
#define SIGN_S 0x80000000u
#define SIGN_D 0x8000000000000000u
#define SET_H(value) f_[insn->rd] = 0xffffffffffff0000u | static_cast<u16>(value)
#define SET_S(value) f_[insn->rd] = 0xffffffff00000000u | static_cast<u32>(value)
#define SET_D(value) f_[insn->rd] = (value)
#define FLAGGED(expression)                      \
    ({                                           \
        u8 flags = 0;                            \
        const auto result_ = (expression);       \
        if (UNLIKELY((flags & ~fflags_) != 0)) { \
            fflags_ |= flags;                    \
            update_float_mode();                 \
        }                                        \
        result_;                                 \
    })
#define RM_FIELD static_cast<u32>(insn->imm >> 8)
#define RM                                        \
    ({                                            \
        u32 rm_ = RM_FIELD;                       \
        if (rm_ == 7) rm_ = frm_;                 \
        if (UNLIKELY(rm_ > 4)) goto illegal_sync; \
        static_cast<fp::Rounding>(rm_);           \
    })
#define CHECK_RM static_cast<void>(RM)
#define FAST_FLOAT LIKELY(float_fast_&& RM_FIELD == 7)
#define FP_OP(op, ...) \
    (FAST_FLOAT ? FLAGGED(fp::fast_##op(__VA_ARGS__, flags)) : FLAGGED(fp::op(__VA_ARGS__, RM, flags)))
#define FP_ADD(a, b) FP_OP(add, a, b)
#define FP_SUB(a, b) FP_OP(sub, a, b)
#define FP_MUL(a, b) FP_OP(mul, a, b)
#define FP_DIV(a, b) FP_OP(div, a, b)
#define FP_SQRT(a) FP_OP(sqrt, a)
#define FP_FMA(a, b, c) FP_OP(fma, a, b, c)

RunResult Hart::interpret(u64 until, const void* const** table) {
    static const void* const handlers[handler_count] = {
#define EXTENSION(name)
#define INSN(id, ...) &&handle_##id,
#define VINSN(id, ...) &&handle_vector,
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#undef EXTENSION
        &&handle_illegal,
        &&handle_float_check,
        &&handle_breakpoint,
        &&handle_end,
    };
    if (table != nullptr) {
        *table = handlers;
        return RunResult::limit;
    }

    const Insn* insn = nullptr;
    Block* block = nullptr;
    u64 pc = 0;
    u64 cycles = 0;
    TlbSet* data = nullptr;
    Block** link = nullptr;
    i64 delta = 0;
    goto settle;

put_off:
    // The block was not run: its instructions do not count yet.
    cycles_ = cycles - block->count;
    pc_ = pc;
    goto settle;

link_up : {
    // The first time along this edge: find the successor and, within the page, remember it.
    const u64 from = block->physical;
    const bool linkable = block->cached;
    const u64 version = code_version_;
    const JumpEntry& jump = fetch_set_->jump[TlbSet::jump_index(pc)];
    if (jump.pc == pc) {
        block = jump.block;
    } else {
        pc_ = pc;
        cycles_ = cycles;
        block = lookup(pc);
        if (block == nullptr) goto fetch_fault;
        if (block->cached) fetch_set_->remember_jump(pc, block);
    }
    if (linkable && block->cached && version == code_version_ &&
        block->physical == from + static_cast<u64>(delta) && (block->physical ^ from) < page_size) {
        *link = block;
    }
    ENTER(block);
}

settle : {
    at_block_ = nullptr;
    RunResult result = RunResult::limit;
    if (settle(until, result) == Next::stop) return result;
    goto find;
}

resume:
    // An instruction that ended its block changed the state: interrupts may be enabled now.
    at_block_ = nullptr;
    if (events_.load(std::memory_order_relaxed) != 0 || (mip_.load(std::memory_order_relaxed) & mie_) != 0 ||
        seip_line_.load(std::memory_order_relaxed) || virtual_interrupts_ != 0) {
        goto settle;
    }

find : {
    // pc_ and cycles_ say where to go on.
    pc = pc_;
    const JumpEntry& jump = fetch_set_->jump[TlbSet::jump_index(pc)];
    if (jump.pc == pc) {
        block = jump.block;
    } else {
        block = lookup(pc);
        if (block == nullptr) goto fetch_fault;
        if (block->cached) fetch_set_->remember_jump(pc, block);
    }
    const u64 limit = limit_.load(std::memory_order_relaxed);
    if (UNLIKELY(cycles_ + block->count > limit)) {
        if (limit <= cycles_) goto settle;
        block = build_scratch(pc, static_cast<unsigned>(limit - cycles_));
        if (block == nullptr) goto fetch_fault;
    }
    data = data_set_;
    cycles = cycles_ + block->count;
    insn = block->insns;
    DISPATCH;
}

disturbed:
    // A load, a store or a vector instruction ends no block: another slot follows it.
    ++insn;
    pc_ = PC;
    cycles_ = cycles - block->count + retired_before(block, insn);
    goto settle;

fetch_fault:
    ++cycles_;
    take_exception();
    goto after_trap;

illegal_sync:
    SYNC;
    illegal_instruction();
exception:
    // The instructions behind the one that trapped did not run.
    cycles_ = cycles - block->count + retired_before(block, insn) + 1;
    take_exception();
after_trap:
    at_block_ = nullptr;
    if (cycles_ >= limit_.load(std::memory_order_relaxed)) goto settle;
    goto find;

handle_illegal:
    goto illegal_sync;

handle_float_check:
    if (UNLIKELY(float_state_ < insn->imm)) {
        if (float_state_ == 0) {
            // The instruction behind the check is the one that traps.
            ++insn;
            goto illegal_sync;
        }
        mark_float_dirty();
    }
    NEXT;

handle_breakpoint:
    if (breakpoint_at(PC)) {
        if (PC != step_over_) {
            pc_ = PC;
            cycles_ = cycles - block->count + retired_before(block, insn);
            return RunResult::breakpoint;
        }
        step_over_ = ~u64{0};
    }
    if (UNLIKELY(triggers_.fetch_armed) && trigger_fires(Access::fetch, PC, 1)) {
        // The instruction behind the check is the one that traps.
        ++insn;
        SYNC;
        goto exception;
    }
    NEXT;

// Every vector instruction: what to do is a function of its own (riscv/vector).
handle_vector:
    SLOW_FALLIBLE(execute_vector(*insn));
    if (UNLIKELY(events_.load(std::memory_order_relaxed) != 0)) goto disturbed;
    NEXT;

handle_end:
    GO(exit_of(insn).next, IMM);

#define EXTENSION(name)
#define INSN(id, name, mask, match, format, flags, ...) handle_##id : {__VA_ARGS__} NEXT;
#define VINSN(id, ...)
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#undef EXTENSION
}

}  // namespace wirt::riscv

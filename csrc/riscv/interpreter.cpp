// The interpreter: direct-threaded code over pre-decoded blocks.
//
// What it assumes, and everything it calls keeps to:
//  - `insn` is the current instruction, `page` the virtual page that its block is on, `cycles` the count as
//  of
//    the *end* of the block. That is all: the program counter and the block itself are found from `insn` when
//    somebody asks (Hart::position). Counting, interrupts and the timer are settled when a block is entered:
//    `cycles` passes `limit_` when the time has come, and other threads set `limit_` to 0 to be heard.
//  - A branch that is taken leaves its block early: what its exit adds takes back what is skipped.
//  - `data` is the TLB set of the current translation context. It changes only in instructions that end a
//  block.
//  - An instruction that calls out of line says first where it is: AT (at_insn_, from which position() tells)
//  or
//    SYNC (pc_ and cycles_ as before the instruction). A call that fails has set fault_.
//  - Of several instructions in one handler (isa/fused.def) each keeps its slot: what fails in a later one is
//  at
//    its slot, and what is finished out of line goes on with the next slot's own handler.
//  - x0 is never written: the decoder redirected such destinations.
//  - No block is freed while one runs: that happens in lookup() and settle() only, between blocks.
//
// Guest memory is accessed with host atomics of the access's size. On x86-64 they are plain moves, and TSO is
// stronger than RVWMO; elsewhere relaxed order is RVWMO's, and FENCE and the AMOs are host fences.
#include "riscv/interpreter.h"

#include <bit>
#include <cstring>
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

Exit& exit_of(const Insn* insn) {
    return *reinterpret_cast<Exit*>(const_cast<Insn*>(insn + 1));
}

u16 link_of(const Insn* insn) {
    u16 link;
    std::memcpy(&link, &insn->rs1, sizeof link);
    return link;
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
#define RD_B x_[insn[1].rd]
#define RS1_B x_[insn[1].rs1]
#define RS2_B x_[insn[1].rs2]
#define IMM_B static_cast<i64>(insn[1].imm)
#define RD_C x_[insn[2].rd]
#define RS1_C x_[insn[2].rs1]
#define RS2_C x_[insn[2].rs2]
#define IMM_C static_cast<i64>(insn[2].imm)
#define PAGE page
#define LINK link_of(insn)
#define PLACE (*reinterpret_cast<const Place*>(insn + 1))
#define SEXT32(value) static_cast<u64>(static_cast<i64>(static_cast<i32>(value)))

// --- flow ---
// A jump of its own for each use is what the branch predictor wants. Builds for fuzzing share one, and do not
// optimise: over some thousand indirect jumps to hundreds of labels each, clang takes more than a quarter of
// an hour.
#ifdef WIRT_SHARED_DISPATCH
#define DISPATCH goto dispatch
#else
#define DISPATCH goto * insn->handler
#endif
#define NEXT      \
    do {          \
        ++insn;   \
        DISPATCH; \
    } while (0)
#define NEXT_B     \
    do {           \
        insn += 2; \
        DISPATCH;  \
    } while (0)
#define NEXT_C     \
    do {           \
        insn += 3; \
        DISPATCH;  \
    } while (0)
// Out of line: where the hart is can be told from this.
#define AT                \
    do {                  \
        at_insn_ = insn;  \
        at_page_ = page;  \
        cycles_ = cycles; \
    } while (0)
#define SYNC      \
    do {          \
        AT;       \
        locate(); \
    } while (0)
// Read where it lies: as an atomic's its address would take up a register for the whole function.
#define LIMIT (*reinterpret_cast<const volatile u64*>(&limit_))
#define PASSED UNLIKELY(cycles > LIMIT)
// Every way into a block is written out where it is used, so that each is an indirect jump of its own that
// the host predicts by itself.
#define TAKE                            \
    do {                                \
        cycles += exit_of(insn).adjust; \
        if (PASSED) goto leave;         \
        insn = exit_of(insn).target;    \
        DISPATCH;                       \
    } while (0)
#define BRANCH(condition)            \
    do {                             \
        if (LIKELY(condition)) TAKE; \
        insn += 2;                   \
        DISPATCH;                    \
    } while (0)
// Through a register: see JumpTargets for why the targets are compared one after another.
#define JUMP(to)                                                                                      \
    do {                                                                                              \
        target = (to);                                                                                \
        const JumpTargets* const known_ = PLACE.targets;                                              \
        if (UNLIKELY(known_->version != fetch_set_->jump_version)) goto unknown;                      \
        TARGET(0) TARGET(1) TARGET(2) TARGET(3) TARGET(4) TARGET(5) TARGET(6) TARGET(7) goto unknown; \
        ENTER;                                                                                        \
    } while (0)
#define TARGET(i)                        \
    if (known_->targets[i].pc == target) \
        insn = known_->targets[i].insns; \
    else
#define ENTER                                                \
    do {                                                     \
        cycles += Block::of(const_cast<Insn*>(insn))->count; \
        page = target & ~page_mask;                          \
        if (PASSED) goto put_off;                            \
        DISPATCH;                                            \
    } while (0)
#define RAISE(cause, value)  \
    do {                     \
        SYNC;                \
        raise(cause, value); \
        goto exception;      \
    } while (0)
// For instructions that end their block: pc_ is the address, cycles_ counts the instruction already.
#define SLOW(call)                     \
    do {                               \
        AT;                            \
        pc_ = page + PLACE.address;    \
        switch (call) {                \
            case Next::resume:         \
                goto resume;           \
            case Next::settle:         \
                goto settle;           \
            case Next::trap:           \
                goto exception;        \
            case Next::stop:           \
                at_insn_ = nullptr;    \
                return RunResult::wfi; \
        }                              \
    } while (0)
#define SLOW_FALLIBLE(call)          \
    do {                             \
        AT;                          \
        if (!(call)) goto exception; \
    } while (0)

// --- CSRs ---
#define CSR_NUMBER static_cast<u16>(insn->imm)
#define WRITES ((insn->rs2 & csr_writes) != 0)
#define READS ((insn->rs2 & csr_reads) != 0)
#define csr_access(...) csr_access(__VA_ARGS__, csr_old)
#define CSR_OP(call)                       \
    do {                                   \
        AT;                                \
        u64 csr_old;                       \
        if (!(call)) goto exception;       \
        RD = csr_old;                      \
        if ((insn->rs2 & csr_ends) != 0) { \
            pc_ = page + PLACE.next;       \
            cycles_ = cycles;              \
            goto resume;                   \
        }                                  \
    } while (0)

#define IN_SUPERVISOR(own) \
    if (UNLIKELY(!PLAIN_SUPERVISOR)) goto handle_##own
#define PLAIN_SUPERVISOR (privilege_ == Privilege::supervisor && !virtual_)
#define INTERRUPTED                                                                                        \
    (events_.load(std::memory_order_relaxed) != 0 || (mip_.load(std::memory_order_relaxed) & mie_) != 0 || \
     seip_line_.load(std::memory_order_relaxed) || virtual_interrupts_ != 0)

// --- memory ---
// A tag matches when page and alignment do; the entry then holds the distance to host memory. A miss is
// handled out of line, once for each type and for the two halves of a pair. What an access out of line has
// caused (an interrupt, code that is stale) is heard before the next instruction and not at the block's end,
// so that it does not depend on where a bound has cut the block.
#define HOST(T, table, address, miss)                                                       \
    ({                                                                                      \
        const u64 address_ = (address);                                                     \
        const TlbEntry& entry_ = data->table[TlbSet::data_index(address_)];                 \
        if (UNLIKELY(entry_.tag != (address_ & (~page_mask | (sizeof(T) - 1))))) goto miss; \
        reinterpret_cast<T*>(address_ + entry_.addend);                                     \
    })
#define READ(T, address, miss) __atomic_load_n(HOST(T, load, address, miss), __ATOMIC_RELAXED)
#define WRITE(T, address, value, miss) \
    __atomic_store_n(HOST(T, store, address, miss), static_cast<T>(value), __ATOMIC_RELAXED)
#define BOXED(T, value) (sizeof(T) == 8 ? u64{value} : (value) | ~u64{0} << (8 * (sizeof(T) % 8)))
#define LOAD(T, address) RD = static_cast<u64>(READ(T, address, load_##T))
#define LOAD_B(T, address) RD_B = static_cast<u64>(READ(T, address, load_##T##_b))
#define LOAD_C(T, address) RD_C = static_cast<u64>(READ(T, address, load_##T##_c))
#define FLOAD_C(T, address) f_[insn[2].rd] = BOXED(T, READ(T, address, fload_##T##_c))
#define STORE_C(T, address, source) WRITE(T, address, source, store_##T##_c)
#define FLOAD(T, address) f_[insn->rd] = BOXED(T, READ(T, address, fload_##T))
#define FLOAD_B(T, address) f_[insn[1].rd] = BOXED(T, READ(T, address, fload_##T##_b))
#define STORE(T, address, source) WRITE(T, address, source, store_##T)
#define STORE_B(T, address, source) WRITE(T, address, source, store_##T##_b)
#define FSTORE(T, address) WRITE(T, address, FS2, fstore_##T)
// HLV, HLVX and HSV: always out of line, in the guest's translation context.
#define GUEST_LOAD(T, execute)                                     \
    do {                                                           \
        u64 wide_ = 0;                                             \
        SLOW_FALLIBLE(guest_load(RS1, sizeof(T), execute, wide_)); \
        RD = static_cast<u64>(static_cast<T>(wide_));              \
        goto accessed;                                             \
    } while (0)
#define GUEST_STORE(T)                                   \
    do {                                                 \
        SLOW_FALLIBLE(guest_store(RS1, sizeof(T), RS2)); \
        goto accessed;                                   \
    } while (0)
#define ATOMIC_TARGET(T, use)                                     \
    AT;                                                           \
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
#define FS3 f_[insn->imm & 31]
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
// On the host without more ado: where the result is not plainly right, the instruction's own handler does it
// again.
#define F64(value) std::bit_cast<double>(u64{value})
#define F32(value) std::bit_cast<float>(u32{value})
#define FMA_D(a, b, c) detail::host_fma(F64(a), F64(b), F64(c))
#define FAST_D(own, expression, good)                       \
    do {                                                    \
        using namespace fp;                                 \
        if (UNLIKELY(!float_fast_)) goto handle_##own;      \
        const u64 result_ = std::bit_cast<u64>(expression); \
        if (UNLIKELY(!good(result_))) goto handle_##own;    \
        f_[insn->rd] = result_;                             \
    } while (0)
#define FAST_S(own, expression, good)                       \
    do {                                                    \
        using namespace fp;                                 \
        if (UNLIKELY(!float_fast_)) goto handle_##own;      \
        const u32 result_ = std::bit_cast<u32>(expression); \
        if (UNLIKELY(!good(result_))) goto handle_##own;    \
        SET_S(result_);                                     \
    } while (0)
#define FP_ADD(a, b) FP_OP(add, a, b)
#define FP_SUB(a, b) FP_OP(sub, a, b)
#define FP_MUL(a, b) FP_OP(mul, a, b)
#define FP_DIV(a, b) FP_OP(div, a, b)
#define FP_SQRT(a) FP_OP(sqrt, a)
#define FP_FMA(a, b, c) FP_OP(fma, a, b, c)

// --- integer arithmetic in pairs ---
#define ALU_addi(a, b, i) ((a) + static_cast<i64>((i)->imm))
#define ALU_andi(a, b, i) ((a) & static_cast<i64>((i)->imm))
#define ALU_xori(a, b, i) ((a) ^ static_cast<i64>((i)->imm))
#define ALU_slli(a, b, i) ((a) << (i)->imm)
#define ALU_srli(a, b, i) ((a) >> (i)->imm)
#define ALU_srai(a, b, i) static_cast<u64>(static_cast<i64>(a) >> (i)->imm)
#define ALU_addiw(a, b, i) SEXT32((a) + static_cast<i64>((i)->imm))
#define ALU_slliw(a, b, i) SEXT32(static_cast<u32>(a) << (i)->imm)
#define ALU_srliw(a, b, i) SEXT32(static_cast<u32>(a) >> (i)->imm)
#define ALU_lui(a, b, i) static_cast<u64>(static_cast<i64>((i)->imm))
#define ALU_sltiu(a, b, i)                                 \
    u64 {                                                  \
        (a) < static_cast<u64>(static_cast<i64>((i)->imm)) \
    }
#define ALU_sltu(a, b, i) \
    u64 {                 \
        (a) < (b)         \
    }
#define ALU_sub(a, b, i) ((a) - (b))
#define ALU_subw(a, b, i) SEXT32((a) - (b))
#define ALU_add(a, b, i) ((a) + (b))
#define ALU_addw(a, b, i) SEXT32((a) + (b))
#define ALU_mul(a, b, i) ((a) * (b))
#define ALU_mulw(a, b, i) SEXT32((a) * (b))
#define ALU_or_(a, b, i) ((a) | (b))
#define ALU_xor_(a, b, i) ((a) ^ (b))
#define ALU_and_(a, b, i) ((a) & (b))

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
#define SPECIAL(id, ...) &&handle_##id,
#define FUSED(id, ...) &&handle_##id,
#define TRIPLE(id, ...) &&handle_##id,
#include "riscv/isa/fused.def"
#undef SPECIAL
#undef FUSED
#undef TRIPLE
    };
    if (table != nullptr) {
        *table = handlers;
        return RunResult::limit;
    }

    const Insn* insn = nullptr;
    u64 page = 0;
    u64 cycles = 0;
    TlbSet* data = nullptr;
    u64 target = 0;
    goto settle;

leave : {
    // An exit that has not been taken before, or that the limit forbids to take now.
    Exit& exit = exit_of(insn);
    if (exit.target == nullptr && static_cast<u32>(insn->imm) >= page_size) {
        cycles -= Exit::unlinked;
        target = page + IMM;
        goto elsewhere;
    }
    cycles_ = cycles - (exit.target == nullptr ? Exit::unlinked : Block::of(exit.target)->count);
    pc_ = page + IMM;
    at_insn_ = nullptr;
    if (exit.target != nullptr) goto settle;
    // The first time: find the successor and remember it.
    const Block* const from = block_of(insn);
    const u64 physical_page = from->physical & ~page_mask;
    const u64 skipped = Exit::unlinked - exit.adjust;
    const bool linkable = from->cached;
    const u64 version = code_version_;
    Block* const block = block_at(pc_);
    if (block == nullptr) goto fetch_fault;
    if (linkable && block->cached && version == code_version_ &&
        (block->physical & ~page_mask) == physical_page) {
        exit = {block->count - skipped, block->insns};
    }
    goto find;
}

#ifdef WIRT_SHARED_DISPATCH
dispatch:
    goto * insn->handler;
#endif

put_off:
    // The block was not run: its instructions do not count yet.
    cycles_ = cycles - Block::of(const_cast<Insn*>(insn))->count;
    pc_ = target;
    goto settle;

settle : {
    at_insn_ = nullptr;
    RunResult result = RunResult::limit;
    if (settle(until, result) == Next::stop) return result;
    goto find;
}

resume:
    // An instruction that ended its block changed the state: interrupts may be enabled now.
    if (INTERRUPTED) goto settle;
    goto find;

unknown:
    // By the jump at `insn`, which remembers the place if it is a known one.
    if (const JumpEntry& jump = fetch_set_->jump[TlbSet::jump_index(target)]; LIKELY(jump.pc == target)) {
        blocks_.remember_target(const_cast<Place&>(PLACE).targets, fetch_set_->jump_version, target,
                                jump.block->insns);
    }

elsewhere:
    // Also of jumps to known places on other pages.
    if (const JumpEntry& jump = fetch_set_->jump[TlbSet::jump_index(target)]; LIKELY(jump.pc == target)) {
        insn = jump.block->insns;
        ENTER;
    }
    pc_ = target;
    cycles_ = cycles;

find : {
    // pc_ and cycles_ say where to go on.
    at_insn_ = nullptr;
    Block* block = block_at(pc_);
    if (block == nullptr) goto fetch_fault;
    const u64 limit = limit_.load(std::memory_order_relaxed);
    if (UNLIKELY(cycles_ + block->count > limit)) {
        if (limit <= cycles_) goto settle;
        block = build_scratch(pc_, static_cast<unsigned>(limit - cycles_));
        if (block == nullptr) goto fetch_fault;
    }
    data = data_set_;
    page = pc_ & ~page_mask;
    cycles = cycles_ + block->count;
    insn = block->insns;
    DISPATCH;
}

accessed:
    if (LIKELY(events_.load(std::memory_order_relaxed) == 0)) NEXT;
interrupted:
    // The instruction ends no block: another slot follows it.
    ++insn;
    SYNC;
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
    locate();
    ++cycles_;
    take_exception();
after_trap:
    at_insn_ = nullptr;
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
    SYNC;
    if (breakpoint_at(pc_)) {
        if (pc_ != step_over_) return RunResult::breakpoint;
        step_over_ = ~u64{0};
    }
    if (UNLIKELY(triggers_.fetch_armed) && trigger_fires(Access::fetch, pc_, 1)) {
        // The instruction behind the check is the one that traps.
        ++insn;
        SYNC;
        goto exception;
    }
    NEXT;

// Every vector instruction: what to do is a function of its own (riscv/vector).
handle_vector:
    SLOW_FALLIBLE(execute_vector(*insn));
    goto accessed;

handle_end:
    TAKE;

#define EXTENSION(name)
#define INSN(id, name, mask, match, format, flags, ...) handle_##id : {__VA_ARGS__} NEXT;
#define VINSN(id, ...)
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#undef EXTENSION
#define SPECIAL(id, of, condition, ...) handle_##id : {__VA_ARGS__} NEXT;
#define FUSED(id, first, second, condition, ...) \
    handle_##id : {                              \
        __VA_ARGS__                              \
    }
#define TRIPLE(id, first, second, third, condition, ...) \
    handle_##id : {                                      \
        __VA_ARGS__                                      \
    }
#include "riscv/isa/fused.def"
#undef SPECIAL
#undef FUSED
#undef TRIPLE

// --- accesses that miss ---
#define MISSED_LOAD(T, label, finish)                                          \
    label##_c : __attribute__((unused));                                       \
    ++insn;                                                                    \
    label##_b : __attribute__((unused));                                       \
    ++insn;                                                                    \
    label : {                                                                  \
        AT;                                                                    \
        T value;                                                               \
        if (!load_slow<T>(RS1 + static_cast<u64>(IMM), value)) goto exception; \
        finish;                                                                \
        goto accessed;                                                         \
    }
#define MISSED_STORE(T, label, source)                                                           \
    label : {                                                                                    \
        AT;                                                                                      \
        if (!store_slow<T>(RS1 + static_cast<u64>(IMM), static_cast<T>(source))) goto exception; \
        goto accessed;                                                                           \
    }
#define MISSED(T) MISSED_LOAD(T, load_##T, RD = static_cast<u64>(value))
    MISSED(i8)
    MISSED(i16)
    MISSED(i32)
    MISSED(u8)
    MISSED(u16)
    MISSED(u32)
    MISSED(u64)
    MISSED_LOAD(u16, fload_u16, f_[insn->rd] = BOXED(u16, value))
    MISSED_LOAD(u32, fload_u32, f_[insn->rd] = BOXED(u32, value))
    MISSED_LOAD(u64, fload_u64, f_[insn->rd] = BOXED(u64, value))
store_u8_b:
    ++insn;
    MISSED_STORE(u8, store_u8, RS2)
    MISSED_STORE(u16, store_u16, RS2)
store_u32_b:
    ++insn;
    MISSED_STORE(u32, store_u32, RS2)
store_u64_c:
    ++insn;
store_u64_b:
    ++insn;
    MISSED_STORE(u64, store_u64, RS2)
    MISSED_STORE(u16, fstore_u16, FS2)
    MISSED_STORE(u32, fstore_u32, FS2)
    MISSED_STORE(u64, fstore_u64, FS2)
}

}  // namespace wirt::riscv

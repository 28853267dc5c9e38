// From guest code to pre-decoded blocks.
//
// Untrusted input: the code. Decoding reads each part of it once; a block is bounded by BlockCache::span.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bits.h"
#include "riscv/hart.h"
#include "riscv/interpreter.h"
#include "riscv/isa.h"

namespace wirt::riscv {

namespace {

// Destination x0 goes to a register that nobody reads.
constexpr u8 destination(u32 rd) {
    return rd == 0 ? 32 : static_cast<u8>(rd);
}

// A CSR access that changes neither translation, nor interrupts, nor what later instructions may do.
bool csr_stays_in_block(Opcode op, u16 number, u8 operand, bool writes) {
    // Interrupts off; and on, where the special form in isa/fused.def sees whether one is pending.
    if (number == csr_sstatus && operand == mstatus::sie && (op == Opcode::csrrci || op == Opcode::csrrsi)) {
        return true;
    }
    if (!writes) {
        return number != csr_time && number != csr_sip && number != csr_mip && number != csr_stopi &&
               number != csr_mtopi && number != csr_hip && number != csr_vsip && number != csr_vstopi &&
               number != csr_hgeip;
    }
    switch (number) {
        case csr_fflags:
        case csr_frm:
        case csr_fcsr:
        case csr_sscratch:
        case csr_mscratch:
        case csr_sepc:
        case csr_mepc:
        case csr_vstart:
        case csr_vxsat:
        case csr_vxrm:
        case csr_vcsr:
            return true;
        default:
            return false;
    }
}

u16 load_half(const u8* from) {
    return __atomic_load_n(reinterpret_cast<const u16*>(from), __ATOMIC_RELAXED);
}

u32 load_word(const u8* from) {
    return __atomic_load_n(reinterpret_cast<const u32*>(from), __ATOMIC_RELAXED);
}

struct Decoded {
    Insn insn;
    Opcode op;
    bool ends;
    bool uses_float;
    bool writes_float;
};

// `place` is the address of the instruction relative to its page.
Decoded decode(u32 raw, unsigned length, u32 place, const IsaConfig& isa, const void* const* handlers) {
    const u32 full = length == 2 ? expand(static_cast<u16>(raw), &isa) : raw;
    const Opcode op = full == 0 ? Opcode::illegal : identify(full, &isa);
    Decoded out{};
    out.op = op;
    out.insn.handler = handlers[static_cast<u16>(op)];
    if (op == Opcode::illegal) {
        out.ends = true;
        return out;
    }
    const InstructionInfo& entry = info(op);
    const u8 rd = static_cast<u8>(bits(full, 7, 5));
    const u8 rs1 = static_cast<u8>(bits(full, 15, 5));
    const u8 rs2 = static_cast<u8>(bits(full, 20, 5));
    out.insn.rd = destination(rd);
    out.insn.rs1 = rs1;
    out.insn.rs2 = rs2;
    out.insn.imm = immediate(entry.format, full);
    out.ends = (entry.flags & flag_ends) != 0;
    out.uses_float = (entry.flags & flag_fp) != 0;
    out.writes_float = out.uses_float && entry.format != Format::FST;
    switch (entry.format) {
        case Format::B:
            out.insn.imm += static_cast<i32>(place);
            out.insn.rd = slot_has_exit;
            out.ends = false;
            break;
        case Format::J: {
            out.insn.imm += static_cast<i32>(place);
            const u16 link = static_cast<u16>(place + length);
            std::memcpy(&out.insn.rs1, &link, sizeof link);
            break;
        }
        case Format::U:
            if (op == Opcode::auipc) out.insn.imm += static_cast<i32>(place);
            break;
        case Format::FENCE:
            out.insn.imm = static_cast<i32>(place + length);
            break;
        case Format::CSR:
        case Format::CSRI: {
            // CSRRW with rd = x0 does not read; the set and clear forms with x0 or 0 do not write (Zicsr,
            // table 1).
            const bool is_write_form = op == Opcode::csrrw || op == Opcode::csrrwi;
            const bool writes = is_write_form || rs1 != 0;
            const bool reads = !is_write_form || rd != 0;
            out.ends = !csr_stays_in_block(op, static_cast<u16>(out.insn.imm), rs1, writes);
            out.insn.rs2 = static_cast<u8>((writes ? csr_writes : 0) | (reads ? csr_reads : 0) |
                                           (out.ends ? csr_ends : 0));
            break;
        }
        case Format::FL:
        case Format::FFF:
        case Format::FX:
        case Format::FLI:
            out.insn.rd = rd;
            break;
        case Format::FFFF_RM:
        case Format::FFF_RM:
        case Format::FF_RM:
        case Format::FX_RM:
            out.insn.rd = rd;
            [[fallthrough]];
        case Format::XF_RM:
            out.insn.imm = static_cast<i32>(bits(full, 27, 5) | bits(full, 12, 3) << 8);
            break;
        default:
            // The interpreter's handler finds the function by the index of the instruction among those of
            // vectors.
            if (is_vector(entry.format)) {
                const unsigned index = static_cast<u16>(op) - first_vector_opcode;
                out.insn.rs1 = static_cast<u8>(index);
                out.insn.rs2 = static_cast<u8>(index >> 8);
                out.insn.imm = static_cast<i32>(full);
            }
            break;
    }
    return out;
}

}  // namespace

std::optional<Hart::FetchPage> Hart::fetch_page(u64 pc) {
    FetchEntry& entry = fetch_set_->fetch[TlbSet::fetch_index(pc)];
    if (entry.tag == (pc & ~page_mask)) return FetchPage{entry.page, true};
    const auto translation = translate_for(pc, Access::fetch, 2);
    if (!translation) return std::nullopt;
    if (!ram_.contains(translation->physical, 2)) {
        raise(exc_fetch_access, pc);
        return std::nullopt;
    }
    const u64 page = (translation->physical - ram_.base()) >> page_shift;
    if (translation->cacheable) entry = {pc & ~page_mask, page};
    return FetchPage{page, translation->cacheable};
}

Block* Hart::block_at(u64 pc) {
    const JumpEntry& jump = fetch_set_->jump[TlbSet::jump_index(pc)];
    if (jump.pc == pc) return jump.block;
    Block* const block = lookup(pc);
    if (block != nullptr && block->cached) fetch_set_->remember_jump(pc, block);
    return block;
}

Block* Hart::lookup(u64 pc) {
    ++stats_.block_lookups;
    const auto page = fetch_page(pc);
    if (!page) {
        // A trigger is more urgent than the fault (table "Synchronous exception priority").
        if (triggers_.fetch_armed) trigger_fires(Access::fetch, pc, 1);
        return nullptr;
    }
    const u64 physical = ram_.base() + page->index * page_size + (pc & page_mask);
    if (!page->whole) return build_split(pc, physical);
    if (Block* block = blocks_.find(physical)) return block;

    if (blocks_.full()) {
        blocks_.clear();
        ++code_version_;
        flush_jump_caches();
    }
    // Marked before it is read: a write from here on raises the generation.
    if (!ram_.holds_code(page->index)) {
        ram_.begin_marking();
        if (ram_.mark_code(page->index)) {
            drop_store_entries(page->index);
            environment_.code_page_marked(*this, page->index);
            ram_.mark_code(page->index);
        }
        ram_.end_marking();
    }
    const u32 generation = ram_.code_generation(page->index);
    u32 known;
    if (blocks_.generation_of(physical >> page_shift, known) && known != generation) {
        blocks_.drop_page(physical >> page_shift);
        ++code_version_;
        flush_jump_caches();
    }
    return build(pc, physical, BlockCache::max_slots);
}

// A block of at most `max_instructions`; a full one is entered in the cache if it may be kept, any other one
// is scratch.
Block* Hart::build(u64 pc, u64 physical, unsigned max_instructions, bool keep) {
    Insn slots[BlockCache::max_slots];
    u16 ops[BlockCache::max_slots];
    unsigned used = 0;
    unsigned count = 0;
    u64 at = 0;  // bytes from the start
    const u64 start = physical & page_mask;
    const u64 page_left = page_size - start;
    const u64 room = std::min(page_left, BlockCache::span - (physical & (BlockCache::span - 1)));
    // Read before the code is: what is written meanwhile makes the block stale, not wrong.
    const u32 generation = ram_.code_generation((physical - ram_.base()) >> page_shift);
    // It is RAM, and null all the same where the page was to come from another host and never will: the
    // machine is being closed.
    const u8* host = ram_.host(physical, page_left);
    if (host == nullptr) {
        raise(exc_fetch_access, pc);
        return nullptr;
    }
    bool ended = false;
    // Without its mark, which a write has just taken off, nobody would say that the page changes: not kept
    // then.
    bool cacheable = keep && ram_.holds_code((physical - ram_.base()) >> page_shift);
    Insn* float_check = nullptr;
    const auto put = [&](const Insn& insn, u16 op) {
        slots[used] = insn;
        ops[used++] = op;
    };
    const auto put_data = [&](const auto& value) {
        static_assert(sizeof value == sizeof(Insn));
        std::memcpy(static_cast<void*>(&slots[used]), &value, sizeof value);
        ops[used++] = op_illegal;
    };
    u16 exits[BlockCache::span / 2 + 1];
    unsigned exit_count = 0;
    const auto put_exit = [&] {
        exits[exit_count++] = static_cast<u16>(used);
        // For now the count at the exit; what is left of the block is known once all of it is.
        put_data(Exit{count, nullptr});
    };

    while (!ended && at < room && count < max_instructions) {
        // Ziccif: an instruction that is aligned is read as one.
        const bool aligned = ((physical + at) & 3) == 0;
        u32 raw = aligned ? load_word(host + at) : load_half(host + at);
        unsigned length = 2;
        if (is_compressed(raw)) {
            raw &= 0xffff;
        } else {
            length = 4;
            if (at + 4 > page_left) {
                // The other half is on the next page, which is translated on its own and may be anywhere:
                // such an instruction is a block of its own that is built anew each time.
                if (count > 0) break;
                cacheable = false;
                const auto next_page = fetch_page(pc + at + 2);
                if (!next_page) return nullptr;
                const u8* rest = ram_.host(ram_.base() + next_page->index * page_size, 2);
                if (rest == nullptr) {
                    raise(exc_fetch_access, pc + at + 2);
                    return nullptr;
                }
                raw |= static_cast<u32>(load_half(rest)) << 16;
            } else if (!aligned) {
                raw |= static_cast<u32>(load_half(host + at + 2)) << 16;
            }
        }
        const u8 offset = static_cast<u8>(at / 2);
        const u32 place = static_cast<u32>(start + at);
        if (breakpoint_near(pc + at) || (triggers_.fetch_armed && trigger_near(pc + at))) {
            put({handlers_[op_breakpoint], 0, slot_uncounted, offset, 0, 0}, op_illegal);
        }
        Decoded decoded = decode(raw, length, place, isa_, handlers_);
        decoded.insn.offset = offset;
        if (decoded.uses_float && float_check == nullptr) {
            float_check = &slots[used];
            put({handlers_[op_float_check], 1, slot_uncounted, offset, 0, 0}, op_illegal);
        }
        if (decoded.writes_float) float_check->imm = 3;
        put(decoded.insn, static_cast<u16>(decoded.op));
        ended = decoded.ends;
        at += length;
        ++count;
        const bool branches = decoded.op != Opcode::illegal && info(decoded.op).format == Format::B;
        if (branches || decoded.op == Opcode::jal || decoded.op == Opcode::fence) {
            put_exit();
            // Behind a branch the state may have got another way: what is checked there is checked again.
            float_check = nullptr;
        } else if (ended) {
            const bool once = !cacheable || max_instructions < BlockCache::max_slots;
            put_data(Place{place, place + length, once ? &JumpTargets::never : &JumpTargets::none});
        }
    }
    if (!ended) {
        put({handlers_[op_end], static_cast<i32>(start + at), slot_uncounted, static_cast<u8>(at / 2), 0, 0},
            op_illegal);
        put_exit();
        cacheable = cacheable && count < max_instructions;
    }
    fuse(slots, ops, used, handlers_);
    Block* block;
    if (cacheable) {
        block = blocks_.allocate(physical, used);
    } else {
        block = reinterpret_cast<Block*>(scratch_.get());
        block->physical = physical;
        block->slots = used;
        block->mark = Block::start_mark;
    }
    block->cached = cacheable;
    block->count = count;
    std::copy(slots, slots + used, block->insns);
    for (unsigned i = 0; i < exit_count; ++i) {
        Exit& exit = *reinterpret_cast<Exit*>(&block->insns[exits[i]]);
        exit.adjust = Exit::unlinked - (count - exit.adjust);
    }
    ++stats_.blocks_built;
    if (cacheable) blocks_.insert(block, generation);
    return block;
}

Block* Hart::build_scratch(u64 pc, unsigned max_instructions) {
    const auto page = fetch_page(pc);
    if (!page) {
        // A trigger is more urgent than the fault (table "Synchronous exception priority").
        if (triggers_.fetch_armed) trigger_fires(Access::fetch, pc, 1);
        return nullptr;
    }
    const u64 physical = ram_.base() + page->index * page_size + (pc & page_mask);
    return page->whole ? build(pc, physical, max_instructions) : build_split(pc, physical);
}

// On a page of which PMP allows a part, each instruction is fetched on its own and each of its parcels
// checked.
Block* Hart::build_split(u64 pc, u64 physical) {
    const u64 behind = pc + 2;
    if ((behind & page_mask) != 0) {
        const u8* const host = ram_.host(physical, 2);
        if (host != nullptr && !is_compressed(load_half(host)) && !fetch_page(behind)) return nullptr;
    }
    return build(pc, physical, 1, false);
}

Block* Hart::block_of(const Insn* insn) {
    do {
        --insn;
    } while (std::bit_cast<u64>(insn->handler) != Block::start_mark);
    return Block::of(const_cast<Insn*>(insn + 1));
}

Hart::Position Hart::position() const {
    if (at_insn_ == nullptr) return {pc_, cycles_};
    const Block* const block = block_of(at_insn_);
    u64 retired = 0;
    for (const Insn* i = block->insns; i < at_insn_; ++i) {
        if ((i->rd & slot_uncounted) == 0) ++retired;
        if ((i->rd & slot_has_exit) != 0) ++i;
    }
    return {at_page_ + (block->physical & page_mask) + 2u * at_insn_->offset,
            cycles_ - block->count + retired};
}

void Hart::locate() {
    const Position here = position();
    pc_ = here.pc;
    cycles_ = here.cycles;
    at_insn_ = nullptr;
}

void Hart::flush_jump_caches() {
    for (TranslationSpace& space : spaces_) {
        for (auto& set : space.sets) {
            if (set) set->flush_jumps();
        }
    }
}

void Hart::drop_stale_code() {
    const u64 epoch = ram_.code_epoch();
    if (epoch == code_epoch_seen_) return;
    code_epoch_seen_ = epoch;
    std::vector<u64> stale;
    blocks_.for_each_page([&](u64 page, u32 generation) {
        if (ram_.code_generation(page - (ram_.base() >> page_shift)) != generation) stale.push_back(page);
    });
    for (const u64 page : stale) blocks_.drop_page(page);
    if (!stale.empty()) {
        ++code_version_;
        flush_jump_caches();
    }
}

}  // namespace wirt::riscv

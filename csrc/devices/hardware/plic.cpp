#include "devices/hardware/plic.h"

#include <bit>

#include "base/bits.h"

namespace wirt::devices::hardware {

namespace {

using memory::Register;
using memory::RegisterAccess;

// PLIC specification 1.0.0, chapter 3 "Memory Map".
constexpr u64 priority_base = 0x0;
constexpr u64 pending_base = 0x1000;
constexpr u64 enable_base = 0x2000, enable_stride = 0x80;
constexpr u64 context_base = 0x20'0000, context_stride = 0x1000;
constexpr u64 threshold_offset = 0x0, claim_offset = 0x4;

constexpr unsigned word_of(unsigned source) {
    return source / 32;
}
constexpr u32 mask_of(unsigned source) {
    return u32{1} << (source % 32);
}

}  // namespace

Plic::Plic(std::string name, std::vector<InterruptLine> outputs) : name_(std::move(name)) {
    for (const InterruptLine& output : outputs) contexts_.push_back({.output = output});

    constexpr u32 set_bytes = word_count * 4;
    const unsigned count = static_cast<unsigned>(contexts_.size());
    register_names_.reserve(3 * count);  // the table points into it
    auto indexed = [this](const char* what, unsigned context) {
        return register_names_.emplace_back(std::string(what) + "[" + std::to_string(context) + "]").c_str();
    };
    auto at = [](u64 offset) { return static_cast<u32>(offset); };
    registers_.push_back(
        {at(priority_base), source_count * 4, RegisterAccess::rw, "priority", 0, "PLIC 1.0.0, 4"});
    registers_.push_back({at(pending_base), set_bytes, RegisterAccess::ro, "pending", 0, "PLIC 1.0.0, 5"});
    for (unsigned i = 0; i < count; ++i) {
        registers_.push_back({at(enable_base + i * enable_stride), set_bytes, RegisterAccess::rw,
                              indexed("enable", i), 0, "PLIC 1.0.0, 6"});
    }
    for (unsigned i = 0; i < count; ++i) {
        const u64 base = context_base + i * context_stride;
        registers_.push_back({at(base + threshold_offset), 4, RegisterAccess::rw, indexed("threshold", i), 0,
                              "PLIC 1.0.0, 7"});
        registers_.push_back({at(base + claim_offset), 4, RegisterAccess::rw, indexed("claim", i), 0,
                              "PLIC 1.0.0, 8 (read: claim), 9 (write: complete)"});
    }
    reset();
}

void Plic::reset() {
    pending_ = {};
    claimed_ = {};
    priority_ = {};
    by_priority_ = {};
    for (unsigned source = 1; source < source_count; ++source) {
        by_priority_[0][word_of(source)] |= mask_of(source);
        forward(source);
    }
    for (Context& context : contexts_) {
        context.enabled = {};
        context.threshold = 0;
        context.asserted = false;
        context.output.set(false);
    }
}

void Plic::set_level(unsigned source, bool level) {
    if (source == 0 || source >= source_count) return;
    std::lock_guard lock(mutex());
    u32& word = level_[word_of(source)];
    const u32 mask = mask_of(source);
    if (((word & mask) != 0) == level) return;
    word ^= mask;
    // 1.2 "Interrupt Gateways": a request that was forwarded is not retracted when the level falls.
    if (!level) return;
    forward(source);
    update_all();
}

// Passes a source's level on as a request, unless one is pending or being served already (1.2).
void Plic::forward(unsigned source) {
    const unsigned word = word_of(source);
    pending_[word] |= level_[word] & ~claimed_[word] & mask_of(source);
}

u64 Plic::read(u64 offset, unsigned size) {
    // Chapter 3: the registers are 32 bits wide and accessed as such.
    return size == 4 ? read_word(offset) : 0;
}

void Plic::write(u64 offset, unsigned size, u64 value) {
    if (size == 4) write_word(offset, static_cast<u32>(value));
}

u32 Plic::read_word(u64 offset) {
    if (offset < pending_base) {
        const u64 source = offset / 4;
        return source < source_count ? priority_[source] : 0;
    }
    if (offset < enable_base) {
        const u64 word = (offset - pending_base) / 4;
        return word < word_count ? pending_[word] : 0;
    }
    if (offset < context_base) {
        const u64 index = (offset - enable_base) / enable_stride;
        const u64 word = (offset - enable_base) % enable_stride / 4;
        return index < contexts_.size() && word < word_count ? contexts_[index].enabled[word] : 0;
    }
    const u64 index = (offset - context_base) / context_stride;
    if (index >= contexts_.size()) return 0;
    switch ((offset - context_base) % context_stride) {
        case threshold_offset:
            return contexts_[index].threshold;
        case claim_offset:
            return claim(contexts_[index]);
        default:
            return 0;
    }
}

void Plic::write_word(u64 offset, u32 value) {
    if (offset < pending_base) {
        const u64 source = offset / 4;
        if (source == 0 || source >= source_count) return;
        // Chapter 4: priorities are WARL; three bits are implemented.
        set_priority(static_cast<unsigned>(source), value & max_priority);
        update_all();
        return;
    }
    if (offset < enable_base) return;  // chapter 5: pending bits are read-only
    if (offset < context_base) {
        const u64 index = (offset - enable_base) / enable_stride;
        const u64 word = (offset - enable_base) % enable_stride / 4;
        if (index >= contexts_.size() || word >= word_count) return;
        // Chapter 6: the bit of source 0, which does not exist, is hardwired to zero.
        contexts_[index].enabled[word] = word == 0 ? value & ~u32{1} : value;
        update(contexts_[index]);
        return;
    }
    const u64 index = (offset - context_base) / context_stride;
    if (index >= contexts_.size()) return;
    switch ((offset - context_base) % context_stride) {
        case threshold_offset:
            contexts_[index].threshold = value & max_priority;
            update(contexts_[index]);
            break;
        case claim_offset:
            complete(contexts_[index], value);
            break;
    }
}

// The enabled pending source of the highest priority above `above_priority`, the lowest number among equals
// (chapter 4); 0 when there is none.
unsigned Plic::best_source(const Context& context, u32 above_priority) const {
    for (u32 priority = max_priority; priority > above_priority; --priority) {
        for (unsigned word = 0; word < word_count; ++word) {
            const u32 ready = pending_[word] & context.enabled[word] & by_priority_[priority][word];
            if (ready != 0) return word * 32 + static_cast<unsigned>(std::countr_zero(ready));
        }
    }
    return 0;
}

u32 Plic::claim(Context& context) {
    // Chapter 8: a claim is not affected by the threshold.
    const unsigned source = best_source(context, 0);
    if (source == 0) return 0;
    pending_[word_of(source)] &= ~mask_of(source);
    claimed_[word_of(source)] |= mask_of(source);
    update_all();
    return source;
}

void Plic::complete(Context& context, u32 source) {
    // Chapter 9: ignored unless the source is enabled for this context.
    if (source >= source_count) return;
    const unsigned word = word_of(source);
    const u32 mask = mask_of(source);
    if ((context.enabled[word] & mask) == 0) return;
    claimed_[word] &= ~mask;
    forward(source);
    update_all();
}

void Plic::set_priority(unsigned source, u32 priority) {
    const unsigned word = word_of(source);
    by_priority_[priority_[source]][word] &= ~mask_of(source);
    by_priority_[priority][word] |= mask_of(source);
    priority_[source] = static_cast<u8>(priority);
}

void Plic::update(Context& context) {
    const bool asserted = best_source(context, context.threshold) != 0;
    if (asserted == context.asserted) return;
    context.asserted = asserted;
    context.output.set(asserted);
}

void Plic::update_all() {
    for (Context& context : contexts_) update(context);
}

void Plic::visit_state(StateVisitor& v) {
    v.section("plic/" + name_, 1);
    v.field("level", level_);
    v.field("pending", pending_);
    v.field("claimed", claimed_);
    auto priorities = priority_;
    v.field("priority", priorities);
    for (std::size_t i = 0; i < contexts_.size(); ++i) {
        const std::string suffix = "[" + std::to_string(i) + "]";
        v.field("enable" + suffix, contexts_[i].enabled);
        v.field("threshold" + suffix, contexts_[i].threshold);
    }
    if (!v.loading()) return;
    for (SourceSet* set : {&level_, &pending_, &claimed_}) (*set)[0] &= ~u32{1};
    for (unsigned source = 1; source < source_count; ++source) {
        set_priority(source, priorities[source] & max_priority);
    }
    for (Context& context : contexts_) {
        context.enabled[0] &= ~u32{1};
        context.threshold &= max_priority;
        context.asserted = best_source(context, context.threshold) != 0;
        context.output.set(context.asserted);
    }
}

}  // namespace wirt::devices::hardware

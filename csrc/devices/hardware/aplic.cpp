#include "devices/hardware/aplic.h"

#include <algorithm>
#include <bit>

#include "base/bits.h"

namespace wirt::devices::hardware {

namespace {

using memory::Register;
using memory::RegisterAccess;

// AIA 1.0, 4.5 "Memory-mapped control region for an interrupt domain".
enum Offset : u32 {
    domaincfg = 0x0000,
    sourcecfg = 0x0000,  // of source 0, which does not exist: domaincfg is there
    mmsiaddrcfg = 0x1bc0,
    setip = 0x1c00,
    setipnum = 0x1cdc,
    in_clrip = 0x1d00,
    clripnum = 0x1ddc,
    setie = 0x1e00,
    setienum = 0x1edc,
    clrie = 0x1f00,
    clrienum = 0x1fdc,
    setipnum_le = 0x2000,
    setipnum_be = 0x2004,
    genmsi = 0x3000,
    target = 0x3000,  // of source 0: genmsi is there
    idc_base = 0x4000,
};
constexpr u32 idc_bytes = 0x20;
enum IdcOffset : u32 {
    idelivery = 0x00,
    iforce = 0x04,
    ithreshold = 0x08,
    topi_offset = 0x18,
    claimi = 0x1c
};

constexpr u32 domaincfg_fixed = 0x8000'0000, domaincfg_ie = 1u << 8, domaincfg_dm = 1u << 2;

constexpr u32 sourcecfg_delegate = 1u << 10;
enum SourceMode : u32 { inactive = 0, detached = 1, edge1 = 4, edge0 = 5, level1 = 6, level0 = 7 };

constexpr unsigned target_hart_shift = 18, target_guest_shift = 12;
constexpr u32 target_hart_mask = 0x3fffu << target_hart_shift, target_iprio_mask = 0xff, eiid_mask = 0x7ff;

// The four MSI address configuration registers in the order of their offsets, and their writable bits.
enum MsiRegister : unsigned { mmsi_low, mmsi_high, smsi_low, smsi_high };
constexpr u32 msi_writable[] = {~0u, 0x9f77'ffff, ~0u, 0x0070'0fff};
constexpr u32 msi_locked = 0x8000'0000;

constexpr unsigned word_of(unsigned source) {
    return source / 32;
}
constexpr u32 mask_of(unsigned source) {
    return u32{1} << (source % 32);
}
template <typename Set>
bool contains(const Set& set, unsigned source) {
    return (set[word_of(source)] & mask_of(source)) != 0;
}
template <typename Set>
void assign(Set& set, unsigned source, bool value) {
    u32& word = set[word_of(source)];
    word = value ? word | mask_of(source) : word & ~mask_of(source);
}

// SM is WARL: a reserved mode becomes Inactive.
u32 legal_mode(u32 value) {
    const u32 mode = value & 7;
    return mode == 2 || mode == 3 ? u32{inactive} : mode;
}

}  // namespace

Aplic::Aplic(std::string name, Level level, Delivery delivery)
    : name_(std::move(name)),
      level_(level),
      messages_(delivery.messages),
      // 4.5.16: as many bits as hold the number of guest files; machine level has none.
      guest_index_mask_(level == Level::supervisor ? std::bit_ceil(delivery.guest_files + 1) - 1 : 0) {
    for (const InterruptLine& output : delivery.outputs) idcs_.push_back({.output = output});
    for (unsigned source = 1; source < source_count; ++source) assign(implemented_, source, true);
    build_registers();
    reset();
}

void Aplic::build_registers() {
    constexpr u32 set_bytes = word_count * 4;
    constexpr u32 array_bytes = last_source * 4;
    registers_ = {
        {domaincfg, 4, RegisterAccess::rw, "domaincfg", domaincfg_fixed, "AIA 1.0, 4.5.1"},
        {sourcecfg + 4, array_bytes, RegisterAccess::rw, "sourcecfg", 0, "AIA 1.0, 4.5.2"},
    };
    if (has_msi_registers()) {
        registers_.insert(
            registers_.end(),
            {{mmsiaddrcfg + 4 * mmsi_low, 4, RegisterAccess::rw, "mmsiaddrcfg", 0, "AIA 1.0, 4.5.3"},
             {mmsiaddrcfg + 4 * mmsi_high, 4, RegisterAccess::rw, "mmsiaddrcfgh", 0, "AIA 1.0, 4.5.3"},
             {mmsiaddrcfg + 4 * smsi_low, 4, RegisterAccess::rw, "smsiaddrcfg", 0, "AIA 1.0, 4.5.4"},
             {mmsiaddrcfg + 4 * smsi_high, 4, RegisterAccess::rw, "smsiaddrcfgh", 0, "AIA 1.0, 4.5.4"}});
    }
    registers_.insert(registers_.end(),
                      {{setip, set_bytes, RegisterAccess::rw, "setip", 0, "AIA 1.0, 4.5.5"},
                       {setipnum, 4, RegisterAccess::wo, "setipnum", 0, "AIA 1.0, 4.5.6"},
                       {in_clrip, set_bytes, RegisterAccess::rw, "in_clrip", 0, "AIA 1.0, 4.5.7"},
                       {clripnum, 4, RegisterAccess::wo, "clripnum", 0, "AIA 1.0, 4.5.8"},
                       {setie, set_bytes, RegisterAccess::rw, "setie", 0, "AIA 1.0, 4.5.9"},
                       {setienum, 4, RegisterAccess::wo, "setienum", 0, "AIA 1.0, 4.5.10"},
                       {clrie, set_bytes, RegisterAccess::wo, "clrie", 0, "AIA 1.0, 4.5.11"},
                       {clrienum, 4, RegisterAccess::wo, "clrienum", 0, "AIA 1.0, 4.5.12"},
                       {setipnum_le, 4, RegisterAccess::wo, "setipnum_le", 0, "AIA 1.0, 4.5.13"},
                       {setipnum_be, 4, RegisterAccess::wo, "setipnum_be", 0, "AIA 1.0, 4.5.14"},
                       {genmsi, 4, RegisterAccess::rw, "genmsi", 0, "AIA 1.0, 4.5.15"},
                       {target + 4, array_bytes, RegisterAccess::rw, "target", 0, "AIA 1.0, 4.5.16"}});

    constexpr struct {
        u32 offset;
        RegisterAccess access;
        const char* name;
        const char* cite;
    } delivery_control[] = {
        {idelivery, RegisterAccess::rw, "idelivery", "AIA 1.0, 4.8.1.1"},
        {iforce, RegisterAccess::rw, "iforce", "AIA 1.0, 4.8.1.2"},
        {ithreshold, RegisterAccess::rw, "ithreshold", "AIA 1.0, 4.8.1.3"},
        {topi_offset, RegisterAccess::ro, "topi", "AIA 1.0, 4.8.1.4"},
        {claimi, RegisterAccess::rc, "claimi", "AIA 1.0, 4.8.1.5"},
    };
    register_names_.reserve(idcs_.size() * std::size(delivery_control));  // the table points into it
    for (u32 hart = 0; hart < idcs_.size(); ++hart) {
        for (const auto& entry : delivery_control) {
            register_names_.push_back(std::string(entry.name) + "[" + std::to_string(hart) + "]");
            registers_.push_back({idc_base + hart * idc_bytes + entry.offset, 4, entry.access,
                                  register_names_.back().c_str(), 0, entry.cite});
        }
    }
}

void Aplic::adopt(Aplic& child) {
    child_ = &child;
    child.root_ = this;
    child.implemented_ = {};
}

void Aplic::reset() {
    interrupt_enable_ = false;
    msi_mode_ = idcs_.empty();
    genmsi_ = 0;
    for (auto& field : msiaddrcfg_) field.store(0);
    for (unsigned source = 1; source < source_count; ++source) write_sourcecfg(source, 0);
    for (Idc& idc : idcs_) idc.idelivery = idc.iforce = idc.ithreshold = 0;
    drive_outputs();
}

// ---------------------------------------------------------------- wires and pending bits

void Aplic::set_level(unsigned source, bool level) {
    if (source == 0 || source >= source_count) return;
    std::lock_guard lock(mutex());
    if (contains(wire_, source) == level) return;
    take_wire(source, level);
    if ((sourcecfg_[source] & sourcecfg_delegate) != 0) {
        std::lock_guard child_lock(child_->mutex());
        child_->take_wire(source, level);
        child_->deliver();
    } else {
        deliver();
    }
}

// 4.7 "Precise effects on interrupt-pending bits": all modes in both delivery modes. In direct mode the bit
// of a level-sensitive source follows its rectified input; in MSI mode it rises with it, may be cleared while
// it stays high, and never outlives it.
void Aplic::take_wire(unsigned source, bool level) {
    const bool before = rectified(source);
    assign(wire_, source, level);
    const bool after = rectified(source);
    if (after && !before) assign(pending_, source, true);
    if (!after && level_sensitive(source)) assign(pending_, source, false);
}

bool Aplic::level_sensitive(unsigned source) const {
    return sourcecfg_[source] == level1 || sourcecfg_[source] == level0;
}

// 4.5.2: zero for a source that is inactive or Detached. A delegated one has bit 10 set and is no mode.
bool Aplic::rectified(unsigned source) const {
    switch (sourcecfg_[source]) {
        case edge1:
        case level1:
            return contains(wire_, source);
        case edge0:
        case level0:
            return !contains(wire_, source);
        default:
            return false;
    }
}

u32 Aplic::rectified_word(unsigned word) const {
    u32 value = 0;
    for (u32 left = active_[word]; left != 0; left &= left - 1) {
        const unsigned source = word * 32 + static_cast<unsigned>(std::countr_zero(left));
        if (rectified(source)) value |= mask_of(source);
    }
    return value;
}

void Aplic::set_pending(unsigned source) {
    // 4.7: a level-sensitive source must be asserted; in direct mode it is then pending already.
    if (level_sensitive(source) && !rectified(source)) return;
    assign(pending_, source, true);
}

void Aplic::clear_pending(unsigned source) {
    // 4.7: in direct mode a level-sensitive source stays pending until its wire falls.
    if (level_sensitive(source) && !msi_mode_) return;
    assign(pending_, source, false);
}

void Aplic::make_inactive(unsigned source) {
    for (SourceSet* set : {&active_, &pending_, &enabled_}) assign(*set, source, false);
    target_[source] = 0;
}

void Aplic::set_delegated(unsigned source, bool delegated, bool level) {
    assign(implemented_, source, delegated);
    assign(wire_, source, delegated && level);
    sourcecfg_[source] = 0;
    make_inactive(source);
    deliver();
}

// ---------------------------------------------------------------- delivery

void Aplic::deliver() {
    if (!msi_mode_) {
        drive_outputs();
        return;
    }
    // 4.9: what is pending and enabled goes out as a message, and is pending no more.
    if (!interrupt_enable_) return;
    for (unsigned word = 0; word < word_count; ++word) {
        const u32 ready = pending_[word] & enabled_[word];
        pending_[word] &= ~ready;
        for (u32 left = ready; left != 0; left &= left - 1) {
            const u32 target = target_[word * 32 + static_cast<unsigned>(std::countr_zero(left))];
            messages_->send_message(message_address(target), target & eiid_mask);
        }
    }
}

// 4.8.2 "Interrupt delivery and handling".
bool Aplic::signals(const Idc& idc) const {
    return !msi_mode_ && interrupt_enable_ && idc.idelivery != 0 && (idc.iforce != 0 || topi(idc) != 0);
}

void Aplic::drive_outputs() {
    for (Idc& idc : idcs_) {
        const bool asserted = signals(idc);
        if (asserted == idc.asserted) continue;
        idc.asserted = asserted;
        idc.output.set(asserted);
    }
}

// The pending and enabled source of the lowest priority number, the lowest source among equals, if it is
// below the threshold (4.8.1.3, 4.8.1.4).
u32 Aplic::topi(const Idc& idc) const {
    const u32 hart = static_cast<u32>(&idc - idcs_.data());
    u32 best = idc.ithreshold != 0 ? idc.ithreshold : target_iprio_mask + 1;
    u32 top = 0;
    for (unsigned word = 0; word < word_count; ++word) {
        for (u32 left = pending_[word] & enabled_[word]; left != 0; left &= left - 1) {
            const unsigned source = word * 32 + static_cast<unsigned>(std::countr_zero(left));
            const u32 priority = target_[source] & target_iprio_mask;
            if (target_[source] >> target_hart_shift != hart || priority >= best) continue;
            best = priority;
            top = source << 16 | priority;
        }
    }
    return top;
}

u32 Aplic::claim(Idc& idc) {
    const u32 top = topi(idc);
    if (top != 0) {
        clear_pending(top >> 16);
    } else {
        idc.iforce = 0;
    }
    drive_outputs();
    return top;
}

// 4.9.1 "Addresses and data for outgoing MSIs".
u64 Aplic::message_address(u32 target) const {
    const bool machine = level_ == Level::machine;
    const u32 shape = root_->msiaddrcfg_[mmsi_high].load(std::memory_order_relaxed);
    const u32 low = root_->msiaddrcfg_[machine ? mmsi_low : smsi_low].load(std::memory_order_relaxed);
    const u32 high = root_->msiaddrcfg_[machine ? mmsi_high : smsi_high].load(std::memory_order_relaxed);
    const unsigned LHXW = bits(shape, 12, 4), HHXW = bits(shape, 16, 3), HHXS = bits(shape, 24, 5);
    const unsigned LHXS = bits(high, 20, 3);
    const u64 base = u64{bits(high, 0, 12)} << 32 | low;
    const u64 hart = target >> target_hart_shift;
    const u64 g = hart >> LHXW & ((u64{1} << HHXW) - 1);
    const u64 h = hart & ((u64{1} << LHXW) - 1);
    const u64 guest = target >> target_guest_shift & guest_index_mask_;
    // At most 12 + 31 + 7 bits, and 12 more.
    return (base | g << (HHXS + 12) | h << LHXS | guest) << 12;
}

// ---------------------------------------------------------------- registers

u64 Aplic::read(u64 offset, unsigned size) {
    // 4.5: only aligned 32-bit accesses are supported; others are ignored.
    return size == 4 ? read_word(static_cast<u32>(offset)) : 0;
}

void Aplic::write(u64 offset, unsigned size, u64 value) {
    if (size == 4) write_word(static_cast<u32>(offset), static_cast<u32>(value));
}

u32 Aplic::read_word(u32 offset) {
    if (offset >= idc_base) return read_idc(offset - idc_base);
    if (offset == domaincfg) {
        return domaincfg_fixed | (interrupt_enable_ ? domaincfg_ie : 0) | (msi_mode_ ? domaincfg_dm : 0);
    }
    if (offset == genmsi) return msi_mode_ ? genmsi_ : 0;
    const u32 in_page = offset % 0x1000 / 4;
    if (offset < 0x1000) return in_page < source_count ? sourcecfg_[in_page] : 0;
    if (offset > target) return in_page < source_count ? target_[in_page] : 0;
    if (has_msi_registers() && offset >= mmsiaddrcfg && offset < mmsiaddrcfg + 16)
        return msiaddrcfg_[(offset - mmsiaddrcfg) / 4];
    const u32 word = offset % 0x100 / 4;
    if (word >= word_count) return 0;
    switch (offset & ~0xffu) {
        case setip:
            return pending_[word];
        case in_clrip:
            return rectified_word(word);
        case setie:
            return enabled_[word];
        default:
            return 0;
    }
}

template <typename Fn>
void Aplic::for_each_active(unsigned word, u32 mask, Fn&& fn) {
    for (u32 left = mask & active_[word]; left != 0; left &= left - 1) {
        fn(word * 32 + static_cast<unsigned>(std::countr_zero(left)));
    }
}

void Aplic::write_word(u32 offset, u32 value) {
    const u32 in_page = offset % 0x1000 / 4;
    const auto numbered = [&](u32 source, auto&& fn) {
        if (source < source_count) for_each_active(word_of(source), mask_of(source), fn);
    };
    const auto set_ip = [this](unsigned source) { set_pending(source); };
    const auto clear_ip = [this](unsigned source) { clear_pending(source); };
    const auto set_ie = [this](unsigned source) { assign(enabled_, source, true); };
    const auto clear_ie = [this](unsigned source) { assign(enabled_, source, false); };

    if (offset >= idc_base) {
        write_idc(offset - idc_base, value);
    } else if (offset == domaincfg) {
        write_domaincfg(value);
    } else if (offset < 0x1000) {
        if (in_page < source_count) write_sourcecfg(in_page, value);
    } else if (offset == genmsi) {
        write_genmsi(value);
        return;
    } else if (offset > target) {
        numbered(in_page, [&](unsigned source) { target_[source] = legal_target(value); });
    } else {
        switch (offset) {
            case mmsiaddrcfg:
            case mmsiaddrcfg + 4:
            case mmsiaddrcfg + 8:
            case mmsiaddrcfg + 12:
                write_msiaddrcfg((offset - mmsiaddrcfg) / 4, value);
                return;
            case setipnum:
            case setipnum_le:
                numbered(value, set_ip);
                break;
            case setipnum_be:
                numbered(__builtin_bswap32(value), set_ip);
                break;
            case clripnum:
                numbered(value, clear_ip);
                break;
            case setienum:
                numbered(value, set_ie);
                break;
            case clrienum:
                numbered(value, clear_ie);
                break;
            default: {
                const u32 word = offset % 0x100 / 4;
                if (word >= word_count) return;
                switch (offset & ~0xffu) {
                    case setip:
                        for_each_active(word, value, set_ip);
                        break;
                    case in_clrip:
                        for_each_active(word, value, clear_ip);
                        break;
                    case setie:
                        for_each_active(word, value, set_ie);
                        break;
                    case clrie:
                        for_each_active(word, value, clear_ie);
                        break;
                    default:
                        return;
                }
            }
        }
    }
    deliver();
}

void Aplic::write_domaincfg(u32 value) {
    interrupt_enable_ = (value & domaincfg_ie) != 0;
    // DM is WARL: without both ways of delivery it has one value.
    if (messages_ == nullptr || idcs_.empty()) return;
    const bool msi_mode = (value & domaincfg_dm) != 0;
    if (msi_mode == msi_mode_) return;
    msi_mode_ = msi_mode;
    for (unsigned word = 0; word < word_count; ++word) {
        for_each_active(word, ~u32{0}, [this](unsigned source) {
            // 4.5.16: the fields of the new mode obtain unspecified values.
            target_[source] = legal_target(0);
            if (!msi_mode_ && level_sensitive(source)) assign(pending_, source, rectified(source));
        });
    }
    drive_outputs();
}

void Aplic::write_sourcecfg(unsigned source, u32 value) {
    if (!contains(implemented_, source)) return;
    const bool was_delegated = (sourcecfg_[source] & sourcecfg_delegate) != 0;
    const bool was_active = contains(active_, source);
    if ((value & sourcecfg_delegate) != 0) {
        // 4.5.2: Child Index is WLRL, and there is one child; in a leaf domain the register becomes zero.
        sourcecfg_[source] = child_ != nullptr ? sourcecfg_delegate : 0;
    } else {
        sourcecfg_[source] = legal_mode(value);
    }
    const bool delegated = (sourcecfg_[source] & sourcecfg_delegate) != 0;
    if (delegated || sourcecfg_[source] == inactive) {
        make_inactive(source);
    } else {
        assign(active_, source, true);
        if (!was_active) target_[source] = legal_target(0);
        // 4.7: the bit never outlives a level. That it rises with one found high is a choice 4.5.2 gives; an
        // edge that came before the mode was set is none.
        if (level_sensitive(source)) assign(pending_, source, rectified(source));
    }
    if (delegated != was_delegated) {
        std::lock_guard lock(child_->mutex());
        child_->set_delegated(source, delegated, contains(wire_, source));
    }
}

// 4.5.16: priority number zero becomes one; Guest Index holds no more than there are guest files.
u32 Aplic::legal_target(u32 value) const {
    const u32 hart = value & target_hart_mask;
    if (msi_mode_) return hart | (value & (guest_index_mask_ << target_guest_shift | eiid_mask));
    return hart | std::max(value & target_iprio_mask, u32{1});
}

void Aplic::write_msiaddrcfg(unsigned index, u32 value) {
    // 4.5.3: bit L locks all four until reset.
    if (!has_msi_registers() || (msiaddrcfg_[mmsi_high] & msi_locked) != 0) return;
    msiaddrcfg_[index] = value & msi_writable[index];
}

void Aplic::write_genmsi(u32 value) {
    if (!msi_mode_) return;
    // 4.5.15: sent at once whatever IE says, so that Busy is never seen.
    genmsi_ = value & (target_hart_mask | eiid_mask);
    messages_->send_message(message_address(genmsi_), genmsi_ & eiid_mask);
}

u32 Aplic::read_idc(u32 offset) {
    const u32 hart = offset / idc_bytes;
    // 4.5: the structures are used in direct delivery mode only.
    if (hart >= idcs_.size() || msi_mode_) return 0;
    Idc& idc = idcs_[hart];
    switch (offset % idc_bytes) {
        case idelivery:
            return idc.idelivery;
        case iforce:
            return idc.iforce;
        case ithreshold:
            return idc.ithreshold;
        case topi_offset:
            return topi(idc);
        case claimi:
            return claim(idc);
        default:
            return 0;
    }
}

void Aplic::write_idc(u32 offset, u32 value) {
    const u32 hart = offset / idc_bytes;
    if (hart >= idcs_.size() || msi_mode_) return;
    Idc& idc = idcs_[hart];
    switch (offset % idc_bytes) {
        case idelivery:
            idc.idelivery = value & 1;
            break;
        case iforce:
            idc.iforce = value & 1;
            break;
        case ithreshold:
            idc.ithreshold = value & target_iprio_mask;
            break;
        default:
            break;
    }
}

// ---------------------------------------------------------------- state

void Aplic::visit_state(StateVisitor& v) {
    v.section("aplic/" + name_, 1);
    v.field("IE", interrupt_enable_);
    v.field("DM", msi_mode_);
    v.field("genmsi", genmsi_);
    constexpr const char* msi_names[] = {"mmsiaddrcfg", "mmsiaddrcfgh", "smsiaddrcfg", "smsiaddrcfgh"};
    for (unsigned i = 0; i < 4; ++i) v.field(msi_names[i], msiaddrcfg_[i]);
    v.field("implemented", implemented_);
    v.field("wire", wire_);
    v.field("pending", pending_);
    v.field("enabled", enabled_);
    v.field("sourcecfg", sourcecfg_);
    v.field("target", target_);
    for (std::size_t i = 0; i < idcs_.size(); ++i) {
        const std::string suffix = "[" + std::to_string(i) + "]";
        v.field("idelivery" + suffix, idcs_[i].idelivery);
        v.field("iforce" + suffix, idcs_[i].iforce);
        v.field("ithreshold" + suffix, idcs_[i].ithreshold);
    }
    if (!v.loading()) return;
    if (messages_ == nullptr || idcs_.empty()) msi_mode_ = idcs_.empty();
    genmsi_ &= target_hart_mask | eiid_mask;
    for (unsigned i = 0; i < 4; ++i)
        msiaddrcfg_[i] = has_msi_registers() ? msiaddrcfg_[i] & msi_writable[i] : 0;
    for (unsigned source = 0; source < word_count * 32; ++source) {
        if (source == 0 || source >= source_count) assign(implemented_, source, false);
        if (!contains(implemented_, source)) {
            for (SourceSet* set : {&wire_, &active_, &pending_, &enabled_}) assign(*set, source, false);
            if (source < source_count) sourcecfg_[source] = target_[source] = 0;
            continue;
        }
        u32& config = sourcecfg_[source];
        const bool delegated = child_ != nullptr && (config & sourcecfg_delegate) != 0;
        config = delegated ? sourcecfg_delegate : legal_mode(config);
        if (delegated || config == inactive) {
            make_inactive(source);
            continue;
        }
        assign(active_, source, true);
        target_[source] = legal_target(target_[source]);
        if (level_sensitive(source) && (!msi_mode_ || !rectified(source)))
            assign(pending_, source, rectified(source));
    }
    for (Idc& idc : idcs_) {
        idc.idelivery &= 1;
        idc.iforce &= 1;
        idc.ithreshold &= target_iprio_mask;
        idc.asserted = signals(idc);
        idc.output.set(idc.asserted);
    }
}

}  // namespace wirt::devices::hardware

#include "devices/hardware/imsic.h"

#include <bit>

#include "base/bits.h"

namespace wirt::devices::hardware {

namespace {

using memory::Register;
using memory::RegisterAccess;

// 3.5 "Memory region for an interrupt file".
enum Offset : u32 { seteipnum_le = 0x0, seteipnum_be = 0x4 };

// 3.8 "Indirectly accessed interrupt-file registers".
enum Select : u32 { eidelivery = 0x70, eithreshold = 0x72, eip0 = 0x80, eie0 = 0xc0 };

constexpr u32 delivery_off = 0, delivery_on = 1, delivery_from_aplic = 0x4000'0000;

constexpr unsigned word_of(u32 identity) {
    return identity / 64;
}
constexpr u64 mask_of(u32 identity) {
    return u64{1} << (identity % 64);
}
// Bit 0 of the first word belongs to no identity.
constexpr u64 implemented(unsigned word) {
    return word == 0 ? ~u64{1} : ~u64{0};
}

u64 merge(u64 old, u64 mask, u64 value) {
    return (old & ~mask) | (value & mask);
}

}  // namespace

// ---------------------------------------------------------------- one interrupt file

void Imsic::File::receive(u32 identity) {
    if (identity == 0 || identity > identities) return;
    std::lock_guard lock(mutex_);
    u64& word = pending_[word_of(identity)];
    if ((word & mask_of(identity)) != 0) return;
    word |= mask_of(identity);
    update();
}

bool Imsic::File::modify(u32 select, u64 mask, u64 value, u64& old) {
    std::lock_guard lock(mutex_);
    old = 0;
    if (select >= eip0) {
        // 3.8.3, 3.8.4: with 64-bit registers the odd numbers do not exist.
        if ((select & 1) != 0) return false;
        IdentitySet& set = select < eie0 ? pending_ : enabled_;
        const unsigned word = (select & 0x3f) / 2;
        if (word >= word_count) return true;
        old = set[word];
        set[word] = merge(old, mask & implemented(word), value);
    } else if (select == eidelivery) {
        old = eidelivery_;
        const u64 next = merge(old, mask, value);
        if (legal_delivery(next)) eidelivery_ = static_cast<u32>(next);
    } else if (select == eithreshold) {
        old = eithreshold_;
        eithreshold_ = static_cast<u32>(merge(old, mask, value) & identities);
    } else {
        return true;  // 3.7: 0x71 and 0x73 to 0x7f are reserved and read as zero
    }
    if (mask != 0) update();
    return true;
}

// 3.8.1: WARL; an APLIC delivers to no guest file.
bool Imsic::File::legal_delivery(u64 value) const {
    return value == delivery_off || value == delivery_on || (value == delivery_from_aplic && !guest_);
}

u32 Imsic::File::top(bool claim) {
    std::lock_guard lock(mutex_);
    const u32 identity = best();
    if (claim && identity != 0) {
        pending_[word_of(identity)] &= ~mask_of(identity);
        update();
    }
    return identity << 16 | identity;
}

// The lowest identity that is pending and enabled, if it is below the threshold (3.8.2); 0 when there is
// none.
u32 Imsic::File::best() const {
    for (unsigned word = 0; word < word_count; ++word) {
        const u64 ready = pending_[word] & enabled_[word];
        if (ready == 0) continue;
        const u32 identity = word * 64 + static_cast<u32>(std::countr_zero(ready));
        return eithreshold_ == 0 || identity < eithreshold_ ? identity : 0;
    }
    return 0;
}

void Imsic::File::update() {
    const bool asserted =
        eidelivery_ == delivery_on ? best() != 0 : eidelivery_ == delivery_from_aplic && wire_;
    if (asserted == asserted_) return;
    asserted_ = asserted;
    output_.set(asserted);
}

void Imsic::File::set_wire(bool level) {
    std::lock_guard lock(mutex_);
    wire_ = level;
    update();
}

void Imsic::File::reset() {
    std::lock_guard lock(mutex_);
    // 3.8.1: what supports it starts with delivery from the APLIC.
    eidelivery_ = guest_ ? delivery_off : delivery_from_aplic;
    eithreshold_ = 0;
    pending_ = {};
    enabled_ = {};
    update();
}

void Imsic::File::visit_state(StateVisitor& v, const std::string& prefix) {
    std::lock_guard lock(mutex_);
    v.field(prefix + "eidelivery", eidelivery_);
    v.field(prefix + "eithreshold", eithreshold_);
    v.field(prefix + "eip", pending_);
    v.field(prefix + "eie", enabled_);
    v.field(prefix + "wire", wire_);
    if (!v.loading()) return;
    if (!legal_delivery(eidelivery_)) eidelivery_ = delivery_off;
    eithreshold_ &= identities;
    pending_[0] &= implemented(0);
    enabled_[0] &= implemented(0);
    update();
    output_.set(asserted_);
}

// ---------------------------------------------------------------- all of a level

Imsic::Imsic(std::string name, u64 base, std::vector<InterruptLine> outputs,
             std::vector<InterruptLine> guest_outputs)
    : name_(std::move(name)),
      base_(base),
      harts_(static_cast<unsigned>(outputs.size())),
      files_per_hart_(1 + static_cast<unsigned>(guest_outputs.size()) / harts_),
      guest_index_bits_(static_cast<unsigned>(std::bit_width(files_per_hart_ - 1))) {
    register_names_.reserve(2 * harts_ * files_per_hart_);  // the table points into it
    for (unsigned hart = 0; hart < harts_; ++hart) {
        for (unsigned guest = 0; guest < files_per_hart_; ++guest) {
            files_.push_back(std::make_unique<File>(
                guest == 0 ? outputs[hart] : guest_outputs[hart * guest_files() + guest - 1], guest != 0));
            const u64 page = (u64{hart} << guest_index_bits_ | guest) * page_size;
            const std::string index =
                "[" + std::to_string(hart) + (guest == 0 ? "]" : ".g" + std::to_string(guest) + "]");
            for (const u32 offset : {seteipnum_le, seteipnum_be}) {
                register_names_.push_back((offset == seteipnum_le ? "seteipnum_le" : "seteipnum_be") + index);
                registers_.push_back({static_cast<u32>(page + offset), 4, RegisterAccess::wo,
                                      register_names_.back().c_str(), 0, "AIA 1.0, 3.5"});
            }
        }
    }
    reset();
}

u64 Imsic::region_size() const {
    return std::bit_ceil(u64{harts_}) << guest_index_bits_ << page_shift;
}

InterruptFile& Imsic::file(unsigned hart, unsigned guest) {
    return *files_[hart * files_per_hart_ + guest];
}

// Null for a page between the files, which reads as zero (3.6).
Imsic::File* Imsic::file_at(u64 offset) const {
    const u64 page = offset / page_size;
    const u64 hart = page >> guest_index_bits_;
    const u64 guest = page & ((u64{1} << guest_index_bits_) - 1);
    return hart < harts_ && guest < files_per_hart_ ? files_[hart * files_per_hart_ + guest].get() : nullptr;
}

bool Imsic::send_message(u64 address, u32 data) {
    if (!range_inside(address, 4, base_, region_size())) return false;
    File* const file = file_at(address - base_);
    const u64 offset = address % page_size;
    if (file == nullptr || (offset != seteipnum_le && offset != seteipnum_be)) return false;
    file->receive(offset == seteipnum_le ? data : __builtin_bswap32(data));
    return true;
}

void Imsic::set_level(unsigned source, bool level) {
    if (source < harts_) files_[source * files_per_hart_]->set_wire(level);
}

u64 Imsic::read(u64, unsigned) {
    return 0;
}

void Imsic::write(u64 offset, unsigned size, u64 value) {
    // 3.5: only aligned 32-bit writes are supported; others are ignored, as are those to other bytes.
    if (size == 4) send_message(base_ + offset, static_cast<u32>(value));
}

void Imsic::reset() {
    for (const auto& file : files_) file->reset();
}

void Imsic::visit_state(StateVisitor& v) {
    v.section("imsic/" + name_, 1);
    for (unsigned hart = 0; hart < harts_; ++hart) {
        for (unsigned guest = 0; guest < files_per_hart_; ++guest) {
            const std::string prefix = "[" + std::to_string(hart) + "." + std::to_string(guest) + "].";
            files_[hart * files_per_hart_ + guest]->visit_state(v, prefix);
        }
    }
}

}  // namespace wirt::devices::hardware

#include "state/stream.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace wirt::state {

// ---------------------------------------------------------------- writing

void SaveVisitor::name(u8 tag, std::string_view text) {
    // Names are ours, and short.
    const u8 length = static_cast<u8>(std::min<std::size_t>(text.size(), 255));
    const u8 head[] = {tag, length};
    out_.insert(out_.end(), head, head + sizeof head);
    out_.insert(out_.end(), text.begin(), text.begin() + length);
}

void SaveVisitor::number(u64 value, unsigned width) {
    u8 raw[8];
    std::memcpy(raw, &value, sizeof raw);
    out_.insert(out_.end(), raw, raw + width);
}

void SaveVisitor::section(std::string_view text, u32 version) {
    name(static_cast<u8>(Record::Kind::section), text);
    number(version, 4);
}

void SaveVisitor::integer(std::string_view text, u64& value, unsigned width_bytes) {
    name(static_cast<u8>(Record::Kind::integer), text);
    number(width_bytes, 1);
    number(value, width_bytes);
}

void SaveVisitor::bytes(std::string_view text, void* data, std::size_t size) {
    name(static_cast<u8>(Record::Kind::bytes), text);
    number(size, 4);
    const u8* from = static_cast<const u8*>(data);
    out_.insert(out_.end(), from, from + size);
}

void SaveVisitor::blob(std::string_view text, std::vector<u8>& data, std::size_t) {
    name(static_cast<u8>(Record::Kind::blob), text);
    number(data.size(), 4);
    out_.insert(out_.end(), data.begin(), data.end());
}

std::vector<u8> SaveVisitor::finish() {
    out_.push_back(static_cast<u8>(Record::Kind::end));
    return std::move(out_);
}

// ---------------------------------------------------------------- reading

std::span<const u8> RecordReader::take(u64 size) {
    if (size > left_.size()) throw SnapshotError("the saved state is cut off");
    const std::span<const u8> taken = left_.first(size);
    left_ = left_.subspan(size);
    return taken;
}

u64 RecordReader::number(unsigned width) {
    u64 value = 0;
    std::memcpy(&value, take(width).data(), width);
    return value;
}

Record RecordReader::next() {
    Record record;
    const u64 tag = number(1);
    if (tag > static_cast<u64>(Record::Kind::blob)) {
        throw SnapshotError("the saved state is broken: there is no record of kind " + std::to_string(tag));
    }
    record.kind = static_cast<Record::Kind>(tag);
    if (record.kind == Record::Kind::end) {
        if (!left_.empty()) throw SnapshotError("the saved state is broken: something follows its end");
        return record;
    }
    const std::span<const u8> name = take(number(1));
    // It goes into messages.
    if (std::any_of(name.begin(), name.end(), [](u8 byte) { return byte < 0x20 || byte > 0x7e; }))
        throw SnapshotError("the saved state is broken: a name is no text");
    record.name = {reinterpret_cast<const char*>(name.data()), name.size()};
    switch (record.kind) {
        case Record::Kind::section:
            record.value = number(4);
            break;
        case Record::Kind::integer:
            record.width = static_cast<unsigned>(number(1));
            if (record.width < 1 || record.width > 8) {
                throw SnapshotError("the saved state is broken: " + std::string(record.name) + " has " +
                                    std::to_string(record.width) + " bytes");
            }
            record.value = number(record.width);
            break;
        default:
            record.data = take(number(4));
            break;
    }
    return record;
}

// ---------------------------------------------------------------- loading

void LoadVisitor::refuse(std::string_view name, const std::string& why) const {
    throw SnapshotError("the saved state does not fit this machine: " + section_ +
                        (name.empty() ? "" : "." + std::string(name)) + " " + why);
}

void LoadVisitor::leave_section() {
    while (older_ && next_.kind != Record::Kind::section && next_.kind != Record::Kind::end) advance();
    if (next_.kind != Record::Kind::section && next_.kind != Record::Kind::end)
        refuse(next_.name, "is not known to this release");
}

void LoadVisitor::section(std::string_view name, u32 version) {
    leave_section();
    section_ = name;
    if (next_.kind != Record::Kind::section) refuse({}, "is missing");
    if (next_.name != name) refuse({}, "was expected, and " + std::string(next_.name) + " is stored");
    if (next_.value > version) {
        refuse({}, "has version " + std::to_string(next_.value) + ", and this release knows version " +
                       std::to_string(version) + ": use a newer one");
    }
    older_ = next_.value < version;
    advance();
}

bool LoadVisitor::arrive(Record::Kind kind, std::string_view name) {
    if (next_.kind == kind && next_.name == name) return true;
    if (!older_) refuse(name, "is missing");
    // Fields that this release has no more may stand before the one that is wanted; a copy looks ahead.
    RecordReader ahead = reader_;
    Record record = next_;
    while (record.kind != Record::Kind::section && record.kind != Record::Kind::end) {
        if (record.kind == kind && record.name == name) {
            reader_ = ahead;
            next_ = record;
            return true;
        }
        record = ahead.next();
    }
    return false;
}

void LoadVisitor::integer(std::string_view name, u64& value, unsigned width_bytes) {
    if (!arrive(Record::Kind::integer, name)) return;
    if (next_.width > width_bytes || (next_.width < width_bytes && !older_)) {
        refuse(name, "has " + std::to_string(next_.width) + " bytes, not " + std::to_string(width_bytes));
    }
    value = next_.value;
    advance();
}

void LoadVisitor::bytes(std::string_view name, void* data, std::size_t size) {
    if (!arrive(Record::Kind::bytes, name)) return;
    if (next_.data.size() != size) {
        refuse(name, "has " + std::to_string(next_.data.size()) + " bytes, not " + std::to_string(size));
    }
    std::memcpy(data, next_.data.data(), size);
    advance();
}

void LoadVisitor::blob(std::string_view name, std::vector<u8>& data, std::size_t limit) {
    if (!arrive(Record::Kind::blob, name)) return;
    if (next_.data.size() > limit) {
        refuse(name,
               "has " + std::to_string(next_.data.size()) + " bytes, and may have " + std::to_string(limit));
    }
    data.assign(next_.data.begin(), next_.data.end());
    advance();
}

void LoadVisitor::finish() {
    leave_section();
    if (next_.kind != Record::Kind::end) {
        throw SnapshotError("the saved state does not fit this machine: it has " + std::string(next_.name) +
                            ", which the machine has not");
    }
}

}  // namespace wirt::state

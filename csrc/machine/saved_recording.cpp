// A recording as bytes: kept beside a snapshot, so that a machine that was restored from it has its past.
//
// Only what ever changed between two checkpoints is in it: of all other pages the present content is that of
// every checkpoint. All numbers are little-endian; the layout is that of save().
//
// Untrusted: all of it. Counts are bounded by the bytes that are there, numbers by what the machine has, and
// each checkpoint's state is loaded once before the recording is taken for good.
#include <cstring>
#include <string>
#include <utility>

#include "base/bits.h"
#include "base/error.h"
#include "machine/recording.h"

namespace wirt::machine {

using memory::DirtyLog;
using memory::PageSet;

namespace {

constexpr u64 magic = 0x3130'4345'5254'5257;  // "WRTREC01"

class Writer {
  public:
    void number(u64 value) {
        u8 raw[8];
        store_le<u64>(raw, value);
        out.insert(out.end(), raw, raw + sizeof raw);
    }
    void position(const Position& at) {
        number(at.time_ns);
        number(at.cycles);
        number(static_cast<u64>(at.phase));
    }
    void bytes(std::span<const u8> content) {
        number(content.size());
        out.insert(out.end(), content.begin(), content.end());
    }
    std::vector<u8> out;
};

class Reader {
  public:
    explicit Reader(std::span<const u8> from) : left_(from) {}

    u64 number() { return load_le<u64>(take(8).data()); }
    // Of a list whose elements take `least` bytes each.
    u64 count(u64 least) {
        const u64 value = number();
        if (value > left_.size() / least) refuse("it ends early");
        return value;
    }
    u64 below(u64 limit) {
        const u64 value = number();
        if (value >= limit) refuse("a number is out of range");
        return value;
    }
    Position position() {
        Position at;
        at.time_ns = number();
        at.cycles = number();
        at.phase = static_cast<Position::Phase>(below(3));
        return at;
    }
    std::span<const u8> bytes() { return take(count(1)); }
    std::span<const u8> take(u64 length) {
        if (length > left_.size()) refuse("it ends early");
        const std::span<const u8> taken = left_.first(length);
        left_ = left_.subspan(length);
        return taken;
    }
    void finish() const {
        if (!left_.empty()) refuse("something follows it");
    }
    [[noreturn]] static void refuse(const char* why) {
        throw SnapshotError(std::string("the saved recording is broken: ") + why);
    }

  private:
    std::span<const u8> left_;
};

constexpr u64 position_bytes = 24, number_bytes = 8;

}  // namespace

std::vector<u8> Recording::save() const {
    Writer to;
    to.number(magic);
    to.number(bounds_.every);
    to.number(bounds_.keep);
    to.number(bounds_.journal);
    to.position(machine_.position());
    to.number(based_on_);
    to.number(checkpoints_.size());
    for (const Checkpoint& checkpoint : checkpoints_) {
        to.position(checkpoint.at);
        to.number(checkpoint.instructions);
        to.number(checkpoint.inputs);
        to.number(checkpoint.links.size());
        for (const bool link : checkpoint.links) to.number(link ? 1 : 0);
        to.bytes(checkpoint.state);
    }
    to.number(journal_.size());
    for (const Input& input : journal_) {
        to.position(input.at);
        to.bytes({reinterpret_cast<const u8*>(input.port.data()), input.port.size()});
        to.bytes(input.content);
    }
    for (std::size_t which = 0; which < versions_.size(); ++which) {
        const std::set<u64> dirty = written_since_base(which);
        std::set<u64> changed = dirty;
        versions_[which].collect_all(changed);
        // As they were at the first checkpoint; then what each of the others has anew.
        to.number(changed.size());
        for (const u64 page : changed) {
            to.number(page);
            const Page content = content_at(which, page, 0);
            to.out.insert(to.out.end(), content.begin(), content.end());
        }
        for (std::size_t i = 1; i < checkpoints_.size(); ++i) {
            const PageVersions::Layer& layer = versions_[which].layer(i);
            to.number(layer.size());
            for (const auto& [page, content] : layer) {
                to.number(page);
                to.out.insert(to.out.end(), content->begin(), content->end());
            }
        }
        to.number(dirty.size());
        for (const u64 page : dirty) to.number(page);
    }
    return std::move(to.out);
}

std::unique_ptr<Recording> Recording::load(Recordable& machine, memory::GuestRam& ram,
                                           std::vector<std::shared_ptr<storage::TrackedDisk>> disks,
                                           std::span<const u8> saved) {
    Reader from(saved);
    if (from.number() != magic) Reader::refuse("it does not begin as one");
    Bounds bounds{};
    bounds.every = from.number();
    bounds.keep = from.number();
    bounds.journal = from.number();
    if (bounds.every == 0 || bounds.keep < 2) Reader::refuse("it has no room for checkpoints");
    if (from.position() != machine.position()) Reader::refuse("it ends elsewhere than the machine stands");
    // With a checkpoint of the present, which goes again.
    std::unique_ptr<Recording> made(new Recording(machine, ram, std::move(disks), bounds));
    Recording& recording = *made;
    const Checkpoint present = std::move(recording.checkpoints_.front());
    recording.checkpoints_.clear();

    const u64 based_on = from.number();
    const u64 checkpoints = from.count(position_bytes);
    if (checkpoints == 0 || based_on >= checkpoints) Reader::refuse("it has no beginning");
    for (u64 i = 0; i < checkpoints; ++i) {
        Checkpoint checkpoint{};
        checkpoint.at = from.position();
        checkpoint.instructions = from.number();
        checkpoint.inputs = from.number();
        const u64 links = from.count(number_bytes);
        if (links != present.links.size()) Reader::refuse("it is of a machine with other NICs");
        for (u64 link = 0; link < links; ++link) checkpoint.links.push_back(from.below(2) != 0);
        const std::span<const u8> state = from.bytes();
        checkpoint.state.assign(state.begin(), state.end());
        if (!recording.checkpoints_.empty()) {
            const Checkpoint& before = recording.checkpoints_.back();
            if (checkpoint.at <= before.at || checkpoint.instructions < before.instructions ||
                checkpoint.inputs < before.inputs) {
                Reader::refuse("its checkpoints are in no order");
            }
        }
        if (checkpoint.at > present.at || checkpoint.instructions > present.instructions)
            Reader::refuse("it has a checkpoint of the future");
        recording.checkpoints_.push_back(std::move(checkpoint));
    }
    const u64 inputs = from.count(position_bytes);
    if (recording.checkpoints_.back().inputs > inputs) Reader::refuse("its journal is too short");
    for (u64 i = 0; i < inputs; ++i) {
        Input input;
        input.at = from.position();
        const std::span<const u8> port = from.bytes(), content = from.bytes();
        input.port.assign(port.begin(), port.end());
        input.content.assign(content.begin(), content.end());
        if (input.at > present.at || (i > 0 && input.at < recording.journal_.back().at))
            Reader::refuse("its journal is in no order");
        recording.append(std::move(input));
    }
    for (std::size_t which = 0; which < recording.versions_.size(); ++which) {
        const u64 pages = recording.pages_of_device(which);
        PageVersions versions;
        for (u64 i = 0; i < checkpoints; ++i) {
            PageVersions::Layer layer;
            for (u64 left = from.count(number_bytes + page_size); left > 0; --left) {
                const u64 page = from.below(pages);
                auto content = std::make_unique<Page>();
                std::memcpy(content->data(), from.take(page_size).data(), page_size);
                layer.insert_or_assign(page, std::move(content));
            }
            versions.add(std::move(layer));
        }
        recording.versions_[which] = std::move(versions);
        for (u64 left = from.count(number_bytes); left > 0; --left)
            recording.mark_written(which, from.below(pages));
    }
    from.finish();
    recording.based_on_ = based_on;
    // Whatever a part refuses, it refuses now, and the machine that was made for it is thrown away.
    for (const Checkpoint& checkpoint : recording.checkpoints_) machine.load(checkpoint.state);
    machine.load(present.state);
    machine.forget_caches();
    return made;
}

}  // namespace wirt::machine

#include "machine/recording.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace wirt::machine {

using memory::DirtyLog;
using memory::PageSet;

// ---------------------------------------------------------------- versions of pages

void PageVersions::merge(std::size_t layer) {
    layers_[layer + 1].merge(layers_[layer]);
    layers_.erase(layers_.begin() + static_cast<std::ptrdiff_t>(layer));
}

const PageVersions::Page* PageVersions::find(u64 page, std::size_t layer) const {
    for (std::size_t i = layer + 1; i-- > 0;) {
        const auto found = layers_[i].find(page);
        if (found != layers_[i].end()) return found->second.get();
    }
    return nullptr;
}

void PageVersions::collect(std::size_t a, std::size_t b, std::set<u64>& pages) const {
    for (std::size_t i = std::min(a, b) + 1; i <= std::max(a, b); ++i) {
        for (const auto& [page, content] : layers_[i]) pages.insert(page);
    }
}

void PageVersions::collect_all(std::set<u64>& pages) const {
    for (const Layer& layer : layers_) {
        for (const auto& [page, content] : layer) pages.insert(page);
    }
}

u64 PageVersions::pages() const {
    u64 total = 0;
    for (const Layer& layer : layers_) total += layer.size();
    return total;
}

namespace {

using Page = PageVersions::Page;

// The last page of a disk may be cut off.
iovec span_of(const storage::BlockBackend& disk, u64 page, const Page& content) {
    const u64 length = std::min<u64>(page_size, disk.size() - page * page_size);
    return {const_cast<u8*>(content.data()), length};
}

void check(const storage::BlockBackend& disk, int error) {
    if (error != 0) throw StorageError(disk.describe() + ": " + std::strerror(error));
}

std::set<u64> pages_of(const std::vector<storage::Run>& runs) {
    std::set<u64> pages;
    for (const storage::Run& run : runs) {
        for (u64 page = run.offset / page_size; page * page_size < run.end(); ++page) pages.insert(page);
    }
    return pages;
}

}  // namespace

// ---------------------------------------------------------------- begin and end

Recording::Recording(Recordable& machine, memory::GuestRam& ram,
                     std::vector<std::shared_ptr<storage::TrackedDisk>> disks, Bounds bounds)
    : machine_(machine), ram_(ram), disks_(std::move(disks)), bounds_(bounds) {
    first_memory_ = ram_.freeze(1);
    ram_.start_log(DirtyLog::replay);
    versions_.resize(1 + disks_.size());
    for (auto& versions : versions_) versions.add({});
    for (const auto& disk : disks_) {
        first_disks_.push_back(disk->view());
        disk->start_tracking(page_size);
    }
    checkpoints_.push_back(
        {machine_.position(), machine_.retired(), machine_.save(), machine_.links(), journal_.size()});
}

Recording::~Recording() {
    ram_.stop_log(DirtyLog::replay);
    for (const auto& disk : disks_) disk->stop_tracking();
    machine_.set_replaying(false);
}

// ---------------------------------------------------------------- input

InputGate::Admission Recording::admit(std::string_view port, std::span<const u8> content) {
    {
        std::lock_guard lock(mutex_);
        if (replaying_) return Admission::refused;
        Input input{{}, std::string(port), {content.begin(), content.end()}};
        if (!running_) {
            input.at = machine_.position();
            append(std::move(input));
            return Admission::now;
        }
        waiting_.push_back(std::move(input));
    }
    machine_.wake_loop();
    return Admission::later;
}

void Recording::apply(const Input& input) {
    if (input.port.empty()) {
        machine_.forget_caches();
    } else {
        machine_.receive(input.port, input.content);
    }
}

void Recording::begin_running() {
    std::lock_guard lock(mutex_);
    running_ = true;
}

void Recording::end_running() {
    std::unique_lock lock(mutex_);
    while (!replaying_ && !waiting_.empty()) {
        lock.unlock();
        take_in_live();
        lock.lock();
    }
    running_ = false;
}

void Recording::take_in_live() {
    for (;;) {
        Input input;
        {
            std::lock_guard lock(mutex_);
            if (waiting_.empty()) return;
            input = std::move(waiting_.front());
            waiting_.pop_front();
            input.at = machine_.position();
            append(input);
        }
        apply(input);
    }
}

void Recording::take_in() {
    const Position here = machine_.position();
    if (replaying_) {
        const std::size_t before = next_;
        while (next_ < journal_.size() && journal_[next_].at <= here) {
            if (journal_[next_].at < here) {
                throw StateError(
                    "the replay did not come to where the recording was: the machine, its disks "
                    "or its memory were changed by hand");
            }
            const std::size_t taken = next_++;
            apply(journal_[taken]);
            if (journal_[taken].port.empty()) verify(here);
        }
        if (here >= end_) return finish_replay();
        if (here.phase == Position::Phase::idle && next_ == before) {
            throw StateError(
                "the replay waits where the recording went on: the machine, its disks or its "
                "memory were changed by hand");
        }
        return;
    }
    if (here.phase == Position::Phase::open) return;
    take_in_live();
    // Of a journal that is full, whole stretches between checkpoints go: they must not be large.
    const bool much_input = journal_bytes_ - journal_bytes_at_checkpoint_ > bounds_.journal / 4;
    if (much_input || machine_.retired() - checkpoints_.back().instructions >= bounds_.every)
        add_checkpoint();
}

std::optional<Position> Recording::next_due() const {
    if (!replaying_) return std::nullopt;
    return next_ < journal_.size() ? std::min(journal_[next_].at, end_) : end_;
}

void Recording::finish_replay() {
    while (next_ < journal_.size()) apply(journal_[next_++]);
    {
        std::lock_guard lock(mutex_);
        replaying_ = false;
    }
    machine_.set_replaying(false);
}

void Recording::note_forgotten_caches() {
    std::lock_guard lock(mutex_);
    // In a replay the state is looked at, and nothing that happened may change.
    if (!replaying_) append({machine_.position(), {}, {}});
}

void Recording::append(Input input) {
    journal_bytes_ += input.bytes();
    journal_.push_back(std::move(input));
}

// A recording proves itself: where it has a checkpoint, a replay has to come to the very same state.
void Recording::verify(const Position& here) {
    for (const Checkpoint& checkpoint : checkpoints_) {
        if (checkpoint.at != here || checkpoint.inputs != next_) continue;
        if (machine_.save() != checkpoint.state)
            throw StateError(
                "the replay has come to another state than the recording: the machine, its disks or "
                "its memory were changed by hand");
    }
}

// ---------------------------------------------------------------- checkpoints

void Recording::add_checkpoint() {
    const Position here = machine_.position();
    {
        std::lock_guard lock(mutex_);
        append({here, {}, {}});
    }
    Checkpoint checkpoint{here, machine_.retired(), machine_.save(), machine_.links(), journal_.size()};
    const PageSet dirty = ram_.take_dirty(DirtyLog::replay);
    PageVersions::Layer memory;
    for (u64 page = dirty.next(0); page < dirty.pages(); page = dirty.next(page + 1)) {
        auto copy = std::make_unique<Page>();
        std::memcpy(copy->data(), ram_.page_data(page), page_size);
        memory.emplace(page, std::move(copy));
    }
    std::vector<PageVersions::Layer> layers;
    for (const auto& disk : disks_) {
        PageVersions::Layer layer;
        for (const u64 page : pages_of(disk->take_dirty())) {
            auto copy = std::make_unique<Page>();
            const iovec span = span_of(*disk, page, *copy);
            check(*disk, disk->read(page * page_size, {&span, 1}));
            layer.emplace(page, std::move(copy));
        }
        layers.push_back(std::move(layer));
    }
    versions_[0].add(std::move(memory));
    for (std::size_t i = 0; i < layers.size(); ++i) versions_[i + 1].add(std::move(layers[i]));
    checkpoints_.push_back(std::move(checkpoint));
    based_on_ = checkpoints_.size() - 1;
    journal_bytes_at_checkpoint_ = journal_bytes_;
    thin_out();
    while (journal_bytes_ > bounds_.journal && checkpoints_.size() > 1) drop_beginning();
}

void Recording::drop_beginning() {
    const std::size_t inputs = checkpoints_[1].inputs;
    std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < inputs; ++i) journal_bytes_ -= journal_[i].bytes();
    journal_.erase(journal_.begin(), journal_.begin() + static_cast<std::ptrdiff_t>(inputs));
    // A page that only the first checkpoint had a version of has it in the next one as well.
    for (auto& versions : versions_) versions.merge(0);
    checkpoints_.erase(checkpoints_.begin());
    for (Checkpoint& checkpoint : checkpoints_) checkpoint.inputs -= inputs;
    --based_on_;
    journal_bytes_at_checkpoint_ = journal_bytes_;
}

// The one goes without which the gap is smallest for its age: gaps grow with the distance from now.
void Recording::thin_out() {
    while (checkpoints_.size() > std::max<std::size_t>(bounds_.keep, 2)) {
        const auto at = [this](std::size_t i) { return static_cast<double>(checkpoints_[i].instructions); };
        std::size_t least = 1;
        double least_gap = 0;
        for (std::size_t i = 1; i + 1 < checkpoints_.size(); ++i) {
            const double age = at(checkpoints_.size() - 1) - at(i) + static_cast<double>(bounds_.every);
            const double gap = (at(i + 1) - at(i - 1)) / age;
            if (i == 1 || gap < least_gap) {
                least = i;
                least_gap = gap;
            }
        }
        for (auto& versions : versions_) versions.merge(least);
        checkpoints_.erase(checkpoints_.begin() + static_cast<std::ptrdiff_t>(least));
        --based_on_;
    }
}

void Recording::go_back(std::size_t index) {
    if (!replaying_) {
        end_ = machine_.position();
        end_instructions_ = machine_.retired();
    }
    const Checkpoint& checkpoint = checkpoints_[index];

    std::set<u64> pages;
    const PageSet dirty = ram_.take_dirty(DirtyLog::replay);
    for (u64 page = dirty.next(0); page < dirty.pages(); page = dirty.next(page + 1)) pages.insert(page);
    versions_[0].collect(based_on_, index, pages);
    for (const u64 page : pages) {
        const Page* const version = versions_[0].find(page, index);
        const u64 address = ram_.base() + page * page_size;
        ram_.will_write(address, page_size);
        std::memcpy(ram_.page_data(page), version != nullptr ? version->data() : first_memory_.page(page),
                    page_size);
        ram_.note_write(address, page_size);
    }
    static_cast<void>(ram_.take_dirty(DirtyLog::replay));

    for (std::size_t i = 0; i < disks_.size(); ++i) {
        storage::TrackedDisk& disk = *disks_[i];
        std::set<u64> written = pages_of(disk.take_dirty());
        versions_[i + 1].collect(based_on_, index, written);
        for (const u64 page : written) {
            Page content;
            const Page* const version = versions_[i + 1].find(page, index);
            const iovec span = span_of(disk, page, version != nullptr ? *version : content);
            if (version == nullptr) check(disk, first_disks_[i]->read(page * page_size, {&span, 1}));
            check(disk, disk.write(page * page_size, {&span, 1}));
        }
        static_cast<void>(disk.take_dirty());
    }

    {
        std::lock_guard lock(mutex_);
        replaying_ = true;
    }
    machine_.set_replaying(true);
    machine_.restore_links(checkpoint.links);
    machine_.load(checkpoint.state);
    machine_.forget_caches();
    next_ = checkpoint.inputs;
    based_on_ = index;
}

// ---------------------------------------------------------------- pages of memory and of disks alike

u64 Recording::pages_of_device(std::size_t which) const {
    return which == 0 ? ram_.pages() : (disks_[which - 1]->size() + page_size - 1) / page_size;
}

std::set<u64> Recording::written_since_base(std::size_t which) const {
    if (which == 0) {
        std::set<u64> pages;
        const PageSet dirty = ram_.dirty(DirtyLog::replay);
        for (u64 page = dirty.next(0); page < dirty.pages(); page = dirty.next(page + 1)) pages.insert(page);
        return pages;
    }
    storage::TrackedDisk& disk = *disks_[which - 1];
    const std::vector<storage::Run> runs = disk.take_dirty();
    for (const storage::Run& run : runs) disk.mark_dirty(run.offset, run.length);
    return pages_of(runs);
}

Recording::Page Recording::content_at(std::size_t which, u64 page, std::size_t checkpoint) const {
    if (const Page* const version = versions_[which].find(page, checkpoint)) return *version;
    Page content{};
    if (which == 0) {
        std::memcpy(content.data(), first_memory_.page(page), page_size);
    } else {
        const iovec span = span_of(*disks_[which - 1], page, content);
        check(*disks_[which - 1], first_disks_[which - 1]->read(page * page_size, {&span, 1}));
    }
    return content;
}

void Recording::mark_written(std::size_t which, u64 page) {
    if (which == 0) {
        ram_.note_write(ram_.base() + page * page_size, page_size);
    } else {
        storage::TrackedDisk& disk = *disks_[which - 1];
        disk.mark_dirty(page * page_size, std::min<u64>(page_size, disk.size() - page * page_size));
    }
}

u64 Recording::bytes() const {
    u64 total = 0;
    for (const auto& versions : versions_) total += versions.pages() * page_size;
    for (const Checkpoint& checkpoint : checkpoints_) total += checkpoint.state.size();
    return total + journal_bytes_;
}

}  // namespace wirt::machine

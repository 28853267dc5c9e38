// A recording of a deterministic machine: checkpoints of its state, and a journal of all that came in from
// outside with the position at which it did. From both, any moment since the beginning can be had again, bit
// for bit.
//
// A checkpoint holds the state, and the pages of memory and of disks that were written since the one before:
// each version of a page is kept once. Older checkpoints are thinned out; their pages go over to the next one
// unless that has them as well. A journal that grows over its bound loses its beginning: the recording then
// begins at a later checkpoint.
//
// Threads: take_in() and the rest that the run loop calls are called on its thread, admit() on any, all else
// while the machine is at rest.
#pragma once

#include <array>
#include <compare>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/input_gate.h"
#include "memory/guest_ram.h"
#include "storage/tracked_disk.h"

namespace wirt::machine {

// A point of the deterministic run loop. There is only one of each value in a machine's life, and the loop
// comes to it again in a replay: `closed` is where a slice is about to begin, `idle` where all that can be
// done at this time is done and only input can end the wait, `open` where a hart is about to run.
struct Position {
    enum class Phase : u8 { closed, idle, open };

    u64 time_ns = 0;  // the slice's
    u64 cycles = 0;   // of all harts together
    Phase phase = Phase::closed;

    auto operator<=>(const Position&) const = default;
};

// What a recording needs of its machine.
class Recordable {
  public:
    virtual ~Recordable() = default;
    virtual Position position() const = 0;
    virtual u64 retired() const = 0;
    // All but the memory; caches are in the state that they have after load() then.
    virtual std::vector<u8> save() = 0;
    virtual void load(std::span<const u8> state) = 0;
    virtual void forget_caches() = 0;
    virtual void receive(std::string_view port, std::span<const u8> input) = 0;
    virtual std::vector<bool> links() const = 0;
    virtual void restore_links(const std::vector<bool>& links) = 0;
    virtual void set_replaying(bool replaying) = 0;
    virtual void wake_loop() = 0;
};

// Versions of numbered pages, of memory or of a disk.
class PageVersions {
  public:
    using Page = std::array<u8, page_size>;
    using Layer = std::map<u64, std::unique_ptr<const Page>>;

    void add(Layer layer) { layers_.push_back(std::move(layer)); }
    // The layer's pages go over to the one behind it.
    void merge(std::size_t layer);
    // As of checkpoint `layer`; null: as in the beginning.
    const Page* find(u64 page, std::size_t layer) const;
    // Adds the pages in which two checkpoints may differ.
    void collect(std::size_t a, std::size_t b, std::set<u64>& pages) const;
    // Adds all pages of which there is a version.
    void collect_all(std::set<u64>& pages) const;
    const Layer& layer(std::size_t index) const { return layers_[index]; }
    u64 pages() const;

  private:
    std::vector<Layer> layers_;  // what is no version is as the recording found it
};

class Recording final : public InputGate {
  public:
    struct Bounds {
        u64 every;         // instructions between checkpoints
        std::size_t keep;  // checkpoints
        u64 journal;       // bytes of input; what was taken in since the last checkpoint may exceed it
    };
    // Begins one, with a checkpoint.
    Recording(Recordable& machine, memory::GuestRam& ram,
              std::vector<std::shared_ptr<storage::TrackedDisk>> disks, Bounds bounds);
    ~Recording() override;

    // --- kept with a snapshot (saved_recording.cpp), at rest ---

    // All of it, of a machine that is not in the past.
    std::vector<u8> save() const;
    // What save() gave, for a machine that stands where that one stood, with the same memory and disks.
    // Throws SnapshotError; the machine is in no state to go on then.
    static std::unique_ptr<Recording> load(Recordable& machine, memory::GuestRam& ram,
                                           std::vector<std::shared_ptr<storage::TrackedDisk>> disks,
                                           std::span<const u8> saved);

    Admission admit(std::string_view port, std::span<const u8> input) override;

    // --- the run loop ---

    void begin_running();
    // The loop stands at a position where input may come in: takes what is due. Throws StateError when a
    // replay has come to another state than the recording.
    void take_in();
    // The next position at which something is due in a replay.
    std::optional<Position> next_due() const;
    // The loop is about to stop: what waits comes in here.
    void end_running();

    // --- at rest ---

    bool replaying() const { return replaying_; }
    // Of a machine whose caches are forgotten at this very moment: so they are in a replay.
    void note_forgotten_caches();
    // Where the recording ends: where it is now, unless it is in the past.
    Position end() const { return replaying_ ? end_ : machine_.position(); }
    u64 end_instructions() const { return replaying_ ? end_instructions_ : machine_.retired(); }
    u64 begin_instructions() const { return checkpoints_.front().instructions; }
    std::size_t checkpoints() const { return checkpoints_.size(); }
    Position checkpoint(std::size_t index) const { return checkpoints_[index].at; }
    u64 checkpoint_instructions(std::size_t index) const { return checkpoints_[index].instructions; }
    u64 inputs() const { return journal_.size(); }
    u64 bytes() const;  // of pages, states and input
    // The machine is as it was at a checkpoint then, and replays when it runs.
    void go_back(std::size_t checkpoint);
    // At the end of the recording: takes in what came at that very moment, and records again.
    void finish_replay();

  private:
    using Page = PageVersions::Page;
    struct Input {
        Position at;
        std::string port;  // empty: no input, but the harts' caches were forgotten
        std::vector<u8> content;
        u64 bytes() const { return sizeof(Input) + port.size() + content.size(); }
    };
    struct Checkpoint {
        Position at;
        u64 instructions;
        std::vector<u8> state;
        std::vector<bool> links;
        std::size_t inputs;  // how many of the journal came before
    };

    void apply(const Input& input);
    void take_in_live();
    void add_checkpoint();
    void thin_out();
    void append(Input input);
    // The first checkpoint goes, and what came in before the next one.
    void drop_beginning();
    void verify(const Position& here);
    // Of the memory (0) or of a disk: how many pages it has, which were written since checkpoint `based_on_`,
    // and what one held at a checkpoint.
    u64 pages_of_device(std::size_t which) const;
    std::set<u64> written_since_base(std::size_t which) const;
    Page content_at(std::size_t which, u64 page, std::size_t checkpoint) const;
    void mark_written(std::size_t which, u64 page);

    Recordable& machine_;
    memory::GuestRam& ram_;
    const std::vector<std::shared_ptr<storage::TrackedDisk>> disks_;
    const Bounds bounds_;

    std::mutex mutex_;
    bool running_ = false;
    std::deque<Input> waiting_;

    bool replaying_ = false;
    std::vector<Input> journal_;
    u64 journal_bytes_ = 0;
    u64 journal_bytes_at_checkpoint_ = 0;  // the last one
    std::size_t next_ = 0;                 // of the journal, in a replay
    Position end_;
    u64 end_instructions_ = 0;

    memory::RamPoint first_memory_;
    std::vector<std::shared_ptr<storage::DiskView>> first_disks_;
    std::vector<Checkpoint> checkpoints_;
    std::vector<PageVersions> versions_;  // the memory's, then each disk's
    std::size_t based_on_ = 0;            // the dirty logs count what was written since this checkpoint
};

}  // namespace wirt::machine

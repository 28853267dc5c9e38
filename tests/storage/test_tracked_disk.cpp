// Checks of csrc/storage/tracked_disk.h that need a base of our own making: one that fails, and one that
// stops in the middle of a request, to put readers of views and writers of the disk into the orders that
// matter.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. tests/test_native.py builds
// it. It is meant to run under ThreadSanitizer and AddressSanitizer as well.
#include "storage/tracked_disk.h"

#include <cerrno>
#include <cstring>
#include <functional>
#include <random>
#include <semaphore>
#include <thread>
#include <vector>

#include "base/error.h"
#include "storage/overlay.h"
#include "storage/spans.h"
#include "support/check.h"

namespace {

using namespace wirt;
using namespace wirt::storage;

constexpr u64 cluster = History::cluster_bytes;

// Calls a hook before, in the middle of and after each request; the hook's errno ends the request there.
class HookedDisk final : public BlockBackend {
  public:
    enum class Point { before_read, amid_read, after_read, before_write, amid_write };
    using Hook = std::function<int(Point, u64 offset, u64 length)>;

    explicit HookedDisk(u64 size) : disk_(make_memory_disk(size)) {}

    u64 size() const override { return disk_->size(); }
    bool read_only() const override { return false; }
    std::string describe() const override { return "hooked"; }
    int read(u64 offset, std::span<const iovec> spans) override {
        if (const int error = call(Point::before_read, offset, spans)) return error;
        const int error = halves(offset, spans, Point::amid_read,
                                 [&](u64 at, std::span<const iovec> part) { return disk_->read(at, part); });
        return error != 0 ? error : call(Point::after_read, offset, spans);
    }
    int write(u64 offset, std::span<const iovec> spans) override {
        if (const int error = call(Point::before_write, offset, spans)) return error;
        return halves(offset, spans, Point::amid_write,
                      [&](u64 at, std::span<const iovec> part) { return disk_->write(at, part); });
    }
    int flush() override { return 0; }
    int discard(u64 offset, u64 length) override { return write_zeroes(offset, length, true); }
    int write_zeroes(u64 offset, u64 length, bool may_unmap) override {
        if (hook) {
            if (const int error = hook(Point::before_write, offset, length)) return error;
        }
        return disk_->write_zeroes(offset, length, may_unmap);
    }
    std::optional<Run> next_data(u64 from) override { return disk_->next_data(from); }

    Hook hook;  // set while no request is under way

  private:
    int call(Point point, u64 offset, std::span<const iovec> spans) {
        return hook ? hook(point, offset, total_bytes(spans)) : 0;
    }

    template <typename Move>
    int halves(u64 offset, std::span<const iovec> spans, Point between, Move move) {
        const u64 half = total_bytes(spans) / 2;
        SpanCursor cursor(spans);
        std::vector<iovec> first, second;
        cursor.take(half, first);
        cursor.take(total_bytes(spans) - half, second);
        if (const int error = move(offset, first)) return error;
        if (const int error = call(between, offset, spans)) return error;
        return move(offset + half, second);
    }

    const std::shared_ptr<BlockBackend> disk_;
};

int fill(BlockBackend& disk, u64 offset, u64 length, u8 value) {
    std::vector<u8> bytes(length, value);
    const iovec span{bytes.data(), bytes.size()};
    return disk.write(offset, {&span, 1});
}

// The byte that all of the range holds; -1 for a mixture, -errno - 1 for an error.
int all_of(BlockBackend& disk, u64 offset, u64 length) {
    std::vector<u8> bytes(length, 0xee);
    const iovec span{bytes.data(), bytes.size()};
    if (const int error = disk.read(offset, {&span, 1})) return -error - 1;
    for (const u8 byte : bytes) {
        if (byte != bytes[0]) return -1;
    }
    return bytes[0];
}

constexpr int io_error = -EIO - 1;
using Point = HookedDisk::Point;

void a_view_read_amid_a_write_shows_what_was() {
    auto base = std::make_shared<HookedDisk>(64 * cluster);
    TrackedDisk disk(base);
    CHECK(fill(disk, 0, 64 * cluster, 1) == 0);
    const auto view = disk.view();
    int amid = -1;
    base->hook = [&](Point point, u64, u64) {
        if (point == Point::amid_write) amid = all_of(*view, 0, 64 * cluster);
        return 0;
    };
    CHECK(fill(disk, 100, 9 * cluster, 2) == 0);
    CHECK(amid == 1);
    CHECK(all_of(*view, 0, 64 * cluster) == 1);
    CHECK(all_of(disk, 100, 9 * cluster) == 2);
    CHECK(disk.preserved_bytes() == 10 * cluster);
}

void a_write_amid_a_read_of_a_view_is_not_seen() {
    auto base = std::make_shared<HookedDisk>(64 * cluster);
    TrackedDisk disk(base);
    CHECK(fill(disk, 0, 64 * cluster, 1) == 0);
    const auto view = disk.view();
    bool wrote = false;
    base->hook = [&](Point point, u64, u64) {
        if (point == Point::amid_read && !wrote) {
            wrote = true;
            CHECK(fill(disk, 0, 64 * cluster, 2) == 0);
        }
        return 0;
    };
    CHECK(all_of(*view, 0, 64 * cluster) == 1);
    CHECK(wrote);
    CHECK(all_of(disk, 0, 64 * cluster) == 2);
}

// Two writers of one cluster have both found no copy: the second to read reads what the first has written.
void the_first_copy_wins() {
    auto base = std::make_shared<HookedDisk>(4 * cluster);
    TrackedDisk disk(base);
    CHECK(fill(disk, 0, cluster, 1) == 0);
    const auto view = disk.view();
    bool wrote = false;
    base->hook = [&](Point point, u64, u64) {
        if (point == Point::before_read && !wrote) {
            wrote = true;
            CHECK(fill(disk, 0, cluster / 2, 2) == 0);
        }
        return 0;
    };
    CHECK(fill(disk, cluster / 2, cluster / 2, 3) == 0);
    base->hook = nullptr;
    CHECK(wrote);
    CHECK(all_of(*view, 0, cluster) == 1);
    CHECK(all_of(disk, 0, cluster / 2) == 2 && all_of(disk, cluster / 2, cluster / 2) == 3);
    CHECK(disk.preserved_bytes() == cluster);
}

void a_view_waits_for_a_write_under_way_and_shows_it_whole() {
    auto base = std::make_shared<HookedDisk>(4 * cluster);
    TrackedDisk disk(base);
    std::binary_semaphore amid(0), go_on(0);
    base->hook = [&](Point point, u64, u64) {
        if (point == Point::amid_write) {
            amid.release();
            go_on.acquire();
        }
        return 0;
    };
    std::thread writer([&] { fill(disk, 0, cluster, 7); });
    amid.acquire();
    std::atomic<bool> taken{false};
    std::shared_ptr<DiskView> view;
    std::thread viewer([&] {
        view = disk.view();
        taken = true;
    });
    CHECK(!taken);
    go_on.release();
    writer.join();
    viewer.join();
    base->hook = nullptr;
    CHECK(all_of(*view, 0, cluster) == 7);
    CHECK(fill(disk, 0, cluster, 8) == 0);
    CHECK(all_of(*view, 0, cluster) == 7);
}

void what_cannot_be_preserved_breaks_the_views_that_lack_it() {
    auto base = std::make_shared<HookedDisk>(64 * cluster);
    TrackedDisk disk(base);
    CHECK(fill(disk, 0, 64 * cluster, 1) == 0);
    const auto first = disk.view();
    CHECK(fill(disk, 0, cluster, 2) == 0);
    const auto second = disk.view(), third = disk.view();
    const auto above = make_overlay(second);
    CHECK(fill(*above, cluster, cluster, 9) == 0);

    base->hook = [](Point point, u64, u64) { return point == Point::before_read ? EIO : 0; };
    CHECK(fill(disk, 0, 100, 3) == 0);  // the guest's write is none the worse
    base->hook = nullptr;

    CHECK(all_of(disk, 0, 100) == 3);
    // The first has its copy.
    CHECK(!first->broken() && all_of(*first, 0, 64 * cluster) == 1);
    for (const auto& view : {second, third}) {
        CHECK(view->broken() && view->broken()->find("Input/output error") != std::string::npos);
        CHECK(all_of(*view, 5 * cluster, 10) == io_error);
    }
    CHECK(all_of(*above, cluster, cluster) == 9);
    CHECK(all_of(*above, 2 * cluster, cluster) == io_error);

    // Later views are as good as ever, and the old one goes on.
    const auto fourth = disk.view();
    CHECK(!fourth->broken());
    CHECK(fill(disk, cluster, cluster, 4) == 0);
    CHECK(all_of(*fourth, cluster, 63 * cluster) == 1 && all_of(*first, 0, 64 * cluster) == 1);
}

void a_view_that_breaks_while_it_is_read_does_not_pass_for_whole() {
    auto base = std::make_shared<HookedDisk>(4 * cluster);
    TrackedDisk disk(base);
    CHECK(fill(disk, 0, cluster, 1) == 0);
    const auto view = disk.view();
    unsigned reads = 0;
    base->hook = [&](Point point, u64, u64) {
        if (point == Point::before_read && ++reads == 2) return EIO;
        if (point == Point::amid_read && reads == 1) CHECK(fill(disk, 0, cluster, 2) == 0);
        return 0;
    };
    CHECK(all_of(*view, 0, cluster) == io_error);
    CHECK(reads == 2 && view->broken());
    CHECK(all_of(disk, 0, cluster) == 2);
}

void an_error_of_the_base_is_the_readers_own() {
    auto base = std::make_shared<HookedDisk>(4 * cluster);
    TrackedDisk disk(base);
    const auto view = disk.view();
    base->hook = [](Point point, u64, u64) { return point == Point::before_read ? EIO : 0; };
    CHECK(all_of(*view, 0, cluster) == io_error);
    base->hook = nullptr;
    CHECK(!view->broken() && all_of(*view, 0, cluster) == 0);
}

void a_failed_write_is_marked_and_told() {
    auto base = std::make_shared<HookedDisk>(64 * cluster);
    TrackedDisk disk(base);
    disk.start_tracking(cluster);
    base->hook = [](Point point, u64, u64) { return point == Point::amid_write ? ENOSPC : 0; };
    CHECK(fill(disk, 3 * cluster + 1, cluster, 1) == ENOSPC);
    CHECK(disk.take_dirty() == std::vector<Run>({{3 * cluster, 2 * cluster}}));
}

// A granule that is taken and read amid its write is reported once more.
void a_write_under_way_is_marked_when_it_is_done() {
    auto base = std::make_shared<HookedDisk>(64 * cluster);
    TrackedDisk disk(base);
    disk.start_tracking(cluster);
    CHECK(fill(disk, 0, cluster, 1) == 0);
    std::vector<Run> amid;
    base->hook = [&](Point point, u64, u64) {
        if (point == Point::amid_write) amid = disk.take_dirty();
        return 0;
    };
    CHECK(fill(disk, 0, cluster, 2) == 0);
    CHECK(amid == std::vector<Run>({{0, cluster}}));
    CHECK(disk.take_dirty() == std::vector<Run>({{0, cluster}}));
    CHECK(disk.take_dirty().empty());
}

// Four writers, each with clusters of its own; viewers check that a view never changes, and a mirror that
// nothing is lost. Every write covers less than a cluster, so that copies matter to all writers of a group.
void hammered_from_all_sides() {
    constexpr u64 clusters = 256;
    TrackedDisk disk(make_memory_disk(clusters * cluster));
    const auto copy = make_memory_disk(clusters * cluster);
    constexpr unsigned writers = 4;
    std::atomic<unsigned> left{writers};
    std::vector<std::thread> threads;
    disk.start_tracking(2 * cluster);
    for (unsigned seed = 0; seed < writers; ++seed) {
        threads.emplace_back([&, seed] {
            std::mt19937_64 random(seed);
            for (unsigned round = 0; round < 3000; ++round) {
                const u64 offset = random() % clusters * cluster + seed * cluster / writers;
                if (random() % 8 == 0) {
                    disk.write_zeroes(offset, cluster / writers, true);
                } else {
                    fill(disk, offset, cluster / writers, static_cast<u8>(random()));
                }
            }
            --left;
        });
    }
    const auto content = [](BlockBackend& of) {
        std::vector<u8> bytes(of.size());
        const iovec span{bytes.data(), bytes.size()};
        return of.read(0, {&span, 1}) == 0 ? bytes : std::vector<u8>();
    };
    std::atomic<unsigned> changed{0}, views{0};
    for (unsigned viewer = 0; viewer < 3; ++viewer) {
        threads.emplace_back([&, viewer] {
            std::vector<std::pair<std::shared_ptr<DiskView>, std::vector<u8>>> held;
            std::mt19937_64 random(viewer + 100);
            do {
                auto view = disk.view();
                auto bytes = content(*view);
                held.emplace_back(std::move(view), std::move(bytes));
                ++views;
                for (const auto& [old, was] : held) changed += content(*old) != was;
                if (held.size() > 4) held.erase(held.begin() + static_cast<i64>(random() % held.size()));
            } while (left > 0);
        });
    }
    const auto mirror = [&] {
        for (const Run& run : disk.take_dirty()) {
            std::vector<u8> bytes(run.length);
            const iovec span{bytes.data(), bytes.size()};
            disk.read(run.offset, {&span, 1});
            copy->write(run.offset, {&span, 1});
        }
    };
    while (left > 0) mirror();
    for (std::thread& thread : threads) thread.join();
    mirror();
    CHECK(changed == 0);
    CHECK(views >= 3);
    CHECK(content(*copy) == content(disk));
    CHECK(disk.preserved_bytes() == 0);
}

}  // namespace

int main() {
    a_view_read_amid_a_write_shows_what_was();
    a_write_amid_a_read_of_a_view_is_not_seen();
    the_first_copy_wins();
    a_view_waits_for_a_write_under_way_and_shows_it_whole();
    what_cannot_be_preserved_breaks_the_views_that_lack_it();
    a_view_that_breaks_while_it_is_read_does_not_pass_for_whole();
    an_error_of_the_base_is_the_readers_own();
    a_failed_write_is_marked_and_told();
    a_write_under_way_is_marked_when_it_is_done();
    hammered_from_all_sides();
    return checks.close();
}

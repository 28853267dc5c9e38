// Readers that take no lock, and a writer that waits until those have left who may still see what it took
// away (the idea is that of sleepable RCU).
//
// A reader holds a Reader while it uses what it found. The writer first makes the thing impossible to find,
// then calls synchronize(), and only then destroys it. The reader's first look at the shared structure and
// the writer's last change to it must be sequentially consistent: either the reader misses the thing, or the
// writer sees the reader.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "base/types.h"

namespace wirt {

class GracePeriod {
  public:
    class Reader {
      public:
        explicit Reader(GracePeriod& of) : count_(of.readers_[of.phase_.load() & 1]) { count_.fetch_add(1); }
        ~Reader() { count_.fetch_sub(1); }
        Reader(const Reader&) = delete;
        Reader& operator=(const Reader&) = delete;

      private:
        std::atomic<u64>& count_;
    };

    // Not to be called by a reader, nor with a lock held that a reader waits for. Newcomers do not keep it
    // waiting: they count in the other phase.
    void synchronize() {
        std::lock_guard lock(writers_);
        for (int turn = 0; turn < 2; ++turn) {
            const std::atomic<u64>& leaving = readers_[phase_.fetch_add(1) & 1];
            while (leaving.load() != 0) std::this_thread::yield();
        }
    }

  private:
    std::mutex writers_;
    std::atomic<u64> phase_{0};
    std::array<std::atomic<u64>, 2> readers_{};
};

}  // namespace wirt

// How long the calling thread has been ready to run and was not let: Linux's schedstat of the thread.
#pragma once

#include "base/types.h"

namespace wirt {

class RunDelay {
  public:
    RunDelay() = default;
    ~RunDelay();
    RunDelay(const RunDelay&) = delete;
    RunDelay& operator=(const RunDelay&) = delete;

    // Nanoseconds since the last call of the same thread; 0 the first time, and where the host does not say.
    u64 since_last();

  private:
    bool open();
    int file_ = -1;
    bool tried_ = false;
    u64 last_ = 0;
};

}  // namespace wirt

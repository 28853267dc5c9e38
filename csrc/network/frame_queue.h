// Frames from the network that wait for a driver's buffers.
//
// Untrusted input: how many frames arrive, and a saved state. Both are bounded.
#pragma once

#include <deque>
#include <mutex>

#include "base/state_visitor.h"
#include "network/ethernet.h"

namespace wirt::network {

// Any thread may push. One thread at a time takes out, so that what is first stays first until it does. The
// mutex inside is a leaf.
class FrameQueue {
  public:
    static constexpr std::size_t most_frames = 1024;
    static constexpr std::size_t most_bytes = 16 * MiB;

    // False when there is no room; the frame is then lost.
    bool push(FramePtr frame);
    // Null when nothing waits.
    FramePtr first() const;
    void drop_first() { replace_first({}); }
    void replace_first(std::vector<FramePtr> pieces);
    void clear();
    bool empty() const;
    // In the caller's section. Throws StateError for more frames than may wait; frames whose offload request
    // makes no sense are left out.
    void visit_state(StateVisitor& v);

  private:
    mutable std::mutex mutex_;
    std::deque<FramePtr> frames_;
    std::size_t bytes_ = 0;
};

}  // namespace wirt::network

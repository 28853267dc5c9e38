// The host's own end of a cable: sends and receives frames as bytes. What Python programs plug into a switch.
//
// Untrusted input: the frames received; they are kept in a bounded queue and not looked into.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "network/ethernet.h"

namespace wirt::network {

class EndPoint {
  public:
    // Takes frames of up to `largest_frame` bytes, checksummed and segmented as on a wire. At most
    // `queue_limit` of them wait to be received; more are dropped. Throws NetworkError when `port` is null.
    explicit EndPoint(std::shared_ptr<Port> port, std::size_t queue_limit = 1024,
                      std::size_t largest_frame = 1518);
    ~EndPoint();
    EndPoint(const EndPoint&) = delete;
    EndPoint& operator=(const EndPoint&) = delete;

    // Throws NetworkError when the end point is closed, and for a frame shorter than an Ethernet header (14
    // bytes) or longer than 65553 bytes.
    void send(std::span<const u8> bytes);
    // The oldest frame waiting. Waits up to `timeout_s` seconds for one; nothing on time-out and after
    // close().
    std::optional<std::vector<u8>> receive(double timeout_s);
    std::size_t waiting() const;
    // Pulls the cable; frames already received can still be read. Wakes receivers.
    void close();
    bool closed() const;
    PortStats stats() const;

  private:
    void accept(const FramePtr& frame);

    const std::size_t queue_limit_;
    mutable std::mutex mutex_;
    std::condition_variable arrived_;
    std::shared_ptr<Port> port_;  // null after close()
    std::deque<FramePtr> queue_;
    PortStats stats_;
};

}  // namespace wirt::network

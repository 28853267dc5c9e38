// A network end point for the host: Python sends and receives whole Ethernet frames.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "network/ethernet.h"

namespace wirt::bindings {

class EndPoint {
  public:
    explicit EndPoint(std::shared_ptr<network::Port> port)
        : port_(std::move(port)), queue_(std::make_shared<Queue>()) {
        port_->attach([queue = queue_](network::FramePtr frame) { queue->push(std::move(frame)); }, {});
    }
    ~EndPoint() { close(); }
    EndPoint(const EndPoint&) = delete;
    EndPoint& operator=(const EndPoint&) = delete;

    void send(std::vector<u8> bytes) {
        if (!port_) throw NetworkError("the end point is closed");
        if (bytes.size() < smallest_frame || bytes.size() > largest_frame) {
            throw NetworkError("an Ethernet frame without FCS has 14 to " + std::to_string(largest_frame) +
                               " bytes, not " + std::to_string(bytes.size()));
        }
        port_->send(std::make_shared<network::Frame>(network::Frame{std::move(bytes), {}}));
    }

    // The oldest frame that waits; waits up to `timeout_s` for one. Null on time-out.
    network::FramePtr receive(double timeout_s) {
        if (!port_) throw NetworkError("the end point is closed");
        std::unique_lock lock(queue_->mutex);
        queue_->arrived.wait_for(lock, std::chrono::duration<double>(timeout_s),
                                 [this] { return !queue_->frames.empty(); });
        if (queue_->frames.empty()) return nullptr;
        network::FramePtr frame = std::move(queue_->frames.front());
        queue_->frames.pop_front();
        return frame;
    }

    u64 dropped() const {
        std::lock_guard lock(queue_->mutex);
        return queue_->dropped;
    }

    void close() {
        if (port_) port_->attach(nullptr, {});
        port_.reset();
    }

  private:
    static constexpr std::size_t smallest_frame = 14;
    static constexpr std::size_t largest_frame = 1518;
    // A guest may send faster than Python reads; what does not fit is dropped, as in a NIC's ring.
    static constexpr std::size_t queue_limit = 4096;

    struct Queue {
        std::mutex mutex;
        std::condition_variable arrived;
        std::deque<network::FramePtr> frames;
        u64 dropped = 0;

        void push(network::FramePtr frame) {
            std::lock_guard lock(mutex);
            if (frames.size() == queue_limit) {
                ++dropped;
                return;
            }
            frames.push_back(std::move(frame));
            arrived.notify_one();
        }
    };

    std::shared_ptr<network::Port> port_;
    std::shared_ptr<Queue> queue_;
};

}  // namespace wirt::bindings

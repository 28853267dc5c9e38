#include "network/end_point.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"

namespace wirt::network {

EndPoint::EndPoint(std::shared_ptr<Port> port, std::size_t queue_limit, std::size_t largest_frame)
    : queue_limit_(queue_limit), port_(std::move(port)) {
    if (!port_) throw NetworkError("an end point needs a port: take one from Switch.port()");
    OffloadCapabilities capabilities;
    capabilities.largest_frame = largest_frame;
    port_->attach([this](FramePtr frame) { accept(frame); }, capabilities);
}

EndPoint::~EndPoint() {
    close();
}

void EndPoint::send(std::span<const u8> bytes) {
    if (bytes.size() < ethernet_header_length || bytes.size() > frame_limit) {
        throw NetworkError("a frame has " + std::to_string(ethernet_header_length) + " to " +
                           std::to_string(frame_limit) + " bytes, not " + std::to_string(bytes.size()));
    }
    std::shared_ptr<Port> port;
    {
        std::lock_guard lock(mutex_);
        if (!port_) throw NetworkError("the end point is closed");
        port = port_;
        ++stats_.sent_frames;
        stats_.sent_bytes += bytes.size();
    }
    // Without the mutex: the frame may come back to an end point that is its own neighbour.
    port->send(std::make_shared<const Frame>(Frame{{bytes.begin(), bytes.end()}, {}}));
}

std::optional<std::vector<u8>> EndPoint::receive(double timeout_s) {
    // More than a year is for ever, and keeps the sum with the clock from wrapping.
    const std::chrono::duration<double> timeout(std::clamp(timeout_s, 0.0, 3.2e7));
    FramePtr frame;
    {
        std::unique_lock lock(mutex_);
        arrived_.wait_for(lock, timeout, [this] { return !queue_.empty() || !port_; });
        if (queue_.empty()) return std::nullopt;
        frame = std::move(queue_.front());
        queue_.pop_front();
    }
    return frame->bytes;
}

std::size_t EndPoint::waiting() const {
    std::lock_guard lock(mutex_);
    return queue_.size();
}

void EndPoint::close() {
    std::shared_ptr<Port> port;
    {
        std::lock_guard lock(mutex_);
        port = std::exchange(port_, nullptr);
    }
    if (port) port->attach(nullptr, {});
    arrived_.notify_all();
}

bool EndPoint::closed() const {
    std::lock_guard lock(mutex_);
    return !port_;
}

PortStats EndPoint::stats() const {
    std::lock_guard lock(mutex_);
    return stats_;
}

void EndPoint::accept(const FramePtr& frame) {
    {
        std::lock_guard lock(mutex_);
        if (queue_.size() >= queue_limit_) {
            ++stats_.dropped_frames;
            return;
        }
        ++stats_.received_frames;
        stats_.received_bytes += frame->bytes.size();
        queue_.push_back(frame);
    }
    arrived_.notify_one();
}

}  // namespace wirt::network

#include "network/frame_queue.h"

#include "base/error.h"

namespace wirt::network {

bool FrameQueue::push(FramePtr frame) {
    std::lock_guard lock(mutex_);
    const std::size_t size = frame->bytes.size();
    if (frames_.size() >= most_frames || bytes_ + size > most_bytes) return false;
    bytes_ += size;
    frames_.push_back(std::move(frame));
    return true;
}

FramePtr FrameQueue::first() const {
    std::lock_guard lock(mutex_);
    return frames_.empty() ? nullptr : frames_.front();
}

void FrameQueue::replace_first(std::vector<FramePtr> pieces) {
    std::lock_guard lock(mutex_);
    bytes_ -= frames_.front()->bytes.size();
    frames_.pop_front();
    for (const FramePtr& piece : pieces) bytes_ += piece->bytes.size();
    frames_.insert(frames_.begin(), pieces.begin(), pieces.end());
}

void FrameQueue::clear() {
    std::lock_guard lock(mutex_);
    frames_.clear();
    bytes_ = 0;
}

bool FrameQueue::empty() const {
    std::lock_guard lock(mutex_);
    return frames_.empty();
}

void FrameQueue::visit_state(StateVisitor& v) {
    std::deque<FramePtr> frames;
    {
        std::lock_guard lock(mutex_);
        frames = frames_;
    }
    u32 count = static_cast<u32>(frames.size());
    v.field("frames_waiting", count);
    if (v.loading()) {
        if (count > most_frames) throw StateError("the saved state holds more frames than may wait");
        clear();
    }
    for (u32 i = 0; i < count; ++i) {
        Frame frame = v.loading() ? Frame{} : *frames[i];
        v.blob("frame", frame.bytes, frame_limit);
        v.field("needs_checksum", frame.offload.needs_checksum);
        v.field("data_valid", frame.offload.data_valid);
        v.field("gso_type", frame.offload.gso_type);
        v.field("header_length", frame.offload.header_length);
        v.field("gso_size", frame.offload.gso_size);
        v.field("csum_start", frame.offload.csum_start);
        v.field("csum_offset", frame.offload.csum_offset);
        if (v.loading() && offload_valid(frame)) push(std::make_shared<const Frame>(std::move(frame)));
    }
}

}  // namespace wirt::network

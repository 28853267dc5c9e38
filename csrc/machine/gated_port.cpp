#include "machine/gated_port.h"

#include "base/bits.h"

namespace wirt::machine {

using network::Frame;
using network::FrameOffload;
using network::FramePtr;

namespace {

// The first byte of an input. A frame's offload request and bytes follow, or the link's new state.
constexpr u8 of_frame = 0, of_link = 1;
constexpr std::size_t frame_head = 12;

std::vector<u8> encode(const Frame& frame) {
    const FrameOffload& offload = frame.offload;
    std::vector<u8> out(frame_head);
    out[0] = of_frame;
    out[1] = static_cast<u8>(offload.needs_checksum | offload.data_valid << 1);
    out[2] = offload.gso_type;
    store_le<u16>(&out[4], offload.header_length);
    store_le<u16>(&out[6], offload.gso_size);
    store_le<u16>(&out[8], offload.csum_start);
    store_le<u16>(&out[10], offload.csum_offset);
    out.insert(out.end(), frame.bytes.begin(), frame.bytes.end());
    return out;
}

FramePtr decode(std::span<const u8> input) {
    auto frame = std::make_shared<Frame>();
    FrameOffload& offload = frame->offload;
    offload.needs_checksum = (input[1] & 1) != 0;
    offload.data_valid = (input[1] & 2) != 0;
    offload.gso_type = input[2];
    offload.header_length = load_le<u16>(&input[4]);
    offload.gso_size = load_le<u16>(&input[6]);
    offload.csum_start = load_le<u16>(&input[8]);
    offload.csum_offset = load_le<u16>(&input[10]);
    frame->bytes.assign(input.begin() + frame_head, input.end());
    return frame;
}

}  // namespace

GatedPort::GatedPort(std::shared_ptr<network::Port> inner, std::string name)
    : inner_(std::move(inner)), name_(std::move(name)), link_(inner_->link()) {
    inner_->on_link_change([this] { look_at_link(); });
}

GatedPort::~GatedPort() {
    inner_->attach(nullptr, {});
    inner_->on_link_change(nullptr);
}

void GatedPort::record(InputGate* gate) {
    gate_.store(gate);
    if (gate != nullptr) return;
    replaying_ = false;
    look_at_link();
}

bool GatedPort::admitted(std::span<const u8> input) {
    InputGate* const gate = gate_.load();
    return gate == nullptr || gate->admit(name_, input) == InputGate::Admission::now;
}

void GatedPort::receive(std::span<const u8> input) {
    if (input.size() == 2 && input[0] == of_link) {
        restore_link(input[1] != 0);
        std::lock_guard lock(mutex_);
        if (link_listener_) link_listener_();
    } else if (input.size() > frame_head && input[0] == of_frame) {
        // A switch has looked at it, but a recording may come from a file.
        const FramePtr frame = decode(input);
        if (network::offload_valid(*frame)) deliver(frame);
    }
}

void GatedPort::restore_link(bool up) {
    link_.store(up);
}

void GatedPort::look_at_link() {
    const bool up = inner_->link();
    if (up == link_.load()) return;
    const u8 input[] = {of_link, up};
    if (admitted(input)) receive(input);
}

void GatedPort::send(FramePtr frame) {
    if (!replaying_.load()) inner_->send(std::move(frame));
}

void GatedPort::attach(std::function<void(FramePtr)> receiver, network::OffloadCapabilities capabilities) {
    const bool listens = receiver != nullptr;
    {
        std::lock_guard lock(mutex_);
        receiver_ = std::move(receiver);
    }
    inner_->attach(
        listens ? [this](const FramePtr& frame) { arrived(frame); } : std::function<void(FramePtr)>(),
        capabilities);
}

void GatedPort::on_link_change(std::function<void()> listener) {
    std::lock_guard lock(mutex_);
    link_listener_ = std::move(listener);
}

void GatedPort::arrived(const FramePtr& frame) {
    // A frame is copied for the record only.
    if (gate_.load() == nullptr || admitted(encode(*frame))) deliver(frame);
}

void GatedPort::deliver(const FramePtr& frame) {
    std::lock_guard lock(mutex_);
    if (receiver_) receiver_(frame);
}

}  // namespace wirt::machine

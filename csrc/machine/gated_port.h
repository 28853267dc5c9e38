// A NIC's end of its cable in a deterministic machine: while the machine is recorded, frames that arrive and
// changes of the link come in when the gate lets them, and while it replays nothing leaves.
//
// Untrusted: frames; they are passed on as they are.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "base/input_gate.h"
#include "network/ethernet.h"

namespace wirt::machine {

class GatedPort final : public network::Port {
  public:
    GatedPort(std::shared_ptr<network::Port> inner, std::string name);
    ~GatedPort() override;

    const std::string& name() const { return name_; }
    // While the machine is at rest. Null: as if it were not there.
    void record(InputGate* gate);
    // Whether what the NIC sends was sent before.
    void set_replaying(bool replaying) { replaying_.store(replaying); }
    // What the gate let in. The NIC is told of nothing that it does not listen to.
    void receive(std::span<const u8> input);
    // The link as a replay has to find it.
    void restore_link(bool up);
    // The cable may have changed while nobody could be told.
    void look_at_link();

    void send(network::FramePtr frame) override;
    void attach(std::function<void(network::FramePtr)> receiver,
                network::OffloadCapabilities capabilities) override;
    void set_capabilities(network::OffloadCapabilities capabilities) override {
        inner_->set_capabilities(capabilities);
    }
    network::PortStats stats() const override { return inner_->stats(); }
    bool link() const override { return link_.load(); }
    void set_link(bool up) override { inner_->set_link(up); }
    void on_link_change(std::function<void()> listener) override;

  private:
    bool admitted(std::span<const u8> input);
    void arrived(const network::FramePtr& frame);
    void deliver(const network::FramePtr& frame);

    const std::shared_ptr<network::Port> inner_;
    const std::string name_;
    std::atomic<InputGate*> gate_{nullptr};
    std::atomic<bool> replaying_{false};
    std::atomic<bool> link_;
    std::mutex mutex_;  // held for calls of the two
    std::function<void(network::FramePtr)> receiver_;
    std::function<void()> link_listener_;
};

}  // namespace wirt::machine

// virtio network device (virtio 1.2, section 5.1): mergeable receive buffers, checksum and segmentation
// offload both ways, several queue pairs, control queue (receive mode, MAC table, VLAN filter, announce,
// offloads).
//
// Untrusted input: packet headers and control commands from the driver, and frames from the network.
#pragma once

#include <array>
#include <deque>
#include <memory>

#include "devices/virtio/net_filter.h"
#include "devices/virtio/virtio_device.h"
#include "network/ethernet.h"

namespace wirt::devices::virtio {

class VirtioNet final : public VirtioDevice {
  public:
    struct Options {
        network::MacAddress mac{};  // a unicast address
        u16 mtu = 1500;             // 68 to 65535
        unsigned queue_pairs = 1;   // 1 to 16
        bool offloads = true;       // offer checksum and segmentation offload
        u16 queue_size = 256;       // a power of two, 64 to 1024
    };

    // Throws ConfigError for options out of range. `port` may be null: a NIC without a cable.
    VirtioNet(std::string name, std::shared_ptr<network::Port> port, Executor& executor, Options options);
    ~VirtioNet() override;

    u32 device_id() const override { return 1; }
    u64 features() const override;
    bool accepts(u64 features) const override;
    unsigned queue_count() const override { return 2 * options_.queue_pairs + 1; }
    u16 queue_size_max(unsigned) const override { return options_.queue_size; }
    std::span<const u8> config() override { return config_; }
    void activate() override;
    void reset() override;
    void notify(unsigned queue) override;
    void shutdown() override;
    void visit_state(StateVisitor& v) override;

    // Host side; both take the device mutex. The cable goes in or out; the guest is asked to announce itself
    // (after it was moved to another host).
    void set_link(bool up);
    void announce();
    // Frames from the network that found no room or did not fit.
    u64 dropped() const { return dropped_.load(); }

  private:
    enum class Delivery : u8 { done, no_buffers };

    void process(unsigned work) override;
    void transmit(unsigned queue);
    void receive();
    void control();
    void accept(network::FramePtr frame);
    network::FramePtr take_frame(const Chain& chain);
    Delivery deliver(const network::Frame& frame, unsigned queue);
    u8 command(const Chain& chain);
    void update_capabilities();
    unsigned control_queue() const;
    void store_config();

    const std::shared_ptr<network::Port> port_;
    const Options options_;
    std::array<u8, 12> config_{};  // struct virtio_net_config (5.1.4) up to mtu

    // Driver-controlled state, guarded by the device mutex.
    network::MacAddress mac_;
    bool link_up_ = true;
    bool announce_ = false;
    unsigned active_pairs_ = 1;
    u64 guest_offloads_ = 0;
    ReceiveFilter filter_;
    FlowTable flows_;
    std::vector<Chain> gathered_;  // scratch: the buffers of the frame being delivered

    // Frames that wait for buffers. Its mutex is a leaf: the port's threads take it.
    std::mutex waiting_mutex_;
    std::deque<network::FramePtr> waiting_;
    std::size_t waiting_bytes_ = 0;
    std::atomic<u64> dropped_{0};
};

}  // namespace wirt::devices::virtio

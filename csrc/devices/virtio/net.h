// virtio network device (virtio 1.2, section 5.1): mergeable receive buffers, checksum and segmentation
// offload both ways, several queue pairs, control queue (receive mode, MAC table, VLAN filter, announce,
// offloads).
//
// Untrusted input: packet headers and control commands from the driver, and frames from the network.
#pragma once

#include <array>
#include <memory>

#include "devices/virtio/net_filter.h"
#include "devices/virtio/virtio_device.h"
#include "network/ethernet.h"
#include "network/frame_queue.h"

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
    std::span<const FeatureName> feature_names() const override;
    bool accepts(u64 features) const override;
    unsigned queue_count() const override { return 2 * options_.queue_pairs + 1; }
    u16 queue_size_max(unsigned) const override { return options_.queue_size; }
    std::span<const u8> config() override;
    void activate() override;
    void reset() override;
    void shutdown() override;
    void visit_state(StateVisitor& v) override;

    // Host side; takes the device mutex. The guest is asked to announce itself (after it was moved to another
    // host).
    void announce();
    // Frames from the network that found no room or did not fit.
    u64 dropped() const { return dropped_.load(); }

  private:
    void process(unsigned work) override;
    void transmit(unsigned queue);
    void receive();
    void control(unsigned queue);
    void update_link();

    network::FramePtr take_frame(const Chain& chain) const;
    // False when the queue has too few buffers for now. A frame that can never fit is dropped.
    bool deliver(const network::Frame& frame, unsigned queue);
    void fill(const network::Frame& frame, std::size_t buffers);
    u8 command(const Chain& chain);
    u8 set_mac_table(std::span<const u8> data);

    // Called by the port, on any thread.
    void accept(network::FramePtr frame);
    void drop() { dropped_.fetch_add(1, std::memory_order_relaxed); }

    void connect();
    void update_capabilities();
    unsigned control_queue() const;
    void store_config();

    const std::shared_ptr<network::Port> port_;
    const Options options_;

    // Guarded by the device mutex.
    std::array<u8, 12> config_{};  // struct virtio_net_config (5.1.4) up to mtu
    network::MacAddress mac_;
    bool link_up_ = true;
    bool announce_ = false;
    unsigned active_pairs_ = 1;
    u64 guest_offloads_ = 0;
    network::OffloadCapabilities capabilities_;
    ReceiveFilter filter_;
    FlowTable flows_;
    // Scratch: the buffers of the frame being delivered, and what was written into each.
    std::vector<Chain> buffers_;
    std::vector<u32> written_;

    network::FrameQueue waiting_;
    std::atomic<u64> dropped_{0};
};

}  // namespace wirt::devices::virtio

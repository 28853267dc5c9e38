// virtio input device (virtio 1.2, section 5.8): a keyboard, or a tablet with absolute coordinates.
//
// Untrusted input: what the driver selects in the configuration space, the number and lengths of buffers, and
// the status events.
#pragma once

#include <memory>

#include "devices/input_port.h"
#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

class VirtioInput final : public VirtioDevice {
  public:
    enum class Kind : u8 { keyboard, tablet };

    // Coordinates of a tablet run from 0 to this, whatever the display's size.
    static constexpr u32 tablet_range = 0x7fff;

    VirtioInput(std::string name, Kind kind, std::shared_ptr<InputPort> port, Executor& executor);
    ~VirtioInput() override;

    u32 device_id() const override { return 18; }
    u64 features() const override { return 0; }
    unsigned queue_count() const override { return 2; }
    u16 queue_size_max(unsigned) const override { return 64; }
    std::span<const u8> config() override { return config_; }
    void write_config(u64 offset, std::span<const u8> bytes) override;
    void activate() override;
    void reset() override;
    void shutdown() override;
    void visit_state(StateVisitor& v) override;

  private:
    // What the port calls on input; outlives the device, and is silent once the device is gone.
    struct Listener;

    void process(unsigned work) override;
    void listen();
    void send_events();
    void take_status();
    // Fills the configuration space with what `select` and `subsel` ask for.
    void answer();
    void put_bits(std::initializer_list<u16> codes);

    const Kind kind_;
    const std::shared_ptr<InputPort> port_;
    const std::shared_ptr<Listener> listener_;
    std::array<u8, 136> config_{};  // struct virtio_input_config (5.8.4)
};

}  // namespace wirt::devices::virtio

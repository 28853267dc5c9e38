// virtio console device (virtio 1.2, section 5.3): one port over a ConsolePort, with emergency write.
//
// Untrusted input: the buffers' number and lengths. Output is taken in steps, so that a chain of gigabytes
// neither holds the device mutex nor outlives a reset for long.
#pragma once

#include <memory>

#include "devices/console_port.h"
#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

class VirtioConsole final : public VirtioDevice {
  public:
    VirtioConsole(std::string name, std::shared_ptr<ConsolePort> port, Executor& executor);
    ~VirtioConsole() override;

    u32 device_id() const override { return 3; }
    u64 features() const override;
    std::span<const FeatureName> feature_names() const override;
    unsigned queue_count() const override { return 2; }
    std::span<const u8> config() override { return config_; }
    void write_config(u64 offset, std::span<const u8> bytes) override;
    void activate() override;
    void shutdown() override;
    void visit_state(StateVisitor& v) override;

    // The terminal's size in characters changed; takes the device mutex.
    void resize(u16 columns, u16 rows);

  private:
    // What the port calls on input; outlives the device, and is silent once the device is gone.
    struct Listener;

    void process(unsigned work) override;
    void listen();
    void receive();
    void transmit();

    const std::shared_ptr<ConsolePort> port_;
    const std::shared_ptr<Listener> listener_;
    std::array<u8, 12> config_{};  // struct virtio_console_config (5.3.4)
};

}  // namespace wirt::devices::virtio

// virtio block device (virtio 1.2, section 5.2) over a BlockBackend. The driver's buffers are the spans of
// preadv and pwritev: the monitor copies no data.
//
// Untrusted input: request headers (read once, in any layout over descriptors), sectors, lengths, segments.
#pragma once

#include <array>
#include <memory>

#include "devices/virtio/virtio_device.h"
#include "storage/block_backend.h"

namespace wirt::devices::virtio {

class VirtioBlock final : public VirtioDevice {
  public:
    struct Options {
        unsigned queues = 1;   // 1 to 16
        std::string serial;    // what GET_ID answers, at most 20 bytes
        u32 block_size = 512;  // the logical block size: a power of two, 512 to 4096
        u32 physical_block = 4096;
        u16 queue_size = 256;  // a power of two, 4 to 1024
    };

    // Throws ConfigError for options out of range.
    VirtioBlock(std::string name, std::shared_ptr<storage::BlockBackend> backend, Executor& executor,
                Options options);
    VirtioBlock(std::string name, std::shared_ptr<storage::BlockBackend> backend, Executor& executor)
        : VirtioBlock(std::move(name), std::move(backend), executor, Options()) {}

    u32 device_id() const override { return 2; }
    u64 features() const override;
    std::span<const FeatureName> feature_names() const override;
    unsigned queue_count() const override { return options_.queues; }
    u16 queue_size_max(unsigned) const override { return options_.queue_size; }
    std::span<const u8> config() override { return config_; }
    void write_config(u64 offset, std::span<const u8> bytes) override;
    void activate() override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    // What one request came to: its status byte, and how much of the data area the device filled.
    struct Outcome {
        u8 status;
        u64 data_written;
    };

    // What the driver negotiated, copied while the mutex was held.
    struct Policy {
        // Whether a completed write must be on stable storage (5.2.6.2).
        bool write_through = true;
        bool discard = false;
        bool write_zeroes = false;
    };

    void process(unsigned work) override;
    Outcome execute(const Chain& chain, Policy policy);
    Outcome read(const Chain& chain, u64 sector);
    Outcome write(const Chain& chain, u64 sector, Policy policy);
    Outcome get_id(const Chain& chain);
    Outcome deallocate(const Chain& chain, u32 type, Policy policy);
    bool inside(u64 sector, u64 bytes) const;

    const std::shared_ptr<storage::BlockBackend> backend_;
    const Options options_;
    std::array<u8, 72> config_{};  // struct virtio_blk_config (5.2.4)
    Policy policy_;
    std::vector<iovec> spans_;  // scratch of the executor's thread
};

}  // namespace wirt::devices::virtio

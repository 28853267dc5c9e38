#include "devices/virtio/console.h"

#include <algorithm>

#include "base/bits.h"

namespace wirt::devices::virtio {

namespace {
constexpr unsigned receiveq = 0;
constexpr unsigned transmitq = 1;

// 5.3.3
constexpr u64 feature_size = u64{1} << 0;
constexpr u64 feature_emerg_write = u64{1} << 2;

// struct virtio_console_config (5.3.4)
constexpr u64 config_cols = 0;
constexpr u64 config_rows = 2;
constexpr u64 config_max_nr_ports = 4;
constexpr u64 config_emerg_wr = 8;

constexpr std::size_t output_step = 64 * KiB;
}  // namespace

struct VirtioConsole::Listener {
    std::mutex mutex;
    VirtioConsole* device;

    void input() {
        std::lock_guard lock(mutex);
        if (device != nullptr) device->schedule(receiveq);
    }
};

VirtioConsole::VirtioConsole(std::string name, std::shared_ptr<ConsolePort> port, Executor& executor)
    : VirtioDevice(std::move(name), executor),
      port_(std::move(port)),
      listener_(std::make_shared<Listener>()) {
    port_->on_input([listener = listener_] { listener->input(); });
    store_le<u16>(&config_[config_cols], 80);
    store_le<u16>(&config_[config_rows], 24);
    store_le<u32>(&config_[config_max_nr_ports], 1);
}

VirtioConsole::~VirtioConsole() {
    shutdown();
}

std::span<const FeatureName> VirtioConsole::feature_names() const {
    static constexpr FeatureName names[] = {
        {feature_size, "SIZE"},
        {feature_emerg_write, "EMERG_WRITE"},
    };
    return names;
}

u64 VirtioConsole::features() const {
    return feature_size | feature_emerg_write;
}

void VirtioConsole::listen() {
    std::lock_guard lock(listener_->mutex);
    listener_->device = this;
}

void VirtioConsole::activate() {
    listen();
    // Input may have been waiting since before there was a driver.
    schedule(receiveq);
}

void VirtioConsole::shutdown() {
    std::lock_guard lock(listener_->mutex);
    listener_->device = nullptr;
}

void VirtioConsole::write_config(u64 offset, std::span<const u8> bytes) {
    // 5.3.5: works at any time, before the driver set anything up; the low byte is the character.
    if (offset == config_emerg_wr) port_->put(bytes.first(1));
}

void VirtioConsole::resize(u16 columns, u16 rows) {
    std::lock_guard lock(core().mutex());
    store_le<u16>(&config_[config_cols], columns);
    store_le<u16>(&config_[config_rows], rows);
    core().config_changed();
}

void VirtioConsole::process(unsigned work) {
    if (work == receiveq) {
        receive();
    } else {
        transmit();
    }
}

void VirtioConsole::receive() {
    std::lock_guard lock(core().mutex());
    Chain chain;
    unsigned budget = task_budget;
    while (port_->has_input() && take(receiveq, chain)) {
        u64 filled = 0;
        for (const iovec& span : chain.writable) {
            const std::size_t taken = port_->take({static_cast<u8*>(span.iov_base), span.iov_len});
            filled += taken;
            if (taken < span.iov_len) break;
        }
        core().push(receiveq, chain, static_cast<u32>(filled));
        DeviceCounters::add(count().operations);
        DeviceCounters::add(count().bytes_moved, filled);
        DeviceCounters::add(count().bytes_copied, filled);
        if (--budget == 0) {
            schedule(receiveq);
            break;
        }
    }
    core().notify_driver(receiveq);
}

void VirtioConsole::transmit() {
    std::unique_lock lock(core().mutex());
    Chain chain;
    for (unsigned budget = task_budget; take(transmitq, chain); --budget) {
        if (budget == 0) {
            core().unpop(transmitq, chain);
            schedule(transmitq);
            return;
        }
        for (const iovec& span : chain.readable) {
            for (std::size_t done = 0; done < span.iov_len && core().current(transmitq, chain);) {
                const std::size_t step = std::min(output_step, span.iov_len - done);
                lock.unlock();
                port_->put({static_cast<const u8*>(span.iov_base) + done, step});
                lock.lock();
                done += step;
            }
        }
        if (!core().push(transmitq, chain, 0)) return;
        DeviceCounters::add(count().operations);
        DeviceCounters::add(count().bytes_moved, chain.readable_bytes);
        DeviceCounters::add(count().bytes_copied, chain.readable_bytes);
        core().notify_driver(transmitq);
    }
}

void VirtioConsole::visit_state(StateVisitor& v) {
    v.section("virtio-console", 1);
    v.field("config", config_);
    // What waits in the port is told by the port, which is loaded after its device.
    if (v.loading() && core().has_queue(receiveq)) listen();
}

}  // namespace wirt::devices::virtio

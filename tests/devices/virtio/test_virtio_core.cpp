// Checks of the virtio devices that need a disk of our own making, the executor in hand, or a state visitor:
// work in flight across a reset, a pause, or a queue's end; errors of the host; state taken from one device
// to another.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. tests/test_native.py builds
// it. It is meant to run under ThreadSanitizer and AddressSanitizer as well.
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/virtio_mmio.h"
#include "network/end_point.h"
#include "support/check.h"

namespace {

using namespace wirt;
using namespace wirt::devices::virtio;
using namespace std::chrono_literals;

constexpr u64 ram_base = 0x8000'0000, buffers = ram_base + 0x10'0000;

// Registers of section 4.2.2.
constexpr u64 device_features = 0x10, device_features_sel = 0x14, driver_features = 0x20,
              driver_features_sel = 0x24, queue_sel = 0x30, queue_num = 0x38, queue_ready = 0x44,
              queue_notify = 0x50, interrupt_status = 0x60, status = 0x70, queue_desc = 0x80,
              queue_driver = 0x90, queue_device = 0xa0;

constexpr u64 blk_flush = 1 << 9;
constexpr u64 net_mrg_rxbuf = 1 << 15, net_status = 1 << 16, net_ctrl_vq = 1 << 17,
              net_guest_announce = 1 << 21;

struct Line final : InterruptSink {
    void set_level(unsigned, bool value) override { level = value; }
    std::atomic<bool> level{false};
};

// A disk that waits until it is let go, and fails when it is told to.
class GatedDisk final : public storage::BlockBackend {
  public:
    u64 size() const override { return data.size(); }
    bool read_only() const override { return false; }
    std::string describe() const override { return "gated"; }
    int read(u64 offset, std::span<const iovec> spans) override {
        pass();
        for (const iovec& span : spans) {
            std::memcpy(span.iov_base, &data[offset], span.iov_len);
            offset += span.iov_len;
        }
        return error;
    }
    int write(u64 offset, std::span<const iovec> spans) override {
        pass();
        for (const iovec& span : spans) {
            std::memcpy(&data[offset], span.iov_base, span.iov_len);
            offset += span.iov_len;
        }
        return error;
    }
    int flush() override {
        ++flushes;
        return error;
    }
    int discard(u64, u64) override { return error; }
    int write_zeroes(u64, u64, bool) override { return error; }

    void close_gate() {
        std::lock_guard lock(mutex_);
        open_ = false;
    }
    void open_gate() {
        std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void wait_for_visitor() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return waiting_ > 0; });
    }

    std::vector<u8> data = std::vector<u8>(64 * KiB, 0xd1);
    std::atomic<int> error{0};
    std::atomic<unsigned> flushes{0};

  private:
    void pass() {
        std::unique_lock lock(mutex_);
        ++waiting_;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
        --waiting_;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = true;
    unsigned waiting_ = 0;
};

bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds limit = 10s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(100us);
    }
    return true;
}

struct Buffer {
    u64 address;
    u32 length;
    bool writable;
};

// A driver as the specification wants it; it reaches the rings by DmaView, as atomically as a hart would.
class Driver {
  public:
    static constexpr u16 size = 16;
    struct Queue {
        u64 desc, avail, used;
        u16 avail_idx = 0, used_idx = 0, next = 0;
    };

    Driver(memory::GuestRam& ram, VirtioMmio& device) : dma(ram), device_(device) {}

    u32 read(u64 offset) {
        std::lock_guard lock(device_.mutex());
        return static_cast<u32>(device_.read(offset, 4));
    }
    void write(u64 offset, u64 value) {
        std::lock_guard lock(device_.mutex());
        device_.write(offset, 4, static_cast<u32>(value));
    }

    // `platform` are the features from bit 32 on.
    void start(u64 features, unsigned count, u64 platform = 1 /* VERSION_1 */) {
        write(status, 0);
        CHECK(wait_until([this] { return read(status) == 0; }));
        write(status, 3);
        write(driver_features_sel, 0);
        write(driver_features, features);
        write(driver_features_sel, 1);
        write(driver_features, platform);
        write(status, 11);
        queues.clear();
        for (unsigned i = 0; i < count; ++i) {
            const u64 at = ram_base + 0x4000 * i;
            CHECK(dma.fill(at, 0, 0x4000));
            queues.push_back({at, at + 0x1000, at + 0x2000});
            write(queue_sel, i);
            write(queue_num, size);
            write(queue_desc, at + shift);
            write(queue_driver, at + shift + 0x1000);
            write(queue_device, at + shift + 0x2000);
            write(queue_ready, 1);
        }
        write(status, 15);
        CHECK(read(status) == 15);
    }

    void add(unsigned index, const std::vector<Buffer>& chain) {
        Queue& queue = queues[index];
        const u16 head = queue.next;
        for (std::size_t i = 0; i < chain.size(); ++i) {
            const u64 at = queue.desc + 16 * u64{queue.next};
            queue.next = (queue.next + 1) % size;
            const u64 flags = (chain[i].writable ? 2 : 0) | (i + 1 < chain.size() ? 1 : 0);
            CHECK(dma.store<u64>(at, chain[i].address + shift));
            CHECK(dma.store<u64>(at + 8, chain[i].length | flags << 32 | u64{queue.next} << 48));
        }
        CHECK(dma.store<u16>(queue.avail + 4 + 2 * (queue.avail_idx % size), head));
        CHECK(dma.store<u16>(queue.avail + 2, ++queue.avail_idx));
    }
    void kick(unsigned index) { write(queue_notify, index); }
    u16 device_idx(unsigned index) { return *dma.load<u16>(queues[index].used + 2); }
    // The length of the next used buffer; -1 when there is none.
    i64 used(unsigned index) {
        Queue& queue = queues[index];
        if (device_idx(index) == queue.used_idx) return -1;
        return *dma.load<u32>(queue.used + 8 + 8 * (queue.used_idx++ % size));
    }
    i64 wait(unsigned index) {
        i64 length = -1;
        wait_until([&] { return (length = used(index)) >= 0; });
        return length;
    }

    const memory::DmaView dma;
    std::vector<Queue> queues;
    u64 shift = 0;  // what the device has to add to an address of RAM to reach it

  private:
    VirtioMmio& device_;
};

// A machine's worth of parts around a block device.
struct BlockSetup {
    explicit BlockSetup(Executor& executor, memory::DmaTranslator* iommu = nullptr)
        : mmio("virtio-blk0", std::make_unique<VirtioBlock>("virtio-blk0", disk, executor),
               memory::DmaView(ram, iommu), InterruptLine(line, 1), {.behind_iommu = iommu != nullptr}),
          driver(ram, mmio) {}

    // Adds a request of one sector, with its header, data and status in places of their own.
    void request(u32 type) {
        CHECK(driver.dma.store<u64>(header, type));
        CHECK(driver.dma.store<u64>(header + 8, 0));
        CHECK(driver.dma.store<u8>(status_byte, 0xee));
        CHECK(driver.dma.fill(data, 0x55, 512));
        driver.add(0, {{header, 16, false}, {data, 512, type == 0}, {status_byte, 1, true}});
        driver.kick(0);
    }
    u8 byte(u64 address) { return *driver.dma.load<u8>(address); }

    static constexpr u64 header = buffers, data = buffers + 0x1000, status_byte = buffers + 0x2000;
    memory::GuestRam ram{ram_base, 4 * MiB};
    Line line;
    std::shared_ptr<GatedDisk> disk = std::make_shared<GatedDisk>();
    VirtioMmio mmio;
    Driver driver;
};

void reset_waits_for_work_in_flight() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    Driver& driver = setup.driver;
    driver.start(blk_flush, 1);
    setup.disk->close_gate();
    setup.request(0);
    setup.disk->wait_for_visitor();

    const auto before = std::chrono::steady_clock::now();
    driver.write(status, 0);
    CHECK(driver.read(status) != 0);  // 2.4.1: complete only when nothing can be written any more
    CHECK(std::chrono::steady_clock::now() - before < 5s);
    // Nothing moves it on meanwhile.
    driver.write(status, 1);
    driver.write(queue_sel, 0);
    driver.write(queue_ready, 1);
    driver.kick(0);
    CHECK(driver.read(status) != 0);

    setup.disk->open_gate();
    CHECK(wait_until([&] { return driver.read(status) == 0; }));
    // From here on the memory is the driver's.
    CHECK(driver.dma.fill(setup.data, 0x77, 512));
    executor.drain();
    CHECK(setup.byte(setup.data) == 0x77);
    CHECK(driver.device_idx(0) == 0);
    CHECK(!setup.line.level && driver.read(interrupt_status) == 0);

    driver.start(blk_flush, 1);
    setup.request(0);
    CHECK(driver.wait(0) == 513);
    CHECK(setup.byte(setup.data) == 0xd1);
    CHECK(setup.byte(setup.status_byte) == 0);
}

void a_queue_that_ends_waits_too() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    Driver& driver = setup.driver;
    driver.start(blk_flush, 1);
    setup.disk->close_gate();
    setup.request(0);
    setup.disk->wait_for_visitor();
    driver.write(queue_ready, 0);
    CHECK(driver.read(queue_ready) == 1);
    setup.disk->open_gate();
    CHECK(wait_until([&] { return driver.read(queue_ready) == 0; }));
    executor.drain();
    CHECK(driver.device_idx(0) == 0);
    CHECK(driver.read(status) == 15);
}

void a_reset_with_a_quick_disk_needs_no_polling() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    Driver& driver = setup.driver;
    driver.start(blk_flush, 1);
    setup.disk->close_gate();
    setup.request(0);
    setup.disk->wait_for_visitor();
    driver.write(status, 0);
    std::thread later([&] {
        std::this_thread::sleep_for(10ms);
        setup.disk->open_gate();
    });
    // As Linux's virtio_mmio does: no look at the status in between.
    driver.write(status, 1);
    CHECK(driver.read(status) == 1);
    later.join();
}

void pausing_leaves_buffers_in_the_ring() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    Driver& driver = setup.driver;
    driver.start(blk_flush, 1);
    setup.disk->close_gate();
    setup.request(0);
    setup.disk->wait_for_visitor();
    driver.add(0, {{setup.header, 16, false}, {setup.data, 512, true}, {setup.status_byte, 1, true}});
    driver.kick(0);
    std::thread opener([&] {
        std::this_thread::sleep_for(10ms);
        setup.disk->open_gate();
    });
    setup.mmio.pause();
    // What was in flight has landed, what was not is where it was.
    CHECK(driver.device_idx(0) == 1);
    driver.add(0, {{setup.header, 16, false}, {setup.data, 512, true}, {setup.status_byte, 1, true}});
    driver.kick(0);
    executor.drain();
    CHECK(driver.device_idx(0) == 1);
    setup.mmio.resume();
    for (int i = 0; i < 3; ++i) CHECK(driver.wait(0) == 513);
    opener.join();
}

void work_may_wait_for_the_run_loop() {
    unsigned wakes = 0;
    DeferredExecutor executor([&] { ++wakes; });
    BlockSetup setup(executor);
    Driver& driver = setup.driver;
    driver.start(blk_flush, 1);
    setup.request(0);
    driver.kick(0);
    driver.kick(0);
    CHECK(wakes == 1);  // one task, however often the doorbell rings
    CHECK(driver.used(0) == -1);
    executor.drain();
    CHECK(driver.used(0) == 513);
    CHECK(setup.line.level);
    // A reset between the doorbell and the work.
    setup.request(0);
    driver.start(blk_flush, 1);
    executor.drain();
    CHECK(driver.used(0) == -1);
}

void host_errors_become_status_bytes() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    Driver& driver = setup.driver;
    driver.start(blk_flush, 1);
    for (const auto& [error, expected] : {std::pair{EIO, 1}, {ENOSPC, 1}, {EOPNOTSUPP, 2}}) {
        setup.disk->error = error;
        for (const u32 type : {0u, 1u}) {
            setup.request(type);
            CHECK(driver.wait(0) == (type == 0 ? 0 : 1));  // 2.7.8.1: nothing can be promised of the data
            CHECK(setup.byte(setup.status_byte) == expected);
        }
    }
    setup.disk->error = 0;
    CHECK(driver.read(status) == 15);
}

void writes_are_durable_for_a_driver_that_cannot_flush() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    setup.driver.start(blk_flush, 1);
    setup.request(1);
    CHECK(setup.driver.wait(0) == 1);
    CHECK(setup.disk->flushes == 0);
    setup.driver.start(0, 1);
    setup.request(1);
    CHECK(setup.driver.wait(0) == 1);
    CHECK(setup.disk->flushes == 1);
}

// --- behind an IOMMU ---

// Shows RAM at another address, page by page, some of it not at all.
class Shifted final : public memory::DmaTranslator {
  public:
    static constexpr u64 shift = 0x1000'0000;

    std::optional<u64> translate(u64 address, memory::DmaDirection, u64& contiguous) override {
        const u64 physical = address - shift;
        if (physical < ram_base || physical / 0x1000 == hidden_page) return std::nullopt;
        contiguous = std::min<u64>(contiguous, 0x1000 - physical % 0x1000);
        return physical;
    }
    std::atomic<u64> hidden_page{0};
};

void a_device_behind_an_iommu_takes_no_driver_that_does_not_know() {
    constexpr u64 version_1 = 1, access_platform = 2;
    ThreadExecutor executor;
    Shifted iommu;
    BlockSetup setup(executor, &iommu);
    Driver& driver = setup.driver;
    driver.write(device_features_sel, 1);
    CHECK(driver.read(device_features) & access_platform);
    driver.write(status, 3);
    driver.write(driver_features_sel, 1);
    driver.write(driver_features, version_1);
    driver.write(status, 11);
    CHECK(driver.read(status) == 3);

    driver.shift = Shifted::shift;
    driver.start(blk_flush, 1, version_1 | access_platform);
    setup.request(0);
    CHECK(driver.wait(0) == 513);
    CHECK(setup.byte(setup.data) == 0xd1 && setup.byte(setup.data + 511) == 0xd1);

    // A buffer that was not mapped: nothing is written, and the driver is told.
    iommu.hidden_page = setup.data / 0x1000;
    setup.request(0);
    CHECK(wait_until([&] { return (driver.read(status) & 64) != 0; }));
    CHECK(setup.byte(setup.data) == 0x55);
    // Nor may a ring lie where the device cannot see it.
    iommu.hidden_page = driver.queues[0].used / 0x1000;
    driver.write(status, 0);
    CHECK(driver.read(status) == 0);
    driver.write(status, 3);
    driver.write(driver_features, version_1 | access_platform);
    driver.write(status, 11);
    driver.write(queue_num, 16);
    driver.write(queue_desc, driver.queues[0].desc + driver.shift);
    driver.write(queue_driver, driver.queues[0].avail + driver.shift);
    driver.write(queue_device, driver.queues[0].used + driver.shift);
    driver.write(queue_ready, 1);
    driver.write(status, 15);
    CHECK(driver.read(status) == (15 | 64));
}

void a_device_of_its_own_offers_no_access_platform() {
    ThreadExecutor executor;
    BlockSetup setup(executor);
    setup.driver.write(device_features_sel, 1);
    CHECK((setup.driver.read(device_features) & 2) == 0);
}

// --- state ---

using Saved = std::vector<std::pair<std::string, std::vector<u8>>>;

class Saver final : public StateVisitor {
  public:
    void section(std::string_view name, u32) override { section_ = name; }
    void blob(std::string_view name, std::vector<u8>& bytes, std::size_t limit) override {
        CHECK(bytes.size() <= limit);
        add(name, bytes);
    }
    Saved saved;

  protected:
    void integer(std::string_view name, u64& value, unsigned) override {
        std::vector<u8> bytes(8);
        store_le<u64>(bytes.data(), value);
        add(name, bytes);
    }
    void bytes(std::string_view name, void* from, std::size_t length) override {
        add(name, {static_cast<u8*>(from), static_cast<u8*>(from) + length});
    }

  private:
    void add(std::string_view name, std::vector<u8> bytes) {
        saved.emplace_back(section_ + "." + std::string(name), std::move(bytes));
    }
    std::string section_;
};

class Loader final : public StateVisitor {
  public:
    explicit Loader(const Saved& saved) : saved_(saved) {}
    bool loading() const override { return true; }
    void section(std::string_view, u32) override {}
    void blob(std::string_view, std::vector<u8>& bytes, std::size_t) override { bytes = next(); }
    bool done() const { return at_ == saved_.size(); }

  protected:
    void integer(std::string_view, u64& value, unsigned) override { value = load_le<u64>(next().data()); }
    void bytes(std::string_view, void* to, std::size_t length) override {
        std::memcpy(to, next().data(), length);
    }

  private:
    const std::vector<u8>& next() {
        if (done()) throw Error("the saved state ends early");
        return saved_[at_++].second;
    }
    const Saved& saved_;
    std::size_t at_ = 0;
};

Saved save(VirtioMmio& device) {
    Saver saver;
    device.visit_state(saver);
    return saver.saved;
}

std::unique_ptr<VirtioDevice> make_nic(std::shared_ptr<network::Port> port, Executor& executor) {
    VirtioNet::Options options;
    options.mac = {2, 0, 0, 0, 0, 1};
    return std::make_unique<VirtioNet>("virtio-net0", std::move(port), executor, options);
}

std::unique_ptr<VirtioDevice> make_nic(network::Switch& lan, Executor& executor) {
    return make_nic(lan.add_port("nic"), executor);
}

void a_nic_moves_to_another_machine_with_what_waits() {
    const auto lan = network::Switch::create();
    network::EndPoint peer(lan->add_port("peer"));
    DeferredExecutor here([] {}), there([] {});
    memory::GuestRam ram(ram_base, 4 * MiB), other_ram(ram_base, 4 * MiB);
    Line line, other_line;
    VirtioMmio nic("virtio-net0", make_nic(*lan, here), memory::DmaView(ram), InterruptLine(line, 1));
    VirtioMmio other("virtio-net0", make_nic(*lan, there), memory::DmaView(other_ram),
                     InterruptLine(other_line, 1));

    std::vector<u8> frame(60, 7);
    frame[0] = 2;
    frame[6] = 2;
    frame[7] = 9;  // not its own destination
    Driver driver(ram, nic);
    driver.start(net_mrg_rxbuf | net_ctrl_vq, 3);
    peer.send(frame);
    peer.send(frame);
    here.drain();  // no buffers: both wait
    driver.add(0, {{buffers, 100, true}});
    driver.kick(0);  // and so does the work
    nic.pause();

    const Saved saved = save(nic);
    std::memcpy(other_ram.data(), ram.data(), ram.size());
    Loader loader(saved);
    other.visit_state(loader);
    CHECK(loader.done());
    CHECK(save(other) == saved);

    other.resume();
    there.drain();
    Driver moved(other_ram, other);
    moved.queues = driver.queues;
    CHECK(moved.used(0) == 72);
    CHECK(other_line.level);
    moved.add(0, {{buffers, 100, true}});
    moved.add(0, {{buffers, 100, true}});
    moved.kick(0);
    peer.send(frame);  // the new one is plugged in
    there.drain();
    CHECK(moved.used(0) == 72);
    CHECK(moved.used(0) == 72);

    // Each field broken in turn: refused, or harmless.
    unsigned refused = 0;
    for (std::size_t field = 0; field < saved.size(); ++field) {
        for (const u8 value : {0xff, 0x80, 0x03}) {
            Saved broken = saved;
            for (u8& byte : broken[field].second) byte = value;
            VirtioMmio victim("virtio-net0", make_nic(*lan, there), memory::DmaView(other_ram),
                              InterruptLine(line, 1));
            try {
                Loader again(broken);
                victim.visit_state(again);
                victim.resume();
                peer.send(frame);
                there.drain();
            } catch (const Error&) {
                ++refused;
            }
        }
    }
    CHECK(refused > 20);
}

// A console that goes on in another machine hears what is typed there, and nothing has changed on the way.
void a_console_moves_to_another_machine() {
    DeferredExecutor here([] {}), there([] {});
    memory::GuestRam ram(ram_base, 4 * MiB), other_ram(ram_base, 4 * MiB);
    Line line, other_line;
    const auto port = std::make_shared<devices::ConsolePort>("hvc"),
               other_port = std::make_shared<devices::ConsolePort>("hvc");
    const auto make = [](auto& from, Executor& executor) {
        return std::make_unique<VirtioConsole>("virtio-console0", from, executor);
    };
    VirtioMmio console("virtio-console0", make(port, here), memory::DmaView(ram), InterruptLine(line, 1));
    VirtioMmio other("virtio-console0", make(other_port, there), memory::DmaView(other_ram),
                     InterruptLine(other_line, 1));
    Driver driver(ram, console);
    driver.start(0, 2);
    driver.add(0, {{buffers, 16, true}});
    driver.kick(0);
    here.drain();
    console.pause();

    Saved saved = save(console);
    std::memcpy(other_ram.data(), ram.data(), ram.size());
    const auto load = [&] {
        other.pause();
        Loader loader(saved);
        other.visit_state(loader);
        CHECK(loader.done());
    };
    load();
    CHECK(save(other) == saved);
    // Typed in the moment between the device's part of the state and the port's.
    port->send(std::vector<u8>{'h', 'i'});
    Saver saver;
    port->visit_state(saver);
    Loader loader(saver.saved);
    other_port->visit_state(loader);
    other.resume();
    there.drain();
    Driver moved(other_ram, other);
    moved.queues = driver.queues;
    CHECK(moved.used(0) == 2);
    CHECK(other_line.level);
    // And what is typed later.
    moved.add(0, {{buffers, 16, true}});
    other_port->send(std::vector<u8>{'!'});
    there.drain();
    CHECK(moved.used(0) == 1);

    // The line is what InterruptStatus says.
    saved = save(console);
    for (auto& [name, bytes] : saved) {
        if (name.ends_with(".interrupt_status")) bytes[0] = 0xfc;
    }
    load();
    CHECK(!other_line.level && moved.read(interrupt_status) == 0);
}

void features_that_do_not_go_together_are_refused() {
    const auto lan = network::Switch::create();
    DeferredExecutor executor([] {});
    memory::GuestRam ram(ram_base, 4 * MiB);
    Line line;
    VirtioMmio nic("virtio-net0", make_nic(*lan, executor), memory::DmaView(ram), InterruptLine(line, 1));
    Driver(ram, nic).start(net_ctrl_vq | net_guest_announce, 3);
    Saved saved = save(nic);
    for (auto& [name, bytes] : saved) {
        if (name.ends_with(".accepted_features"))
            store_le<u64>(bytes.data(), load_le<u64>(bytes.data()) & ~net_ctrl_vq);
    }
    bool refused = false;
    try {
        Loader loader(saved);
        nic.visit_state(loader);
    } catch (const StateError&) {
        refused = true;
    }
    CHECK(refused);
}

void link_and_announcement_are_told() {
    const auto lan = network::Switch::create();
    network::EndPoint peer(lan->add_port("peer"));
    const auto port = lan->add_port("nic");
    ThreadExecutor executor;
    memory::GuestRam ram(ram_base, 4 * MiB);
    Line line;
    VirtioMmio mmio("virtio-net0", make_nic(port, executor), memory::DmaView(ram), InterruptLine(line, 1));
    auto& nic = dynamic_cast<VirtioNet&>(*mmio.device());
    Driver driver(ram, mmio);
    driver.start(net_status | net_ctrl_vq | net_guest_announce, 3);
    const auto link_status = [&] { return driver.read(0x104) >> 16; };
    const u32 generation = driver.read(0xfc);
    CHECK(link_status() == 1);
    port->set_link(false);
    executor.drain();
    CHECK(link_status() == 0 && driver.read(interrupt_status) == 2 && line.level);
    CHECK(driver.read(0xfc) != generation);
    port->set_link(true);
    executor.drain();
    nic.announce();
    CHECK(link_status() == 3);

    CHECK(driver.dma.store<u8>(buffers, 3));  // class ANNOUNCE, command ACK
    CHECK(driver.dma.store<u8>(buffers + 1, 0));
    driver.add(2, {{buffers, 2, false}, {buffers + 16, 1, true}});
    driver.kick(2);
    CHECK(driver.wait(2) == 1);
    CHECK(*driver.dma.load<u8>(buffers + 16) == 0);
    CHECK(link_status() == 1);
}

}  // namespace

int main() {
    reset_waits_for_work_in_flight();
    a_queue_that_ends_waits_too();
    a_reset_with_a_quick_disk_needs_no_polling();
    pausing_leaves_buffers_in_the_ring();
    work_may_wait_for_the_run_loop();
    host_errors_become_status_bytes();
    writes_are_durable_for_a_driver_that_cannot_flush();
    a_device_behind_an_iommu_takes_no_driver_that_does_not_know();
    a_device_of_its_own_offers_no_access_platform();
    a_nic_moves_to_another_machine_with_what_waits();
    a_console_moves_to_another_machine();
    features_that_do_not_go_together_are_refused();
    link_and_announcement_are_told();
    return checks.close();
}

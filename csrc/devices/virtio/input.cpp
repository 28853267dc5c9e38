#include "devices/virtio/input.h"

#include <algorithm>
#include <string_view>

#include "base/bits.h"
#include "devices/virtio/iovecs.h"

namespace wirt::devices::virtio {

namespace {
constexpr unsigned eventq = 0;
constexpr unsigned statusq = 1;

// struct virtio_input_config (5.8.4)
constexpr u64 config_select = 0, config_subsel = 1, config_size = 2, config_union = 8;
enum : u8 {
    VIRTIO_INPUT_CFG_ID_NAME = 0x01,
    VIRTIO_INPUT_CFG_ID_SERIAL = 0x02,
    VIRTIO_INPUT_CFG_ID_DEVIDS = 0x03,
    VIRTIO_INPUT_CFG_EV_BITS = 0x11,
    VIRTIO_INPUT_CFG_ABS_INFO = 0x12,
};

// linux/input-event-codes.h and linux/input.h, whose numbers the specification takes over (5.8.2).
constexpr u16 EV_KEY = 0x01, EV_REL = 0x02, EV_ABS = 0x03, EV_LED = 0x11, EV_REP = 0x14;
constexpr u16 KEY_ESC = 1, KEY_MICMUTE = 248;
constexpr u16 BTN_LEFT = 0x110, BTN_RIGHT = 0x111, BTN_MIDDLE = 0x112, BTN_SIDE = 0x113, BTN_EXTRA = 0x114;
constexpr u16 REL_HWHEEL = 0x06, REL_WHEEL = 0x08;
constexpr u16 ABS_X = 0x00, ABS_Y = 0x01;
constexpr u16 LED_NUML = 0x00, LED_CAPSL = 0x01, LED_SCROLLL = 0x02;
constexpr u16 REP_DELAY = 0x00, REP_PERIOD = 0x01;
constexpr u16 BUS_VIRTUAL = 0x06;
constexpr u16 vendor = 0x1af4;

constexpr std::size_t event_bytes = 8;  // struct virtio_input_event (5.8.6)
}  // namespace

struct VirtioInput::Listener {
    std::mutex mutex;
    VirtioInput* device;

    void input() {
        std::lock_guard lock(mutex);
        if (device != nullptr) device->schedule(eventq);
    }
};

VirtioInput::VirtioInput(std::string name, Kind kind, std::shared_ptr<InputPort> port, Executor& executor)
    : VirtioDevice(std::move(name), executor),
      kind_(kind),
      port_(std::move(port)),
      listener_(std::make_shared<Listener>()) {
    port_->on_input([listener = listener_] { listener->input(); });
}

VirtioInput::~VirtioInput() {
    shutdown();
}

void VirtioInput::listen() {
    std::lock_guard lock(listener_->mutex);
    listener_->device = this;
}

void VirtioInput::activate() {
    listen();
    // Events may have been waiting since before there was a driver.
    schedule(eventq);
}

void VirtioInput::reset() {
    config_ = {};
}

void VirtioInput::shutdown() {
    std::lock_guard lock(listener_->mutex);
    listener_->device = nullptr;
}

void VirtioInput::write_config(u64 offset, std::span<const u8> bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (offset + i == config_select || offset + i == config_subsel) config_[offset + i] = bytes[i];
    }
    answer();
}

void VirtioInput::put_bits(std::initializer_list<u16> codes) {
    u8 size = 0;
    for (const u16 code : codes) {
        config_[config_union + code / 8] |= static_cast<u8>(1u << (code % 8));
        size = std::max(size, static_cast<u8>(code / 8 + 1));
    }
    config_[config_size] = size;
}

// 5.8.5.2: what is not there has size 0, and the rest of the union is zero.
void VirtioInput::answer() {
    const u8 select = config_[config_select];
    const u8 subsel = config_[config_subsel];
    u8* const out = &config_[config_union];
    std::fill(config_.begin() + config_size, config_.end(), u8{0});
    const auto text = [&](std::string_view content) {
        std::copy(content.begin(), content.end(), out);
        config_[config_size] = static_cast<u8>(content.size());
    };
    const bool keyboard = kind_ == Kind::keyboard;
    switch (select) {
        case VIRTIO_INPUT_CFG_ID_NAME:
            return text(keyboard ? "Wirt keyboard" : "Wirt tablet");
        case VIRTIO_INPUT_CFG_ID_SERIAL:
            return text(name());
        case VIRTIO_INPUT_CFG_ID_DEVIDS: {
            const u16 ids[] = {BUS_VIRTUAL, vendor, static_cast<u16>(keyboard ? 1 : 2), 1};
            for (unsigned i = 0; i < 4; ++i) store_le<u16>(out + 2 * i, ids[i]);
            config_[config_size] = sizeof ids;
            return;
        }
        case VIRTIO_INPUT_CFG_EV_BITS:
            if (keyboard) {
                if (subsel == EV_KEY) {
                    for (u16 code = KEY_ESC; code <= KEY_MICMUTE; ++code) put_bits({code});
                    config_[config_size] = KEY_MICMUTE / 8 + 1;
                }
                if (subsel == EV_LED) put_bits({LED_NUML, LED_CAPSL, LED_SCROLLL});
                // The driver repeats keys by itself.
                if (subsel == EV_REP) put_bits({REP_DELAY, REP_PERIOD});
                return;
            }
            if (subsel == EV_KEY) put_bits({BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA});
            if (subsel == EV_REL) put_bits({REL_HWHEEL, REL_WHEEL});
            if (subsel == EV_ABS) put_bits({ABS_X, ABS_Y});
            return;
        case VIRTIO_INPUT_CFG_ABS_INFO:
            if (keyboard || (subsel != ABS_X && subsel != ABS_Y)) return;
            store_le<u32>(out + 4, tablet_range);  // struct virtio_input_absinfo: min, max, fuzz, flat, res
            config_[config_size] = 20;
            return;
        default:
            return;
    }
}

void VirtioInput::process(unsigned work) {
    if (work == eventq) {
        send_events();
    } else {
        take_status();
    }
}

void VirtioInput::send_events() {
    std::lock_guard lock(core().mutex());
    Chain chain;
    unsigned budget = task_budget;
    while (port_->has_events() && take(eventq, chain)) {
        u32 written = 0;
        InputEvent event;
        // 5.8.6.1: a buffer holds one event. One without room goes back empty, and the event waits.
        if (chain.writable_bytes >= event_bytes && port_->take(event)) {
            u8 bytes[event_bytes];
            store_le<u16>(bytes, event.type);
            store_le<u16>(bytes + 2, event.code);
            store_le<u32>(bytes + 4, event.value);
            written = static_cast<u32>(scatter(chain.writable, 0, bytes, event_bytes));
        }
        core().push(eventq, chain, written);
        DeviceCounters::add(count().operations);
        DeviceCounters::add(count().bytes_moved, written);
        DeviceCounters::add(count().bytes_copied, written);
        if (--budget == 0) {
            schedule(eventq);
            break;
        }
    }
    core().notify_driver(eventq);
}

void VirtioInput::take_status() {
    std::lock_guard lock(core().mutex());
    Chain chain;
    unsigned budget = task_budget;
    while (take(statusq, chain)) {
        u8 bytes[event_bytes];
        if (gather(chain.readable, 0, bytes, event_bytes) == event_bytes && load_le<u16>(bytes) == EV_LED) {
            port_->set_led(load_le<u16>(bytes + 2), load_le<u32>(bytes + 4) != 0);
        }
        core().push(statusq, chain, 0);
        DeviceCounters::add(count().operations);
        if (--budget == 0) {
            schedule(statusq);
            break;
        }
    }
    core().notify_driver(statusq);
}

void VirtioInput::visit_state(StateVisitor& v) {
    v.section("virtio-input", 1);
    v.field("select", config_[config_select]);
    v.field("subsel", config_[config_subsel]);
    if (!v.loading()) return;
    answer();
    // As for the console.
    if (core().has_queue(eventq)) listen();
}

}  // namespace wirt::devices::virtio

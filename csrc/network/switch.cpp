// A learning Ethernet switch (IEEE 802.1Q, 8.7 and 8.8, without VLANs and spanning tree).
//
// Untrusted input: every frame, its source address above all. A port can make the switch remember only so
// many stations, and what it sends pushes out no one else's.
#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "network/ethernet.h"

namespace wirt::network {

namespace {

constexpr std::size_t stations_per_port = 256;
// An entry is forgotten when this many frames went by without one from its station. Frames and not seconds,
// so that the switch asks no clock and behaves the same in a deterministic machine.
constexpr u64 age_limit = 1'000'000;

u64 address_key(const u8* address) {
    u64 key = 0;
    for (int i = 0; i < 6; ++i) key = key << 8 | address[i];
    return key;
}

// 01-80-C2-00-00-00 to -0F are between neighbours and never forwarded (IEEE 802.1Q, 8.6.3).
bool link_local(u64 key) {
    return (key & ~u64{0xf}) == 0x0180c2000000;
}

constexpr u64 group_bit = u64{1} << 40;

class LearningSwitch;

class SwitchPort final : public Port {
  public:
    SwitchPort(std::shared_ptr<LearningSwitch> owner, u64 id, std::string name)
        : owner_(std::move(owner)), id_(id), name_(std::move(name)) {}

    void send(FramePtr frame) override;
    void attach(std::function<void(FramePtr)> receiver, OffloadCapabilities capabilities) override {
        // The lock is the one calls are made under: none is under way once we hold it.
        std::lock_guard lock(mutex_);
        receiver_ = std::move(receiver);
        capabilities_ = capabilities;
    }
    void set_capabilities(OffloadCapabilities capabilities) override {
        std::lock_guard lock(mutex_);
        capabilities_ = capabilities;
    }
    PortStats stats() const override {
        PortStats stats;
        stats.sent_frames = sent_frames_.load(std::memory_order_relaxed);
        stats.sent_bytes = sent_bytes_.load(std::memory_order_relaxed);
        stats.received_frames = received_frames_.load(std::memory_order_relaxed);
        stats.received_bytes = received_bytes_.load(std::memory_order_relaxed);
        stats.dropped_frames = dropped_frames_.load(std::memory_order_relaxed);
        return stats;
    }

    bool link() const override { return link_.load(std::memory_order_relaxed); }
    void set_link(bool up) override {
        std::lock_guard lock(mutex_);
        if (link_.exchange(up, std::memory_order_relaxed) != up && link_listener_) link_listener_();
    }
    void on_link_change(std::function<void()> listener) override {
        std::lock_guard lock(mutex_);
        link_listener_ = std::move(listener);
    }

    u64 id() const { return id_; }
    void deliver(const FramePtr& frame) {
        std::lock_guard lock(mutex_);
        if (!receiver_ || !link()) return count_drop();
        const std::vector<FramePtr> pieces = adapt(frame, capabilities_);
        if (pieces.empty()) count_drop();
        for (const FramePtr& piece : pieces) {
            add(received_frames_, 1);
            add(received_bytes_, piece->bytes.size());
            receiver_(piece);
        }
    }

  private:
    static void add(std::atomic<u64>& counter, u64 amount) {
        counter.fetch_add(amount, std::memory_order_relaxed);
    }
    void count_drop() { add(dropped_frames_, 1); }

    const std::shared_ptr<LearningSwitch> owner_;
    const u64 id_;
    const std::string name_;
    std::mutex mutex_;
    std::function<void(FramePtr)> receiver_;
    OffloadCapabilities capabilities_;
    std::function<void()> link_listener_;
    std::atomic<bool> link_{true};
    std::atomic<u64> sent_frames_{0}, sent_bytes_{0}, received_frames_{0}, received_bytes_{0},
        dropped_frames_{0};
};

class LearningSwitch final : public Switch {
  public:
    std::shared_ptr<Port> add_port(std::string name) override {
        std::lock_guard lock(mutex_);
        auto port = std::make_shared<SwitchPort>(std::static_pointer_cast<LearningSwitch>(shared_from_this()),
                                                 next_id_++, std::move(name));
        ports_.push_back({port->id(), port});
        return port;
    }

    std::size_t stations() const override {
        std::lock_guard lock(mutex_);
        return stations_.size();
    }

    // False when the frame may not be forwarded.
    bool forward(const FramePtr& frame, u64 from) {
        // Declared before the lock: what may be the last reference to a port is dropped after it.
        std::vector<std::shared_ptr<SwitchPort>> targets;
        {
            std::lock_guard lock(mutex_);
            ++clock_;
            const u64 source = address_key(&frame->bytes[6]);
            const u64 destination = address_key(&frame->bytes[0]);
            // 8.8: a group address as the source teaches nothing, and is no station's.
            if (source & group_bit || link_local(destination)) return false;
            learn(source, from);
            select(destination, from, targets);
        }
        for (const auto& port : targets) port->deliver(frame);
        return true;
    }

  private:
    struct Station {
        u64 port;
        u64 last_seen;
        std::list<u64>::iterator position;  // in the port's list, least recently heard first
    };
    struct Plug {
        u64 id;
        std::weak_ptr<SwitchPort> port;
        std::list<u64> heard = {};
    };

    Plug* plug(u64 id) {
        const auto found =
            std::find_if(ports_.begin(), ports_.end(), [id](const Plug& p) { return p.id == id; });
        return found == ports_.end() ? nullptr : &*found;
    }

    void forget(u64 address) {
        const auto found = stations_.find(address);
        if (Plug* owner = plug(found->second.port)) owner->heard.erase(found->second.position);
        stations_.erase(found);
    }

    void learn(u64 address, u64 from) {
        Plug* here = plug(from);
        const auto known = stations_.find(address);
        if (known != stations_.end() && known->second.port == from) {
            known->second.last_seen = clock_;
            here->heard.splice(here->heard.end(), here->heard, known->second.position);
            return;
        }
        if (known != stations_.end()) forget(address);
        // A port that fills its share forgets its own stations, not those of its neighbours.
        if (here->heard.size() >= stations_per_port) forget(here->heard.front());
        here->heard.push_back(address);
        stations_[address] = {from, clock_, std::prev(here->heard.end())};
    }

    void select(u64 destination, u64 from, std::vector<std::shared_ptr<SwitchPort>>& targets) {
        if (!(destination & group_bit)) {
            const auto known = stations_.find(destination);
            if (known != stations_.end() && clock_ - known->second.last_seen <= age_limit) {
                if (known->second.port == from) return;
                const Plug* there = plug(known->second.port);
                if (auto port = there == nullptr ? nullptr : there->port.lock()) {
                    targets.push_back(std::move(port));
                    return;
                }
            }
        }
        for (auto plugged = ports_.begin(); plugged != ports_.end();) {
            auto port = plugged->port.lock();
            if (!port) {
                // Unplugged: its stations go with it.
                for (const u64 address : plugged->heard) stations_.erase(address);
                plugged = ports_.erase(plugged);
                continue;
            }
            if (plugged->id != from) targets.push_back(std::move(port));
            ++plugged;
        }
    }

    mutable std::mutex mutex_;
    std::list<Plug> ports_;
    std::unordered_map<u64, Station> stations_;
    u64 clock_ = 0;  // frames seen
    u64 next_id_ = 0;
};

void SwitchPort::send(FramePtr frame) {
    if (!link() || !offload_valid(*frame) || !owner_->forward(frame, id_)) return count_drop();
    add(sent_frames_, 1);
    add(sent_bytes_, frame->bytes.size());
}

}  // namespace

std::shared_ptr<Switch> Switch::create() {
    return std::make_shared<LearningSwitch>();
}

}  // namespace wirt::network

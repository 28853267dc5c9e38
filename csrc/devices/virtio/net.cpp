#include "devices/virtio/net.h"

#include <algorithm>

#include "base/bits.h"
#include "base/error.h"
#include "devices/virtio/iovecs.h"

namespace wirt::devices::virtio {

namespace {

using network::Frame;
using network::FramePtr;

// 5.1.3
constexpr u64 feature_csum = u64{1} << 0;
constexpr u64 feature_guest_csum = u64{1} << 1;
constexpr u64 feature_ctrl_guest_offloads = u64{1} << 2;
constexpr u64 feature_mtu = u64{1} << 3;
constexpr u64 feature_mac = u64{1} << 5;
constexpr u64 feature_guest_tso4 = u64{1} << 7;
constexpr u64 feature_guest_tso6 = u64{1} << 8;
constexpr u64 feature_guest_ecn = u64{1} << 9;
constexpr u64 feature_guest_ufo = u64{1} << 10;
constexpr u64 feature_host_tso4 = u64{1} << 11;
constexpr u64 feature_host_tso6 = u64{1} << 12;
constexpr u64 feature_host_ecn = u64{1} << 13;
constexpr u64 feature_host_ufo = u64{1} << 14;
constexpr u64 feature_mrg_rxbuf = u64{1} << 15;
constexpr u64 feature_status = u64{1} << 16;
constexpr u64 feature_ctrl_vq = u64{1} << 17;
constexpr u64 feature_ctrl_rx = u64{1} << 18;
constexpr u64 feature_ctrl_vlan = u64{1} << 19;
constexpr u64 feature_ctrl_rx_extra = u64{1} << 20;
constexpr u64 feature_guest_announce = u64{1} << 21;
constexpr u64 feature_mq = u64{1} << 22;
constexpr u64 feature_ctrl_mac_addr = u64{1} << 23;

constexpr u64 guest_offload_features =
    feature_guest_csum | feature_guest_tso4 | feature_guest_tso6 | feature_guest_ecn | feature_guest_ufo;
constexpr u64 host_offload_features =
    feature_csum | feature_host_tso4 | feature_host_tso6 | feature_host_ecn | feature_host_ufo;

// 5.1.3.1: a feature on the left needs one of those on the right.
struct Requirement {
    u64 feature;
    u64 any_of;
};
constexpr Requirement requirements[] = {
    {feature_guest_tso4, feature_guest_csum},
    {feature_guest_tso6, feature_guest_csum},
    {feature_guest_ecn, feature_guest_tso4 | feature_guest_tso6},
    {feature_guest_ufo, feature_guest_csum},
    {feature_host_tso4, feature_csum},
    {feature_host_tso6, feature_csum},
    {feature_host_ecn, feature_host_tso4 | feature_host_tso6},
    {feature_host_ufo, feature_csum},
    {feature_ctrl_rx, feature_ctrl_vq},
    {feature_ctrl_vlan, feature_ctrl_vq},
    {feature_ctrl_rx_extra, feature_ctrl_vq},
    {feature_guest_announce, feature_ctrl_vq},
    {feature_mq, feature_ctrl_vq},
    {feature_ctrl_mac_addr, feature_ctrl_vq},
    {feature_ctrl_guest_offloads, feature_ctrl_vq},
};

// struct virtio_net_config (5.1.4)
constexpr u64 config_mac = 0;
constexpr u64 config_status = 6;
constexpr u64 config_max_virtqueue_pairs = 8;
constexpr u64 config_mtu = 10;
constexpr u16 status_link_up = 1;
constexpr u16 status_announce = 2;

// struct virtio_net_hdr (5.1.6)
struct Header {
    u8 flags;
    u8 gso_type;
    u16 hdr_len;
    u16 gso_size;
    u16 csum_start;
    u16 csum_offset;
    u16 num_buffers;
};
static_assert(sizeof(Header) == 12);
constexpr u8 flag_needs_csum = 1;
constexpr u8 flag_data_valid = 2;

// Control commands (5.1.6.5).
enum : u8 {
    CTRL_RX = 0,
    CTRL_MAC = 1,
    CTRL_MAC_TABLE_SET = 0,
    CTRL_MAC_ADDR_SET = 1,
    CTRL_VLAN = 2,
    CTRL_VLAN_ADD = 0,
    CTRL_VLAN_DEL = 1,
    CTRL_ANNOUNCE = 3,
    CTRL_ANNOUNCE_ACK = 0,
    CTRL_MQ = 4,
    CTRL_MQ_VQ_PAIRS_SET = 0,
    CTRL_GUEST_OFFLOADS = 5,
    CTRL_GUEST_OFFLOADS_SET = 0,
};
constexpr u8 ack_ok = 0;
constexpr u8 ack_err = 1;
// The largest command there is sets MAC tables; far more entries than the filter keeps fit in this.
constexpr std::size_t command_limit = 64 * KiB;

constexpr unsigned receive_work = 0;
constexpr unsigned link_work = 63;
constexpr unsigned receiveq(unsigned pair) {
    return 2 * pair;
}
constexpr unsigned pair_of(unsigned queue) {
    return queue / 2;
}

// What one task copies with the device mutex held.
constexpr std::size_t transmit_bytes_limit = 256 * KiB;

// An Ethernet header with one VLAN tag.
constexpr std::size_t link_overhead = 18;

u64 needed_host_feature(u8 gso_type) {
    const u64 ecn = gso_type & network::gso_ecn ? feature_host_ecn : 0;
    switch (gso_type & ~network::gso_ecn) {
        case network::gso_tcpv4:
            return ecn | feature_host_tso4;
        case network::gso_tcpv6:
            return ecn | feature_host_tso6;
        case network::gso_udp:
            return ecn | feature_host_ufo;
        default:
            return ecn;
    }
}

// Up to the end of the transport header, which begins where the checksum does.
u16 headers_length(const Frame& frame) {
    const std::size_t start = frame.offload.csum_start;
    std::size_t length = 8;
    if ((frame.offload.gso_type & ~network::gso_ecn) != network::gso_udp) {
        length = start + 12 < frame.bytes.size() ? frame.bytes[start + 12] / 16 * 4 : 20;
    }
    return static_cast<u16>(std::min({start + length, frame.bytes.size(), std::size_t{0xffff}}));
}

}  // namespace

VirtioNet::VirtioNet(std::string name, std::shared_ptr<network::Port> port, Executor& executor,
                     Options options)
    : VirtioDevice(std::move(name), executor), port_(std::move(port)), options_(options), mac_(options.mac) {
    auto require = [](bool condition, const char* what) {
        if (!condition) throw ConfigError(std::string("virtio-net: ") + what);
    };
    require(!(options_.mac[0] & 1) && options_.mac != network::MacAddress{},
            "the MAC address must be a unicast address, such as 52:54:00:12:34:56");
    require(options_.mtu >= 68, "the MTU is 68 to 65535 bytes");
    require(options_.queue_pairs >= 1 && options_.queue_pairs <= 16, "give it 1 to 16 queue pairs");
    require(is_power_of_two(options_.queue_size) && options_.queue_size >= 64 && options_.queue_size <= 1024,
            "the queue size is a power of two from 64 to 1024");
    link_up_ = port_ != nullptr && port_->link();
    store_config();
}

VirtioNet::~VirtioNet() {
    shutdown();
}

u64 VirtioNet::features() const {
    u64 features = feature_mac | feature_status | feature_mtu | feature_mrg_rxbuf | feature_ctrl_vq |
                   feature_ctrl_rx | feature_ctrl_vlan | feature_ctrl_rx_extra | feature_guest_announce |
                   feature_ctrl_mac_addr;
    if (options_.queue_pairs > 1) features |= feature_mq;
    if (options_.offloads)
        features |= host_offload_features | guest_offload_features | feature_ctrl_guest_offloads;
    return features;
}

std::span<const FeatureName> VirtioNet::feature_names() const {
    static constexpr FeatureName names[] = {
        {feature_csum, "CSUM"},
        {feature_guest_csum, "GUEST_CSUM"},
        {feature_ctrl_guest_offloads, "CTRL_GUEST_OFFLOADS"},
        {feature_mtu, "MTU"},
        {feature_mac, "MAC"},
        {feature_guest_tso4, "GUEST_TSO4"},
        {feature_guest_tso6, "GUEST_TSO6"},
        {feature_guest_ecn, "GUEST_ECN"},
        {feature_guest_ufo, "GUEST_UFO"},
        {feature_host_tso4, "HOST_TSO4"},
        {feature_host_tso6, "HOST_TSO6"},
        {feature_host_ecn, "HOST_ECN"},
        {feature_host_ufo, "HOST_UFO"},
        {feature_mrg_rxbuf, "MRG_RXBUF"},
        {feature_status, "STATUS"},
        {feature_ctrl_vq, "CTRL_VQ"},
        {feature_ctrl_rx, "CTRL_RX"},
        {feature_ctrl_vlan, "CTRL_VLAN"},
        {feature_ctrl_rx_extra, "CTRL_RX_EXTRA"},
        {feature_guest_announce, "GUEST_ANNOUNCE"},
        {feature_mq, "MQ"},
        {feature_ctrl_mac_addr, "CTRL_MAC_ADDR"},
    };
    return names;
}

bool VirtioNet::accepts(u64 features) const {
    return std::all_of(std::begin(requirements), std::end(requirements), [features](const Requirement& r) {
        return !(features & r.feature) || (features & r.any_of);
    });
}

// 5.1.2: the control queue comes after the last pair there may be, which is the first without MQ.
unsigned VirtioNet::control_queue() const {
    return core().negotiated(feature_mq) ? 2 * options_.queue_pairs : 2;
}

std::span<const u8> VirtioNet::config() {
    // A driver that runs is told of a change before it sees one.
    if (!core().has_queue(receiveq(0))) {
        link_up_ = port_ != nullptr && port_->link();
        store_config();
    }
    return config_;
}

void VirtioNet::store_config() {
    std::copy(mac_.begin(), mac_.end(), &config_[config_mac]);
    store_le<u16>(&config_[config_status],
                  (link_up_ ? status_link_up : 0) | (announce_ ? status_announce : 0));
    store_le<u16>(&config_[config_max_virtqueue_pairs], static_cast<u16>(options_.queue_pairs));
    store_le<u16>(&config_[config_mtu], options_.mtu);
}

// --- life cycle ---

void VirtioNet::activate() {
    guest_offloads_ = core().driver_features() & guest_offload_features;
    connect();
}

void VirtioNet::connect() {
    if (!port_) return;
    update_capabilities();
    port_->attach([this](FramePtr frame) { accept(std::move(frame)); }, capabilities_);
    port_->on_link_change([this] { schedule(link_work); });
    if (port_->link() != link_up_) schedule(link_work);
}

void VirtioNet::reset() {
    shutdown();
    waiting_.clear();
    mac_ = options_.mac;
    announce_ = false;
    active_pairs_ = 1;
    guest_offloads_ = 0;
    filter_.reset();
    flows_.reset();
    store_config();
}

void VirtioNet::shutdown() {
    if (!port_) return;
    port_->attach(nullptr, {});
    port_->on_link_change(nullptr);
}

void VirtioNet::update_capabilities() {
    auto on = [this](u64 feature) { return (guest_offloads_ & feature) != 0; };
    capabilities_.checksum = on(feature_guest_csum);
    capabilities_.tso4 = on(feature_guest_tso4);
    capabilities_.tso6 = on(feature_guest_tso6);
    capabilities_.ufo = on(feature_guest_ufo);
    capabilities_.ecn = on(feature_guest_ecn);
    const bool large = capabilities_.tso4 || capabilities_.tso6 || capabilities_.ufo;
    capabilities_.largest_frame = large ? network::frame_limit : options_.mtu + link_overhead;
}

void VirtioNet::update_link() {
    std::lock_guard lock(core().mutex());
    const bool up = port_ != nullptr && port_->link();
    if (link_up_ == up) return;
    link_up_ = up;
    store_config();
    core().config_changed();
}

void VirtioNet::announce() {
    std::lock_guard lock(core().mutex());
    // 5.1.6.5.4: only a driver that can acknowledge is asked.
    if (!core().negotiated(feature_guest_announce | feature_status)) return;
    announce_ = true;
    store_config();
    core().config_changed();
}

void VirtioNet::process(unsigned work) {
    if (work == link_work) return update_link();
    bool is_control;
    {
        std::lock_guard lock(core().mutex());
        is_control = work == control_queue();
    }
    if (is_control) {
        control(work);
    } else if (work % 2 == 1) {
        transmit(work);
    } else {
        receive();
    }
}

// --- transmission (5.1.6.2) ---

FramePtr VirtioNet::take_frame(const Chain& chain) const {
    Header header;
    const u64 length = chain.readable_bytes - std::min<u64>(chain.readable_bytes, sizeof header);
    if (length < network::ethernet_header_length || length > network::frame_limit) return nullptr;
    gather(chain.readable, 0, &header, sizeof header);
    const bool needs_checksum = header.flags & flag_needs_csum;
    // 5.1.6.2.1: what was not negotiated is not asked for.
    if (needs_checksum && !core().negotiated(feature_csum)) return nullptr;
    if (!core().negotiated(needed_host_feature(header.gso_type))) return nullptr;

    auto frame = std::make_shared<Frame>();
    frame->offload.needs_checksum = needs_checksum;
    frame->offload.gso_type = header.gso_type;
    frame->offload.gso_size = header.gso_size;
    frame->offload.csum_start = needs_checksum ? header.csum_start : 0;
    frame->offload.csum_offset = needs_checksum ? header.csum_offset : 0;
    frame->bytes.resize(length);
    gather(chain.readable, sizeof header, frame->bytes.data(), length);
    if (!network::offload_valid(*frame)) return nullptr;
    // The driver's hdr_len is a hint that need not be true (5.1.6.2.2); the receiver is given a true one
    // (5.1.6.4.1).
    if (header.gso_type != network::gso_none) frame->offload.header_length = headers_length(*frame);
    return frame;
}

void VirtioNet::transmit(unsigned queue) {
    std::vector<FramePtr> frames;
    {
        std::lock_guard lock(core().mutex());
        // 5.1.6.5.5: the device looks at the pairs that were switched on.
        if (pair_of(queue) >= active_pairs_) return;
        Chain chain;
        std::size_t bytes = 0;
        unsigned budget = task_budget;
        while (take(queue, chain)) {
            FramePtr frame = take_frame(chain);
            core().push(queue, chain, 0);
            if (frame && link_up_) {
                bytes += frame->bytes.size();
                flows_.sent(frame->bytes, pair_of(queue));
                DeviceCounters::add(count().operations);
                frames.push_back(std::move(frame));
            } else {
                drop();
            }
            if (--budget == 0 || bytes >= transmit_bytes_limit) {
                schedule(queue);
                break;
            }
        }
        DeviceCounters::add(count().bytes_moved, bytes);
        DeviceCounters::add(count().bytes_copied, bytes);
        core().notify_driver(queue);
    }
    if (!port_) return;
    for (FramePtr& frame : frames) port_->send(std::move(frame));
}

// --- reception (5.1.6.3, 5.1.6.4) ---

void VirtioNet::accept(FramePtr frame) {
    if (!waiting_.push(std::move(frame))) return drop();
    schedule(receive_work);
}

void VirtioNet::receive() {
    std::lock_guard lock(core().mutex());
    u64 filled = 0;  // one bit a queue pair
    unsigned budget = task_budget;
    while (core().live()) {
        const FramePtr frame = waiting_.first();
        if (!frame) break;
        if (!link_up_ || !filter_.passes(frame->bytes, mac_, core().negotiated(feature_ctrl_vlan))) {
            waiting_.drop_first();
        } else if (auto pieces = network::adapt(frame, capabilities_);
                   pieces.size() != 1 || pieces[0] != frame) {
            // It came before the driver switched an offload off.
            waiting_.replace_first(std::move(pieces));
            continue;
        } else {
            const unsigned pair = flows_.pair_for(frame->bytes) % active_pairs_;
            if (!deliver(*frame, receiveq(pair))) break;
            waiting_.drop_first();
            filled |= u64{1} << pair;
        }
        if (--budget == 0) {
            schedule(receive_work);
            break;
        }
    }
    if (core().paused()) schedule(receive_work);
    for (unsigned pair = 0; filled >> pair; ++pair) {
        if (filled >> pair & 1) core().notify_driver(receiveq(pair));
    }
}

bool VirtioNet::deliver(const Frame& frame, unsigned queue) {
    const bool mergeable = core().negotiated(feature_mrg_rxbuf);
    const u64 length = sizeof(Header) + frame.bytes.size();
    std::size_t taken = 0;
    u64 room = 0;
    bool exhausted = false;
    while (room < length && (mergeable || taken == 0)) {
        if (buffers_.size() == taken) buffers_.emplace_back();
        if (!take(queue, buffers_[taken])) {
            exhausted = true;
            break;
        }
        room += buffers_[taken++].writable_bytes;
    }
    if (room >= length) {
        fill(frame, taken);
        core().push(queue, std::span(buffers_).first(taken), written_);
        DeviceCounters::add(count().operations);
        DeviceCounters::add(count().bytes_moved, frame.bytes.size());
        DeviceCounters::add(count().bytes_copied, frame.bytes.size());
        return true;
    }
    // With every buffer of the ring in hand no more will come: the frame can never fit.
    const bool hopeless = !exhausted || taken >= core().queue_size(queue);
    while (taken > 0) core().unpop(queue, buffers_[--taken]);
    if (hopeless) drop();
    return hopeless;
}

// Header and frame as one stream over the buffers (5.1.6.3.2): all but the last are filled.
void VirtioNet::fill(const Frame& frame, std::size_t buffers) {
    Header header{};
    const network::FrameOffload& offload = frame.offload;
    // 5.1.6.4.1: flags only with GUEST_CSUM, which the frame was adapted to.
    if (offload.needs_checksum) {
        header.flags = flag_needs_csum;
        header.csum_start = offload.csum_start;
        header.csum_offset = offload.csum_offset;
    } else if (offload.data_valid && capabilities_.checksum) {
        header.flags = flag_data_valid;
    }
    header.gso_type = offload.gso_type;
    if (offload.gso_type != network::gso_none) {
        header.hdr_len = offload.header_length;
        header.gso_size = offload.gso_size;
    }
    header.num_buffers = static_cast<u16>(buffers);

    written_.clear();
    std::size_t at = 0;  // in the stream
    for (std::size_t i = 0; i < buffers; ++i) {
        const std::vector<iovec>& to = buffers_[i].writable;
        u64 done = 0;
        if (at < sizeof header) {
            done = scatter(to, 0, reinterpret_cast<const u8*>(&header) + at, sizeof header - at);
            at += done;
        }
        if (at >= sizeof header) {
            const std::size_t from = at - sizeof header;
            const std::size_t part = scatter(to, done, frame.bytes.data() + from, frame.bytes.size() - from);
            at += part;
            done += part;
        }
        written_.push_back(static_cast<u32>(done));
    }
}

// --- control queue (5.1.6.5) ---

void VirtioNet::control(unsigned queue) {
    std::lock_guard lock(core().mutex());
    if (!core().negotiated(feature_ctrl_vq)) return;
    Chain chain;
    unsigned budget = task_budget;
    while (take(queue, chain)) {
        if (chain.writable_bytes == 0) {
            core().unpop(queue, chain);
            core().needs_reset("control command without an ack byte (5.1.6.5)");
            return;
        }
        const u8 ack = command(chain);
        scatter(chain.writable, 0, &ack, 1);
        core().push(queue, chain, 1);
        DeviceCounters::add(count().operations);
        if (--budget == 0) {
            schedule(queue);
            break;
        }
    }
    core().notify_driver(queue);
}

u8 VirtioNet::command(const Chain& chain) {
    if (chain.readable_bytes < 2 || chain.readable_bytes > command_limit) return ack_err;
    std::vector<u8> bytes(chain.readable_bytes);
    gather(chain.readable, 0, bytes.data(), bytes.size());
    const unsigned which = bytes[1];
    const std::span data = std::span<const u8>(bytes).subspan(2);
    switch (bytes[0]) {
        case CTRL_RX: {
            const bool extra = which > static_cast<unsigned>(ReceiveFilter::Mode::all_multicast);
            if (which > static_cast<unsigned>(ReceiveFilter::Mode::no_broadcast) || data.empty())
                return ack_err;
            if (!core().negotiated(extra ? feature_ctrl_rx_extra : feature_ctrl_rx)) return ack_err;
            filter_.set_mode(static_cast<ReceiveFilter::Mode>(which), data[0] != 0);
            return ack_ok;
        }
        case CTRL_MAC:
            if (which == CTRL_MAC_TABLE_SET && core().negotiated(feature_ctrl_rx)) return set_mac_table(data);
            // A group address is no station's.
            if (which == CTRL_MAC_ADDR_SET && core().negotiated(feature_ctrl_mac_addr) &&
                data.size() >= mac_.size() && !(data[0] & 1)) {
                std::copy_n(data.begin(), mac_.size(), mac_.begin());
                store_config();
                return ack_ok;
            }
            return ack_err;
        case CTRL_VLAN: {
            if (which > CTRL_VLAN_DEL || data.size() < 2 || !core().negotiated(feature_ctrl_vlan))
                return ack_err;
            const u16 id = load_le<u16>(data.data());
            if (id >= ReceiveFilter::vlan_count) return ack_err;
            filter_.set_vlan(id, which == CTRL_VLAN_ADD);
            return ack_ok;
        }
        case CTRL_ANNOUNCE:
            if (which != CTRL_ANNOUNCE_ACK || !core().negotiated(feature_guest_announce)) return ack_err;
            announce_ = false;
            store_config();
            return ack_ok;
        case CTRL_MQ: {
            if (which != CTRL_MQ_VQ_PAIRS_SET || data.size() < 2 || !core().negotiated(feature_mq))
                return ack_err;
            const unsigned pairs = load_le<u16>(data.data());
            // 5.1.6.5.5: 1 to max_virtqueue_pairs.
            if (pairs < 1 || pairs > options_.queue_pairs) return ack_err;
            active_pairs_ = pairs;
            // Doorbells of a pair that was off went unanswered.
            for (unsigned pair = 0; pair < pairs; ++pair) schedule(receiveq(pair) + 1);
            return ack_ok;
        }
        case CTRL_GUEST_OFFLOADS: {
            if (which != CTRL_GUEST_OFFLOADS_SET || data.size() < 8) return ack_err;
            if (!core().negotiated(feature_ctrl_guest_offloads)) return ack_err;
            const u64 wanted = load_le<u64>(data.data());
            // 5.1.6.5.8: a consistent subset of the offloads negotiated.
            if ((wanted & ~guest_offload_features) || !core().negotiated(wanted) || !accepts(wanted))
                return ack_err;
            guest_offloads_ = wanted;
            update_capabilities();
            if (port_) port_->set_capabilities(capabilities_);
            return ack_ok;
        }
        default:
            return ack_err;
    }
}

// Two tables, each a count and that many addresses (5.1.6.5.2). Counts are checked against the bytes there
// are.
u8 VirtioNet::set_mac_table(std::span<const u8> data) {
    std::span<const u8> tables[2];
    for (auto& table : tables) {
        if (data.size() < 4) return ack_err;
        const u64 bytes = u64{load_le<u32>(data.data())} * mac_.size();
        data = data.subspan(4);
        if (bytes > data.size()) return ack_err;
        table = data.first(bytes);
        data = data.subspan(bytes);
    }
    filter_.set_table(tables[0], tables[1]);
    return ack_ok;
}

// --- state ---

void VirtioNet::visit_state(StateVisitor& v) {
    v.section("virtio-net", 1);
    v.field("mac", mac_);
    v.field("link_up", link_up_);
    v.field("announce", announce_);
    v.field("active_pairs", active_pairs_);
    v.field("guest_offloads", guest_offloads_);
    filter_.visit_state(v);
    flows_.visit_state(v);

    if (v.loading() && (active_pairs_ < 1 || active_pairs_ > options_.queue_pairs ||
                        (guest_offloads_ & ~guest_offload_features) || !core().negotiated(guest_offloads_) ||
                        !accepts(guest_offloads_))) {
        throw StateError("the saved state of " + std::string(name()) + " is broken");
    }
    waiting_.visit_state(v);
    if (v.loading()) {
        if (!waiting_.empty() && !v.quiet()) schedule(receive_work);
        store_config();
        if (core().has_queue(receiveq(0))) {
            connect();
        } else {
            shutdown();
        }
    }
}

}  // namespace wirt::devices::virtio

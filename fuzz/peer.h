// The other end of a NIC's cable: a port of a switch, from which the script sends frames, and which sees to
// it that what arrives is what a receiver may rely on.
#pragma once

#include <algorithm>
#include <memory>

#include "base/bits.h"
#include "bench.h"
#include "network/ethernet.h"

namespace wirt::fuzz {

class Peer {
  public:
    Peer() : lan_(network::Switch::create()), port_(lan_->add_port("peer")) { set_abilities(0); }
    ~Peer() { port_->attach(nullptr, {}); }

    std::shared_ptr<network::Port> nic_port() { return lan_->add_port("nic"); }

    // Bytes of RAM from `offset` on, as many as the low 16 bits of `value` say, with the offload request in
    // the others.
    void send(memory::GuestRam& ram, const Step& step) {
        network::Frame frame;
        const u64 at = step.offset % ram.size();
        const u64 length = std::min({step.value & 0xffff, ram.size() - at, u64{network::frame_limit}});
        if (length < network::ethernet_header_length) return;
        frame.bytes.assign(ram.data() + at, ram.data() + at + length);
        frame.offload.needs_checksum = bit(step.value, 16);
        frame.offload.gso_type =
            static_cast<u8>(bits(step.value, 17, 3) | (bit(step.value, 20) ? network::gso_ecn : 0));
        frame.offload.gso_size = static_cast<u16>(bits(step.value, 21, 11));
        frame.offload.csum_start = static_cast<u16>(bits(step.value, 32, 8));
        frame.offload.csum_offset = static_cast<u16>(bits(step.value, 40, 8));
        frame.offload.header_length = static_cast<u16>(bits(step.value, 48, 16));
        // Who takes frames from a guest asks this first, so that a port is never given others.
        if (!network::offload_valid(frame)) return;
        port_->send(std::make_shared<network::Frame>(std::move(frame)));
    }

    // What the peer takes as it is, a bit each: checksum, TSO of IPv4 and IPv6, UFO, ECN, large frames.
    void set_abilities(u8 abilities) {
        network::OffloadCapabilities able;
        able.checksum = abilities & 1;
        able.tso4 = abilities & 2;
        able.tso6 = abilities & 4;
        able.ufo = abilities & 8;
        able.ecn = abilities & 16;
        if (abilities & 32) able.largest_frame = network::frame_limit;
        port_->attach([able](const network::FramePtr& frame) { inspect(*frame, able); }, able);
    }

  private:
    static void inspect(const network::Frame& frame, const network::OffloadCapabilities& able) {
        const u8 kind = frame.offload.gso_type & ~network::gso_ecn;
        FUZZ_REQUIRE(frame.bytes.size() >= network::ethernet_header_length);
        FUZZ_REQUIRE(frame.bytes.size() <= network::frame_limit);
        FUZZ_REQUIRE(network::offload_valid(frame));
        FUZZ_REQUIRE(!frame.offload.needs_checksum || able.checksum);
        FUZZ_REQUIRE(kind != network::gso_tcpv4 || able.tso4);
        FUZZ_REQUIRE(kind != network::gso_tcpv6 || able.tso6);
        FUZZ_REQUIRE(kind != network::gso_udp || able.ufo);
    }

    const std::shared_ptr<network::Switch> lan_;
    const std::shared_ptr<network::Port> port_;
};

}  // namespace wirt::fuzz

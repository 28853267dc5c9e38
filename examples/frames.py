"""Talks to a guest in Ethernet frames made by hand: asks for its address by ARP, then pings it."""

import struct

import wirt
from wirt.guest_image import guest_image

ME, MY_IP = bytes.fromhex("02 00 00 00 00 01"), bytes([10, 0, 0, 1])
ITS_IP = bytes([10, 0, 0, 2])
BROADCAST = b"\xff" * 6


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp_request() -> bytes:
    """Who has the guest's address? (RFC 826)"""
    arp = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, ME, MY_IP, bytes(6), ITS_IP)
    return BROADCAST + ME + b"\x08\x06" + arp


def echo_request(to: bytes, payload: bytes) -> bytes:
    """An ICMP echo request (RFC 792) in an IPv4 packet (RFC 791)."""
    icmp = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + payload
    icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0, MY_IP, ITS_IP)
    header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return to + ME + b"\x08\x00" + header + icmp


def ask(wire: wirt.EndPoint, question: bytes, kind: bytes) -> bytes:
    """Sends a frame until one of the wanted type comes back: a guest that still boots hears nothing."""
    for _ in range(60):
        wire.send(question)
        try:
            while (answer := wire.recv(timeout=0.5))[12:14] != kind:
                pass
        except TimeoutError:
            continue
        return answer
    raise SystemExit("the guest does not answer")


def main() -> None:
    lan = wirt.Switch()
    wire = lan.endpoint()
    with wirt.Machine(guest_image(), cmdline="net ip=10.0.0.2", memory="32M", nets=[lan.port()]) as vm:
        vm.start()
        mac = ask(wire, arp_request(), b"\x08\x06")[22:28]
        print(f"10.0.0.2 is at {mac.hex(':')}")
        answer = ask(wire, echo_request(mac, b"are you there?.."), b"\x08\x00")
        print(f"it answers: {answer[42:58]!r}")
        print(f"{wire.stats.sent_frames} frames sent, {wire.stats.received_frames} received")


if __name__ == "__main__":
    main()

"""The VNC server, by a viewer that was written from the RFC, and by viewers that keep to nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

import pytest

import wirt
from support.rfb_client import DESKTOP_SIZE, RAW, ZRLE, RfbClient, connect

# The Bochs display's registers and memory, placed by hand: see tests/devices/hardware/test_bochs_display.py.
CONFIG, MMIO, VRAM = 0x3000_0000 + (3 << 15), 0x4000_0000, 0x5000_0000
SHIFT, CONTROL, CAPS_LOCK = 0xFFE1, 0xFFE3, 0xFFE5


class Screen:
    """A display that is drawn on through the bus, and what it shows."""

    def __init__(self, vm: wirt.Machine) -> None:
        self.vm = vm
        for offset, size, value in ((0x10, 4, VRAM), (0x14, 4, 0), (0x18, 4, MMIO), (0x04, 2, 2)):
            vm.bus.write(CONFIG + offset, size, value)
        self.mode(330, 210)

    def mode(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        for index, value in ((4, 0), (3, 32), (1, width), (2, height), (6, width), (8, 0), (9, 0), (4, 1)):
            self.vm.bus.write(MMIO + 0x500 + 2 * index, 2, value)

    def draw(self, x: int, y: int, colour: int) -> None:
        self.vm.bus.write(VRAM + 4 * (y * self.width + x), 4, colour)

    def scribble(self, colours: int) -> None:
        chance = random.Random(colours)
        palette = [chance.randrange(1 << 24) for _ in range(colours)]
        for y in range(0, self.height, 3):
            for x in range(0, self.width, 5):
                self.draw(x, y, chance.choice(palette))

    def rows(self) -> list[list[tuple[int, int, int]]]:
        return [[tuple(pixel) for pixel in row] for row in self.vm.screenshot().tolist()]


@pytest.fixture
def vm():
    with wirt.Machine(memory="16M", display="bochs", input_devices=True) as machine:
        yield machine


@pytest.fixture
def screen(vm):
    return Screen(vm)


@pytest.fixture
def server(vm, screen):
    return vm.vnc(0)


@pytest.fixture
def client(server):
    viewer = RfbClient(server.address)
    yield viewer
    viewer.close()


@pytest.mark.parametrize(
    "version", [b"RFB 003.003\n", b"RFB 003.005\n", b"RFB 003.007\n", b"RFB 003.008\n", b"RFB 003.889\n"]
)
def test_versions(server, screen, version):
    screen.draw(1, 2, 0x0A0B0C)
    viewer = RfbClient(server.address, version)
    assert (viewer.width, viewer.height, viewer.name) == (330, 210, "Wirt")
    viewer.request()
    assert viewer.update() == [(0, 0, 330, 210)]
    assert viewer.screen == screen.rows()


FORMATS = {
    "xrgb": (32, 24, 0, (255, 255, 255), (16, 8, 0)),
    "bgrx, big-endian": (32, 24, 1, (255, 255, 255), (8, 16, 24)),
    "xbgr": (32, 24, 0, (255, 255, 255), (0, 8, 16)),
    "xrgb, big-endian": (32, 24, 1, (255, 255, 255), (16, 8, 0)),
    "ten bits": (32, 30, 0, (1023, 1023, 1023), (20, 10, 0)),
    "rgb565": (16, 16, 0, (31, 63, 31), (11, 5, 0)),
    "rgb555, big-endian": (16, 15, 1, (31, 31, 31), (10, 5, 0)),
    "bgr233": (8, 8, 0, (7, 7, 3), (0, 3, 6)),
}


@pytest.mark.parametrize("encoding", [RAW, ZRLE])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_and_encodings(client, screen, name, encoding):
    screen.scribble(200)
    client.set_format(*FORMATS[name])
    client.set_encodings(encoding)
    client.request()
    client.update()
    maxima = FORMATS[name][3]
    for row, expected in zip(client.screen, screen.rows(), strict=True):
        for got, pixel in zip(row, expected, strict=True):
            for value, true, maximum in zip(got, pixel, maxima, strict=True):
                assert abs(value - true) <= 255 / maximum / 2 + 0.5


@pytest.mark.parametrize("colours", [1, 2, 4, 15, 100])
def test_palettes_of_zrle(client, screen, colours):
    client.set_encodings(7, ZRLE, RAW)
    for _ in range(2):  # the zlib stream goes on
        screen.scribble(colours)
        client.request()
        client.update()
        assert client.screen == screen.rows()
    if colours < 16:
        assert client.received < 2 * 330 * 210


def test_only_what_changed_is_sent(client, screen):
    client.request()
    client.update()
    client.request(incremental=True)
    screen.draw(329, 209, 0xFF0000)
    (rectangle,) = client.update()
    assert rectangle == (320, 192, 10, 18)
    assert client.screen == screen.rows()
    # A part that was asked for; the rest is sent when it is.
    client.request(incremental=True, rectangle=(0, 0, 100, 100))
    screen.draw(200, 150, 0x00FF00)
    screen.draw(99, 99, 0x00FF00)
    assert client.update() == [(64, 64, 36, 36)]
    client.request(incremental=True)
    assert client.update() == [(192, 128, 64, 64)]
    assert client.screen == screen.rows()


def test_a_request_beyond_the_screen_is_answered(client):
    client.request(rectangle=(300, 200, 65535, 65535))
    assert client.update() == [(300, 200, 30, 10)]
    client.request(rectangle=(5000, 5000, 10, 10))
    assert client.update() == []


def test_a_new_size(client, screen):
    client.set_encodings(RAW, DESKTOP_SIZE)
    client.request()
    client.update()
    client.request(incremental=True)
    screen.mode(400, 100)
    assert client.update() == []
    assert (client.width, client.height) == (400, 100)
    screen.draw(399, 99, 0x123456)
    client.request()
    client.update()
    assert client.screen == screen.rows()


def test_a_new_size_for_a_viewer_that_knows_no_sizes(client, screen):
    client.request()
    client.update()
    screen.mode(400, 100)
    screen.draw(5, 5, 0x123456)
    client.request(incremental=True)
    client.update()
    shown = screen.rows()
    assert client.screen == [row[:330] for row in shown] + [[(0, 0, 0)] * 330] * 110


def inputs(vm: wirt.Machine, name: str, count: int) -> list[tuple[int, int, int]]:
    """The events that a driver gets."""
    from support.virtio_driver import Driver

    driver = Driver(vm, name)
    (queue, _) = driver.start(queues=2, size=64)
    buffers = {}
    for _ in range(count):
        address = driver.guest.allocate(8)
        buffers[queue.add(writable=[(address, 8)])] = address
    queue.kick()
    return [struct.unpack("<HHi", driver.guest.read(buffers[queue.wait().id], 8)) for _ in range(count)]


def test_keys(vm, client):
    client.type("a!\n")
    client.key(SHIFT, True)
    client.type("B")
    client.key(SHIFT, False)
    client.key(0xFFC7, True)  # F10
    client.key(0x20AC, True)  # a Euro sign, which the keyboard lacks
    client.key(CONTROL, True)
    client.close()  # what was held is let go of
    keys = [(code, value) for kind, code, value in inputs(vm, "virtio-input0", 32) if kind == 1]
    assert keys[:8] == [(30, 1), (30, 0), (42, 1), (2, 1), (42, 0), (2, 0), (28, 1), (28, 0)]
    assert keys[8:14] == [(42, 1), (48, 1), (48, 0), (42, 0), (68, 1), (29, 1)]
    assert sorted(keys[14:]) == [(29, 0), (68, 0)]


def test_the_pointer(vm, client):
    client.pointer(0, 0)
    client.pointer(329, 209, 1)
    client.pointer(329, 209, 1 | 8)
    client.pointer(65535, 65535, 4)
    client.close()
    events = inputs(vm, "virtio-input1", 20)
    corner = [(3, 0, 0x7FFF), (3, 1, 0x7FFF)]
    syn = (0, 0, 0)
    assert events == [
        (3, 0, 0), (3, 1, 0), syn,
        *corner, (1, 0x110, 1), syn,
        *corner, (2, 8, 1), syn,
        *corner, (1, 0x110, 0), (1, 0x111, 1), syn,
        (1, 0x110, 0), (1, 0x112, 0), (1, 0x111, 0), syn,
    ]  # fmt: skip


def test_several_viewers_see_the_same(vm, server, screen):
    viewers = [RfbClient(server.address) for _ in range(8)]
    screen.scribble(50)
    for viewer in viewers:
        viewer.request()
    for viewer in viewers:
        viewer.update()
        assert viewer.screen == screen.rows()
    # One more than there is room for.
    assert connect(server.address).recv(1) == b""
    viewers[0].close()
    wait_until(lambda: server.viewers < 8)
    RfbClient(server.address).close()


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_unix_socket_is_the_users_own(vm, screen, tmp_path):
    path = tmp_path / "vnc"
    with vm.vnc(f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        viewer = RfbClient(server.address)
        viewer.request()
        viewer.update()
        with pytest.raises(wirt.ConfigError, match="is there already"):
            vm.vnc(f"unix:{path}")
    assert list(tmp_path.iterdir()) == []
    assert viewer.closed()


def test_the_machines_end_is_the_servers(screen, server, vm):
    viewers = [RfbClient(server.address) for _ in range(3)]
    waiting = connect(server.address)  # in the middle of its handshake
    vm.close()
    assert all(viewer.closed() for viewer in viewers)
    with contextlib.suppress(ConnectionResetError):  # it was not accepted yet
        assert waiting.recv(12) in (b"", b"RFB 003.008\n")
    with pytest.raises(OSError):
        connect(server.address)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wirt-vnc")]
    server.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0:5900", "SSH tunnel"), ("192.0.2.1:0", "SSH tunnel"), ("[2001:db8::1]:0", "SSH tunnel"),
        ("::", "give a port"), ("example.org:0", "is no address"), ("127.0.0.1", "give a port"), (":x", "give a port"),
        ("", "give a port"), (":60000", "no such port"), (70000, "no such port"),
        ("unix:/no/such/place", "No such file"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused(vm, address, reason):
    with pytest.raises(wirt.ConfigError, match=reason):
        vm.vnc(address)


def test_addresses_that_are_taken(vm):
    with vm.vnc("localhost:0") as first:
        assert first.address.startswith("127.0.0.1:")
        with pytest.raises(wirt.ConfigError, match="in use"):
            vm.vnc(first.address)


def test_a_machine_needs_a_display_and_no_input(screen):
    with wirt.Machine(memory="16M") as plain, pytest.raises(wirt.ConfigError, match="no display"):
        plain.vnc(0)
    with wirt.Machine(memory="16M", display="virtio-gpu") as mute:
        viewer = RfbClient(mute.vnc(0).address)
        viewer.type("x")
        viewer.pointer(1, 1, 1)
        viewer.request()
        viewer.update()
        assert not any(any(pixel) for row in viewer.screen for pixel in row)


# --- viewers that keep to nothing ---


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\n\r\n", b"RFB 002.000\n", b"RFB 00x.008\n", bytes(12), b"\xff" * 12]
)
def test_what_is_no_viewer_is_sent_away(server, greeting):
    stranger = connect(server.address)
    stranger.sendall(greeting)
    assert stranger.recv(100) == b"RFB 003.008\n"
    assert closed(stranger)


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_security_type_that_was_not_offered(server):
    stranger = connect(server.address)
    stranger.sendall(b"RFB 003.008\n\x02")
    stranger.recv(12 + 2)
    stranger.recv(2)
    assert closed(stranger)


@pytest.mark.parametrize(
    "message",
    [
        b"\x01" + bytes(40),
        b"\x07",
        b"\xff" * 40,
        struct.pack(">BxH", 2, 65535),
        struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 0, 255, 255, 255, 16, 8, 0),  # a colour map
        struct.pack(">BxxxBBBBHHHBBBxxx", 0, 24, 24, 0, 1, 255, 255, 255, 16, 8, 0),
        struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 0, 255, 255, 16, 8, 0),
        struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 254, 255, 255, 16, 8, 0),
        struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 65535, 65535, 65535, 17, 8, 0),
        struct.pack(">BxxxBBBBHHHBBBxxx", 0, 8, 8, 0, 1, 255, 255, 255, 255, 255, 255),
    ],
)
def test_messages_that_end_the_connection(client, server, message):
    client.socket.sendall(message)
    assert client.closed()
    wait_until(lambda: server.viewers == 0)


def test_cut_text_is_skipped_however_long(client, screen):
    for length in (0, 5, 3_000_000):
        client.socket.sendall(struct.pack(">BxxxI", 6, length) + b"x" * length)
        client.request()
        client.update()
        assert client.screen == screen.rows()
    client.socket.sendall(struct.pack(">Bxxxi", 6, -8) + b"12345678")
    client.request()
    client.update()


def test_messages_in_pieces(client, screen):
    message = struct.pack(">BxH2i", 2, 2, ZRLE, DESKTOP_SIZE) + struct.pack(">BBHHHH", 3, 0, 0, 0, 330, 210)
    for byte in message:
        client.socket.sendall(bytes([byte]))
    client.update()
    assert client.screen == screen.rows()


def test_random_bytes_harm_nobody(server, screen):
    chance = random.Random(11)
    for _ in range(20):
        viewer = RfbClient(server.address)
        # Types of messages that exist, so that some are taken; sooner or later one cannot be.
        noise = b"".join(bytes([chance.randrange(7)]) + chance.randbytes(chance.randrange(30)) for _ in range(100))
        with contextlib.suppress(OSError):
            viewer.socket.sendall(noise + b"\xff" * 70_000)
        viewer.close()
    wait_until(lambda: server.viewers == 0)
    good = RfbClient(server.address)
    good.request()
    good.update()
    assert good.screen == screen.rows()

"""virtio GPU in 2D mode (virtio 1.2, 5.7)."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

import wirt
from support.virtio_driver import RAM, Driver
from support.virtqueues import Virtqueue

GET_DISPLAY_INFO, CREATE, UNREF, SET_SCANOUT, FLUSH, TRANSFER, ATTACH, DETACH = range(0x100, 0x108)
GET_CAPSET_INFO, GET_CAPSET, GET_EDID = range(0x108, 0x10B)
UPDATE_CURSOR, MOVE_CURSOR = 0x300, 0x301
OK, OK_DISPLAY_INFO, OK_EDID = 0x1100, 0x1101, 0x1104
UNSPEC, OUT_OF_MEMORY, INVALID_SCANOUT, INVALID_RESOURCE, INVALID_CONTEXT, INVALID_PARAMETER = range(0x1200, 0x1206)
FENCE = 1
F_EDID = 2
B8G8R8X8, B8G8R8A8 = 2, 1
FORMATS = {1: "bgra", 2: "bgrx", 3: "argb", 4: "xrgb", 67: "rgba", 68: "xbgr", 121: "abgr", 134: "rgbx"}


class Gpu:
    def __init__(self, vm: wirt.Machine) -> None:
        self.vm = vm
        self.driver = Driver(vm, "virtio-gpu0")
        self.guest = self.driver.guest
        self.control: Virtqueue
        self.cursor: Virtqueue
        self.start()

    def start(self) -> None:
        self.control, self.cursor = self.driver.start(F_EDID, queues=2)

    def raw(self, request: bytes, room: int = 1200, queue: Virtqueue | None = None) -> bytes:
        """One command and its response."""
        back = self.guest.allocate(room)
        place = self.guest.place(request)
        # In two parts, as Linux' driver gives it and backing entries.
        split = min(len(request), 32)
        readable = [(place, split), (place + split, len(request) - split)]
        used = (queue or self.control).transfer(readable=[e for e in readable if e[1]], writable=[(back, room)])
        return self.guest.read(back, used.length)

    def command(self, kind: int, body: bytes = b"", *, flags: int = 0, fence: int = 0) -> int:
        response = self.raw(struct.pack("<IIQIB3x", kind, flags, fence, 0, 0) + body)
        return struct.unpack_from("<I", response)[0]

    def create(self, resource: int, width: int, height: int, kind: int = B8G8R8X8) -> int:
        return self.command(CREATE, struct.pack("<IIII", resource, kind, width, height))

    def attach(self, resource: int, *entries: tuple[int, int]) -> int:
        body = b"".join(struct.pack("<QIxxxx", address, length) for address, length in entries)
        return self.command(ATTACH, struct.pack("<II", resource, len(entries)) + body)

    def transfer(self, resource: int, rectangle: tuple[int, int, int, int], offset: int = 0) -> int:
        return self.command(TRANSFER, struct.pack("<IIIIQIxxxx", *rectangle, offset, resource))

    def flush(self, resource: int, rectangle: tuple[int, int, int, int]) -> int:
        return self.command(FLUSH, struct.pack("<IIIIIxxxx", *rectangle, resource))

    def scanout(self, resource: int, rectangle: tuple[int, int, int, int], scanout: int = 0) -> int:
        return self.command(SET_SCANOUT, struct.pack("<IIIIII", *rectangle, scanout, resource))

    def simple(self, kind: int, resource: int) -> int:
        return self.command(kind, struct.pack("<Ixxxx", resource))

    def show(self, resource: int, pixels: np.ndarray, kind: int = B8G8R8X8) -> int:
        """A resource with that content (height, width, 4 bytes) on the screen; returns the address of its backing."""
        height, width, _ = pixels.shape
        address = self.guest.place(pixels.tobytes())
        assert self.create(resource, width, height, kind) == OK
        assert self.attach(resource, (address, pixels.nbytes)) == OK
        assert self.transfer(resource, (0, 0, width, height)) == OK
        assert self.scanout(resource, (0, 0, width, height)) == OK
        return address


@pytest.fixture
def vm(wiring):
    transport, layout = wiring
    packed = layout == "packed"
    options = {"display": "virtio-gpu", "resolution": (800, 600), "virtio": transport, "packed": packed}
    with wirt.Machine(memory="64M", **options) as machine:
        yield machine


@pytest.fixture
def gpu(vm):
    return Gpu(vm)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 4), dtype=np.uint8)


def test_one_scanout_of_the_size_asked_for(vm, gpu):
    assert gpu.driver.offered() & 0xFF == F_EDID
    assert [gpu.driver.config(offset, 4) for offset in (0, 4, 8, 12)] == [0, 0, 1, 0]
    response = gpu.raw(struct.pack("<IIQII", GET_DISPLAY_INFO, 0, 0, 0, 0))
    assert len(response) == 24 + 16 * 24
    assert struct.unpack_from("<I", response)[0] == OK_DISPLAY_INFO
    assert struct.unpack_from("<6I", response, 24) == (0, 0, 800, 600, 1, 0)
    assert not any(response[48:])


def test_edid(gpu):
    response = gpu.raw(struct.pack("<IIQIIII", GET_EDID, 0, 0, 0, 0, 0, 0))
    kind, size = struct.unpack_from("<I", response)[0], struct.unpack_from("<I", response, 24)[0]
    edid = response[32 : 32 + size]
    assert (kind, len(response), size) == (OK_EDID, 32 + 1024, 128)
    assert edid[:8] == b"\0\xff\xff\xff\xff\xff\xff\0"
    assert sum(edid) % 256 == 0
    assert gpu.command(GET_EDID, struct.pack("<II", 1, 0)) == INVALID_SCANOUT


def test_a_fence_comes_back(gpu):
    response = gpu.raw(struct.pack("<IIQIB3x", CREATE, FENCE, 0x1234_5678_9ABC, 7, 3) + struct.pack("<4I", 1, 2, 8, 8))
    assert struct.unpack("<IIQIB3x", response) == (OK, FENCE, 0x1234_5678_9ABC, 7, 3)
    assert gpu.raw(struct.pack("<IIQII", UNREF, 0, 99, 0, 0))[4:] == bytes(20)


@pytest.mark.parametrize("number", FORMATS)
def test_formats(vm, gpu, number):
    pixels = noise(40, 30)
    gpu.show(1, pixels, number)
    order = [FORMATS[number].index(channel) for channel in "rgb"]
    assert (vm.screenshot() == pixels[:, :, order]).all()


def test_black_without_a_scanout(vm, gpu):
    assert vm.screenshot().shape == (600, 800, 3)
    gpu.show(1, noise(40, 30))
    assert vm.screenshot().any()
    assert gpu.scanout(0, (0, 0, 0, 0)) == OK
    assert vm.screenshot().shape == (600, 800, 3)
    assert not vm.screenshot().any()


def test_what_changed_is_seen_after_the_flush(vm, gpu):
    pixels = noise(64, 48)
    address = gpu.show(1, pixels)
    before = vm.screenshot()
    changed = 255 - pixels
    gpu.guest.write(address, changed.tobytes())
    assert (vm.screenshot() == before).all()
    # A part: rows of the backing are as long as the resource's.
    assert gpu.transfer(1, (10, 20, 30, 5), (20 * 64 + 10) * 4) == OK
    assert (vm.screenshot() == before).all()
    assert gpu.flush(1, (0, 0, 64, 48)) == OK
    expected = pixels.copy()
    expected[20:25, 10:40] = changed[20:25, 10:40]
    assert (vm.screenshot() == expected[:, :, 2::-1]).all()


def test_a_scanout_shows_a_part(vm, gpu):
    pixels = noise(64, 48)
    gpu.show(1, pixels)
    assert gpu.scanout(1, (16, 8, 32, 24)) == OK
    assert (vm.screenshot() == pixels[8:32, 16:48, 2::-1]).all()
    assert gpu.flush(1, (0, 0, 64, 48)) == OK
    assert gpu.flush(1, (0, 0, 4, 4)) == OK
    assert (vm.screenshot() == pixels[8:32, 16:48, 2::-1]).all()


def test_backing_in_pieces(vm, gpu):
    pixels = noise(50, 20)
    data = pixels.tobytes()
    chance = random.Random(3)
    entries = []
    while data:
        part = min(len(data), chance.choice((1, 3, 100, 199, 200, 201, 777)))
        entries.append((gpu.guest.place(data[:part], 1), part))
        data = data[part:]
        if chance.random() < 0.2:
            entries.append((RAM, 0))
    assert gpu.create(1, 50, 20) == OK
    assert gpu.attach(1, *entries) == OK
    for y in range(0, 20, 5):
        assert gpu.transfer(1, (0, y, 25, 5), y * 200) == OK
        assert gpu.transfer(1, (25, y, 25, 5), y * 200 + 100) == OK
    assert gpu.scanout(1, (0, 0, 50, 20)) == OK
    assert (vm.screenshot() == pixels[:, :, 2::-1]).all()


def cursor(gpu: Gpu, kind: int, x: int, y: int, resource: int = 0, scanout: int = 0) -> bytes:
    body = struct.pack("<IIIIIIII", scanout, x, y, 0, resource, 0, 0, 0)
    return gpu.raw(struct.pack("<IIQII", kind, 0, 0, 0, 0) + body, room=24, queue=gpu.cursor)


def test_the_cursor_is_in_the_picture(vm, gpu):
    gpu.show(1, np.full((100, 100, 4), 100, np.uint8))
    shape = np.zeros((64, 64, 4), np.uint8)
    shape[0, 0] = (1, 2, 3, 255)
    shape[63, 63] = (50, 50, 50, 128)  # premultiplied
    address = gpu.guest.place(shape.tobytes())
    assert gpu.create(2, 64, 64, B8G8R8A8) == OK
    assert gpu.attach(2, (address, shape.nbytes)) == OK
    assert gpu.transfer(2, (0, 0, 64, 64)) == OK

    def differences() -> dict[tuple[int, int], list[int]]:
        picture = vm.screenshot()
        return {(int(x), int(y)): picture[y, x].tolist() for y, x in np.argwhere((picture != 100).any(axis=2))}

    assert differences() == {}
    assert struct.unpack_from("<I", cursor(gpu, UPDATE_CURSOR, 10, 20, 2))[0] == OK
    assert differences() == {(10, 20): [3, 2, 1], (73, 83): [99, 99, 99]}
    cursor(gpu, MOVE_CURSOR, 2**32 - 63, 2**32 - 63)  # all but one pixel beyond the corner
    assert differences() == {(0, 0): [99, 99, 99]}
    cursor(gpu, MOVE_CURSOR, 5000, 5000)
    assert differences() == {}
    # What it shows is a copy.
    cursor(gpu, MOVE_CURSOR, 0, 0)
    assert gpu.simple(UNREF, 2) == OK
    assert (0, 0) in differences()
    cursor(gpu, UPDATE_CURSOR, 0, 0)
    assert differences() == {}


def test_a_cursor_of_another_size_or_none_is_refused(gpu):
    assert gpu.create(2, 63, 64) == OK
    for resource, scanout, answer in ((2, 0, INVALID_PARAMETER), (9, 0, INVALID_RESOURCE), (2, 1, INVALID_SCANOUT)):
        assert struct.unpack_from("<I", cursor(gpu, UPDATE_CURSOR, 0, 0, resource, scanout))[0] == answer


def test_resources_end_what_shows_them(vm, gpu):
    gpu.show(1, noise(40, 30))
    assert gpu.simple(DETACH, 1) == OK
    assert gpu.transfer(1, (0, 0, 40, 30)) == INVALID_PARAMETER
    assert vm.screenshot().shape == (30, 40, 3)
    assert gpu.simple(UNREF, 1) == OK
    assert vm.screenshot().shape == (600, 800, 3)
    for answer in (
        gpu.simple(UNREF, 1),
        gpu.flush(1, (0, 0, 1, 1)),
        gpu.scanout(1, (0, 0, 1, 1)),
        gpu.attach(1, (RAM, 4)),
    ):
        assert answer == INVALID_RESOURCE


def test_wrong_resources_are_refused(gpu):
    assert gpu.create(0, 8, 8) == INVALID_RESOURCE
    assert gpu.create(1, 8, 8) == OK
    assert gpu.create(1, 8, 8) == INVALID_RESOURCE
    for width, height, kind in (
        (0, 8, 2),
        (8, 0, 2),
        (16385, 1, 2),
        (1, 2**32 - 1, 2),
        (8, 8, 0),
        (8, 8, 5),
        (8, 8, 2**31),
    ):
        assert gpu.create(2, width, height, kind) == INVALID_PARAMETER


def test_rectangles_that_wrap_or_reach_beyond(gpu):
    gpu.show(1, noise(40, 30))
    top = 2**32
    wrong = [
        (0, 0, 41, 30), (0, 0, 40, 31), (1, 0, 40, 30), (40, 0, 1, 1), (0, 30, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0),
        (top - 1, 0, 2, 1), (0, top - 1, 1, 2), (1, 1, top - 1, top - 1), (top - 1, top - 1, top - 1, top - 1),
    ]  # fmt: skip
    for rectangle in wrong:
        assert gpu.transfer(1, rectangle) == INVALID_PARAMETER
        assert gpu.flush(1, rectangle) == INVALID_PARAMETER
        assert gpu.scanout(1, rectangle) == INVALID_PARAMETER
    for offset in (1, 4, 40 * 30 * 4, 2**63, 2**64 - 1, 2**64 - 40 * 30 * 4):
        assert gpu.transfer(1, (0, 0, 40, 30), offset) == INVALID_PARAMETER


def test_backing_that_is_not_ram(vm, gpu):
    assert gpu.create(1, 16, 16) == OK
    ours = 0x1000_1000  # the device's own registers, or another device's
    for address in (0, ours, RAM - 512, RAM + (64 << 20) - 512, 2**64 - 1024, 2**64 - 1):
        assert gpu.attach(1, (address, 1024)) == OK
        assert gpu.transfer(1, (0, 0, 16, 16)) == INVALID_PARAMETER
        assert gpu.simple(DETACH, 1) == OK
    assert not gpu.driver.needs_reset()


def test_backing_is_attached_once_and_bounded(gpu):
    assert gpu.create(1, 16, 16) == OK
    assert gpu.attach(1) == INVALID_PARAMETER
    assert gpu.command(ATTACH, struct.pack("<II", 1, 5)) == UNSPEC  # and nothing follows
    assert gpu.command(ATTACH, struct.pack("<II", 1, 2**32 - 1)) == INVALID_PARAMETER
    assert gpu.attach(1, (RAM, 1024)) == OK
    assert gpu.attach(1, (RAM, 1024)) == INVALID_PARAMETER
    many = [(RAM, 1)] * 16384
    answers = []
    for resource in range(2, 12):
        assert gpu.create(resource, 1, 1) == OK
        answers.append(gpu.attach(resource, *many))
    assert answers == [OK] * 7 + [OUT_OF_MEMORY] * 3
    assert gpu.simple(UNREF, 2) == OK
    assert gpu.attach(9, *many) == OK


def test_host_memory_is_bounded(gpu):
    assert gpu.create(1, 16384, 16384) == OUT_OF_MEMORY  # 1 GiB
    assert gpu.create(1, 8192, 8192) == OK  # all there is
    assert gpu.create(2, 1, 1) == OUT_OF_MEMORY
    assert gpu.simple(UNREF, 1) == OK
    for resource in range(1, 1025):
        assert gpu.create(resource, 1, 1) == OK
    assert gpu.create(1025, 1, 1) == OUT_OF_MEMORY
    gpu.driver.reset()
    gpu.start()
    assert gpu.create(1, 8192, 8192) == OK


def test_a_reset_takes_everything(vm, gpu):
    gpu.show(1, noise(40, 30))
    gpu.driver.reset()
    assert vm.screenshot().shape == (600, 800, 3)
    gpu.start()
    assert gpu.simple(UNREF, 1) == INVALID_RESOURCE


def test_commands_cut_short_or_unknown(gpu):
    assert gpu.create(1, 16, 16) == OK
    lengths = {GET_EDID: 8, CREATE: 16, UNREF: 8, SET_SCANOUT: 24, FLUSH: 24, TRANSFER: 32, ATTACH: 8, DETACH: 8}
    for kind, length in lengths.items():
        header = struct.pack("<IIQII", kind, 0, 0, 0, 0)
        for cut in (0, 1, length - 1):
            assert struct.unpack_from("<I", gpu.raw(header + bytes(cut)))[0] == UNSPEC, hex(kind)
    for kind in (0, 0xFF, GET_CAPSET_INFO, GET_CAPSET, 0x10B, 0x200, 0x302, OK, 2**32 - 1):
        assert gpu.command(kind, bytes(64)) == UNSPEC
    assert struct.unpack_from("<I", gpu.raw(b"\0"))[0] == UNSPEC
    # Too little room for the response: as much as fits.
    request = struct.pack("<IIQII", GET_DISPLAY_INFO, 0, 0, 0, 0)
    for room in (1, 23, 24, 30):
        assert len(gpu.raw(request, room=room)) == room


def test_random_commands(vm, gpu):
    """Whatever comes is answered, and pictures can still be taken."""
    chance = random.Random(5)
    words = (0, 1, 2, 3, 16, 64, 100, 0x7FFF, 16384, 2**31, 2**32 - 1)
    for _ in range(400):
        kind = chance.choice([*range(0x100, 0x10B), UPDATE_CURSOR, MOVE_CURSOR])
        body = struct.pack("<12I", *(chance.choice(words) for _ in range(12)))
        request = struct.pack("<IIQII", kind, 0, 0, 0, 0) + body[: chance.randrange(49)]
        assert len(gpu.raw(request, queue=chance.choice((gpu.control, gpu.cursor)))) >= 24
        if chance.random() < 0.1:
            gpu.guest.next = RAM + 0x20_0000
            vm.screenshot()
    assert not gpu.driver.needs_reset()


def test_the_state_holds_resources_and_screen(vm, gpu):
    hashes = {vm.state_hash()}
    gpu.show(1, noise(40, 30))
    hashes.add(vm.state_hash())
    gpu.flush(1, (0, 0, 40, 30))
    gpu.create(7, 3, 3)
    hashes.add(vm.state_hash())
    assert len(hashes) == 3

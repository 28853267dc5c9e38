"""virtio-blk (virtio 1.2, 5.2)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt
from support.virtio_driver import Driver
from support.virtqueues import Used, Virtqueue, wait_until

FEATURE = {
    "SIZE_MAX": 1 << 1,
    "SEG_MAX": 1 << 2,
    "RO": 1 << 5,
    "BLK_SIZE": 1 << 6,
    "FLUSH": 1 << 9,
    "TOPOLOGY": 1 << 10,
    "CONFIG_WCE": 1 << 11,
    "MQ": 1 << 12,
    "DISCARD": 1 << 13,
    "WRITE_ZEROES": 1 << 14,
}
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
UNTOUCHED = 0xEE
SECTORS = 2048
ALL = sum(FEATURE.values()) & ~FEATURE["MQ"] & ~FEATURE["RO"]


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def split(address: int, length: int, pieces: list[int]) -> list[tuple[int, int]]:
    """A range as buffers that end at the given places."""
    ends = sorted({min(piece, length) for piece in pieces} | {length})
    starts = [0, *ends[:-1]]
    return [(address + start, end - start) for start, end in zip(starts, ends, strict=True)]


class Disk:
    """Requests of one queue."""

    def __init__(self, driver: Driver, queue: Virtqueue) -> None:
        self.guest, self.queue = driver.guest, queue
        self.used = Used(0, 0)

    def request(self, kind: int, sector: int = 0, data: bytes = b"", room: int = 0) -> tuple[int, bytes]:
        """Status and what was read; `data` goes to the device, `room` is for what comes from it."""
        start = self.guest.next
        out = self.guest.place(header(kind, sector) + data)
        back = self.guest.place(bytes([UNTOUCHED]) * (room + 1))
        self.used = self.queue.transfer(readable=[(out, 16 + len(data))], writable=[(back, room + 1)])
        result = self.guest.read(back, room + 1)
        self.guest.next = start
        return result[-1], result[:-1]


@pytest.fixture
def requests(blk: Driver) -> Disk:
    return Disk(blk, blk.start(ALL)[0])


def test_configuration_space(blk: Driver) -> None:
    assert blk.config(0, 4) == SECTORS
    assert blk.config(4, 4) == 0
    assert blk.config(8, 4) > 0, "size_max"
    assert blk.config(12, 4) == blk.read("QueueNumMax") - 2, "seg_max"
    assert blk.config(20, 4) == 512, "blk_size"
    assert 512 << blk.config(24, 1) == 4096, "physical block"
    assert blk.config(34, 2) == 1, "num_queues"
    assert [blk.config(33, 1), blk.config(57, 1), blk.config(58, 2)] == [0, 0, 0], "padding (5.2.5.2)"


def test_written_sectors_reach_the_disk_and_are_read_back(requests: Disk, disk: wirt.Disk) -> None:
    data = bytes(range(256)) * 16
    assert requests.request(OUT, 100, data) == (OK, b"")
    assert requests.used.length == 1
    assert disk.read(100 * 512, len(data)) == data
    assert requests.request(IN, 100, room=len(data)) == (OK, data)
    assert requests.used.length == len(data) + 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sectors=st.integers(1, 8),
    sector=st.integers(0, SECTORS - 8),
    readable=st.lists(st.integers(0, 16 + 8 * 512), max_size=4),
    writable=st.lists(st.integers(0, 8 * 512 + 1), max_size=4),
    direct=st.integers(0, 2),
)
def test_any_layout_over_descriptors_works(
    blk: Driver, disk: wirt.Disk, sectors: int, sector: int, readable: list[int], writable: list[int], direct: int
) -> None:
    """The driver may split header, data and status in any way (2.7.4.1)."""
    guest = blk.guest
    start = guest.next
    (queue,) = blk.start(ALL | 1 << 28)
    length = 512 * sectors
    data = bytes((sector + i * 7) % 251 for i in range(length))
    out = guest.place(header(OUT, sector) + data)
    status = guest.place(b"\xee")
    assert queue.transfer(split(out, 16 + length, readable), [(status, 1)], direct=direct).length == 1
    assert guest.read(status, 1) == b"\0"
    assert disk.read(sector * 512, length) == data

    out = guest.place(header(IN, sector))
    back = guest.place(bytes(length) + b"\xee")
    used = queue.transfer(split(out, 16, readable), split(back, length + 1, writable), direct=direct)
    assert used.length == length + 1
    assert guest.read(back, length + 1) == data + b"\0"
    guest.next = start


@pytest.mark.parametrize(
    ("sector", "length"),
    [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (2**64 - 1, 512),
        (2**55, 512),
        (2**55 + 1, 512),
        (2**63, 512),
        (0, 100),
        (0, 513),
    ],
)
def test_requests_out_of_range_or_of_odd_length_fail_and_move_nothing(
    requests: Disk, disk: wirt.Disk, sector: int, length: int
) -> None:
    before = disk.read(0, disk.size)
    assert requests.request(OUT, sector, b"x" * length) == (IOERR, b"")
    assert requests.request(IN, sector, room=length) == (IOERR, bytes([UNTOUCHED]) * length)
    assert requests.used.length == 0
    assert disk.read(0, disk.size) == before


def test_the_last_sector_and_no_data_at_all_are_in_range(requests: Disk) -> None:
    assert requests.request(IN, SECTORS - 1, room=512) == (OK, bytes(512))
    assert requests.request(IN, SECTORS, room=0) == (OK, b"")
    assert requests.request(OUT, 0, b"") == (OK, b"")


@pytest.mark.parametrize("kind", [2, 3, 5, 10, 14, 15, 99, 0xFFFF_FFFF])
def test_unknown_requests_are_unsupported(requests: Disk, kind: int) -> None:
    assert requests.request(kind, room=512)[0] == UNSUPP


def test_a_truncated_header_is_an_error(blk: Driver) -> None:
    (queue,) = blk.start(ALL)
    status = blk.guest.place(b"\xee")
    for length in (0, 1, 15):
        queue.transfer(readable=[(blk.guest.place(header(IN)), length)], writable=[(status, 1)])
        assert blk.guest.read(status, 1)[0] == IOERR


@pytest.mark.parametrize("writable", [[], [(0x8020_0000, 0)]])
def test_a_request_without_a_status_byte_needs_a_reset(blk: Driver, writable: list[tuple[int, int]]) -> None:
    (queue,) = blk.start(ALL)
    queue.add(readable=[(blk.guest.place(header(FLUSH)), 16)], writable=writable)
    queue.kick()
    assert wait_until(blk.needs_reset)
    assert Disk(blk, blk.start(ALL)[0]).request(FLUSH)[0] == OK


@pytest.mark.parametrize("room", [0, 1, 7, 20, 64])
def test_the_serial_number_is_padded_and_cut(requests: Disk, room: int) -> None:
    serial = b"wirt-test".ljust(20, b"\0")[:room]
    status, data = requests.request(GET_ID, room=room)
    assert (status, data[:20]) == (OK, serial)


def test_flush(requests: Disk) -> None:
    assert requests.request(FLUSH) == (OK, b"")


def segment(sector: int, count: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, count, flags)


@pytest.mark.parametrize("flags", [0, 1])
def test_write_zeroes(requests: Disk, disk: wirt.Disk, flags: int) -> None:
    disk.write(0, b"x" * 4096)
    assert requests.request(WRITE_ZEROES, data=segment(1, 2, flags) + segment(5, 1, flags))[0] == OK
    expected = [b"x", b"\0", b"\0", b"x", b"x", b"\0", b"x", b"x"]
    assert [disk.read(i * 512, 512) for i in range(8)] == [content * 512 for content in expected]


def test_discard_leaves_the_neighbours_alone(requests: Disk, disk: wirt.Disk) -> None:
    disk.write(0, b"x" * 64 * 1024)
    assert requests.request(DISCARD, data=segment(8, 16))[0] == OK
    assert disk.read(0, 8 * 512) == b"x" * 8 * 512
    assert disk.read(24 * 512, 512) == b"x" * 512


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        (DISCARD, segment(0, 1, 1), UNSUPP),  # unmap on a discard (5.2.6.2)
        (DISCARD, segment(0, 1, 2), UNSUPP),
        (WRITE_ZEROES, segment(0, 1, 2), UNSUPP),
        (DISCARD, b"", IOERR),
        (DISCARD, segment(0, 1)[:-1], IOERR),
        (DISCARD, segment(SECTORS, 1), IOERR),
        (DISCARD, segment(SECTORS - 1, 2), IOERR),
        (DISCARD, segment(2**64 - 1, 2), IOERR),
        (DISCARD, segment(0, 2**32 - 1), IOERR),
        (DISCARD, segment(0, 1) * 65, IOERR),
        (WRITE_ZEROES, segment(0, 1) + segment(2**60, 1), IOERR),
    ],
)
def test_bad_segments_change_nothing(requests: Disk, disk: wirt.Disk, kind: int, data: bytes, status: int) -> None:
    disk.write(0, b"x" * 512)
    assert requests.request(kind, data=data)[0] == status
    assert disk.read(0, 512) == b"x" * 512


def test_discard_and_write_zeroes_need_their_features(blk: Driver) -> None:
    disk = Disk(blk, blk.start(FEATURE["FLUSH"])[0])
    assert disk.request(DISCARD, data=segment(0, 1))[0] == UNSUPP
    assert disk.request(WRITE_ZEROES, data=segment(0, 1))[0] == UNSUPP


def test_the_cache_mode_can_be_chosen(blk: Driver) -> None:
    blk.start(FEATURE["CONFIG_WCE"] | FEATURE["FLUSH"])
    assert blk.config(32, 1) == 1
    blk.set_config(32, 1, 0)
    assert blk.config(32, 1) == 0
    blk.start(FEATURE["CONFIG_WCE"])
    assert blk.config(32, 1) == 0, "write-through unless the driver can flush (5.2.5.2)"
    blk.start(FEATURE["FLUSH"])
    blk.set_config(32, 1, 0)
    assert blk.config(32, 1) == 1, "not negotiated"


def test_only_the_cache_mode_is_writable(blk: Driver) -> None:
    blk.start(ALL)
    before = [blk.config(offset, 1) for offset in range(72)]
    for offset in [*range(32), *range(33, 72)]:
        blk.set_config(offset, 1, 0xFF)
    for offset in range(0, 72, 4):
        blk.set_config(offset, 4, 0xFFFF_FFFF)
    assert [blk.config(offset, 1) for offset in range(72)] == before


def test_a_read_only_disk_refuses_writes(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"a" * 4096)
    with wirt.Machine(memory="64M", disks=[wirt.Disk(image, read_only=True)]) as vm:
        blk = Driver(vm, "virtio-blk0")
        offered = blk.offered()
        assert offered & FEATURE["RO"]
        assert not offered & (FEATURE["DISCARD"] | FEATURE["WRITE_ZEROES"])
        disk = Disk(blk, blk.start(FEATURE["RO"] | FEATURE["FLUSH"])[0])
        assert disk.request(OUT, 0, b"b" * 512) == (IOERR, b"")
        assert disk.request(IN, 0, room=512) == (OK, b"a" * 512)
    assert image.read_bytes() == b"a" * 4096


def test_several_queues_work_at_once() -> None:
    disk = wirt.Disk.memory("1M", queues=4)
    with wirt.Machine(memory="64M", disks=[disk]) as vm:
        blk = Driver(vm, "virtio-blk0")
        assert blk.offered() & FEATURE["MQ"]
        assert blk.config(34, 2) == 4
        queues = blk.start(FEATURE["MQ"] | FEATURE["FLUSH"], queues=4)
        for i, queue in enumerate(queues):
            out = blk.guest.place(header(OUT, i) + bytes([i]) * 512)
            queue.add(readable=[(out, 528)], writable=[(blk.guest.allocate(1), 1)])
        for queue in queues:
            queue.kick()
        for queue in queues:
            assert queue.wait().length == 1
        assert disk.read(0, 2048) == b"".join(bytes([i]) * 512 for i in range(4))


def test_a_queue_full_of_requests_ends_in_any_order_but_whole(blk: Driver, disk: wirt.Disk) -> None:
    content = bytes(i % 253 for i in range(disk.size))
    disk.write(0, content)
    (queue,) = blk.start(ALL, size=256)
    asked = {}
    for i in range(85):
        back = blk.guest.allocate(4097)
        head = queue.add(readable=[(blk.guest.place(header(IN, i * 8)), 16)], writable=[(back, 4096), (back + 4096, 1)])
        asked[head] = (i, back)
    queue.kick()
    while asked:
        i, back = asked.pop(queue.wait().id)
        assert blk.guest.read(back, 4097) == content[i * 4096 : (i + 1) * 4096] + b"\0"


def test_no_data_is_copied_by_the_monitor(vm: wirt.Machine, requests: Disk) -> None:
    requests.request(OUT, 0, bytes(4096))
    requests.request(IN, 0, room=4096)
    (counted,) = (device for device in vm.devices if device.name == "virtio-blk0")
    assert (counted.operations, counted.bytes_moved, counted.bytes_copied, counted.notifications) == (2, 8192, 0, 2)

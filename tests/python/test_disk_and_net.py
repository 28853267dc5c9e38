"""Disks and networks as Python objects; what they do behind devices is tested elsewhere."""

from __future__ import annotations

import pytest

import wirt
from support.firmware import SPIN


def frame(payload: bytes = b"hello") -> bytes:
    return bytes.fromhex("ffffffffffff 020000000001 88b5") + payload.ljust(46, b"\0")


def test_memory_disk():
    disk = wirt.Disk.memory("1M")
    assert (disk.size, disk.read_only) == (1 << 20, False)
    disk.write(512, b"wirt")
    assert disk.read(510, 8) == b"\0\0wirt\0\0"
    with pytest.raises(wirt.StorageError):
        disk.read((1 << 20) - 4, 8)


@pytest.mark.parametrize("size", ["100", 0, "seven"])
def test_memory_disk_of_a_wrong_size(size):
    with pytest.raises(wirt.WirtError):
        wirt.Disk.memory(size)


def test_bus_must_exist(tmp_path):
    with pytest.raises(wirt.ConfigError, match="ahci"):
        wirt.Disk.memory("1M", bus="scsi")


def test_closing_the_machine_closes_the_file(tmp_path):
    file = tmp_path / "disk.img"
    file.write_bytes(bytes(1 << 20))
    disk = wirt.Disk(file)
    with wirt.Machine(firmware=SPIN, memory="16M", disks=[disk]) as vm:
        with pytest.raises(wirt.StorageError):
            wirt.Disk(file)
    # The machine object lives on, its disk is free.
    other = wirt.Disk(file)
    assert vm.state == "closed"
    other.close()
    with wirt.Machine(firmware=SPIN, memory="16M", disks=[disk]):
        pass


def test_one_machine_at_a_time():
    disk = wirt.Disk.memory("1M")
    with wirt.Machine(firmware=SPIN, memory="16M", disks=[disk]):
        with pytest.raises(wirt.StorageError, match="another machine"):
            wirt.Machine(firmware=SPIN, memory="16M", disks=[disk])
    wirt.Machine(firmware=SPIN, memory="16M", disks=[disk]).close()


def test_end_points_exchange_frames():
    lan = wirt.Switch()
    a, b = lan.endpoint(), lan.endpoint()
    a.send(frame())
    assert b.recv(timeout=10) == frame()
    with pytest.raises(TimeoutError):
        b.recv(timeout=0)
    assert (a.stats.sent_frames, b.stats.received_frames) == (1, 1)


def test_frames_that_are_none():
    end = wirt.Switch().endpoint()
    with pytest.raises(wirt.NetworkError, match="14"):
        end.send(b"short")
    end.close()
    with pytest.raises(wirt.NetworkError):
        end.send(frame())


@pytest.mark.parametrize("mac", ["", "02:00:00:00:00", "02:00:00:00:00:zz", "01:00:00:00:00:01", "2:0:0:0:0:0"])
def test_wrong_mac_addresses(mac):
    with pytest.raises(wirt.ConfigError, match="MAC"):
        wirt.Switch().port(mac)


def test_mac_addresses():
    lan = wirt.Switch()
    assert lan.port("02-00-00-12-34-56").mac == "02:00:00:12:34:56"
    random = [lan.port().mac for _ in range(20)]
    assert len(set(random)) == 20
    assert all(mac.startswith("02:") for mac in random)

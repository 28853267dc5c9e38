"""The AHCI controller and its disk, driven as a guest's driver drives them, and as no driver would."""

from __future__ import annotations

import os
import random
import struct
from itertools import pairwise

import ahci_driver as a
import pytest
from ahci_driver import BUFFER, AhciDriver, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt
from support.firmware import SPIN, words

DISK_BYTES = 16 << 20
SECTORS = DISK_BYTES // 512

ABRT, IDNF, UNC = 0x04, 0x10, 0x40


@pytest.fixture
def disk():
    return wirt.Disk.memory(DISK_BYTES, bus="ahci", serial="WIRT0001")


@pytest.fixture
def driver(disk):
    with wirt.Machine(memory="64M", disks=[disk]) as vm:
        yield AhciDriver(vm)


def pattern(length, seed=1):
    return random.Random(seed).randbytes(length)


# --- bring-up ---


def test_capabilities(driver):
    cap = driver.host(a.CAP)
    assert cap >> 31 & 1, "64-bit addressing"
    assert cap >> 30 & 1, "native command queuing"
    assert not cap >> 27 & 1, "staggered spin-up"
    assert cap >> 8 & 31 == 31, "32 slots"
    assert cap & 31 == 0, "one port"
    assert driver.host(a.PI) == 1
    assert driver.host(a.VS) == 0x0001_0301
    assert driver.host(a.GHC) >> 31 == 1


def test_a_disk_answers_with_its_signature(driver):
    assert driver.read(a.SSTS) == 0x133
    assert driver.read(a.SIG) == 0x0000_0101
    assert driver.read(a.TFD) == 0x0150
    fis = driver.memory(a.FIS_AREA + 0x40, 20)
    assert fis[0] == 0x34
    assert (fis[4], fis[5], fis[6], fis[12]) == (1, 0, 0, 1)


def test_the_engines_say_when_they_run(driver):
    assert driver.read(a.CMD) & (a.FR | a.CR) == a.FR | a.CR
    driver.stop()
    assert driver.read(a.CMD) & (a.FR | a.CR) == a.FR
    driver.write(a.CMD, 0)
    assert driver.read(a.CMD) & (a.FR | a.CR) == 0


def test_identify(driver):
    words = driver.identify()
    text = b"".join(struct.pack(">H", word) for word in words)
    assert text[20:40].decode().strip() == "WIRT0001"
    assert text[54:94].decode().strip() == "Wirt SATA disk"
    assert words[60] | words[61] << 16 == SECTORS
    assert sum(word << 16 * i for i, word in enumerate(words[100:104])) == SECTORS
    assert words[75] == 31
    assert words[76] & 0x100, "NCQ"
    assert words[83] & 0x0400, "48-bit"
    assert words[169] & 1, "TRIM"
    assert words[255] & 0xFF == 0xA5
    assert sum(driver.memory(BUFFER, 512)) & 0xFF == 0
    assert driver.byte_count(0) == 512
    assert driver.read(a.PXIS) & a.PSS
    setup = driver.memory(a.FIS_AREA + 0x20, 20)
    assert setup[0] == 0x5F
    assert setup[15] == 0x50, "E_STATUS"
    assert setup[1] & 0x40


def test_six_disks_have_six_ports():
    disks = [wirt.Disk.memory("1M", bus="ahci", serial=f"disk{i}") for i in range(6)]
    with wirt.Machine(memory="64M", disks=disks) as vm:
        for port in range(6):
            driver = AhciDriver(vm, port)
            words = driver.identify()
            assert struct.pack(">10H", *words[10:20]).decode().strip() == f"disk{port}"
            driver.stop()
        assert driver.host(a.PI) == 0x3F


def test_a_seventh_disk_is_refused():
    disks = [wirt.Disk.memory("1M", bus="ahci") for _ in range(7)]
    with pytest.raises(wirt.ConfigError, match="room for 6"):
        wirt.Machine(memory="64M", disks=disks)


@pytest.mark.parametrize("serial", ["x" * 21, "tab\tinside", "umläut"])
def test_a_serial_that_does_not_fit_is_refused(serial):
    with pytest.raises(wirt.ConfigError, match="serial"):
        wirt.Machine(memory="64M", disks=[wirt.Disk.memory("1M", bus="ahci", serial=serial)])


# --- transfers ---


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (a.WRITE_DMA_EXT, a.READ_DMA_EXT),
        (a.WRITE_DMA, a.READ_DMA),
        (a.WRITE_DMA_FUA_EXT, a.READ_DMA_EXT),
        (a.WRITE_SECTORS, a.READ_SECTORS),
        (a.WRITE_SECTORS_EXT, a.READ_SECTORS_EXT),
        (a.WRITE_FPDMA, a.READ_FPDMA),
    ],
    ids=["dma-ext", "dma", "dma-fua", "pio", "pio-ext", "queued"],
)
@pytest.mark.parametrize("count", [1, 8, 255])
def test_what_was_written_is_read(driver, disk, write, read, count):
    data = pattern(count * 512, count)
    driver.write_sectors(SECTORS - count, data, write)
    assert disk.read(DISK_BYTES - len(data), len(data)) == data
    assert driver.read_sectors(SECTORS - count, count, read, slot=31) == data
    if read != a.READ_FPDMA:
        assert driver.byte_count(31) == len(data)


def test_count_zero_means_the_most(driver, disk):
    data = pattern(256 * 512)
    disk.write(0, data)
    driver.run(a.READ_DMA, 0, 0, prdt=[(BUFFER, len(data))])
    assert driver.memory(BUFFER, len(data)) == data
    # 65,536 sectors do not fit this disk.
    assert driver.fail(a.READ_DMA_EXT, 0, 0, prdt=[(BUFFER, 512)]).error == IDNF


def test_a_transfer_of_many_chunks(driver, disk):
    data = pattern(8 << 20)
    disk.write(0, data)
    half = len(data) // 2
    driver.run(a.READ_DMA_EXT, 0, len(data) // 512, prdt=[(BUFFER, half), (BUFFER + half, half)])
    assert driver.memory(BUFFER, len(data)) == data


def test_thirty_two_queued_commands(driver, disk):
    data = pattern(32 * 4096)
    driver.fill(BUFFER, data)
    for slot in range(32):
        driver.prepare(slot, a.WRITE_FPDMA, slot * 64, slot << 3, features=8, prdt=[(BUFFER + slot * 4096, 4096)])
    driver.issue(0xFFFF_FFFF, queued=True)
    driver.wait(0xFFFF_FFFF)
    assert driver.read(a.PXIS) & a.SDBS
    assert driver.memory(a.FIS_AREA + 0x58, 1) == b"\xa1"
    for slot in range(32):
        assert disk.read(slot * 64 * 512, 4096) == data[slot * 4096 : (slot + 1) * 4096]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 40), cuts=st.lists(st.integers(1, 40 * 512 - 1), max_size=60), lba=st.integers(0, 1000))
def test_any_prdt_scatters_and_gathers(driver, disk, count, cuts, lba):
    """Entries of any length, odd ones too, at even addresses."""
    length = count * 512
    edges = [0, *sorted({cut for cut in cuts if cut < length}), length]
    pieces = [end - start for start, end in pairwise(edges)]
    prdt, address = [], BUFFER
    for piece in pieces:
        prdt.append((address, piece))
        address = (address + piece + 7) & ~1
    data = pattern(length, count)
    offset = 0
    for (at, piece), start in zip(prdt, edges, strict=False):
        driver.fill(at, data[start : start + piece])
        offset += piece
    driver.run(a.WRITE_DMA_EXT, lba, count, prdt=prdt)
    assert disk.read(lba * 512, length) == data
    for at, piece in prdt:
        driver.fill(at, bytes(piece))
    driver.run(a.READ_DMA_EXT, lba, count, prdt=prdt)
    assert b"".join(driver.memory(at, piece) for at, piece in prdt) == data


def test_prd_interrupt_bit(driver):
    driver.prepare(0, a.READ_DMA_EXT, 0, 1, prdt=[(BUFFER, 512)])
    entry = a.COMMAND_TABLES + 0x80
    driver.fill(entry + 12, struct.pack("<I", 1 << 31 | 511))
    driver.issue(1)
    driver.wait(1)
    assert driver.read(a.PXIS) & a.DPS


# --- the other commands ---


def test_flush_and_features(driver):
    driver.run(a.FLUSH)
    driver.run(a.FLUSH_EXT)
    driver.run(a.SET_FEATURES, features=0x82, device=0)
    assert not driver.identify()[85] & 0x20
    driver.write_sectors(3, pattern(512))
    driver.run(a.SET_FEATURES, features=0x02, device=0)
    assert driver.identify()[85] & 0x20
    driver.run(a.SET_FEATURES, count=0x42, features=0x03, device=0)
    assert driver.identify()[88] >> 8 == 1 << 2
    assert driver.fail(a.SET_FEATURES, count=0x47, features=0x03).error == ABRT
    assert driver.fail(a.SET_FEATURES, features=0x77).error == ABRT


def test_power_mode(driver):
    def mode():
        driver.run(a.CHECK_POWER)
        return driver.memory(a.FIS_AREA + 0x40 + 12, 1)[0]

    assert mode() == 0xFF
    driver.run(a.STANDBY_NOW)
    assert mode() == 0x00
    driver.read_sectors(0, 1)
    assert mode() == 0xFF


def test_verify_moves_no_data(driver):
    driver.fill(BUFFER, b"\xa5" * 512)
    driver.run(a.READ_VERIFY_EXT, 0, 0x4000, prdt=[(BUFFER, 512)])
    assert driver.memory(BUFFER, 512) == b"\xa5" * 512
    assert driver.fail(a.READ_VERIFY_EXT, SECTORS, 1).error == IDNF


def test_read_multiple_needs_set_multiple(driver, disk):
    disk.write(0, pattern(4096))
    assert driver.fail(a.READ_MULTIPLE, 0, 8, prdt=[(BUFFER, 4096)]).error == ABRT
    driver.run(a.SET_MULTIPLE, count=16)
    assert driver.identify()[59] == 0x0110
    driver.run(a.READ_MULTIPLE, 0, 8, prdt=[(BUFFER, 4096)])
    assert driver.memory(BUFFER, 4096) == pattern(4096)
    assert driver.fail(a.SET_MULTIPLE, count=3).error == ABRT


def test_trim(driver, disk):
    disk.write(0, b"\xff" * (64 * 512))
    ranges = [(8, 4), (0, 0), (32, 8)]
    block = b"".join(struct.pack("<Q", lba | count << 48) for lba, count in ranges).ljust(512, b"\0")
    driver.fill(BUFFER, block)
    driver.run(a.DATA_SET_MANAGEMENT, count=1, features=1, prdt=[(BUFFER, 512)])
    content = disk.read(0, 64 * 512)
    trimmed = {sector for lba, count in ranges for sector in range(lba, lba + count)}
    for sector in range(64):
        assert content[sector * 512] == (0 if sector in trimmed else 0xFF), sector


@pytest.mark.parametrize("entry", [SECTORS | 1 << 48, SECTORS - 1 | 2 << 48, (1 << 48) - 1 | 0xFFFF << 48], ids=hex)
def test_trim_outside_the_disk_trims_nothing(driver, disk, entry):
    disk.write(0, b"\xff" * 512)
    driver.fill(BUFFER, struct.pack("<QQ", 1 << 48, entry).ljust(512, b"\0"))
    assert driver.fail(a.DATA_SET_MANAGEMENT, count=1, features=1, prdt=[(BUFFER, 512)]).error == IDNF
    assert disk.read(0, 512) == b"\xff" * 512


def test_log_directory(driver):
    driver.run(a.READ_LOG_EXT, 0x00, 1, prdt=[(BUFFER, 512)])
    assert struct.unpack("<256H", driver.memory(BUFFER, 512))[0x10] == 1
    assert driver.fail(a.READ_LOG_EXT, 0x55, 1, prdt=[(BUFFER, 512)]).error == ABRT


@pytest.mark.parametrize("opcode", [0x00, a.SMART, a.SECURITY_UNLOCK, a.PACKET, 0xA1, 0xF8, 0xFF], ids=hex)
def test_an_unknown_command_is_aborted(driver, opcode):
    driver.prepare(5, opcode)
    driver.issue(1 << 5)
    with pytest.raises(a.CommandFailed) as failure:
        driver.wait(1 << 5)
    assert failure.value.status & 0x01
    assert failure.value.error == ABRT
    fis = driver.memory(a.FIS_AREA + 0x40, 4)
    assert fis[0] == 0x34
    assert fis[2] & 0x01
    # For software to see which command it was (AHCI 1.3.1, 6.2.2).
    assert driver.read(a.CI) == 1 << 5
    assert driver.read(a.CMD) >> 8 & 31 == 5
    driver.restart()
    assert driver.identify()[0] == 0x0040


@pytest.mark.parametrize(
    ("lba", "count"), [(SECTORS, 1), (SECTORS - 1, 2), ((1 << 48) - 1, 0xFFFF), (1 << 47, 1)], ids=str
)
@pytest.mark.parametrize("opcode", [a.READ_DMA_EXT, a.WRITE_DMA_EXT, a.READ_FPDMA, a.WRITE_FPDMA], ids=hex)
def test_sectors_outside_the_disk(driver, opcode, lba, count):
    assert driver.fail(opcode, lba, count, prdt=[(BUFFER, 512)]).error == IDNF


def test_chs_addressing_is_aborted(driver):
    assert driver.fail(a.READ_DMA, 0, 1, device=0, prdt=[(BUFFER, 512)]).error == ABRT


# --- errors of queued commands ---


def test_a_queued_error_is_logged_and_the_log_comes_first(driver):
    driver.prepare(9, a.READ_FPDMA, SECTORS + 5, 9 << 3, features=8, prdt=[(BUFFER, 4096)])
    driver.issue(1 << 9, queued=True)
    with pytest.raises(a.CommandFailed):
        driver.wait(1 << 9)
    assert driver.read(a.PXIS) & a.SDBS
    assert driver.read(a.SACT) == 1 << 9
    driver.restart()
    assert driver.read(a.SACT) == 0
    assert driver.fail(a.IDENTIFY, prdt=[(BUFFER, 512)]).error == ABRT

    driver.run(a.READ_LOG_EXT, 0x10, 1, prdt=[(BUFFER, 512)])
    log = driver.memory(BUFFER, 512)
    assert log[0] == 9
    assert log[2] & 0x01
    assert log[3] == IDNF
    assert int.from_bytes(log[4:7], "little") == SECTORS + 5
    assert sum(log) & 0xFF == 0
    assert driver.identify()[0] == 0x0040
    driver.run(a.READ_LOG_DMA_EXT, 0x10, 1, prdt=[(BUFFER, 512)])
    assert driver.memory(BUFFER, 1) == b"\x80"


def test_a_queued_error_keeps_the_others_outstanding(driver):
    for slot in range(4):
        lba = SECTORS if slot == 1 else slot
        driver.prepare(slot, a.READ_FPDMA, lba, slot << 3, features=1, prdt=[(BUFFER + slot * 512, 512)])
    driver.issue(0xF, queued=True)
    with pytest.raises(a.CommandFailed):
        driver.wait(1 << 1)
    assert driver.read(a.SACT) & 1 << 1
    driver.restart()
    driver.run(a.READ_LOG_EXT, 0x10, 1, prdt=[(BUFFER, 512)])
    assert driver.memory(BUFFER, 1) == b"\x01"


def test_a_tag_that_is_not_the_slot_is_aborted(driver):
    driver.prepare(3, a.READ_FPDMA, 0, 4 << 3, features=1, prdt=[(BUFFER, 512)])
    driver.issue(1 << 3, queued=True)
    with pytest.raises(a.CommandFailed) as failure:
        driver.wait(1 << 3)
    assert failure.value.error == ABRT


def test_a_medium_error_is_uncorrectable(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(1 << 20))
    with wirt.Machine(memory="64M", disks=[wirt.Disk(path, bus="ahci")]) as vm:
        driver = AhciDriver(vm)
        # The file is cut behind the disk's back: what was there can no longer be read.
        os.truncate(path, 512 << 10)
        failure = driver.fail(a.READ_DMA_EXT, 1500, 8, prdt=[(BUFFER, 4096)])
        assert failure.error == UNC
        assert failure.status & 0x01
        assert int.from_bytes(driver.memory(a.FIS_AREA + 0x44, 3), "little") == 1500
        assert driver.fail(a.READ_FPDMA, 1500, 8, prdt=[(BUFFER, 4096)]).error == UNC
        driver.run(a.READ_LOG_EXT, 0x10, 1, prdt=[(BUFFER, 512)])
        assert driver.memory(BUFFER, 4)[3] == UNC
        assert driver.read_sectors(0, 8) == pattern(1 << 20)[:4096]


# --- read-only disks ---


def test_a_read_only_disk_aborts_writes(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(1 << 20))
    with wirt.Machine(memory="64M", disks=[wirt.Disk(path, bus="ahci", read_only=True)]) as vm:
        driver = AhciDriver(vm)
        for opcode in (a.WRITE_DMA_EXT, a.WRITE_SECTORS):
            assert driver.fail(opcode, 0, 1, prdt=[(BUFFER, 512)]).error == ABRT
        assert driver.fail(a.DATA_SET_MANAGEMENT, count=1, features=1, prdt=[(BUFFER, 512)]).error == ABRT
        driver.run(a.FLUSH_EXT)
        assert driver.read_sectors(0, 8) == pattern(1 << 20)[:4096]
    assert path.read_bytes() == pattern(1 << 20)


# --- what stands behind ---


def test_an_ephemeral_disk(tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(b"\xee" * (1 << 20))
    disk = wirt.Disk(image, bus="ahci", ephemeral=True)
    with wirt.Machine(memory="64M", disks=[disk]) as vm:
        driver = AhciDriver(vm)
        # Sectors 3 to 12: the edges of 4 KiB clusters, the rest of which comes from the file.
        data = bytes(range(256)) * 20
        driver.write_sectors(3, data)
        assert driver.read_sectors(0, 16) == b"\xee" * 1536 + data + b"\xee" * (16 * 512 - 1536 - len(data))
        driver.fill(BUFFER, struct.pack("<Q", 5 | 20 << 48).ljust(512, b"\0"))
        driver.run(a.DATA_SET_MANAGEMENT, count=1, features=1, prdt=[(BUFFER, 512)])
        after = driver.read_sectors(0, 32)
        assert after[: 5 * 512] == b"\xee" * 1536 + data[:1024]
        assert after[5 * 512 : 25 * 512] == bytes(20 * 512)
        assert after[25 * 512 :] == b"\xee" * (7 * 512)
    assert image.read_bytes() == b"\xee" * (1 << 20)


def test_a_trimmed_file_becomes_sparse(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"\xee" * (1 << 20))
    allocated = path.stat().st_blocks
    with wirt.Machine(memory="64M", disks=[wirt.Disk(path, bus="ahci")]) as vm:
        driver = AhciDriver(vm)
        driver.fill(BUFFER, struct.pack("<Q", (1 << 20) // 512 << 48).ljust(512, b"\0"))
        driver.run(a.DATA_SET_MANAGEMENT, count=1, features=1, prdt=[(BUFFER, 512)])
        driver.run(a.FLUSH_EXT)
    assert path.stat().st_size == (1 << 20)
    # A file system without holes may leave the content as it was.
    if path.stat().st_blocks < allocated:
        assert path.read_bytes() == bytes(1 << 20)


# --- resets ---


def test_comreset(driver):
    driver.run(a.SET_FEATURES, features=0x82, device=0)
    driver.stop()
    driver.write(a.SCTL, 0x301)
    assert driver.read(a.SSTS) & 0xF != 3
    driver.write(a.SCTL, 0x300)
    assert driver.read(a.SSTS) == 0x133
    assert driver.read(a.SCTL) == 0x300
    assert driver.read(a.SERR) & 1 << 26
    assert driver.read(a.PXIS) & a.PCS
    driver.write(a.PXIS, 0xFFFF_FFFF)
    assert driver.read(a.PXIS) & a.PCS, "PCS shows PxSERR and is cleared there"
    driver.write(a.SERR, 0xFFFF_FFFF)
    assert not driver.read(a.PXIS) & a.PCS
    assert driver.read(a.TFD) == 0x0150
    driver.write(a.CMD, a.FRE | a.ST)
    assert driver.identify()[85] & 0x20, "features are as at power-on"


def test_comreset_with_the_engine_running_halts_it(driver):
    driver.write(a.SCTL, 0x301)
    driver.write(a.SCTL, 0x300)
    driver.prepare(0, a.IDENTIFY, prdt=[(BUFFER, 512)])
    driver.issue(1)
    assert driver.read(a.CI) == 1
    driver.restart()
    assert driver.identify()[0] == 0x0040


def test_offline_port(driver):
    driver.stop()
    driver.write(a.SCTL, 0x304)
    assert driver.read(a.SSTS) == 4
    driver.write(a.SCTL, 0x300)
    driver.start()
    assert driver.identify()[0] == 0x0040


def test_host_reset_keeps_the_addresses(driver):
    driver.write(a.PXIE, 0xFFFF_FFFF)
    driver.set_host(a.GHC, a.GHC_AE | a.GHC_IE)
    driver.reset_host()
    assert driver.host(a.GHC) == a.GHC_AE
    assert driver.host(a.IS) == 0
    assert driver.read(a.PXIE) == 0
    assert driver.read(a.CMD) & (a.ST | a.FRE | a.CR | a.FR) == 0
    assert driver.read(a.CLB) == a.COMMAND_LIST
    driver.start()
    assert driver.identify()[0] == 0x0040


def test_software_reset(driver):
    driver.prepare(0, 0, fis=bytes([0x27, 0, 0, 0] + [0] * 11 + [0x04]), header_flags=1 << 8 | 1 << 10)
    driver.issue(1)
    driver.wait(1)
    driver.fill(a.FIS_AREA, bytes(256))
    driver.prepare(0, 0, fis=bytes([0x27] + [0] * 15))
    driver.issue(1)
    driver.wait(1)
    assert driver.memory(a.FIS_AREA + 0x40, 1) == b"\x34"
    assert driver.read(a.TFD) == 0x0150
    assert driver.read(a.SIG) == 0x101


def test_stopping_during_a_transfer_leaves_memory_alone_afterwards(driver):
    prdt = [(BUFFER, 4 << 20), (BUFFER + (4 << 20), 4 << 20)]
    for _ in range(20):
        driver.prepare(0, a.READ_DMA_EXT, 0, 16384, prdt=prdt)
        driver.issue(1)
        driver.stop()
        assert driver.read(a.CI) == 0
        driver.fill(BUFFER, b"\x5a" * (8 << 20))
        driver.write(a.CMD, a.FRE | a.ST)
        driver.run(a.FLUSH)
        assert driver.memory(BUFFER, 8 << 20) == b"\x5a" * (8 << 20)


# --- interrupts ---


def test_interrupt_status_is_latched_twice(driver):
    driver.write(a.PXIS, 0xFFFF_FFFF)
    driver.set_host(a.IS, 0xFFFF_FFFF)
    driver.identify()
    assert driver.host(a.IS) == 0, "nothing is enabled"
    driver.write(a.PXIE, a.PSS)
    assert driver.host(a.IS) == 1
    driver.set_host(a.IS, 1)
    assert driver.host(a.IS) == 1, "the port still has it"
    driver.write(a.PXIS, 0xFFFF_FFFF)
    assert driver.host(a.IS) == 1, "cleared by software only"
    driver.set_host(a.IS, 1)
    assert driver.host(a.IS) == 0


def test_narrow_accesses(driver):
    vm, base = driver.vm, driver.base
    assert vm.bus.read(base + a.SIG, 2) == 0x0101
    assert vm.bus.read(base + a.SIG + 2, 1) == 0
    assert vm.bus.read(base + a.CLB, 8) == a.COMMAND_LIST
    vm.bus.write(base + a.CLB, 8, 0x1_2345_6FFF)
    assert vm.bus.read(base + a.CLB, 8) == 0x1_2345_6C00
    vm.bus.write(base + a.PXIE + 3, 1, 0x40)
    assert driver.read(a.PXIE) == 0x4000_0000
    driver.start()
    driver.identify()
    assert driver.read(a.PXIS) & a.PSS
    vm.bus.write(base + a.PXIS + 1, 1, 0xFF)
    assert driver.read(a.PXIS) & a.PSS, "a byte clears only its own bits"
    vm.bus.write(base + a.PXIS, 1, 0xFF)
    assert not driver.read(a.PXIS) & a.PSS


# --- hostile guests ---


def test_a_prdt_outside_memory_is_a_host_bus_error(driver):
    for prdt in ([(0x1000, 512)], [(a.ABAR, 512)], [((1 << 64) - 512, 512)], [(a.RAM + (64 << 20) - 256, 512)]):
        for opcode in (a.READ_DMA_EXT, a.WRITE_DMA_EXT, a.READ_FPDMA, a.IDENTIFY):
            assert driver.fail(opcode, 0, 1, prdt=prdt).interrupt_status & a.HBFS
    assert driver.identify()[0] == 0x0040


def test_a_short_prdt_overflows(driver, disk):
    data = pattern(4096)
    disk.write(0, data)
    driver.fill(BUFFER, b"\xa5" * 4096)
    assert driver.run(a.READ_DMA_EXT, 0, 8, prdt=[(BUFFER, 1000)]) == 1000
    assert driver.read(a.PXIS) & a.OFS
    assert driver.memory(BUFFER, 4096) == data[:1000] + b"\xa5" * 3096
    driver.write(a.PXIS, 0xFFFF_FFFF)
    assert driver.fail(a.WRITE_DMA_EXT, 8, 8, prdt=[(BUFFER, 1000)]).interrupt_status & a.OFS
    assert driver.fail(a.WRITE_DMA_EXT, 8, 8).interrupt_status & a.OFS
    assert disk.read(8 * 512, 4096) == bytes(4096)


def test_the_longest_prdt_is_bounded_work(driver):
    """65,535 entries of one byte each: 127 sectors and the PRDT has ended."""
    table = a.RAM + (16 << 20)
    driver.prepare(0, a.READ_DMA_EXT, 0, 1000)
    driver.fill(table, driver.memory(a.COMMAND_TABLES, 0x80) + struct.pack("<QII", BUFFER, 0, 0) * 65535)
    driver.fill(a.COMMAND_LIST, struct.pack("<IIQ", 5 | 65535 << 16, 0, table))
    driver.issue(1)
    driver.wait(1)
    assert driver.read(a.PXIS) & a.OFS
    assert driver.byte_count(0) == 65535


@pytest.mark.parametrize("register", [a.CLBU, a.FBU], ids=["command list", "received FIS"])
def test_structures_outside_memory(driver, register):
    driver.prepare(0, a.IDENTIFY, prdt=[(BUFFER, 512)])
    driver.write(register, 0xFFFF_FFFF)
    driver.issue(1)
    with pytest.raises(a.CommandFailed) as failure:
        driver.wait(1)
    assert failure.value.interrupt_status & a.HBFS
    driver.stop()
    driver.start()
    assert driver.identify()[0] == 0x0040


@pytest.mark.parametrize("flags", [0, 1, 4, 17, 31], ids=lambda n: f"CFL={n}")
def test_a_command_fis_of_impossible_length(driver, flags):
    driver.prepare(0, a.IDENTIFY, prdt=[(BUFFER, 512)])
    driver.fill(a.COMMAND_LIST, struct.pack("<I", flags | 1 << 16))
    driver.issue(1)
    with pytest.raises(a.CommandFailed) as failure:
        driver.wait(1)
    assert failure.value.interrupt_status & a.IFS
    driver.restart()
    assert driver.identify()[0] == 0x0040


def test_nothing_is_issued_while_stopped(driver):
    driver.stop()
    driver.prepare(0, a.IDENTIFY, prdt=[(BUFFER, 512)])
    driver.issue(0xFFFF_FFFF, queued=True)
    assert driver.read(a.CI) == 0
    assert driver.read(a.SACT) == 0


@pytest.mark.parametrize("seed", range(4))
def test_random_registers_commands_and_memory(driver, seed):
    """Whatever is written, the controller comes back after an HBA reset."""
    rng = random.Random(seed)
    bus = driver.vm.bus
    opcodes = [0x25, 0x35, 0x60, 0x61, 0xEC, 0x06, 0x2F, 0x20, 0x30, 0xEA, 0xEF, 0x42, 0xC4, 0x47]
    for _ in range(4000):
        choice = rng.random()
        if choice < 0.5:
            size = rng.choice((1, 2, 4, 8))
            bus.write(a.ABAR + rng.randrange(0, 0x200, size), size, rng.getrandbits(8 * size))
        elif choice < 0.6:
            driver.fill(a.RAM + rng.randrange(0, 0x12_0000, 4), rng.randbytes(4))
        elif choice < 0.8:
            prdt = [(BUFFER + rng.randrange(1 << 20), rng.randint(1, 1 << 22)) for _ in range(rng.randrange(4))]
            driver.prepare(
                rng.randrange(32),
                rng.choice(opcodes),
                rng.randrange(SECTORS + 100),
                rng.getrandbits(16),
                features=rng.getrandbits(8),
                device=rng.getrandbits(8) | 0x40,
                prdt=prdt,
            )
        elif choice < 0.9:
            driver.write(a.SACT, rng.getrandbits(32))
            driver.write(a.CI, rng.getrandbits(32))
        else:
            driver.write(a.SCTL, 0)
            driver.write(a.CMD, 0)
            driver.start()
    driver.reset_host()
    wait_for(lambda: driver.read(a.SSTS) == 0x133, "the link")
    driver.start()
    assert driver.identify()[0] == 0x0040


# --- pausing ---


# Issues slot 0, then counts in t3 how often PxCI still shows it.
ISSUE_AND_POLL = words(
    0x4000_02B7,  # lui t0, ABAR
    0x1382_8293,  # addi t0, t0, PORT0 + PxCI
    0x0010_0313,  # addi t1, zero, 1
    0x0062_A023,  # sw t1, 0(t0)
    0x0002_A383,  # lw t2, 0(t0)
    0x001E_0E13,  # addi t3, t3, 1
    0xFE03_9CE3,  # bnez t2, the load
    0x0000_006F,  # j .
)
UP_TO_THE_DOORBELL = 4


def polls_until_done(*stops: int) -> tuple[int, str]:
    """On a machine that stops after each of so many instructions."""
    disk = wirt.Disk.memory("1M", "ahci")
    with wirt.Machine(memory="16M", disks=[disk], firmware=ISSUE_AND_POLL, deterministic=True) as vm:
        driver = AhciDriver(vm)
        driver.prepare(0, a.READ_DMA_EXT, 0, 1, prdt=[(BUFFER, 512)])
        for instructions in stops:
            vm.run_for(instructions)
        assert driver.read(a.CI) == 0
        return vm.harts[0].x[28], vm.state_hash()


def test_a_stop_changes_nothing_of_when_a_command_is_done():
    polls, state = polls_until_done(50_000)
    assert polls > 1000, "the executor has its turn at the end of the slice, whose length is 10,000"
    for first in (UP_TO_THE_DOORBELL, UP_TO_THE_DOORBELL + 1, UP_TO_THE_DOORBELL + 1000):
        assert polls_until_done(first, 50_000 - first) == (polls, state)


def test_a_command_waits_for_a_machine_that_is_paused():
    with wirt.Machine(memory="16M", disks=[wirt.Disk.memory("1M", "ahci")], firmware=SPIN) as vm:
        driver = AhciDriver(vm)
        vm.start()
        vm.pause()
        driver.prepare(0, a.READ_DMA_EXT, 0, 1, prdt=[(BUFFER, 512)])
        driver.issue(1)
        # Nothing is under way whose end could change this.
        assert driver.read(a.CI) == 1
        before = vm.state_hash()
        assert vm.state_hash() == before
        vm.resume()
        driver.wait(1)
        assert driver.byte_count(0) == 512

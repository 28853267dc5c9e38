"""A source that has shown who it is and sends what no Wirt would: it is refused, and nothing else happens."""

from __future__ import annotations

import json
import random
import socket
import threading

import pytest

import wirt
from support.firmware import SPIN
from wirt.migration import destination, source
from wirt.migration.protocol import DISK_HEAD
from wirt.migration.transport import Broken, Channel, Kind, Security, of_socket

_VALUES = (None, True, False, -1, 0, 1, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 80, 1.5, "", "x" * 5000, [], {}, [[[]]])


def disks():
    return [wirt.Disk.memory("64K"), wirt.Disk.memory("64K", bus="ahci")]


def record(mode, folder):
    """The frames that a source sends on its first connection."""
    frames, connections = [], []
    connect, send = source.connect, Channel.send

    def note(self, kind, payload=b"", *, compressed=False):
        if self in connections[:1]:
            frames.append((kind, bytes(payload), compressed))
        return send(self, kind, payload, compressed=compressed)

    def note_connection(*arguments, **options):
        connections.append(connect(*arguments, **options))
        return connections[-1]

    got = []
    address = f"unix:{folder}/{mode}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "send", note)
        patch.setattr(source, "connect", note_connection)
        thread = threading.Thread(target=lambda: got.append(wirt.Machine.receive(address, disks=disks(), timeout=60)))
        thread.start()
        vm = wirt.Machine(firmware=SPIN, memory="16M", disks=disks())
        memoryview(vm.memory)[1 << 20 : (1 << 20) + 20000] = random.Random(0).randbytes(20000)
        vm.disks[0].write(4096, b"content" * 100)
        vm.start()
        while not (folder / mode).exists():
            thread.join(0.01)
        vm.migrate(address, mode=mode, storage=True, compress="never")
        thread.join(600)
    got[0].close()
    return frames


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Of each mode."""
    folder = tmp_path_factory.mktemp("recordings")
    return {mode: record(mode, folder) for mode in ("precopy", "postcopy", "hybrid")}


def changed_json(chance, payload):
    try:
        data = json.loads(payload)
    except ValueError:
        return payload  # changed before
    at, places = data, []
    while isinstance(at, dict | list) and at:
        key = chance.choice(list(at)) if isinstance(at, dict) else chance.randrange(len(at))
        places.append((at, key))
        if chance.random() < 0.3:
            break
        at = at[key]
    if not places:
        return payload
    parent, key = places[-1]
    how = chance.random()
    if how < 0.7:
        parent[key] = chance.choice(_VALUES)
    elif how < 0.85:
        del parent[key]
    elif isinstance(parent, dict):
        parent["more"] = 1
    else:
        parent.append(chance.choice(_VALUES))
    return json.dumps(data).encode()


def changed_bytes(chance, payload):
    data = bytearray(payload)
    how = chance.random()
    if how < 0.5 and data:
        for _ in range(chance.randrange(1, 5)):
            # Heads are where it matters.
            data[min(int(chance.expovariate(0.05)), len(data) - 1)] = chance.choice([0, 1, 0x7F, 0xFF, 0x10])
    elif how < 0.7:
        del data[chance.randrange(len(data) + 1) :]
    elif how < 0.85:
        data += chance.randbytes(chance.randrange(1, 300))
    else:
        data[:] = chance.randbytes(chance.randrange(200))
    return bytes(data)


def changed(chance, frames):
    """A list of frames that no source sends."""
    frames = list(frames)
    for _ in range(chance.randrange(1, 4)):
        # In post-copy most come after the machine is the destination's.
        at = chance.randrange(len(frames) if chance.random() < 0.3 else min(len(frames), 12))
        kind, payload, compressed = frames[at]
        how = chance.random()
        if how < 0.4 and payload[:1] == b"{":
            frames[at] = kind, changed_json(chance, payload), compressed
        elif how < 0.6:
            frames[at] = kind, changed_bytes(chance, payload), compressed
        elif how < 0.65:
            frames[at] = kind, payload, not compressed
        elif how < 0.7:
            frames[at] = kind, DISK_HEAD.pack(chance.randrange(3), chance.randrange(1 << 17), 1 << 40), False
        elif how < 0.8:
            frames[at] = chance.choice(list(Kind)), payload, compressed
        elif how < 0.85 and len(frames) > 1:
            del frames[at]
        elif how < 0.95:
            frames.insert(chance.randrange(len(frames) + 1), frames[at])
        else:
            other = chance.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
    return frames


def send_all(sock, frames):
    """Whatever the destination says; it may well have hung up."""
    channel = of_socket(sock.fileno(), Security(None, None, server=False), stall=60)
    try:
        for kind, payload, compressed in frames:
            channel.send(kind, payload, compressed=compressed)
        channel._socket.shutdown(socket.SHUT_WR)
        while True:
            channel.receive()
    except Broken:
        pass
    finally:
        channel.close()


@pytest.mark.parametrize("mode", ["precopy", "postcopy", "hybrid"])
@pytest.mark.parametrize("seed", range(4))
def test_what_no_source_sends_is_refused(recordings, receive, monkeypatch, mode, seed):
    monkeypatch.setattr(destination, "_STALL_S", 30.0)
    chance = random.Random(f"{mode} {seed}")
    ends = {True: 0, False: 0}
    for number in range(50):
        # The first as it was sent: what is tested does work.
        frames = recordings[mode] if number == 0 else changed(chance, recordings[mode])
        ours, theirs = socket.socketpair()
        with ours, theirs:
            there = receive(theirs.fileno(), disks=disks())
            send_all(ours, frames)
            there.join(600)
            assert not there.is_alive()
        if there.machine is None:
            assert number > 0
            assert isinstance(there.error, wirt.MigrationError), repr(there.error)
            assert "did not expect" not in str(there.error), frames
        else:
            there.machine.close()
        ends[there.machine is not None] += 1
    assert ends[False] >= 5

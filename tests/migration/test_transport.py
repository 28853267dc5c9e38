"""How long a connection is waited on."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import pytest

from wirt.migration import transport
from wirt.migration.transport import Broken, Kind, Security, of_socket


@pytest.fixture
def channels():
    ends = socket.socketpair()
    made = []

    def other():
        made.append(of_socket(ends[1].fileno(), Security(None, None, server=True), stall=600))

    thread = threading.Thread(target=other)
    thread.start()
    mine = of_socket(ends[0].fileno(), Security(None, None, server=False), stall=600)
    thread.join()
    yield mine, made[0]
    for end in (mine, made[0], *ends):
        end.close()


class Time:
    """A clock that jumps by so much at each look."""

    def __init__(self, step):
        self.looks = 0
        self._times = itertools.count(0.0, step)

    def monotonic(self):
        self.looks += 1
        return next(self._times)

    def __getattr__(self, name):
        return getattr(time, name)


def test_time_in_which_this_process_was_stopped_does_not_count(channels, monkeypatch):
    mine, _ = channels
    clock = Time(3600.0)
    monkeypatch.setattr(transport, "time", clock)
    monkeypatch.setattr(transport, "_LOOK_S", 0.01)
    mine.set_stall(0.1)
    with pytest.raises(Broken, match=r"sent nothing for 0\.1 s"):
        mine.receive()
    # Each wait counts for twice what it was to last, at most.
    assert clock.looks == 1 + 5


def test_a_silent_side_is_given_up(channels):
    mine, other = channels
    mine.set_stall(0.1)
    with pytest.raises(Broken, match="sent nothing"):
        mine.receive()
    other.send(Kind.ready)
    mine.set_stall(600)
    assert mine.receive()[0] is Kind.ready


def test_tcp_asks_whether_the_other_host_is_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        with sock:
            transport._tune(sock)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            for option, value in transport._KEEPALIVE:
                assert sock.getsockopt(socket.IPPROTO_TCP, option) == value

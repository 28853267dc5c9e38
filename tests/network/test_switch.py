"""The learning switch (IEEE 802.1Q, 8.6 to 8.8) seen from end points on it."""

from __future__ import annotations

import pytest

import wirt

BROADCAST = b"\xff" * 6


def station(number: int) -> bytes:
    return b"\x02\0" + number.to_bytes(4, "big")


def frame(to: bytes, source: bytes, payload: bytes = b"payload") -> bytes:
    return to + source + b"\x88\xb5" + payload


def quiet(end_point: wirt.EndPoint) -> bool:
    return end_point.waiting == 0


@pytest.fixture
def lan() -> wirt.Switch:
    return wirt.Switch()


@pytest.fixture
def hosts(lan: wirt.Switch) -> list[wirt.EndPoint]:
    return [lan.endpoint() for _ in range(3)]


def test_broadcasts_reach_everyone_but_the_sender(hosts: list[wirt.EndPoint]) -> None:
    sent = frame(BROADCAST, station(0))
    hosts[0].send(sent)
    assert [host.recv(1) for host in hosts[1:]] == [sent, sent]
    assert quiet(hosts[0])


def test_unknown_stations_are_flooded_and_known_ones_are_not(hosts: list[wirt.EndPoint]) -> None:
    hosts[0].send(frame(station(1), station(0)))
    assert hosts[1].recv(1) == hosts[2].recv(1)
    hosts[1].send(frame(station(0), station(1)))
    assert hosts[0].recv(1) == frame(station(0), station(1))
    hosts[0].send(frame(station(1), station(0)))
    assert hosts[1].recv(1) == frame(station(1), station(0))
    assert quiet(hosts[2])


def test_a_station_that_moves_is_followed(hosts: list[wirt.EndPoint]) -> None:
    hosts[1].send(frame(BROADCAST, station(1)))
    hosts[2].send(frame(BROADCAST, station(1)))
    for host in hosts:
        while not quiet(host):
            host.recv(0)
    hosts[0].send(frame(station(1), station(0)))
    assert hosts[2].recv(1) == frame(station(1), station(0))
    assert quiet(hosts[1])


def test_a_frame_to_a_station_on_its_own_port_goes_nowhere(hosts: list[wirt.EndPoint]) -> None:
    hosts[0].send(frame(BROADCAST, station(7)))
    for host in hosts[1:]:
        host.recv(1)
    hosts[0].send(frame(station(7), station(0)))
    assert all(quiet(host) for host in hosts)


@pytest.mark.parametrize("to", [bytes.fromhex("0180c2000000"), bytes.fromhex("0180c200000e")])
def test_link_local_frames_are_not_forwarded(hosts: list[wirt.EndPoint], to: bytes) -> None:
    hosts[0].send(frame(to, station(0)))
    assert all(quiet(host) for host in hosts)


def test_a_group_address_as_source_is_dropped(hosts: list[wirt.EndPoint]) -> None:
    hosts[0].send(frame(BROADCAST, b"\x03" + bytes(5)))
    assert all(quiet(host) for host in hosts)


def test_a_port_that_floods_addresses_pushes_out_no_ones_but_its_own(hosts: list[wirt.EndPoint]) -> None:
    hosts[1].send(frame(BROADCAST, station(1)))
    for number in range(100, 4100):
        hosts[0].send(frame(station(1), station(number)))
    assert hosts[1].stats.received_frames == 4000
    assert hosts[2].stats.received_frames == 1, "only the broadcast"
    # The flooder's first address is forgotten, so frames for it are flooded.
    hosts[1].send(frame(station(100), station(1)))
    assert hosts[2].stats.received_frames == 2
    hosts[1].send(frame(station(4099), station(1)))
    assert hosts[2].stats.received_frames == 2


def test_an_unplugged_end_point_is_forgotten(lan: wirt.Switch, hosts: list[wirt.EndPoint]) -> None:
    hosts[1].send(frame(BROADCAST, station(1)))
    hosts[1].close()
    hosts[0].send(frame(station(1), station(0)))
    hosts[0].send(frame(BROADCAST, station(0)))
    assert hosts[2].stats.received_frames >= 2
    with pytest.raises(wirt.NetworkError):
        hosts[1].send(frame(BROADCAST, station(1)))
    # What was received before can still be read.
    assert hosts[2].recv(1) == frame(BROADCAST, station(1))


@pytest.mark.parametrize("size", [0, 13, 65_554])
def test_frames_of_impossible_length_are_refused(hosts: list[wirt.EndPoint], size: int) -> None:
    with pytest.raises(wirt.NetworkError, match="14 to 65553 bytes"):
        hosts[0].send(bytes(size))


def test_frames_longer_than_the_receiver_takes_are_dropped(hosts: list[wirt.EndPoint]) -> None:
    hosts[0].send(frame(BROADCAST, station(0), bytes(1518 - 14)))
    hosts[0].send(frame(BROADCAST, station(0), bytes(1519 - 14)))
    assert [host.waiting for host in hosts] == [0, 1, 1]


def test_a_full_queue_drops_and_says_so(hosts: list[wirt.EndPoint]) -> None:
    for _ in range(5000):
        hosts[0].send(frame(BROADCAST, station(0)))
    assert hosts[1].waiting + hosts[1].stats.dropped_frames == 5000
    assert hosts[1].stats.dropped_frames > 0


def test_receiving_times_out(hosts: list[wirt.EndPoint]) -> None:
    with pytest.raises(TimeoutError):
        hosts[0].recv(0.01)

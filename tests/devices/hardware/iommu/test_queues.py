"""The command, fault and page-request queues: every command, and every way in which a queue can go wrong."""

from __future__ import annotations

import pytest

from support.iommu import (
    BARE,
    CMD_ILL,
    CMD_TO,
    CQB,
    CQCSR,
    CQH,
    CQT,
    DDTP,
    EN,
    EN_ATS,
    EN_PRI,
    FCTL,
    FENCE_W_IP,
    FQB,
    FQCSR,
    FQH,
    FQT,
    IE,
    IPSR,
    MF,
    OF,
    OFF,
    PIP,
    PQB,
    PQCSR,
    PQH,
    PQT,
    PRPR,
    RAM,
    Bench,
    Fault,
    ats_inval,
    ats_prgr,
    iodir_ddt,
    iodir_pdt,
    iofence,
    iotinval_gvma,
    iotinval_vma,
)

NOWHERE = 0x4000_0000


# --- commands ---


def test_commands_are_carried_out_in_order(bench: Bench) -> None:
    flag = bench.allocate()
    for n in range(40):  # more than the queue holds
        assert bench.command(*iofence(address=flag + 4 * n, data=n + 1))
        assert bench.load(flag + 4 * n, 4) == n + 1
    for command in (
        iotinval_vma(),
        iotinval_vma(pscid=1),
        iotinval_vma(gscid=1, address=0x1000),
        iotinval_gvma(),
        iotinval_gvma(gscid=1),
        iotinval_gvma(gscid=1, address=0x1000),
        iodir_ddt(),
        iodir_ddt(5),
        iodir_pdt(5, 0xF_FFFF),
        ats_prgr(8, pid=1),
    ):
        assert bench.command(*command)
    assert bench.read(CQCSR) >> 8 & 0xF == 0


ILLEGAL = {
    "opcode 0": (0, 0),
    "opcode 5": (5, 0),
    "custom": (64, 0),
    "IOTINVAL function": (1 | 2 << 7, 0),
    "IOTINVAL reserved": (1 | 1 << 11, 0),
    "IOTINVAL reserved, high": (1, 1),
    "GVMA with PSCV": (1 | 1 << 7 | 1 << 32, 0),
    "IOFENCE function": (2 | 1 << 7, 0),
    "IOFENCE reserved": (2 | 1 << 14, 0),
    "IOFENCE address": (2, 1 << 62),
    "IODIR function": (3 | 2 << 7 | 1 << 33, 0),
    "IODIR reserved": (3 | 1 << 32, 0),
    "IODIR payload": (3, 1),
    "INVAL_DDT with PID": (3 | 1 << 12, 0),
    "INVAL_DDT too wide": iodir_ddt(64),
    "INVAL_PDT without DV": (3 | 1 << 7, 0),
    "ATS function": (4 | 2 << 7, 0),
    "ATS reserved": (4 | 1 << 34, 0),
    "all ones": ((1 << 64) - 1, (1 << 64) - 1),
}


@pytest.mark.parametrize("command", ILLEGAL.values(), ids=ILLEGAL)
def test_illegal_commands_stop_the_queue(bench: Bench, command: tuple[int, int]) -> None:
    bench.write(CQCSR, EN | IE)
    assert bench.command(*iofence())
    assert not bench.command(*command)
    assert bench.read(CQCSR) & CMD_ILL
    assert (bench.read(CQH), bench.read(IPSR)) == (1, 1)
    # Software mends it and goes on.
    bench.store(bench.commands_at + 16, *iofence())
    bench.write(CQCSR, EN | IE | CMD_ILL)
    assert (bench.read(CQH), bench.read(CQCSR) & CMD_ILL) == (2, 0)


def test_commands_that_the_capabilities_exclude() -> None:
    bench = Bench({"ats": False, "t2gpa": False, "nl": False, "s": False, "pd20": False})
    bench.directory(1)
    bench.command_queue()
    for command in (ats_inval(0), (1 | 1 << 34, 0), (1 | 1 << 10, 1 << 9), iodir_pdt(5, 1 << 17), iofence(wsi=True)):
        if command == iofence(wsi=True):
            assert bench.command(*command)  # wires are what there is
            continue
        assert not bench.command(*command)
        bench.store(bench.commands_at + 16 * bench.read(CQH), *iofence())
        bench.write(CQCSR, EN | CMD_ILL)


def test_fence_by_wire(bench: Bench) -> None:
    bench.write(CQCSR, EN | IE)
    assert bench.command(*iofence(wsi=True))
    assert bench.read(CQCSR) & FENCE_W_IP
    assert bench.core.wires[0]
    assert bench.command(*iofence(flags=3 << 12))  # it does not stop the queue
    bench.write(CQCSR, EN | IE | FENCE_W_IP)
    bench.write(IPSR, 1)
    assert not bench.core.wires[0]
    messages = Bench({"igs": 0})
    messages.directory(1)
    messages.command_queue()
    assert not messages.command(*iofence(wsi=True))
    assert messages.read(CQCSR) & CMD_ILL


def test_fence_to_where_nothing_is(bench: Bench) -> None:
    assert not bench.command(*iofence(address=NOWHERE, data=1))
    assert bench.read(CQCSR) & MF
    bench.write(CQCSR, EN | MF)  # tried again, with the same result
    assert bench.read(CQCSR) & MF
    assert bench.command  # the queue still stands where it was
    assert bench.read(CQH) == 0


def test_fence_to_an_interrupt_file(bench: Bench) -> None:
    assert bench.command(*iofence(address=0x2800_1000, data=42))
    assert bench.core.take_interrupts() == [(0x2800_1000, 42)]


def test_command_queue_that_is_not_memory(bench: Bench) -> None:
    bench.write(CQCSR, 0)
    bench.write(CQB, NOWHERE >> 2 | 3, 8)
    bench.write(CQT, 1)
    assert bench.read(CQH) == 0  # off
    bench.write(CQCSR, EN)
    assert bench.read(CQCSR) & MF
    bench.write(CQCSR, 0)
    bench.write(CQB, ((1 << 44) - 1) << 10 | 31, 8)
    bench.write(CQCSR, EN | MF)
    bench.write(CQT, 0xFFFF_FFFF)
    assert bench.read(CQCSR) & MF


def test_a_disabled_queue_does_nothing(bench: Bench) -> None:
    flag = bench.allocate()
    bench.write(CQCSR, 0)
    assert not bench.command(*iofence(address=flag, data=7))
    assert bench.load(flag, 4) == 0
    bench.write(CQCSR, EN)  # it starts with what is there
    assert bench.load(flag, 4) == 7


# --- ATS ---


def test_invalidation_and_its_completion(bench: Bench) -> None:
    flag = bench.allocate()
    assert bench.command(*ats_inval(0x18, 0x1234_5000))
    (message,) = bench.core.take_messages()
    assert (message["code"], message["rid"], message["payload"]) == (1, 0x18, 0x1234_5000)
    assert not bench.command(*iofence(address=flag, data=1))  # waits
    assert bench.load(flag, 4) == 0
    tag = 1 << message["tag"]
    assert not bench.core.invalidation_completed(0x20, 1 << 32 | tag)  # from somebody else
    assert not bench.core.invalidation_completed(0x18, 1 << 32 | 1 << 31)  # of something else
    assert bench.core.invalidation_completed(0x18, 2 << 32 | tag)  # one of two
    assert bench.load(flag, 4) == 0
    assert bench.core.invalidation_completed(0x18, 2 << 32 | tag)
    assert (bench.load(flag, 4), bench.read(CQH)) == (1, bench.read(CQT))


def test_invalidation_that_times_out(bench: Bench) -> None:
    assert bench.command(*ats_inval(0x18))
    (message,) = bench.core.take_messages()
    assert not bench.command(*iofence())
    bench.core.invalidation_timed_out(1 << message["tag"])
    assert bench.read(CQCSR) & CMD_TO
    bench.write(CQCSR, EN | CMD_TO)
    assert bench.read(CQH) == bench.read(CQT)
    bench.core.accept_messages = False  # no device takes messages
    assert bench.command(*ats_inval(0x18))
    assert not bench.command(*iofence())
    assert bench.read(CQCSR) & CMD_TO


def test_more_invalidations_than_tags() -> None:
    bench = Bench()
    bench.directory(1)
    bench.command_queue(7)
    done = [bench.command(*ats_inval(8)) for _ in range(33)]
    assert done == [True] * 32 + [False]
    assert sorted(message["tag"] for message in bench.core.take_messages()) == list(range(32))
    assert bench.core.invalidation_completed(8, 1 << 32 | 1 << 3)
    assert [message["tag"] for message in bench.core.take_messages()] == [3]
    assert bench.read(CQH) == bench.read(CQT)


def test_page_request_group_response(bench: Bench) -> None:
    assert bench.command(*ats_prgr(0x18, 0x5_0000_0000, pid=9))
    assert bench.core.take_messages() == [
        {"code": 5, "tag": 0, "rid": 0x18, "dseg": None, "pid": 9, "payload": 0x5_0000_0000}
    ]


# --- the fault queue ---


def test_a_full_fault_queue_overflows() -> None:
    bench = Bench()
    bench.fault_queue(2)
    bench.directory(1)
    bench.write(FQCSR, EN | IE)
    for _ in range(3):
        bench.request(5, 0)
    assert (bench.read(FQT), bench.read(FQCSR) & OF) == (3, 0)
    bench.request(5, 0)
    assert (bench.read(FQT), bench.read(FQCSR) & OF) == (3, OF)
    assert bench.causes() == [258] * 3
    bench.request(5, 0)
    assert bench.causes() == []  # until software clears the error
    bench.write(FQCSR, EN | OF)
    bench.request(5, 0)
    assert bench.causes() == [258]


def test_a_fault_queue_that_is_not_memory(bench: Bench) -> None:
    bench.write(FQCSR, 0)
    bench.write(FQB, NOWHERE >> 2 | 3, 8)
    bench.write(FQCSR, EN | IE)
    bench.request(5, 0)
    assert (bench.read(FQCSR) & MF, bench.read(FQT)) == (MF, 0)
    bench.write(IPSR, 2)
    assert bench.read(IPSR) == 2
    bench.write(FQCSR, 0)
    bench.request(5, 0)
    bench.write(FQB, RAM >> 2 | 3, 8)
    bench.write(FQCSR, EN)
    assert (bench.read(FQCSR) & (MF | OF), bench.read(FQT)) == (0, 0)


def test_fault_queue_head_beyond_the_queue(bench: Bench) -> None:
    bench.write(FQH, 0xFFFF_FFFF)
    assert bench.read(FQH) == 15
    bench.request(5, 0)
    assert bench.read(FQT) == 1


# --- page requests ---

L, W, R = 4, 2, 1


def test_page_requests(bench: Bench) -> None:
    bench.page_queue()
    bench.write(PQCSR, EN | IE)
    bench.device(5, tc=EN_ATS | EN_PRI)
    bench.core.page_request(5, 0x1000 | L | W | R, pid=3, privileged=True, execute=True)
    bench.core.page_request(5, 0x2000 | R, privileged=True)
    assert bench.read(PQT) == 2
    assert bench.load(bench.pages_at) == 5 << 40 | 7 << 32 | 3 << 12
    assert bench.load(bench.pages_at + 8) == 0x1007
    assert bench.load(bench.pages_at + 16) == 5 << 40
    assert bench.read(IPSR) == PIP
    assert bench.core.take_messages() == []


def responses(bench: Bench, device_id: int = 5, **how: object) -> list[tuple[int, int | None]]:
    """Response codes and PASIDs the IOMMU itself answers with."""
    bench.core.page_request(device_id & 0xFFFF, 9 << 3 | L | R, dseg=device_id >> 16 or None, **how)
    out = [(message["payload"] >> 44 & 0xF, message["pid"]) for message in bench.core.take_messages()]
    # Nobody answers what is not the last of its group, nor a stop marker.
    bench.core.page_request(device_id & 0xFFFF, 9 << 3 | R, dseg=device_id >> 16 or None, **how)
    bench.core.page_request(device_id & 0xFFFF, 9 << 3 | L, dseg=device_id >> 16 or None, **how)
    assert bench.core.take_messages() == []
    return out


SUCCESS, INVALID, FAILURE = 0, 1, 15


def test_page_requests_that_cannot_be_queued(bench: Bench) -> None:
    assert responses(bench, pid=3) == [(FAILURE, 3)]  # no context
    bench.device(4)
    assert responses(bench, 4, pid=3) == [(INVALID, None)]  # no EN_PRI
    bench.device(6, tc=EN_ATS | EN_PRI | PRPR)
    assert responses(bench, 6, pid=3) == [(FAILURE, 3)]  # no queue
    assert responses(bench, 1 << 16, pid=3) == [(INVALID, None)]  # too wide
    assert bench.causes() == [258] * 3 + [260] * 6
    bench.write(DDTP, OFF, 8)
    assert responses(bench, 6) == [(FAILURE, None)]
    bench.write(DDTP, BARE, 8)
    assert responses(bench, 6) == [(INVALID, None)]
    assert [(fault.cause, fault.ttyp, fault.iotval) for fault in bench.faults()] == [(256, 9, 4)] * 3 + [
        (260, 9, 4)
    ] * 3


def test_page_request_queue_full_and_broken(bench: Bench) -> None:
    bench.device(5, tc=EN_ATS | EN_PRI)
    bench.device(6, tc=EN_ATS | EN_PRI | PRPR)
    bench.page_queue(1)
    bench.core.page_request(5, L | R)
    assert responses(bench, 5, pid=3) == [(SUCCESS, None)]
    assert responses(bench, 6, pid=3) == [(SUCCESS, 3)]
    assert bench.read(PQCSR) & OF
    bench.write(PQH, 1)
    bench.write(PQCSR, EN | OF)
    bench.write(PQCSR, 0)
    bench.write(PQB, NOWHERE >> 2, 8)
    bench.write(PQCSR, EN)
    assert responses(bench, 5, pid=3) == [(FAILURE, 3)]
    assert bench.read(PQCSR) & MF
    assert bench.faults() == []


def test_page_requests_fault_with_their_process(bench: Bench) -> None:
    bench.core.page_request(7, L | R, pid=3, privileged=True)
    assert bench.faults() == [Fault(258, 9, 7, 1, 3, 1, 4, 0)]


def test_big_endian_commands() -> None:
    bench = Bench()
    bench.write(FCTL, 3)
    bench.big_endian = True
    bench.directory(1)
    bench.command_queue()
    flag = bench.allocate()
    assert bench.command(*iofence(address=flag, data=0x1122_3344))
    assert bench.core.memory_read(flag, 4) == bytes.fromhex("11223344")
    assert bench.read(FQT) == 0

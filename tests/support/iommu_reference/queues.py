"""Cases about the queues: commands of all kinds, legal or not, queues that overflow or lie outside memory, and
software that clears what was reported, drains, and turns a queue off and on (sections 4 and 6.7 to 6.20)."""

from __future__ import annotations

from .cases import (
    COMMAND_QUEUE,
    CQB,
    CQCSR,
    DDTP,
    FAULT_QUEUE,
    FCTL,
    FQB,
    FQCSR,
    FQH,
    FQT,
    ICVEC,
    IPSR,
    MESSAGES,
    MSI_CFG_TBL,
    PAGE,
    PAGE_QUEUE,
    PQB,
    PQCSR,
    PQH,
    PQT,
    RAM,
    SCRATCH,
    Case,
    Command,
    Completion,
    Drain,
    Operation,
    Repair,
    Write,
    mask,
)
from .changes import ATS, GVMA, INVAL_DDT, INVAL_PDT, IOFENCE, VMA, iodir, iofence, iotinval
from .walks import Generator

ENABLE, INTERRUPT = 1, 2
# The bits of cqcsr, fqcsr and pqcsr that are cleared by writing 1 to them.
ERRORS = {CQCSR: 0xF00, FQCSR: 0x300, PQCSR: 0x300}


class QueueGenerator(Generator):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        # What software has enabled of each queue's interrupts.
        self.interrupts: dict[int, int] = {}
        self.answers = False

    def _control(self, control: int, cleared: int) -> Write:
        """Keeps a queue on and clears errors; its interrupt is enabled or disabled when it clears all.

        An error that stands when the interrupt is enabled makes it pending (section 4.2, "when an error bit is
        1"), which the model forgets.
        """
        if cleared == ERRORS[control]:
            self.interrupts[control] = self.rng.chance(80) * INTERRUPT
        return Write(control, 4, ENABLE | self.interrupts[control] | cleared)

    def _reserved(self, low: int, high: int, bits: list[int]) -> tuple[int, int]:
        """The command, now and then with one bit set that has to be 0."""
        if self.rng.chance(12):
            bit = self.rng.choice(bits)
            return low | (1 << bit & mask(64)), high | (1 << bit >> 64)
        return low, high

    def _iotinval(self) -> tuple[int, int]:
        rng = self.rng
        function = rng.choice([VMA, GVMA])
        process = rng.bits(20) if rng.chance(40 if function == VMA else 8) else None
        low, high = iotinval(function, rng.choice([None, rng.bits(16)]), process, rng.choice([None, rng.bits(64)]))
        return self._reserved(low, high, [8, 9, 11, *range(34, 44), *range(60, 74), 126, 127])

    def _device_id(self) -> int:
        # One wider than ddtp.iommu_mode "must not be" given (section 4.1.3): illegal on Wirt, fine with the model.
        return self.rng.bits(self.device_id_width())

    def _iodir(self) -> tuple[int, int]:
        rng = self.rng
        if rng.chance(50):
            low, high = iodir(INVAL_DDT, rng.choice([None, self._device_id()]))
            return self._reserved(low, high, [8, 9, 10, 11, *range(12, 33), *range(34, 40), *range(64, 128)])
        low, high = iodir(INVAL_PDT, None if rng.chance(10) else self._device_id(), rng.bits(20))
        return self._reserved(low, high, [8, 9, 10, 11, 32, *range(34, 40), *range(64, 128)])

    def _iofence(self) -> tuple[int, int]:
        rng = self.rng
        low, high = IOFENCE | rng.below(4) << 12, 0
        if rng.chance(40):
            inside = RAM + SCRATCH * PAGE + (rng.bits(12) & ~3)
            low |= 1 << 10 | rng.bits(32) << 32
            high = (inside if rng.chance(85) else rng.bits(64)) >> 2
        low |= rng.chance(20) << 11
        return self._reserved(low, high, [7, 8, 9, *range(14, 32), 126, 127])

    def _ats(self) -> tuple[int, int]:
        """A page request group's response: no completion is awaited (section 4.1.4)."""
        rng = self.rng
        low = ATS | 1 << 7 | rng.bits(20) << 12 | rng.below(4) << 32 | rng.bits(24) << 40
        return self._reserved(low, rng.bits(64), [8, 9, 10, 11, *range(34, 40)])

    def command(self) -> tuple[int, int]:
        rng = self.rng
        if rng.chance(5):
            low = rng.bits(64) & ~(mask(24) << 40)
            # An invalidation request would wait for a completion.
            return low | (low & mask(10) == ATS) << 9, rng.bits(64)
        if rng.chance(3):
            return rng.choice([opcode for opcode in range(128) if opcode != ATS]), 0
        return rng.choice([self._iotinval, self._iotinval, self._iodir, self._iofence, self._iofence, self._ats])()

    def _queue(self, base: int, control: int, page: int, largest: int) -> list[Write]:
        """A queue, and that it is on, mostly."""
        rng = self.rng
        number = (RAM >> 12) + page
        if rng.chance(6):
            number = rng.choice([0x10, rng.bits(44) | 1 << 43, rng.bits(44)])
        size = rng.choice([0, 0, 1, 2, largest])
        self.interrupts[control] = rng.chance(70) * INTERRUPT
        on = rng.chance(93) * ENABLE | self.interrupts[control]
        return [Write(base, 8, number << 10 | size), Write(control, 4, on)]

    def _command_queue(self) -> list[Write]:
        self.interrupts[CQCSR] = self.rng.chance(70) * INTERRUPT
        place = Write(CQB, 8, (RAM >> 12) + COMMAND_QUEUE << 10 | 7)
        return [place, Write(CQCSR, 4, ENABLE | self.interrupts[CQCSR])]

    def _again(self) -> list[Operation]:
        """A queue is turned off, its head and its tail set to 0, and on."""
        rng = self.rng
        control, base, head, page = rng.choice(
            [(FQCSR, FQB, FQH, FAULT_QUEUE), (PQCSR, PQB, PQH, PAGE_QUEUE)] if self.capabilities.ats
            else [(FQCSR, FQB, FQH, FAULT_QUEUE)])  # fmt: skip
        place, _ = self._queue(base, control, page, 6)
        return [Write(control, 4, 0), place, Write(head, 4, 0), self._control(control, ERRORS[control])]

    def _vectors(self) -> list[Write]:
        """Which vector a cause has, and where its message goes: interrupt files, memory, nowhere."""
        rng = self.rng
        writes = [Write(ICVEC, 8, rng.bits(16))]
        for vector in range(4):
            start, size = MESSAGES
            nowhere = rng.choice([0x10, rng.bits(64), 1 << 60])
            address = rng.choice([start + rng.below(size), start + rng.below(size), RAM + SCRATCH * PAGE + rng.bits(12),
                                  nowhere]) & ~3  # fmt: skip
            at = MSI_CFG_TBL + 16 * vector
            writes += [Write(at, 8, address), Write(at + 8, 4, rng.bits(32)), Write(at + 12, 4, rng.chance(25))]
        return writes

    def _invalidations(self) -> list[Operation]:
        """ATS invalidation requests with a fence behind them, the answers, and what is not an answer.

        Two at a time, which is what the model can wait for; all are settled when this ends.
        """
        rng = self.rng
        targets = [rng.bits(16) | (rng.bits(8) << 16 if rng.chance(30) else 0) for _ in range(1 + rng.below(2))]
        commands = []
        for target in targets:
            low = ATS | rng.bits(20) << 12 | rng.chance(40) << 32 | (target > 0xFFFF) << 33 | target << 40
            commands.append((low, rng.bits(64)))
        if rng.chance(70):
            inside = RAM + SCRATCH * PAGE + (rng.bits(12) & ~3)
            commands.append((IOFENCE | 1 << 10 | rng.bits(32) << 32, inside >> 2))
        operations: list[Operation] = [Command(tuple(commands))]
        for tag, target in enumerate(targets):
            if rng.chance(30):
                wrong = rng.choice([Completion(target ^ 1, 1 << tag), Completion(target, 1 << 5)])
                operations.append(wrong)
            if rng.chance(25):
                operations.append(Completion(target, 1 << tag, timed_out=True))
                continue
            count = 1 + rng.below(3)
            operations += [Completion(target, 1 << tag, count)] * count
        return [*operations, Write(CQCSR, 4, ENABLE | self.interrupts[CQCSR] | ERRORS[CQCSR])]

    def _operate(self) -> list[Operation]:
        rng = self.rng
        kind = rng.below(100)
        if self.answers and kind < 40:
            return self._invalidations()
        if kind < 25:
            return [self.request()]
        if kind < 40:
            return [self.page_request()]
        if kind < 65 and not self.answers:
            return [Command(tuple(self.command() for _ in range(1 + rng.below(3))))]
        if kind < 75:
            return [Drain(FQT, FQH) if rng.chance(50) or not self.capabilities.ats else Drain(PQT, PQH)]
        if kind < 80:
            # One at a time: a message that fails for one makes another pending, in whichever order they are cleared.
            return [Write(IPSR, 4, 1 << rng.below(4))]
        if kind < 84:
            return [Write(MSI_CFG_TBL + 16 * rng.below(4) + 12, 4, rng.chance(40))]
        if kind < 90 and not self.answers:
            control = self._control(CQCSR, ERRORS[CQCSR])
            return [Repair(self.command() if rng.chance(20) else iofence(), control.value)]
        if kind < 97:
            register = rng.choice([FQCSR, PQCSR]) if self.capabilities.ats else FQCSR
            return [self._control(register, rng.choice([ERRORS[register], rng.bits(10) & ERRORS[register]]))]
        return self._again()

    def draw(self) -> Case:
        rng, build, case = self.rng, self.build, self.case
        self.mode = 2 + rng.below(3)
        self.directory = build.pages()
        self._device()
        # Either commands of all kinds, which may stop the queue, or invalidations that wait for devices.
        self.answers = self.capabilities.ats and rng.chance(25)
        case.setup = [
            Write(FCTL, 4, self.capabilities.features),
            *self._vectors(),
            *(self._command_queue() if self.answers else self._queue(CQB, CQCSR, COMMAND_QUEUE, 7)),
            *self._queue(FQB, FQCSR, FAULT_QUEUE, 6),
            # Section 6.15: without ATS the page-request queue's registers are 0, which the model forgets of one.
            *(self._queue(PQB, PQCSR, PAGE_QUEUE, 7) if self.capabilities.ats else []),
            Write(DDTP, 8, self.mode | self.directory << 10),
        ]
        operations: list[Operation] = []
        while len(operations) < 24:
            operations += self._operate()
        self._damage()
        case.watched = True
        case.words = build.images()
        case.second_stage = build.second_stage()
        case.operations = operations
        return case


def draw(seed: int) -> Case:
    """The case of this seed."""
    return QueueGenerator(seed).draw()

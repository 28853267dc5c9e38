"""Cases that count: the performance monitor's events and filters, and counters that overflow (section 6.21 to 6.24).

Software invalidates everything before each request, so that what is counted on the way does not depend on caches.
"""

from __future__ import annotations

from dataclasses import replace

from .cases import (
    ATS_REQUEST,
    DDTP,
    IOCNTOVF,
    IOHPMCTR,
    IOHPMEVT,
    MESSAGES,
    MSI_CFG_TBL,
    Case,
    Command,
    Operation,
    Write,
    mask,
)
from .changes import GVMA, INVAL_DDT, VMA, iodir, iotinval
from .walks import Device, Generator

COUNTERS = 6
EVERYTHING = Command((iodir(INVAL_DDT, None), iotinval(VMA, None), iotinval(GVMA, None)))
EVENTS = 8
# TLB misses and walks of either stage: only these know a context's identifiers (table "Standard events list").
OF_CONTEXTS = 4, 7, 8
OVERFLOW, BY_CONTEXT, BY_DEVICE, BY_PROCESS, MASKED = 63, 62, 61, 60, 15


class CounterGenerator(Generator):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        # An entry beyond the physical address is no walk for the model, and one for Wirt.
        raw = self.capabilities.raw & ~(mask(6) << 32) | 56 << 32
        self.capabilities = self.case.capabilities = self.build.capabilities = replace(self.capabilities, raw=raw)

    def _event(self) -> int:
        """An event selector: what is counted, and for whom."""
        rng = self.rng
        device: Device | None = rng.choice([*self.devices, None])
        device_id = device.device_id if device else rng.bits(24)
        process_id = next((one for one in device.spaces if one is not None), 0) if device else rng.bits(20)
        value = 1 + rng.below(EVENTS)
        if value in OF_CONTEXTS and rng.chance(50):
            # By the context's identifiers; which exist here is for the generator to know.
            value |= 1 << BY_CONTEXT
            device_id = device.second.gscid if device else rng.bits(16)
            process_id = 1 + rng.below(self.next_pscid)
        if rng.chance(35):
            value |= 1 << BY_DEVICE
        if rng.chance(35):
            value |= 1 << BY_PROCESS
        if rng.chance(30):
            # The lowest 0 of the identifier, and the ones below it, match anything.
            value |= 1 << MASKED
            device_id = device_id & ~mask(3) | mask(rng.below(3))
        return value | process_id << 16 | device_id << 36 | rng.chance(15) << OVERFLOW

    def _all(self) -> list[Operation]:
        """As many invalidations as there are address spaces of guests."""
        guests = [iotinval(VMA, device.second.gscid) for device in self.devices if device.second.mode]
        return [Command((*EVERYTHING.words, *guests))]

    def draw(self) -> Case:
        rng, build, case = self.rng, self.build, self.case
        self.mode = 2 + rng.below(3)
        self.directory = build.pages()
        for _ in range(1 + rng.below(2)):
            if build.room() > 60:
                self._device()
        operations: list[Operation] = []
        for _ in range(8 + rng.below(5)):
            request = self.request()
            if request.kind == ATS_REQUEST:
                # The model is asked twice for what may be written.
                request = replace(request, no_write=True)
            operations += [*self._all(), request]
        self._damage()
        case.words = build.images()
        case.second_stage = build.second_stage()
        # The overflow's message is taken; a fault of its own would come before the request's with the model.
        case.setup = [
            *self.queues(),
            Write(MSI_CFG_TBL, 8, MESSAGES[0]),
            Write(DDTP, 8, self.mode | self.directory << 10),
        ]
        for counter in range(COUNTERS):
            start = rng.bits(64) if rng.chance(40) else mask(64) - rng.below(6)
            case.setup += [Write(IOHPMCTR + 8 * counter, 8, start), Write(IOHPMEVT + 8 * counter, 8, self._event())]
        case.counters = (
            (IOCNTOVF, 4),
            *((IOHPMCTR + 8 * counter, 8) for counter in range(COUNTERS)),
            *((IOHPMEVT + 8 * counter, 8) for counter in range(COUNTERS)),
        )
        case.operations = operations
        return case


def draw(seed: int) -> Case:
    """The case of this seed."""
    return CounterGenerator(seed).draw()

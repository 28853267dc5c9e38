"""Cases in which software changes what the IOMMU may have cached, and invalidates no more than it has to.

The model keeps nothing between requests, so that it answers from memory as it is. An implementation with caches
gives the same answers exactly when its invalidations reach far enough: section 7.3 (guidelines for
invalidations) says what software owes for each kind of change, and that an entry that becomes valid needs none.
"""

from __future__ import annotations

from .cases import BUDGET, DDTP, PAGE, Case, Command, Operation, Store, Write, mask
from .tables import FirstStage, Format, SecondStage, Word
from .walks import Device, Generator

IOTINVAL, IOFENCE, IODIR, ATS = 1, 2, 3, 4
# Svnapot: the one size there is.
NAPOT = 16 * PAGE
VMA, GVMA, INVAL_DDT, INVAL_PDT = 0, 1, 0, 1


def iotinval(function: int, gscid: int | None, pscid: int | None = None, address: int | None = None) -> tuple[int, int]:
    """IOTINVAL.VMA or .GVMA (section 4.1.1): an operand that is None is not given."""
    low = IOTINVAL | function << 7
    if gscid is not None:
        low |= 1 << 33 | gscid << 44
    if pscid is not None:
        low |= 1 << 32 | pscid << 12
    if address is None:
        return low, 0
    return low | 1 << 10, (address & mask(64)) >> 12 << 10


def iodir(function: int, device_id: int | None, process_id: int = 0) -> tuple[int, int]:
    """IODIR.INVAL_DDT or .INVAL_PDT (section 4.1.3)."""
    low = IODIR | function << 7 | process_id << 12
    return (low if device_id is None else low | 1 << 33 | device_id << 40), 0


def iofence() -> tuple[int, int]:
    return IOFENCE, 0


class ChangeGenerator(Generator):
    """A directory, requests, and rounds of a change, its invalidations, and the same requests."""

    def _host(self, second: SecondStage) -> int | None:
        return second.gscid if second.mode else None

    def _context(self, device: Device) -> list[tuple[int, int]]:
        """What a changed device context asks for."""
        commands = [iodir(INVAL_DDT, device.device_id)]
        second = device.second
        if second.mode:
            return [*commands, iotinval(VMA, second.gscid), iotinval(GVMA, second.gscid)]
        if device.control >> 5 & 1:
            return [*commands, iotinval(VMA, None)]
        space = device.spaces[None]
        return [*commands, iotinval(VMA, None, space.pscid)] if space.mode else commands

    def _inside(self, address: int, form: Format, level: int, old: int) -> int:
        """Some address in the page: an invalidation that names any reaches all of a leaf (table IVMA)."""
        size = NAPOT if level == 0 and old >> 63 else form.size(level)
        return address & -size | self.rng.below(size // PAGE) * PAGE

    def invalidations(self, word: Word, old: int) -> list[tuple[int, int]]:
        rng, owner, role = self.rng, word.owner, word.role
        level = int(role[-1]) if role[-1].isdigit() else 0
        address = word.maps
        match owner:
            case FirstStage():
                address = owner.canonical(self._inside(address, owner.format, level, old))
                host = self._host(owner.second)
                exact = role.startswith("first-stage data") and rng.chance(75)
                return [iotinval(VMA, host, owner.pscid if rng.chance(75) else None, address if exact else None)]
            case SecondStage() if "data" in role or "MSI" in role:
                address = self._inside(address, owner.format, level, old)
                return [iotinval(GVMA, owner.gscid, None, address if rng.chance(75) else None)]
            case SecondStage():
                # What leads to tables and directories: the guest-physical addresses that entries cached from
                # them hold have changed their meaning.
                return [iotinval(GVMA, owner.gscid), iotinval(VMA, owner.gscid), iodir(INVAL_DDT, None)]
            case Device():
                return self._context(owner)
            case int():
                return [iodir(INVAL_DDT, owner)]
            case (int() as device_id, int() as process_id, FirstStage() as space):
                host = self._host(space.second)
                return [iodir(INVAL_PDT, device_id, process_id), iotinval(VMA, host, space.pscid)]
        return [iodir(INVAL_DDT, None)]

    def _keep_identifiers(self, word: Word, old: int, new: int) -> int:
        """Two address spaces with one identifier would be software's mistake, and so are global entries that
        are not in all of them."""
        kept = 0
        if word.role == "device second stage":
            kept = mask(16) << 44
        elif word.role in ("device attributes", "process attributes"):
            kept = mask(20) << 12
        elif word.role.startswith("first-stage"):
            kept = 1 << 5
        return new & ~kept | old & kept

    def draw(self) -> Case:
        rng, build, case = self.rng, self.build, self.case
        self.mode = 2 + rng.below(3)
        self.directory = build.pages()
        for _ in range(1 + rng.below(2)):
            if build.room() > BUDGET // 2:
                self._device()
        for word in build.reachable.values():
            if word.role.startswith("first-stage"):
                build.words[word.address] &= ~(1 << 5)
        requests = [self.request() for _ in range(5 + rng.below(4))]
        operations: list[Operation] = [*requests, *requests[:2]]
        current = dict(build.words)
        changed: list[Word] = []
        for _ in range(3 + rng.below(3)):
            if changed and rng.chance(50):
                word = changed.pop()
                value = build.words[word.address]
            else:
                word = rng.choice(list(build.reachable.values()))
                old = current[word.address]
                value = self._keep_identifiers(word, old, word.damage(rng, old) & mask(8 * word.size))
                changed.append(word)
            operations.append(Store(word.address, build.image(word.address, value)))
            appeared = word.role not in _WHOLE and not current[word.address] & 1 and value & 1
            if not (appeared and rng.chance(60)):
                operations.append(Command((*self.invalidations(word, current[word.address]), iofence())))
            current[word.address] = value
            operations += requests
        case.words = build.images()
        case.second_stage = build.second_stage()
        case.setup = [*self.queues(), Write(DDTP, 8, self.mode | self.directory << 10)]
        case.operations = operations
        return case


# Words without a V bit of their own: bit 0 is part of something else.
_WHOLE = {"device second stage", "device attributes", "device first stage", "process first stage", "MSI table",
          "MSI mask", "MSI pattern", "MSI reserved", "MSI entry, high"}  # fmt: skip


def draw(seed: int) -> Case:
    """The case of this seed."""
    return ChangeGenerator(seed).draw()

"""Random device directories, page tables and requests, drawn so that every rule of the IOMMU is met often.

A case is first built to be valid (RISC-V IOMMU 1.0, chapter 3: directories, process directories, first- and
second-stage page tables, MSI page tables) and then, in most cases, one to three of the words that the requests
will meet are damaged in a way that suits what they are. Everything comes from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cases import (
    ATS_REQUEST,
    COMMAND_QUEUE,
    CQB,
    CQCSR,
    DDTP,
    FAULT_QUEUE,
    FCTL,
    FQB,
    FQCSR,
    PAGE,
    PAGE_QUEUE,
    PQB,
    PQCSR,
    RAM,
    TRANSLATED,
    UNTRANSLATED,
    Capabilities,
    Case,
    Debug,
    Operation,
    PageRequest,
    Random,
    Request,
    Write,
    mask,
)
from .tables import (
    ATTRIBUTES,
    DEVICE_CONTROL,
    MSI_HIGH,
    MSI_LOW,
    MSI_TABLE,
    NON_LEAF_DIRECTORY,
    PATTERN,
    PROCESS_ATTRIBUTES,
    PROCESS_ROOT,
    ROOT,
    Builder,
    FirstStage,
    SecondStage,
    beyond,
    flip,
    one_of,
    weight,
)


@dataclass
class Device:
    device_id: int
    context: int
    control: int
    second: SecondStage
    # By process_id; None is for requests without one.
    spaces: dict[int | None, FirstStage]


class Generator:
    """Draws one case."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.capabilities = Capabilities.draw(self.rng)
        self.case = Case(seed, self.capabilities)
        self.build = Builder(self.rng, self.capabilities)
        self.devices: list[Device] = []
        self.next_pscid = 1
        self.mode = 0
        self.directory = 0

    # Directories.

    def device_index(self, device_id: int) -> tuple[int, int, int]:
        low = 6 if self.capabilities.msi_flat else 7
        return device_id & mask(low), device_id >> low & mask(9), device_id >> low + 9

    def device_id_width(self) -> int:
        low = 6 if self.capabilities.msi_flat else 7
        return {2: low, 3: low + 9, 4: 24}.get(self.mode, 24)

    def _device_slot(self, device_id: int) -> int:
        build = self.build
        index = self.device_index(device_id)
        table = self.directory
        for level in range(self.mode - 2, 0, -1):
            address = (table << 12) + 8 * index[level]
            word = build.words.get(address)
            if word is None:
                word = build.pages() << 10 | 1
                build.put(address, word, "device directory", NON_LEAF_DIRECTORY)
            table = word >> 10 & mask(44)
        return (table << 12) + index[0] * (64 if self.capabilities.msi_flat else 32)

    def _pscid(self) -> int:
        self.next_pscid += 1
        return self.next_pscid

    def _process_directory(
        self, device_id: int, second: SecondStage, mode: int, sxl: bool
    ) -> tuple[int, dict[int | None, FirstStage]]:
        """A process directory with one to three processes in it: its pdtp.PPN, and their address spaces."""
        build, rng = self.build, self.rng
        root = second.table_page()
        tables = {root[0]: root[1]}
        spaces: dict[int | None, FirstStage] = {}
        width = {1: 8, 2: 17, 3: 20}[mode]
        for _ in range(1 + rng.below(3)):
            process_id = 0 if rng.chance(25) else rng.bits(width)
            if process_id in spaces or build.room() < 30:
                continue
            index = process_id & 0xFF, process_id >> 8 & 0x1FF, process_id >> 17
            table = root[1]
            for level in range(mode - 1, 0, -1):
                address = (table << 12) + 8 * index[level]
                word = build.words.get(address)
                if word is None:
                    guest, physical = second.table_page()
                    tables[guest] = physical
                    word = guest << 10 | 1
                    build.put(address, word, "process directory", NON_LEAF_DIRECTORY, device_id)
                table = tables[word >> 10 & mask(44)]
            modes = [0, *self.capabilities.first_stage(sxl) * 3]
            space = FirstStage(build, second, rng.choice(modes), self._pscid(), sxl)
            address = (table << 12) + 16 * index[0]
            attributes = 1 | rng.chance(75) << 1 | rng.chance(50) << 2 | space.pscid << 12
            owner = device_id, process_id, space
            build.put(address, attributes, "process attributes", PROCESS_ATTRIBUTES, owner)
            build.put(address + 8, space.iosatp, "process first stage", PROCESS_ROOT, owner)
            spaces[process_id] = space
        return root[0], spaces

    def _device(self) -> None:
        build, rng, caps = self.build, self.rng, self.capabilities
        device_id = rng.bits(self.device_id_width())
        if any(device.device_id == device_id for device in self.devices):
            return
        slot = self._device_slot(device_id)
        # Section 3.1.3.1: SXL is 1 under GXL, and otherwise free where GXL can be written; SBE is as free as BE.
        sxl = caps.gxl or (caps.gxl_writable and rng.chance(25))
        build.guest_big = rng.chance(40) if caps.end else caps.big
        second = SecondStage(build, rng.choice([0, 0, *caps.second_stage]), 1 + len(self.devices), sxl)
        pscid = self._pscid()
        control = 1 | build.guest_big << 10 | sxl << 11
        if caps.ats and rng.chance(60):
            control |= 1 << 1 | rng.below(2) << 2
            if control & 4:
                control |= rng.below(2) << 6
            if caps.t2gpa and second.mode and rng.chance(40):
                control |= 1 << 3
        control |= rng.chance(12) << 4
        if caps.amo_hwad:
            control |= rng.below(4) << 7
        if caps.process_directories and rng.chance(50):
            mode = rng.choice([0, *caps.process_directories * 3])
            control |= 1 << 5 | rng.chance(40) << 9
            first = mode << 60
            spaces: dict[int | None, FirstStage] = {}
            if mode:
                root, spaces = self._process_directory(device_id, second, mode, sxl)
                first |= root
            bare = FirstStage(build, second, 0, 0, sxl)
            if mode == 0:
                spaces[rng.bits(20)] = bare
            spaces[None] = spaces.get(0, bare) if control >> 9 & 1 else bare
        else:
            space = FirstStage(build, second, rng.choice([0, *caps.first_stage(sxl) * 2]), pscid, sxl)
            first = space.iosatp
            spaces = {None: space}
        device = Device(device_id, slot, control, second, spaces)
        build.put(slot, control, "device control", DEVICE_CONTROL, device)
        build.put(slot + 8, second.iohgatp, "device second stage", ROOT, device)
        build.put(slot + 16, pscid << 12, "device attributes", ATTRIBUTES, device)
        build.put(slot + 24, first, "device first stage", ROOT, device)
        self.devices.append(device)
        for space in dict.fromkeys(spaces.values()):
            for _ in range(1 + rng.below(3)):
                if build.room() > 12:
                    space.add()
        if caps.msi_flat:
            self._interrupt_files(device)

    # MSI page tables (section 3.1.3.6).

    def _interrupt_files(self, device: Device) -> None:
        build, rng = self.build, self.rng
        slot, second = device.context, device.second
        if not second.mode or build.room() < 16 or rng.chance(40):
            build.put(slot + 32, 0, "MSI table", one_of(flip(60), PATTERN), device)
            build.put(slot + 40, rng.bits(52) if rng.chance(10) else 0, "MSI mask", PATTERN, device)
            build.put(slot + 48, rng.bits(52) if rng.chance(10) else 0, "MSI pattern", PATTERN, device)
            build.put(slot + 56, 0, "MSI reserved", PATTERN, device)
            return
        choices = mask(3 + rng.below(4)) if rng.chance(50) else 0
        while not 1 <= choices.bit_count() <= 7:
            choices = rng.bits(second.table_bits) & rng.bits(second.table_bits) & rng.bits(second.table_bits)
        if rng.chance(3):
            choices = 0
        pattern = rng.bits(second.table_bits)
        table = build.pages()
        build.put(slot + 32, 1 << 60 | table, "MSI table", MSI_TABLE, device)
        build.put(slot + 40, choices, "MSI mask", PATTERN, device)
        build.put(slot + 48, pattern, "MSI pattern", PATTERN, device)
        build.put(slot + 56, 0, "MSI reserved", PATTERN, device)
        for _ in range(1 + rng.below(3)):
            file = pattern & ~choices | rng.bits(52) & choices
            index, position = 0, 0
            for bit in range(52):
                if choices >> bit & 1:
                    index |= (file >> bit & 1) << position
                    position += 1
            entry = (table << 12) + 16 * index
            if entry in build.words:
                continue
            if self.capabilities.msi_mrif and rng.chance(45):
                at = build.pages() << 12 | rng.below(8) << 9
                low = 1 | 1 << 1 | at >> 9 << 7
                notice = rng.bits(11)
                high = notice & mask(10) | build.physical_page() << 10 | notice >> 10 << 60
            else:
                low, high = 1 | 3 << 1 | build.physical_page() << 10, rng.bits(64) if rng.chance(20) else 0
            build.put(entry, low, "MSI entry", MSI_LOW, second, file << 12)
            build.put(entry + 8, high, "MSI entry, high", MSI_HIGH, second, file << 12)
            for space in dict.fromkeys(device.spaces.values()):
                if rng.chance(70) and build.room() > 6:
                    space.add(file << 12)

    # What is asked.

    def _address(self, device: Device, process_id: int | None) -> int:
        rng = self.rng
        space = device.spaces.get(process_id)
        if space is None or not space.addresses or rng.chance(6):
            spaces = list(device.spaces.values())
            space = rng.choice(spaces)
        if not space.addresses or rng.chance(4):
            return rng.bits(64) if rng.chance(50) else rng.bits(39)
        address = rng.choice(space.addresses) + (rng.bits(12) & ~7)
        if rng.chance(8):
            address += rng.choice([PAGE, -PAGE, PAGE << 4, PAGE << 9, 1 << 40, 1 << 62])
        return address & mask(64)

    def _stranger(self) -> int:
        """A device_id of no device, perhaps a wider one than there can be."""
        rng = self.rng
        device_id = rng.bits(24 if rng.chance(40) else self.device_id_width())
        # The model keeps eight bits of an index when it looks whether a device_id is too wide.
        if any(index > 0xFF and index & 0xFF == 0 for index in self.device_index(device_id)):
            return 0
        return device_id

    def _aim(self) -> tuple[int, int | None, int]:
        """A device_id, a process_id and an address, mostly ones that belong together."""
        rng = self.rng
        if not self.devices or rng.chance(4):
            return self._stranger(), rng.choice([None, rng.bits(20)]), rng.bits(39)
        device = rng.choice(self.devices)
        process_id = rng.choice(list(device.spaces))
        if rng.chance(5):
            process_id = rng.choice([None, rng.bits(8), rng.bits(17), rng.bits(20)])
        return device.device_id, process_id, self._address(device, process_id)

    def _gpa(self, device_id: int) -> int | None:
        """An address that a device with T2GPA would use in a translated request."""
        for device in self.devices:
            if device.device_id == device_id and device.control >> 3 & 1:
                bare = [space for space in device.spaces.values() if space.mode == 0 and space.addresses]
                if bare:
                    return self.rng.choice(self.rng.choice(bare).addresses)
                return device.second.data_page(PAGE) if self.build.room() > 8 else None
        return None

    def request(self) -> Request:
        rng = self.rng
        device_id, process_id, address = self._aim()
        ats = any(device.device_id == device_id and device.control & 2 for device in self.devices)
        kinds = [ATS_REQUEST] * 4 + [TRANSLATED] * 3 if ats or rng.chance(10) else []
        kind = rng.choice([UNTRANSLATED] * 5 + kinds)
        write = kind != ATS_REQUEST and rng.chance(45)
        execute = not write and process_id is not None and rng.chance(35)
        if kind == TRANSLATED:
            address = self._gpa(device_id) or address
        return Request(device_id, process_id, address, kind, write=write, execute=execute,
                       privileged=process_id is not None and rng.chance(35),
                       no_write=kind == ATS_REQUEST and rng.chance(50),
                       cxl=kind == ATS_REQUEST and rng.chance(20))  # fmt: skip

    def page_request(self) -> PageRequest:
        rng = self.rng
        device_id, process_id, address = self._aim()
        has = process_id is not None
        payload = address & ~0xFFF | rng.bits(9) << 3 | rng.below(8)
        return PageRequest(device_id, process_id, has and rng.chance(50), has and rng.chance(50), payload)

    def debug(self) -> Debug:
        rng = self.rng
        device_id, process_id, address = self._aim()
        control = 1 | rng.bits(3) << 1 | device_id << 40 | rng.chance(5) * rng.bits(8) << 4
        if process_id is not None:
            control |= process_id << 12 | 1 << 32
        return Debug(address, control)

    # The case.

    def _damage(self) -> None:
        rng = self.rng
        count = rng.choice([0, 0, 1, 1, 1, 2, 2, 3])
        # Leaves are many; what leads to them is met by more requests.
        for _ in range(count):
            words = list(self.build.reachable.values())
            roles = sorted({word.role for word in words})
            if not roles:
                return
            # What is met by every request of a device is not damaged so often that little else is seen.
            role = rng.choice([role for role in roles for _ in range(weight(role))])
            word = rng.choice([word for word in words if word.role == role])
            self.build.words[word.address] = word.damage(rng, self.build.words[word.address]) & mask(8 * word.size)
            self.case.damage.append(f"{word.role} at {word.address:#x}")

    def queues(self) -> list[Write]:
        """fctl, and all three queues on, a page each: 256 commands, 128 fault records, 256 page requests."""
        first = RAM >> 12
        return [
            Write(FCTL, 4, self.capabilities.features),
            Write(CQB, 8, first + COMMAND_QUEUE << 10 | 7),
            Write(CQCSR, 4, 1),
            Write(FQB, 8, first + FAULT_QUEUE << 10 | 6),
            Write(FQCSR, 4, 1),
            *([Write(PQB, 8, first + PAGE_QUEUE << 10 | 7), Write(PQCSR, 4, 1)] if self.capabilities.ats else []),
        ]

    def directory_root(self) -> Write:
        root = self.directory
        if self.mode > 1 and self.rng.chance(1):
            root = beyond(0)(self.rng, root)
        return Write(DDTP, 8, self.mode | root << 10)

    def draw(self) -> Case:
        rng, build, case = self.rng, self.build, self.case
        self.mode = 4 if rng.chance(40) else rng.choice([2, 3]) if rng.chance(95) else rng.below(2)
        self.directory = build.pages()
        if self.mode > 1:
            for _ in range(1 + rng.below(3)):
                if build.room() > 60:
                    self._device()
        operations: list[Operation] = []
        for _ in range(8 + rng.below(9)):
            kind = rng.below(100)
            if kind < 84:
                operations.append(self.request())
            elif kind < 92 and self.capabilities.ats:
                operations.append(self.page_request())
            elif self.capabilities.dbg:
                operations.append(self.debug())
        self._damage()
        case.words = build.images()
        case.second_stage = build.second_stage()
        case.setup = [*self.queues(), self.directory_root()]
        case.operations = operations
        return case


def draw(seed: int) -> Case:
    """The case of this seed."""
    return Generator(seed).draw()

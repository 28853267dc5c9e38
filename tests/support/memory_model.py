"""RVWMO, the memory model of the Unprivileged ISA (chapter "RVWMO Memory Consistency Model"), for small programs.

A program is a few harts of a few accesses each. Its global memory orders are gone through one by one; the axioms (load
value, atomicity) and the thirteen rules of preserved program order decide which outcomes there may be. Memory is bytes,
so that accesses of different sizes may overlap. An AMO is one operation that loads and stores.

A program is written as one text a hart, its accesses separated by semicolons:

    w x 1            store 1 to x                 r x              load it
    amoadd x 1       also amoswap; amoadd.aqrl    lr.aq x, sc x 1  a reservation and its store
    fence rw,w       also fence.tso
    w.h x+2 1        two bytes, two behind x      r x addr:0       its address depends on the hart's load 0;
                                                                   likewise data:0 and ctrl:0

An outcome is what each load got, in order (an SC: 1 where it failed), and then what is left in each location.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

SIZES = {"b": 1, "h": 2, "w": 4, "d": 8}
Outcome = tuple[int, ...]
LOCATIONS = "xyzu"

_OPERATION = re.compile(
    r"(?P<name>w|r|amoadd|amoswap|lr|sc)(?:\.(?P<size>[bhwd]))?(?:\.(?P<order>aqrl|aq|rl))?"
    r" (?P<location>[xyzu])(?:\+(?P<offset>\d))?(?: (?P<value>0x[0-9a-f]+|\d+))?(?P<after>(?: (?:addr|data|ctrl):\d)*)"
)
_FENCE = re.compile(r"fence (?P<before>[rw]+),(?P<behind>[rw]+)")


@dataclass(eq=False)
class Operation:
    """One access, or a fence."""

    hart: int
    place: int
    name: str
    location: str = ""
    offset: int = 0
    size: int = 0
    value: int = 0
    acquire: bool = False
    release: bool = False
    # Loads of this hart, by their number, that its address, its data, or whether it comes to be depends on.
    address: frozenset[int] = frozenset()
    data: frozenset[int] = frozenset()
    control: frozenset[int] = frozenset()
    fences: tuple[tuple[str, str], ...] = ()  # what is before, what is behind
    number: int | None = None  # of the hart's loads, which SC and AMO are too
    source: dict[int, Operation | None] = field(default_factory=dict)  # of each byte, in the present order

    @property
    def loads(self) -> bool:
        return self.name in ("r", "lr", "amoadd", "amoswap")

    @property
    def stores(self) -> bool:
        return self.name in ("w", "sc", "amoadd", "amoswap")

    @property
    def bytes(self) -> list[int]:
        start = 8 * LOCATIONS.index(self.location) + self.offset
        return list(range(start, start + self.size))

    def is_any_of(self, kinds: str) -> bool:
        return ("r" in kinds and self.loads) or ("w" in kinds and self.stores)


def parse(text: str, hart: int, size: int) -> list[Operation]:
    """The operations of one hart; `size` is that of accesses without one of their own."""
    operations: list[Operation] = []
    number = 0
    for place, part in enumerate(text.split(";")):
        part = part.strip()
        if part == "fence.tso":
            operations.append(Operation(hart, place, "fence", fences=(("r", "rw"), ("w", "w"))))
            continue
        if fence := _FENCE.fullmatch(part):
            operations.append(Operation(hart, place, "fence", fences=((fence["before"], fence["behind"]),)))
            continue
        found = _OPERATION.fullmatch(part)
        if found is None:
            raise ValueError(f"no operation: {part!r}")
        after: dict[str, set[int]] = {"addr": set(), "data": set(), "ctrl": set()}
        for kind, load in re.findall(r"(addr|data|ctrl):(\d)", found["after"]):
            after[kind].add(int(load))
        operation = Operation(
            hart,
            place,
            found["name"],
            found["location"],
            int(found["offset"] or 0),
            SIZES[found["size"]] if found["size"] else size,
            int(found["value"] or "0", 0),
            "aq" in (found["order"] or ""),
            "rl" in (found["order"] or ""),
            frozenset(after["addr"]),
            frozenset(after["data"]),
            frozenset(after["ctrl"]),
        )
        if operation.loads or operation.name == "sc":
            operation.number = number
            number += 1
        operations.append(operation)
    return operations


class Model:
    """What a program may do."""

    def __init__(self, harts: Sequence[str], size: int = 8) -> None:
        self.harts = [parse(text, hart, size) for hart, text in enumerate(harts)]
        self.operations = [operation for hart in self.harts for operation in hart]
        self.locations = sorted(
            {operation.location for operation in self.operations if operation.location}, key=LOCATIONS.index
        )

    def allowed(self) -> set[Outcome]:
        """All outcomes that RVWMO allows."""
        return self._outcomes(sequential=False)

    def sequential(self) -> set[Outcome]:
        """Those that there are when the harts' operations merely interleave."""
        return self._outcomes(sequential=True)

    def _outcomes(self, *, sequential: bool) -> set[Outcome]:
        found: set[Outcome] = set()
        conditional = [operation for operation in self.operations if operation.name == "sc"]
        for successes in itertools.product((True, False), repeat=len(conditional)):
            failed = {sc for sc, success in zip(conditional, successes, strict=True) if not success}
            if any(self._paired(sc) is None for sc in conditional if sc not in failed):
                continue
            operations = [o for o in self.operations if o.name != "fence" and o not in failed]
            before = self._program_order(operations, sequential=sequential)
            for order in self._orders(operations, before):
                self._execute(order)
                if self._consistent(order):
                    found.add(self._outcome(failed, order))
        return found

    def _paired(self, sc: Operation) -> Operation | None:
        """The LR that a successful SC belongs to: the latest before it, with no other SC between."""
        for operation in reversed(self.harts[sc.hart][: sc.place]):
            if operation.name == "sc":
                return None
            if operation.name == "lr":
                return operation if operation.bytes == sc.bytes else None
        return None

    def _program_order(self, operations: list[Operation], *, sequential: bool) -> dict[Operation, set[Operation]]:
        """For each operation those that precede it in every global memory order, whatever is loaded."""
        before: dict[Operation, set[Operation]] = {operation: set() for operation in operations}
        for a, b in itertools.permutations(operations, 2):
            if a.hart == b.hart and a.place < b.place and (sequential or self._preserved(a, b)):
                before[b].add(a)
        return before

    def _preserved(self, a: Operation, b: Operation) -> bool:
        """Rules 1 and 4 to 11; 2, 3 and 12 depend on values, 13 is here too."""
        between = self.harts[a.hart][a.place + 1 : b.place]
        if b.stores and set(a.bytes) & set(b.bytes):
            return True  # 1
        for fence in between:
            if any(a.is_any_of(first) and b.is_any_of(then) for first, then in fence.fences):
                return True  # 4
        if a.acquire or b.release:
            return True  # 5, 6
        if (a.acquire or a.release) and (b.acquire or b.release):
            return True  # 7
        if b.name == "sc" and self._paired(b) is a:
            return True  # 8
        if a.number in b.address or a.number in b.data:
            return a.loads  # 9, 10
        if b.stores and a.loads:
            if any(a.number in operation.control for operation in (*between, b)):
                return True  # 11
            if any(a.number in operation.address for operation in between):
                return True  # 13
        return False

    @staticmethod
    def _orders(operations: list[Operation], before: dict[Operation, set[Operation]]) -> Iterator[list[Operation]]:
        order: list[Operation] = []
        placed: set[Operation] = set()

        def extend() -> Iterator[list[Operation]]:
            if len(order) == len(operations):
                yield order
                return
            for operation in operations:
                if operation not in placed and before[operation] <= placed:
                    order.append(operation)
                    placed.add(operation)
                    yield from extend()
                    placed.remove(operation)
                    order.pop()

        return extend()

    def _execute(self, order: list[Operation]) -> None:
        """The load value axiom: the latest store in the order, of those before the load in it or in its hart."""
        position = {operation: i for i, operation in enumerate(order)}
        for load in order:
            if not load.loads:
                continue
            load.source = {}
            for byte in load.bytes:
                candidates = [
                    store
                    for store in order
                    if store.stores
                    and store is not load
                    and byte in store.bytes
                    and (position[store] < position[load] or (store.hart == load.hart and store.place < load.place))
                ]
                load.source[byte] = max(candidates, key=position.__getitem__, default=None)

    def _consistent(self, order: list[Operation]) -> bool:
        position = {operation: i for i, operation in enumerate(order)}
        for b in order:
            if b.name == "sc":
                lr = self._paired(b)
                assert lr is not None
                for byte in b.bytes:
                    source = lr.source[byte]
                    since = -1 if source is None else position[source]
                    if since > position[b]:
                        return False
                    between = order[since + 1 : position[b]]
                    if any(s.stores and s.hart != b.hart and byte in s.bytes for s in between):
                        return False  # atomicity
            if not b.loads:
                continue
            for a in order:
                if a.hart != b.hart or a.place >= b.place or position[a] < position[b]:
                    continue
                # a comes before b in the program and behind it in the order: not where these rules apply.
                between_in_program = self.harts[a.hart][a.place + 1 : b.place]
                stores = [m for m in between_in_program if m.stores and m in position]
                if a.loads:
                    for byte in set(a.bytes) & set(b.bytes):
                        if a.source[byte] is not b.source[byte] and not any(byte in m.bytes for m in stores):
                            return False  # 2
                    for m in stores:
                        if a.number in m.address | m.data and m in b.source.values():
                            return False  # 12
                if a.name != "w" and a.stores and a in b.source.values():
                    return False  # 3
        return True

    def _value(self, load: Operation) -> int:
        return sum(
            (0 if source is None else self._stored(source, byte)) << 8 * i
            for i, (byte, source) in enumerate(load.source.items())
        )

    def _stored(self, store: Operation, byte: int) -> int:
        value = store.value + self._value(store) if store.name == "amoadd" else store.value
        return value >> 8 * (byte - store.bytes[0]) & 0xFF

    def _outcome(self, failed: set[Operation], order: list[Operation]) -> Outcome:
        values = []
        for operation in self.operations:
            if operation.loads:
                values.append(self._value(operation))
            elif operation.name == "sc":
                values.append(int(operation in failed))
        for location in self.locations:
            start, value = 8 * LOCATIONS.index(location), 0
            for i in range(8):
                latest = next((s for s in reversed(order) if s.stores and start + i in s.bytes), None)
                value |= (0 if latest is None else self._stored(latest, start + i)) << 8 * i
            values.append(value)
        return tuple(values)

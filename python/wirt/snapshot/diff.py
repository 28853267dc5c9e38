"""What differs between two snapshots: registers and device fields by name, and ranges of guest memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wirt import _core
from wirt.snapshot.chain import Link, chain_of
from wirt.snapshot.memory import Content
from wirt.snapshot.reader import read_state

__all__ = ["Difference", "FieldChange", "MemoryRange", "compare"]

_PAGE = 4096
_DRAM = 0x8000_0000

Value = int | bytes | None


@dataclass(frozen=True)
class FieldChange:
    """A field of the state, by section and name; ``None`` where one of the two has no such field.

    Numbers are integers; arrays and buffers are bytes.
    """

    section: str
    field: str
    before: Value
    after: Value

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: bytes as hexadecimal text."""
        before, after = (value.hex() if isinstance(value, bytes) else value for value in (self.before, self.after))
        return {"section": self.section, "field": self.field, "before": before, "after": after}


@dataclass(frozen=True)
class MemoryRange:
    """Pages that differ: the first one's physical address, and how many bytes follow."""

    address: int
    length: int


@dataclass(frozen=True)
class Difference:
    """What differs. ``options`` names options of the machine's configuration with both values."""

    options: dict[str, tuple[Any, Any]]
    fields: list[FieldChange]
    memory: list[MemoryRange]

    def __bool__(self) -> bool:
        return bool(self.options or self.fields or self.memory)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "options": {name: list(values) for name, values in self.options.items()},
            "fields": [field.as_json() for field in self.fields],
            "memory": [{"address": run.address, "length": run.length} for run in self.memory],
        }


def compare(before: Link, after: Link) -> Difference:
    """What differs between two snapshots, of one machine or of two.

    Raises:
        SnapshotError: one of them is damaged.
    """
    options = [dict(link.manifest["machine"]["options"]) for link in (before, after)]
    first, second = (dict(_fields(read_state(link))) for link in (before, after))
    return Difference(
        options={name: (value, options[1][name]) for name, value in options[0].items() if value != options[1][name]},
        fields=[
            FieldChange(*name, first.get(name), second.get(name))
            for name in {**first, **second}
            if first.get(name) != second.get(name)
        ],
        memory=list(_memory(before, after)),
    )


def _fields(state: _core.SavedState) -> Iterator[tuple[tuple[str, str], Value]]:
    section = ""
    count: dict[tuple[str, str], int] = {}
    sections: dict[str, int] = {}
    for kind, name, value in state.records():
        if kind == "section":
            # There may be several of a name: a device's parts.
            sections[name] = sections.get(name, 0) + 1
            section = name if sections[name] == 1 else f"{name}#{sections[name]}"
            continue
        key = (section, name)
        count[key] = count.get(key, 0) + 1
        yield (section, name if count[key] == 1 else f"{name}[{count[key] - 1}]"), value


def _memory(before: Link, after: Link) -> Iterator[MemoryRange]:
    with Content(chain_of(before), verify=False) as first, Content(chain_of(after), verify=False) as second:
        if first.size != second.size:
            yield MemoryRange(_DRAM, max(first.size, second.size))
            return
        candidates = first.pages()
        candidates |= second.pages()
        different = _core.PageSet(candidates.pages)
        for start, count in candidates.runs():
            for page in range(start, start + count):
                if first.page(page) != second.page(page):
                    different.insert(page)
    for start, count in different.runs():
        yield MemoryRange(_DRAM + start * _PAGE, count * _PAGE)

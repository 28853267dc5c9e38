"""Every section with random values: what a device accepts it saves again, and goes on with."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt
from support.state_machines import machine, options
from support.state_records import BLOB, BYTES, INTEGER, SECTION, Record, join, replace, split
from wirt import _core, description
from wirt.errors import SnapshotError


class Template:
    """A machine's saved state, and machines of the same kind to load others into."""

    def __init__(self, name: str) -> None:
        self.name = name
        with machine(name) as vm:
            vm.run_for(1_100_000)
            self.described = description.parse(json.loads(json.dumps(description.describe(vm))))
            self.memory = _core.freeze(vm._core, 100)
            self.records = split(bytes(_core.save_state(vm._core)))
        self.sections: dict[str, list[int]] = {}
        current = ""
        for index, record in enumerate(self.records):
            if record.kind == SECTION:
                current = record.name
            else:
                self.sections.setdefault(current, []).append(index)

    def load(self, records: list[Record]) -> wirt.Machine:
        return description.build(
            self.described,
            memory=self.memory,
            state=_core.SavedState(join(records)),
            dtb=b"",
            disks=options()[self.name].get("disks", []),
        )


_templates: dict[str, Template] = {}


def template(name: str) -> Template:
    if name not in _templates:
        _templates[name] = Template(name)
    return _templates[name]


def randomised(record: Record, source: random.Random) -> Record:
    if record.kind == INTEGER:
        bits = source.choice((1, 2, 4, 8, record.width * 8))
        return replace(record, value=source.getrandbits(min(bits, record.width * 8)))
    assert isinstance(record.value, bytes)
    if record.kind == BLOB and source.random() < 0.3:
        return replace(record, value=record.value[: source.randrange(len(record.value) + 1)])
    data = bytearray(record.value)
    for _ in range(source.randrange(1, 5) if data else 0):
        data[source.randrange(len(data))] = source.choice((0, 1, 0xFF, source.randrange(256)))
    assert record.kind in (BYTES, BLOB)
    return replace(record, value=bytes(data))


@pytest.mark.parametrize("name", list(options()))
def test_the_format_is_as_described(name: str) -> None:
    """The tests' own reader and the package's agree."""
    records = template(name).records
    kinds = {SECTION: "section", INTEGER: "integer", BYTES: "bytes", BLOB: "blob"}
    assert [(kinds[record.kind], record.name, record.value) for record in records] == _core.SavedState(
        join(records)
    ).records()
    with template(name).load(records) as vm:
        assert split(bytes(_core.save_state(vm._core))) == records


@pytest.mark.parametrize("name", list(options()))
def test_every_section(name: str) -> None:
    """Each section gets random values a few times: refused, or saved again as it was loaded."""
    whole = template(name)
    source = random.Random(name)
    accepted = dict.fromkeys(whole.sections, 0)
    for section, indices in whole.sections.items():
        for _ in range(4):
            records = list(whole.records)
            for index in source.sample(indices, min(len(indices), source.choice((1, 1, 2)))):
                records[index] = randomised(records[index], source)
            accepted[section] += check(whole, records)
    # A loader that refused everything would pass all else.
    assert sum(count > 0 for count in accepted.values()) > len(accepted) * 0.6, accepted


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(options())), st.integers(0, 2**32), st.integers(1, 6))
def test_fields_all_over(name: str, seed: int, count: int) -> None:
    whole = template(name)
    source = random.Random(seed)
    records = list(whole.records)
    for _ in range(count):
        index = source.choice(source.choice(list(whole.sections.values())))
        records[index] = randomised(records[index], source)
    check(whole, records)


@pytest.mark.parametrize("name", list(options()))
def test_a_cable_that_is_not_as_it_was(name: str) -> None:
    """The NIC hears of it when the machine runs, and so does that of its copy."""
    whole = template(name)
    found = 0
    for section, indices in whole.sections.items():
        for index in indices:
            record = whole.records[index]
            if record.name != "link_up" or section.startswith("e1000e"):
                continue
            found += 1
            records = list(whole.records)
            records[index] = replace(record, value=1 - record.value)
            assert check(whole, records)
    assert found or not any("virtio-net" in section for section in whole.sections)


def check(whole: Template, records: list[Record]) -> bool:
    """Whether the state is accepted."""
    try:
        vm = whole.load(records)
    except SnapshotError:
        return False
    with vm:
        once = split(bytes(_core.save_state(vm._core)))
        with whole.load(once) as other:
            assert split(bytes(_core.save_state(other._core))) == once
            assert other.state_hash() == vm.state_hash()
            # Not run_for: a trap vector that traps retires nothing, for ever.
            for one in (vm, other):
                one.step(500)
            assert other.state_hash() == vm.state_hash()
    return True

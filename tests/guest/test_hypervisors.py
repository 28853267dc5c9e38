"""One kernel bare and on two hypervisors: that it comes to the same, and costs what the theory says, by counts."""

from __future__ import annotations

import dataclasses
import struct

import pytest

import wirt
from wirt.bench.virt import PLATFORMS, WORKS, Measurement, measure, run
from wirt.errors import StateError
from wirt.guest_image import guest_image

# What a section has beside its work: the call that ends it, and the pages that it is the first to touch.
INCIDENTAL = 64


@pytest.fixture(scope="module")
def measurement():
    return run()


def each(measurement, platform):
    return [measurement.sample(work, platform) for work in WORKS]


def test_every_work_on_every_platform(measurement):
    assert measurement.platforms == ["bare", "trap-and-emulate", "h-extension"]
    assert measurement.works == list(WORKS)


def test_results_are_equal(measurement):
    for work in WORKS:
        samples = [measurement.sample(work, platform) for platform in measurement.platforms]
        assert len({(sample.operations, sample.result) for sample in samples}) == 1


def test_counts_are_the_same_in_every_run(measurement):
    for platform in PLATFORMS:
        assert measure(platform) == each(measurement, platform.name)


def test_bare_has_no_exits_and_no_instruction_is_illegal(measurement):
    for sample in each(measurement, "bare"):
        assert sample.exits == {}
        assert "illegal instruction" not in sample.kernel_traps


def test_without_help_every_trap_ends_in_the_hypervisor(measurement):
    for sample in each(measurement, "trap-and-emulate"):
        assert sample.kernel_traps == {}
        assert sample.total_exits >= measurement.sample(sample.work, "bare").total_kernel_traps


def test_privileged_instructions_trap_in_the_one_and_not_in_the_other(measurement):
    for work in ("system-call", "context-switch"):
        emulated = measurement.sample(work, "trap-and-emulate")
        # csrrw twice, csrr of sepc, sstatus and scause, csrw of sscratch, sepc and sstatus, sret.
        assert emulated.exits["illegal instruction"] / emulated.operations >= 9
    for sample in each(measurement, "h-extension"):
        assert not {"illegal instruction", "virtual instruction"} & set(sample.exits)


def test_with_help_the_kernel_takes_its_own_traps(measurement):
    for sample in each(measurement, "h-extension"):
        bare = measurement.sample(sample.work, "bare")
        assert sample.total_kernel_traps == bare.total_kernel_traps
        if sample.work not in ("timer-sbi", "console"):
            assert sample.total_exits < INCIDENTAL, sample


def test_with_help_the_kernel_exits_when_it_calls_its_firmware(measurement):
    for work in ("timer-sbi", "console"):
        sample = measurement.sample(work, "h-extension")
        assert sample.operations <= sample.exits["environment call from VS-mode"] < sample.operations + 8
    assert measurement.sample("timer-stimecmp", "h-extension").total_exits < 8


def test_shadow_page_tables_fault_where_the_kernels_own_do_not(measurement):
    def faults(causes):
        return sum(count for cause, count in causes.items() if cause.endswith(" page fault"))

    # A page on demand: a fault for the kernel, and at least one more to fill the shadow with what it has mapped.
    bare, emulated = (measurement.sample("page-fault", platform) for platform in ("bare", "trap-and-emulate"))
    assert faults(emulated.exits) >= 2 * faults(bare.kernel_traps) >= 2 * bare.operations
    # A change of a mapping is a fence, which traps, and then a fault, which the bare machine has not.
    bare, emulated = (measurement.sample("mapping-change", platform) for platform in ("bare", "trap-and-emulate"))
    assert faults(bare.kernel_traps) == 0
    assert faults(emulated.exits) >= emulated.operations
    assert emulated.exits["illegal instruction"] >= emulated.operations


def test_walks_are_longer_with_two_stages_and_as_long_with_shadows(measurement):
    bare, emulated, helped = (measurement.sample("tlb-miss", platform) for platform in measurement.platforms)
    assert bare.page_walks >= bare.operations
    for sample in (emulated, helped):
        # The same misses, but for the hypervisor's own.
        assert bare.tlb_misses <= sample.tlb_misses < 1.5 * bare.tlb_misses
    assert bare.reads_per_walk <= 3
    assert emulated.reads_per_walk <= 3
    # (3 + 1) walks of three entries, and the three entries that they are for. To set A or D takes one walk more.
    assert 14.9 < helped.reads_per_walk < 15.1


def test_instructions_are_those_of_the_work_and_of_the_exits(measurement):
    for work in WORKS:
        bare, emulated, helped = (measurement.sample(work, platform) for platform in measurement.platforms)
        assert bare.instructions <= helped.instructions < emulated.instructions
    assert measurement.ratio(measurement.sample("compute", "trap-and-emulate")) < 1.1
    assert measurement.ratio(measurement.sample("system-call", "trap-and-emulate")) > 5
    for work in ("compute", "system-call", "page-fault", "mapping-change", "context-switch", "tlb-miss"):
        assert measurement.ratio(measurement.sample(work, "h-extension")) < 1.1


def test_platforms_that_disagree_are_told(monkeypatch):
    def wrong(platform):
        samples = measure(platform)
        return (
            [dataclasses.replace(samples[0], result=samples[0].result + 1), *samples[1:]]
            if platform.hypervisor
            else samples
        )

    monkeypatch.setattr("wirt.bench.virt.measure", wrong)
    with pytest.raises(StateError, match="compute: the platforms do not agree"):
        run(PLATFORMS[:2])


def test_measurement_as_json(measurement):
    document = measurement.as_json()
    assert {sample["platform"] for sample in document["samples"]} == set(measurement.platforms)
    assert all(sample["result"].startswith("0x") for sample in document["samples"])
    assert document["samples"][0]["instructions_ratio"] == 1
    with pytest.raises(KeyError):
        Measurement().sample("compute", "bare")


@pytest.mark.parametrize("hypervisor", ["trap_and_emulate", "h_extension"])
def test_a_hypervisor_without_a_guest_says_so(hypervisor):
    with wirt.Machine(guest_image(hypervisor), memory="32M", deterministic=True) as vm:
        vm.start()
        assert vm.wait(60)
        assert vm.stop_reason == "failure"
        assert "there is no guest" in vm.console.output


def test_trap_and_emulate_needs_nothing_of_the_hart():
    # Neither Sstc nor Svadu, let alone H: the virtual hart has the former two all the same.
    with wirt.Machine(
        guest_image("trap_and_emulate"),
        initrd=guest_image("inner"),
        memory="32M",
        isa="rv64gc_zicntr",
        deterministic=True,
    ) as vm:
        vm.start()
        assert vm.wait(60)
        assert vm.stop_reason == "poweroff", vm.console.tail
        assert "stimecmp" in vm.console.output
        assert {mark.name for mark in vm.take_marks()} == set(WORKS)


@pytest.mark.parametrize("program", ["inner", "trap_and_emulate", "h_extension"])
def test_no_segment_is_both_writable_and_executable(program):
    image = guest_image(program)
    (headers,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    flags = [struct.unpack_from("<II", image, headers + size * number) for number in range(count)]
    assert any(kind == 1 for kind, _ in flags)
    assert all(access & 3 != 3 for kind, access in flags if kind == 1)


def broken_images():
    image = bytearray(guest_image("inner"))
    yield "no ELF", b"#!/bin/sh\n" + bytes(100)
    yield "cut off", bytes(image[:100])
    headers = struct.unpack_from("<Q", image, 32)[0]
    for name, offset, value in (
        ("outside", 24, 0x90000000),
        ("too large", 40, 1 << 40),
        ("behind the file", 8, 1 << 62),
    ):
        broken = bytearray(image)
        struct.pack_into("<Q", broken, headers + offset, value)
        yield name, bytes(broken)


@pytest.mark.parametrize("image", [pytest.param(image, id=name) for name, image in broken_images()])
def test_a_broken_guest_image_is_refused(image):
    with wirt.Machine(guest_image("trap_and_emulate"), initrd=image, memory="32M", deterministic=True) as vm:
        vm.start()
        assert vm.wait(60)
        assert vm.stop_reason == "failure"
        assert "PANIC" in vm.console.output
        assert "the hypervisor trapped" not in vm.console.output

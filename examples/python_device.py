"""A device written in Python, and a guest program of twelve instructions that uses it.

The program reads numbers from the device until it reads a zero, writes their sum back, and switches the machine off.
"""

from collections.abc import Iterable

import wirt

DEVICE = 0x5000_0000  # nothing else of the board is there

PROGRAM = (
    0x50000437,  # lui  s0, 0x50000     the device
    0x001004B7,  # lui  s1, 0x100       the test device, which ends the machine
    0x00000513,  # li   a0, 0
    0x00042583,  # lw   a1, 0(s0)       the next number
    0x00058663,  # beqz a1, +12         none is left
    0x00B50533,  # add  a0, a0, a1
    0xFF5FF06F,  # j    -12
    0x00A42223,  # sw   a0, 4(s0)       the sum
    0x00005637,  # lui  a2, 0x5
    0x55560613,  # addi a2, a2, 0x555
    0x00C4A023,  # sw   a2, 0(s1)       0x5555: switch off
    0x0000006F,  # j    .
)


class Sensor(wirt.Device):
    """Offset 0 gives the next reading, 0 when there is none; what is written to offset 4 is the result."""

    name = "sensor"

    def __init__(self, readings: Iterable[int]) -> None:
        self.readings = iter(readings)
        self.result: int | None = None

    def read(self, offset: int, size: int) -> int:
        return next(self.readings, 0) if offset == 0 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == 4:
            self.result = value


def main() -> None:
    for index, word in enumerate(PROGRAM):
        address = 0x8000_0000 + 4 * index
        print(f"{address:x}: {wirt.disassemble(word, address)}")
    sensor = Sensor([17, 4, 21])
    image = b"".join(word.to_bytes(4, "little") for word in PROGRAM)
    # An image given as `firmware` starts in M-mode at the bottom of memory; raw code will do.
    with wirt.Machine(firmware=image, memory="16M") as vm:
        vm.map_device(DEVICE, 0x1000, sensor)
        vm.start()
        if not vm.wait(timeout=10):
            raise SystemExit("the program did not end")
        reads = sum(exit_.reads for exit_ in vm.stats().exits if exit_.device == "sensor")
        print(f"the guest says {sensor.result}, after {reads} reads; {vm.stop_reason}")


if __name__ == "__main__":
    main()

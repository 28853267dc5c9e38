"""Who overwrote this word? Runs a guest into its mistake, and then back to the store that made it.

The program counts in memory up to 999; then a store that should not be there clears the word.
"""

import struct

import wirt

RAM = 0x8000_0000
WORD = RAM + 0x1000
PROGRAM = struct.pack(
    "<7I",
    0x8000_1137,  # lui   sp, 0x80001, which is sign-extended
    0x0201_1113,  # slli  sp, sp, 32
    0x0201_5113,  # srli  sp, sp, 32
    0x0015_0513,  # addi  a0, a0, 1
    0x00A1_3023,  # sd    a0, 0(sp)
    0x3E75_4593,  # xori  a1, a0, 999
    0xFE05_9AE3,  # bnez  a1, -12
)
MISTAKE = struct.pack("<2I", 0x0001_3023, 0x0000_006F)  # sd x0, 0(sp); j .


def word(vm: wirt.Machine) -> int:
    return int.from_bytes(vm.memory[WORD : WORD + 8], "little")


def main() -> None:
    with wirt.Machine(firmware=PROGRAM + MISTAKE, memory="16M", deterministic=True) as vm:
        vm.record(checkpoint_every=1000)
        vm.run_for(20_000)
        print(f"after {vm.instructions} instructions the word is {word(vm)}, and a0 is {vm.harts[0].x['a0']}")

        # The moments at which it was right and wrong have one between them at which it changed.
        wrong, right = vm.instructions, 1000
        while wrong - right > 1:
            middle = (wrong + right) // 2
            vm.run_to(middle)
            wrong, right = (middle, right) if word(vm) == 0 else (wrong, middle)
        vm.run_to(right)
        pc = vm.harts[0].pc
        print(f"instruction {right + 1} cleared it: {vm.harts[0].disassemble(1)[0].text}")

        # And from anywhere later, to that store again.
        vm.run_to()
        assert vm.run_back_to(pc)
        print(f"it is about to happen at instruction {vm.instructions + 1}; the word is still {word(vm)}")


if __name__ == "__main__":
    main()

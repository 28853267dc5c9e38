"""Tiny M-mode programs for tests that need a guest which does one thing."""

from __future__ import annotations

import struct

RAM = 0x8000_0000


def words(*instructions: int) -> bytes:
    """Instructions as the bytes of a firmware image."""
    return struct.pack(f"<{len(instructions)}I", *instructions)


# Loops for ever: j .
SPIN = words(0x0000_006F)

# Counts in a0: addi a0,a0,1; j -4.
COUNT = words(0x0015_0513, 0xFFDF_F06F)


def store_to(address: int, value: int, size_letter: str = "w") -> bytes:
    """lui t0, address; li t1, value (12 bits); s{b,h,w,d} t1, 0(t0); j ."""
    assert address & 0xFFF == 0
    function = "bhwd".index(size_letter)
    return words(
        0x2B7 | (address & 0xFFFF_F000),  # lui t0
        0x313 | value << 20,  # addi t1, x0, value
        0x0062_8023 | function << 12,  # s? t1, 0(t0)
        0x0000_006F,
    )


def load_from(address: int) -> bytes:
    """lui t0, address; lw a0, 0(t0); j ."""
    return words(0x2B7 | (address & 0xFFFF_F000), 0x0002_A503, 0x0000_006F)


# Writes 0x5555 ("power off") to the test device: lui t0,0x100; lui t1,0x5; addi t1,t1,0x555; sw t1,0(t0); j .
POWER_OFF = words(0x0010_02B7, 0x0000_5337, 0x5553_0313, 0x0062_A023, 0x0000_006F)

# Writes (7 << 16 | 0x3333) ("failure, code 7"): lui t0,0x100; lui t1,0x73; addi t1,t1,0x333; sw t1,0(t0); j .
FAIL_WITH_7 = words(0x0010_02B7, 0x0007_3337, 0x3333_0313, 0x0062_A023, 0x0000_006F)

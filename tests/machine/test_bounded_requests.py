"""What a guest can ask of a hart that never answers takes no host memory beyond a bound."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import wirt

# lui a7, 0x52465; addi a7, a7, -0x1bd (RFENCE); li a6, 1 (remote_sfence_vma); lui a2, 1; lui a3, 1;
# 1: li a0, 2 (hart 1 alone); li a1, 0; ecall; j 1b
FENCES = (0x524658B7, 0xE4388893, 0x00100813, 0x00001637, 0x000016B7, 0x00200513, 0x00000593, 0x00000073, 0xFF5FF06F)


def linux_image(code: tuple[int, ...]) -> bytes:
    """A kernel with the header that the loader asks for (boot-image-header.rst), over which its first word jumps."""
    header = bytearray(64)
    header[0:4] = (0x0400006F).to_bytes(4, "little")  # j 64
    header[8:16] = (0x20_0000).to_bytes(8, "little")  # text_offset
    header[16:24] = (0x1000).to_bytes(8, "little")  # image_size
    header[32:36] = (2).to_bytes(4, "little")  # version 0.2
    header[48:56] = b"RISCV\0\0\0"
    header[56:60] = b"RSC\x05"
    return bytes(header) + b"".join(word.to_bytes(4, "little") for word in code)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("deterministic", [False, True])
def test_fences_for_a_stopped_hart_do_not_pile_up(deterministic: bool) -> None:
    # AddressSanitizer keeps freed memory for a while, which hides what is looked for.
    sanitized = "asan" in os.environ.get("LD_PRELOAD", "")
    with wirt.Machine(linux_image(FENCES), memory="16M", cpus=2, deterministic=deterministic) as vm:
        vm.start()
        deadline = time.monotonic() + 120

        def until(calls: int) -> None:
            while vm.stats().sbi_calls.get("RFENCE", 0) < calls:
                assert time.monotonic() < deadline, "the guest makes no progress"
                time.sleep(0.01)

        until(1000)
        before = resident_bytes()
        # 24 bytes each, if they were kept.
        until(20_000 if sanitized else 2_000_000)
        assert sanitized or resident_bytes() - before < 16 << 20

"""The instruction set as the hart's own tables have it."""

from __future__ import annotations

from wirt import _core

__all__ = ["DEFAULT", "csrs", "disassemble", "float_register_names", "instructions", "register_names"]


#: The ISA string of a machine that asks for nothing else.
DEFAULT = _core.canonical_isa()


def disassemble(raw: int, pc: int = 0) -> str:
    """One instruction, of 16 or 32 bits, as assembly text.

    Args:
        raw: its encoding.
        pc: its address, from which targets of jumps are computed.

    Returns:
        The text; ``.4byte`` or ``.2byte`` with the encoding when no table has it.
    """
    return _core.disassemble(raw, pc)


def instructions() -> list[_core.InstructionInfo]:
    """Every instruction that the hart executes: name, mask, match, operand format, extension."""
    return _core.instructions()


def csrs() -> dict[str, int]:
    """Numbers of the control and status registers by name."""
    return dict(_core.csrs())


def register_names() -> list[str]:
    """ABI names of ``x0`` to ``x31``."""
    return _core.register_names()


def float_register_names() -> list[str]:
    """ABI names of ``f0`` to ``f31``."""
    return _core.float_register_names()

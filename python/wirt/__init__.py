"""Wirt: RISC-V machines inside a Python process."""

__version__ = "0.1.0"

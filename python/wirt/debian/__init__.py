"""Fetches Debian's riscv64 kernel and makes an initramfs for it.

What the archive signs is verified (by apt, or by gpgv where there is no apt) before any of it is used. Nothing is
installed on the host, and nothing needs root.
"""

from __future__ import annotations

from wirt.debian.progress import Progress, silent
from wirt.debian.pull import Guest, cached_guest, pull_debian, pull_installer

__all__ = ["Guest", "Progress", "cached_guest", "pull_debian", "pull_installer", "silent"]

"""The guest that ships inside the package, and its companions."""

from __future__ import annotations

from importlib import resources
from typing import Literal

from wirt.errors import ImageError

__all__ = ["Program", "guest_image"]

Program = Literal["guest", "inner", "trap_and_emulate", "h_extension"]


def guest_image(program: Program = "guest") -> bytes:
    """The embedded guest, a small S-mode kernel (ELF); the command line chooses what it does, e.g. ``demo``.

    Args:
        program: ``"guest"``; or, of what ``wirt bench virt`` runs, ``"inner"``, a still smaller kernel, and the two
            hypervisors that run it when it is their ``initrd``, ``"trap_and_emulate"`` and ``"h_extension"``.

    Raises:
        ImageError: this installation was built without it.
    """
    file = resources.files("wirt").joinpath("guest", f"{program}.elf")
    if not file.is_file():
        raise ImageError("the embedded guest is missing from this installation; build it with `cmake --build`")
    return file.read_bytes()

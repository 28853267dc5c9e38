"""The guest that ships inside the package."""

from __future__ import annotations

from importlib import resources

from wirt.errors import ImageError

__all__ = ["guest_image"]


def guest_image() -> bytes:
    """The embedded guest, a small S-mode kernel (ELF); the command line chooses what it does, e.g. ``demo``.

    Raises:
        ImageError: this installation was built without it.
    """
    file = resources.files("wirt").joinpath("guest", "guest.elf")
    if not file.is_file():
        raise ImageError("the embedded guest is missing from this installation; build it with `cmake --build`")
    return file.read_bytes()

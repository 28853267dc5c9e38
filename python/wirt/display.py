"""Pictures of the guest's display (needs NumPy and Pillow: ``pip install wirt[display]``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wirt import _core
from wirt.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["capture", "rgb", "save"]


def require(*libraries: str) -> list[Any]:
    """Imports libraries of the extra ``display``.

    Raises:
        ConfigError: one is missing.
    """
    from importlib import import_module

    try:
        return [import_module(name) for name in libraries]
    except ImportError as error:
        raise ConfigError("the display needs NumPy and Pillow: pip install 'wirt[display]'") from error


def capture(display: _core.Display) -> NDArray[np.uint32]:
    """What is on the screen now: (height, width) pixels of 0x00RRGGBB, read only."""
    (numpy,) = require("numpy")
    picture: NDArray[np.uint32] = numpy.asarray(display.capture())
    return picture


def rgb(picture: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The same as (height, width, 3) bytes of red, green and blue."""
    (numpy,) = require("numpy")
    # Little-endian: blue, green, red, nothing.
    channels: NDArray[np.uint8] = picture.astype("<u4", copy=False).view(numpy.uint8).reshape((*picture.shape, 4))
    return numpy.ascontiguousarray(channels[:, :, 2::-1])  # type: ignore[no-any-return]


def save(pixels: NDArray[np.uint8], path: str | os.PathLike[str]) -> None:
    """Writes (height, width, 3) bytes as an image; its kind is that of the file's ending, such as ``.png``.

    Raises:
        ConfigError: Pillow knows no such kind.
        OSError: the file cannot be written.
    """
    (images,) = require("PIL.Image")
    try:
        images.fromarray(pixels).save(Path(path))
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from error

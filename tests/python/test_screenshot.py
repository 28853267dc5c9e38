"""Pictures of the display."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import wirt


@pytest.mark.parametrize("display", ["bochs", "virtio-gpu"])
def test_a_picture_is_rows_of_red_green_and_blue(display, tmp_path):
    with wirt.Machine(memory="16M", display=display, resolution=(640, 400)) as vm:
        picture = vm.screenshot(tmp_path / "screen.png")
        assert picture.dtype == np.uint8
        assert picture.shape == (400, 640, 3)
        assert picture.flags.c_contiguous
        assert picture.flags.writeable
        with Image.open(tmp_path / "screen.png") as stored:
            assert (np.asarray(stored) == picture).all()
    # The last picture can still be taken, and a name that says no kind of image is refused.
    assert vm.screenshot().shape == (400, 640, 3)
    with pytest.raises(wirt.ConfigError, match="unknown file extension"):
        vm.screenshot(tmp_path / "screen.wirt")


def test_without_a_display_there_is_none():
    with wirt.Machine(memory="16M") as vm, pytest.raises(wirt.ConfigError, match="no display"):
        vm.screenshot()


def test_numpy_is_asked_for_when_it_is_needed():
    """`import wirt` and a machine with a display need none of the extra's libraries."""
    program = """
import sys
sys.modules["numpy"] = sys.modules["PIL"] = None  # as if not installed
import wirt
vm = wirt.Machine(memory="16M", display="bochs")
for call in (vm.screenshot, vm.vnc):
    try:
        call()
    except wirt.ConfigError as error:
        print(error)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.count("pip install 'wirt[display]'") == 2

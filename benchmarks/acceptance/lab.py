"""A root file system with QEMU for riscv64 in it, for a guest that is to have guests: Debian packages, unpacked.

No package's scripts run and nothing is configured, so that neither root nor an emulator is needed: programs find their
libraries without, and that is all that is asked of it. A guest mounts it and changes its root there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from guests import archive, report, stopwatch
from wirt.debian import silent

__all__ = ["make"]


def make(image: Path, package: str = "qemu-system-riscv") -> None:
    """Writes an ext4 image with a package and all that it depends on; one that is there already stays."""
    if image.exists():
        return
    missing = [tool for tool in ("dpkg-deb", "mkfs.ext4") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"install {', '.join(missing)} first (Debian: dpkg e2fsprogs)")
    with tempfile.TemporaryDirectory() as scratch, stopwatch() as elapsed:
        packages = archive()
        names, left = set(), [package]
        while left:
            name = left.pop()
            # <...> is a virtual package, whose providers are listed beside it.
            if name not in names and not name.startswith("<"):
                names.add(name)
                left += packages.depends(name)
        tree = Path(scratch, "tree")
        for place in ("bin", "lib", "sbin"):
            Path(tree, "usr", place).mkdir(parents=True)
            Path(tree, place).symlink_to(f"usr/{place}")
        for place in ("dev", "inner", "proc", "sys", "tmp"):
            Path(tree, place).mkdir()
        for file in packages.download(sorted(names), Path(scratch), silent):
            subprocess.run(["dpkg-deb", "-x", file, tree], check=True)
        made = image.with_name(image.name + ".part")
        subprocess.run(["mkfs.ext4", "-q", "-L", "lab", "-d", tree, made, "512M"], check=True, capture_output=True)
        made.rename(image)
    report("QEMU for riscv64 in a file system", f"{len(names)} packages, {elapsed[0]:.0f} s")

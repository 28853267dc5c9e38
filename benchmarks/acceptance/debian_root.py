"""Makes the disk image that the acceptance scripts boot: Debian with systemd, apt, python3 and gcc, on ext4.

    python benchmarks/acceptance/debian_root.py root.img

It needs mmdebstrap, arch-test, e2fsprogs and qemu-user-static with its binfmt_misc entry for riscv64 on the host: the
packages' own scripts run while the image is made. Run it as root (in a container, say): files then have their right
owners. The kernel's modules are those of the kernel that ``wirt pull debian`` has fetched, from the same suite.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from guests import archive, pulled, report, stopwatch
from wirt.debian import apt, silent

_PACKAGES = (
    "apt", "dbus", "e2fsprogs", "fdisk", "gcc", "iproute2", "iputils-ping", "kmod", "libc6-dev", "login", "make",
    "procps", "python3", "systemd", "systemd-sysv", "udev",
)  # fmt: skip

# Nobody reads manuals in there.
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="file to make")
    parser.add_argument("--size", default="3G", help="of the file system [3G]; the file is sparse")
    parser.add_argument("--with", nargs="+", default=[], dest="more", metavar="PACKAGE", help="install these as well")
    options = parser.parse_args()
    missing = [
        tool for tool in ("mmdebstrap", "arch-test", "mkfs.ext4", "qemu-riscv64-static") if shutil.which(tool) is None
    ]
    if missing:
        sys.exit(f"install {', '.join(missing)} first (Debian: mmdebstrap arch-test e2fsprogs qemu-user-static)")

    guest = pulled()
    packages_of = archive()
    testsuite = next(
        name.replace("python", "libpython") + "-testsuite"
        for name in packages_of.depends("python3")
        if name.startswith("python3.") and name.count(".") == 1 and "-" not in name
    )
    with tempfile.TemporaryDirectory() as scratch, stopwatch() as elapsed:
        (hello,) = packages_of.download(["hello"], Path(scratch), silent)
        tree = Path(scratch) / "tree"
        packages = [*_PACKAGES, *options.more, testsuite, f"linux-modules-{guest.release}"]
        subprocess.run(
            [
                "mmdebstrap", "--variant=minbase", "--architectures=riscv64", f"--include={','.join(packages)}",
                f"--keyring={_keyring()}", *_host_settings(), "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT), "--skip=cleanup/apt/lists",
                f"--customize-hook=copy-in {hello} /root", guest.suite, str(tree), _mirror(),
            ],
            check=True,
        )  # fmt: skip
        settle(tree, hello.name)
        make_image(tree, options.image, options.size)
    report("Debian root file system", f"{options.image}, {elapsed[0]:.0f} s")


def settle(tree: Path, hello: str) -> None:
    """What is left to say about the installed system: its name, its root's password (none), its file systems."""
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/fstab").write_text("LABEL=wirt-root / ext4 errors=remount-ro 0 1\n")
    # An empty password lets root log in on the consoles.
    shadow = tree / "etc/shadow"
    shadow.write_text(re.sub(r"(?m)^root:[^:]*:", "root::", shadow.read_text()))
    (tree / "root" / hello).rename(tree / "root/hello.deb")


def make_image(tree: Path, image: Path, size: str) -> None:
    """An ext4 file system with a tree's files, without mounting anything."""
    image.unlink(missing_ok=True)
    subprocess.run(["mkfs.ext4", "-q", "-L", "wirt-root", "-d", str(tree), str(image), size], check=True)


def _mirror() -> str:
    mirror = apt.host_mirror()
    if mirror is None:
        sys.exit("the host's apt names no Debian mirror")
    return mirror


def _keyring() -> Path:
    keyring = apt.find_keyring()
    if keyring is None:
        sys.exit("install debian-archive-keyring first")
    return keyring


def _host_settings() -> list[str]:
    """The host's apt settings about fetching (proxy, certificates, dates) as options of mmdebstrap."""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    return [
        f"--aptopt={line}"
        for line in dump.splitlines()
        if not line.startswith(("Acquire::IndexTargets", "Acquire::Languages")) and not line.endswith(' "";')
    ]


if __name__ == "__main__":
    main()

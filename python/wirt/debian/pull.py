"""What ``wirt pull`` does: fetch, verify, unpack, build, keep."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Protocol

from wirt.debian import apt, archive, deb, initramfs
from wirt.debian.modules import ModuleTree, closure
from wirt.debian.progress import Progress, silent
from wirt.errors import PullError
from wirt.paths import cache_dir

__all__ = ["DEFAULT_SUITE", "Guest", "cached_guest", "pull_debian", "pull_installer"]

DEFAULT_SUITE = "forky"
_MANIFEST = "guest.json"
_KERNEL_PACKAGE = "linux-image-riscv64"
_INSTALLER_PACKAGE = "debian-installer-13-netboot-riscv64"
_VARIABLE_MIRROR = "WIRT_DEBIAN_MIRROR"


@dataclass(frozen=True)
class Guest:
    """A kernel and an initrd in the cache, ready to run.

    Attributes:
        name: ``debian`` or ``debian-installer``.
        suite: the suite that it came from.
        release: the kernel's release (``uname -r``); empty when the initrd carries no modules of ours.
        kernel: the file as Debian ships it.
        initrd: the initramfs.
        packages: the packages used, with their versions.
        cmdline: a kernel command line that shows the boot and ends on the console.
    """

    name: str
    suite: str
    release: str
    kernel: Path
    initrd: Path
    packages: dict[str, str]
    cmdline: str

    def as_json(self) -> dict[str, object]:
        """The fields as plain JSON values."""
        return asdict(self) | {"kernel": str(self.kernel), "initrd": str(self.initrd)}


class _Source(Protocol):
    """What fetches packages: apt, or the part of it that is written in Python."""

    def update(self) -> None: ...
    def depends(self, package: str) -> list[str]: ...
    def version(self, package: str) -> str: ...
    def download(self, packages: list[str], into: Path, progress: Progress) -> list[Path]: ...


def cached_guest(name: str = "debian", suite: str | None = None) -> Guest | None:
    """The guest that an earlier pull left in the cache; the newest when no suite is named."""
    home = cache_dir() / "debian"
    manifests = [home / suite / name / _MANIFEST] if suite else list(home.glob(f"*/{name}/{_MANIFEST}"))
    existing = [path for path in manifests if path.is_file()]
    if not existing:
        return None
    return _load(max(existing, key=lambda path: path.stat().st_mtime))


def pull_debian(
    suite: str = DEFAULT_SUITE,
    *,
    mirror: str | None = None,
    insecure: bool = False,
    progress: Progress = silent,
) -> Guest:
    """Fetches Debian's riscv64 kernel and builds a small initramfs with busybox and the drivers for this machine.

    A second call fetches only what the archive has renewed.

    Args:
        suite: a suite with riscv64 in the archive, such as ``forky`` or ``sid``.
        mirror: the archive's base address; otherwise ``$WIRT_DEBIAN_MIRROR``, then what the host's apt uses.
        insecure: go on where nothing on this host can check the archive's signature.
        progress: told about each step.

    Raises:
        PullError: with what to do about it.
    """
    source, home = _open(suite, mirror, insecure, progress)
    image = next((name for name in source.depends(_KERNEL_PACKAGE) if re.fullmatch(r"linux-image-\d.*", name)), None)
    if image is None:
        raise PullError(f"{_KERNEL_PACKAGE} in {suite} names no kernel; try --suite sid")
    release = image.removeprefix("linux-image-")
    # Newer packages split the kernel (linux-binary-*) and its modules (linux-modules-*) off; older ones do not.
    split = [name for name in source.depends(image) if name.startswith(("linux-binary-", "linux-modules-"))]
    kernel_packages = split or [image]
    packages = {name: source.version(name) for name in [*kernel_packages, "busybox-static"]}
    recipe = _recipe()

    directory = home / "debian"
    manifest = directory / _MANIFEST
    if manifest.is_file() and _matches(manifest, packages, recipe):
        progress.step("up to date")
        return _load(manifest)

    progress.step(f"fetching Linux {release} and busybox")
    *kernel_files, busybox_file = source.download(list(packages), home / "packages", progress)
    _remove_others(home / "packages", [*kernel_files, busybox_file])

    progress.step("unpacking the kernel")
    kernel: bytes | None = None
    packed_modules: list[tuple[str, bytes]] = []
    places = (f"lib/modules/{release}/", f"usr/lib/modules/{release}/")
    for file in kernel_files:
        for path, content in deb.members(file, _is_kernel_file):
            if path.rpartition("/")[2].startswith("vmlinu"):
                kernel = content
            for place in places:
                if path.startswith(f"{place}kernel/"):
                    packed_modules.append((path.removeprefix(place), content))
    if kernel is None:
        raise PullError(f"{', '.join(kernel_packages)}: hold no kernel; the package layout has changed")
    busybox = next(
        (content for _, content in deb.members(busybox_file, lambda path: path.endswith("bin/busybox"))), None
    )
    if busybox is None:
        raise PullError("busybox-static: holds no busybox; the package layout has changed")

    progress.step("building the initramfs")
    modules = closure(initramfs.DRIVERS, ModuleTree(packed_modules))
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "vmlinuz", kernel)
    _write(directory / "initrd.gz", initramfs.build(release, busybox, modules))
    return _save(
        manifest,
        Guest(
            name="debian", suite=suite, release=release, kernel=directory / "vmlinuz", initrd=directory / "initrd.gz",
            packages=packages, cmdline="earlycon=sbi console=hvc0",
        ),
        recipe,
    )  # fmt: skip


def pull_installer(
    suite: str = DEFAULT_SUITE,
    *,
    mirror: str | None = None,
    insecure: bool = False,
    progress: Progress = silent,
) -> Guest:
    """Fetches the kernel and initrd of Debian's network installer (package debian-installer-13-netboot-riscv64).

    Args, errors: as for :func:`pull_debian`.
    """
    source, home = _open(suite, mirror, insecure, progress)
    packages = {_INSTALLER_PACKAGE: source.version(_INSTALLER_PACKAGE)}
    directory = home / "debian-installer"
    manifest = directory / _MANIFEST
    if manifest.is_file() and _matches(manifest, packages, ""):
        progress.step("up to date")
        return _load(manifest)
    progress.step("fetching the installer")
    (file,) = source.download(list(packages), directory / "packages", progress)
    _remove_others(directory / "packages", [file])
    progress.step("unpacking the installer")
    # The package holds a text and a graphical flavour; the first has the smaller initrd.
    found = dict(
        deb.members(file, lambda path: path.rpartition("/")[2] in {"linux", "vmlinux", "vmlinuz", "initrd.gz"})
    )
    text = {path: content for path, content in found.items() if "/gtk/" not in path}
    kernel = next((content for path, content in text.items() if not path.endswith(".gz")), None)
    initrd = next((content for path, content in text.items() if path.endswith("initrd.gz")), None)
    if kernel is None or initrd is None:
        raise PullError(f"{_INSTALLER_PACKAGE}: holds no kernel and initrd; the package layout has changed")
    _write(directory / "vmlinuz", kernel)
    _write(directory / "initrd.gz", initrd)
    return _save(
        manifest,
        Guest(
            name="debian-installer", suite=suite, release="", kernel=directory / "vmlinuz",
            initrd=directory / "initrd.gz", packages=packages, cmdline="earlycon=sbi console=ttyS0",
        ),
        "",
    )  # fmt: skip


def _open(suite: str, mirror: str | None, insecure: bool, progress: Progress) -> tuple[_Source, Path]:
    mirror = mirror or os.environ.get(_VARIABLE_MIRROR)
    home = cache_dir() / "debian" / suite.replace("/", "_")
    home.mkdir(parents=True, exist_ok=True)
    keyring = apt.find_keyring()
    if apt.available() and keyring is not None:
        mirror = mirror or apt.host_mirror()
        if mirror is None:
            raise PullError(
                "the host's apt names no Debian mirror; name one with --mirror URL or in " + _VARIABLE_MIRROR
            )
        source: _Source = apt.AptRoot(home / "apt", mirror, suite, keyring)
    else:
        if mirror is None:
            raise PullError(
                "this host has no apt with Debian's keys to take a mirror from: install debian-archive-keyring, "
                f"or name a mirror with --mirror URL or in {_VARIABLE_MIRROR}"
            )
        source = archive.Archive(mirror, suite, keyring, insecure=insecure)
    progress.step(f"reading the package list of {suite}")
    source.update()
    return source, home


def _is_kernel_file(path: str) -> bool:
    name = path.rpartition("/")[2]
    return ".ko" in name or name.startswith(("vmlinuz", "vmlinux"))


def _recipe() -> str:
    """Names what is made of the packages, so that a new release of Wirt builds its initramfs anew."""
    digest = hashlib.sha256()
    for name in ("init.sh", "initramfs.py", "cpio.py", "modules.py"):
        digest.update(resources.files("wirt.debian").joinpath(name).read_bytes())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _save(manifest: Path, guest: Guest, recipe: str) -> Guest:
    _write(manifest, json.dumps(guest.as_json() | {"recipe": recipe}, indent=2).encode() + b"\n")
    return guest


def _load(manifest: Path) -> Guest:
    try:
        fields = json.loads(manifest.read_bytes())
        del fields["recipe"]
        # The cache may have been moved since.
        fields["kernel"] = manifest.parent / Path(fields["kernel"]).name
        fields["initrd"] = manifest.parent / Path(fields["initrd"]).name
        return Guest(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise PullError(f"{manifest}: is not readable; remove it and pull again") from error


def _matches(manifest: Path, packages: dict[str, str], recipe: str) -> bool:
    try:
        fields = json.loads(manifest.read_bytes())
        guest = _load(manifest)
    except (PullError, ValueError):
        return False
    return (
        guest.packages == packages
        and fields.get("recipe") == recipe
        and guest.kernel.is_file()
        and guest.initrd.is_file()
    )


def _remove_others(directory: Path, keep: list[Path]) -> None:
    for path in directory.glob("*.deb"):
        if path not in keep:
            path.unlink()

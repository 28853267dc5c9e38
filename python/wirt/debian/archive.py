"""Downloads packages from a Debian archive without apt: the chain of signatures and hashes, followed in Python.

InRelease is checked by gpgv(1) against Debian's keys; it lists the hash of Packages, which lists the hash of each
package (Debian wiki, RepositoryFormat). Used where the host has no apt.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from wirt.debian.progress import Progress
from wirt.errors import PullError
from wirt.tools import tool_environment

__all__ = ["Archive"]

_PACKAGES = "main/binary-riscv64/Packages.xz"
_TIMEOUT_S = 60
_CHUNK = 1 << 18
# A guard against a mirror that never stops sending; the real files are well below.
_LARGEST_INDEX = 256 << 20


class Archive:
    """One suite of one mirror, riscv64.

    Args:
        mirror: the archive's base address, the part before ``/dists``.
        suite: a suite or code name.
        keyring: Debian's keys, or None where they are not installed.
        insecure: go on without a signature where gpgv or the keys are missing.
    """

    def __init__(self, mirror: str, suite: str, keyring: Path | None, *, insecure: bool = False) -> None:
        if urlsplit(mirror).scheme not in {"http", "https", "file"}:
            raise PullError(f"mirror {mirror!r}: is not an http, https or file address")
        self._mirror = mirror.rstrip("/")
        self._suite = suite
        self._keyring = keyring
        self._insecure = insecure
        self._packages: dict[str, dict[str, str]] = {}

    def update(self) -> None:
        """Fetches and verifies the suite's list of packages.

        Raises:
            PullError: the mirror cannot be reached, or what it sends is not signed by Debian.
        """
        dists = f"{self._mirror}/dists/{self._suite}"
        release = self._verified(_get(f"{dists}/InRelease", _LARGEST_INDEX))
        digest, size = _listed(release, _PACKAGES)
        packed = _get(f"{dists}/{_PACKAGES}", size)
        if hashlib.sha256(packed).hexdigest() != digest:
            raise PullError("the mirror's package list is not the one that is signed; try again, or another --mirror")
        self._packages = _stanzas(lzma.decompress(packed).decode("utf-8", "replace"))

    def depends(self, package: str) -> list[str]:
        """Names of the packages that one depends on, first alternatives only."""
        fields = self._find(package)
        names = []
        for key in ("Pre-Depends", "Depends"):
            for alternatives in fields.get(key, "").split(","):
                name = re.match(r"[a-z0-9][a-z0-9.+-]*", alternatives.strip())
                if name:
                    names.append(name.group())
        return names

    def version(self, package: str) -> str:
        """The version in the suite."""
        return self._find(package)["Version"]

    def download(self, packages: list[str], into: Path, progress: Progress) -> list[Path]:
        """Fetches packages and checks their hashes; returns their files in the order asked for.

        Raises:
            PullError: a package cannot be fetched or has the wrong hash.
        """
        into.mkdir(parents=True, exist_ok=True)
        total = sum(int(self._find(package)["Size"]) for package in packages)
        before = 0
        files = []
        for package in packages:
            fields = self._find(package)
            size = int(fields["Size"])
            file = into / fields["Filename"].rpartition("/")[2]
            if not (file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == fields["SHA256"]):

                def tell(done: int, before: int = before) -> None:
                    progress.fraction((before + done) / total)

                content = _get(f"{self._mirror}/{fields['Filename']}", size, tell)
                if hashlib.sha256(content).hexdigest() != fields["SHA256"]:
                    raise PullError(f"{package}: has the wrong hash; try again, or another --mirror")
                file.write_bytes(content)
            before += size
            files.append(file)
        return files

    def _find(self, package: str) -> dict[str, str]:
        if package not in self._packages:
            raise PullError(f"package {package}: is not in {self._suite} for riscv64; try another --suite")
        return self._packages[package]

    def _verified(self, signed: bytes) -> str:
        """The signed part of an InRelease file."""
        gpgv = shutil.which("gpgv")
        if gpgv is None or self._keyring is None:
            if not self._insecure:
                missing = "gpgv" if gpgv is None else "debian-archive-keyring"
                raise PullError(
                    f"the archive's signature cannot be checked: install {missing}, or accept that with --insecure"
                )
            return signed.decode("utf-8", "replace")
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "InRelease"
            file.write_bytes(signed)
            # What gpgv prints is what is signed; text around it in the file is not.
            result = subprocess.run(
                [gpgv, "--quiet", "--keyring", str(self._keyring), "--output", "-", str(file)],
                env=tool_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
            )  # fmt: skip
        if result.returncode != 0:
            raise PullError("the archive's list is not signed with Debian's keys; update debian-archive-keyring")
        return result.stdout.decode("utf-8", "replace")


def _get(url: str, largest: int, progress: Callable[[int], None] | None = None) -> bytes:
    try:
        # The scheme was checked by the constructor.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
            content = bytearray()
            while chunk := response.read(min(_CHUNK, largest + 1 - len(content))):
                content += chunk
                if progress is not None:
                    progress(len(content))
            if len(content) > largest:
                raise PullError(f"{url}: is larger than the archive says; try another --mirror")
            return bytes(content)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise PullError(f"{url}: cannot be fetched ({error}); check --mirror and --suite") from error


def _listed(release: str, name: str) -> tuple[str, int]:
    """The SHA-256 and size that a Release file lists for one of its indices."""
    section = ""
    for line in release.splitlines():
        if not line.startswith(" "):
            section = line.partition(":")[0]
        elif section == "SHA256":
            fields = line.split()
            if len(fields) == 3 and fields[2] == name:
                return fields[0], min(int(fields[1]), _LARGEST_INDEX)
    raise PullError(f"the suite has no {name}; try another --suite")


def _stanzas(text: str) -> dict[str, dict[str, str]]:
    packages: dict[str, dict[str, str]] = {}
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            if not line.startswith((" ", "\t")):
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if "Package" in fields:
            packages[fields["Package"]] = fields
    return packages

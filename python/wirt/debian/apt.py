"""Downloads packages with the host's own apt, in a root of their own.

The host's package state is neither read nor changed: lists and cache lie in a directory of ours, the architecture is
riscv64. What the host's apt configuration says about proxies and certificates holds here too, and so does its mirror
unless another one is named. apt verifies the archive's signature and every file's hash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from wirt.debian.progress import Progress
from wirt.errors import PullError
from wirt.tools import tool_environment

__all__ = ["AptRoot", "available", "find_keyring", "host_mirror"]

_KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
_DEBIAN_SUITES = re.compile(
    r"^(oldstable|stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)$",
)


def available() -> bool:
    """Whether this host has apt."""
    return shutil.which("apt-get") is not None and shutil.which("apt-cache") is not None


def find_keyring() -> Path | None:
    """The keys of Debian's archive as the host's package debian-archive-keyring installs them."""
    return next((path for name in _KEYRINGS if (path := Path(name)).is_file()), None)


def host_mirror() -> str | None:
    """The Debian mirror that the host's own sources name (one-line or deb822), if it has one."""
    result = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(SUITE) $(RELEASE)", "Identifier: Packages"],
        {},
    )
    for line in result.stdout.splitlines():
        uri, *suites = line.split()
        if any(_DEBIAN_SUITES.match(suite) for suite in suites) and urlsplit(uri).scheme in {"http", "https"}:
            return uri.rstrip("/")
    return None


class AptRoot:
    """A private apt root for one suite of one mirror.

    Args:
        directory: where its lists and state lie; created.
        mirror: the archive's base address, the part before ``/dists``.
        suite: a suite or code name such as ``forky`` or ``sid``.
        keyring: the keys that the archive must be signed with.
    """

    def __init__(self, directory: Path, mirror: str, suite: str, keyring: Path) -> None:
        self._directory = directory
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", suite):
            raise PullError(f"suite {suite!r}: is not the name of a suite, such as forky or sid")
        if urlsplit(mirror).scheme not in {"http", "https", "file"} or re.search(r"\s", mirror):
            raise PullError(f"mirror {mirror!r}: is not an http, https or file address")
        for part in ("lists/partial", "archives/partial", "sources.list.d", "apt.conf.d", "empty"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        (directory / "sources.list.d" / "wirt.sources").write_text(
            f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n"
            f"Architectures: riscv64\nSigned-By: {keyring}\n",
            encoding="utf-8",
        )
        host_parts = _run(["apt-config", "shell", "PARTS", "Dir::Etc::parts/d"], {}).stdout
        host_directory = host_parts.partition("=")[2].strip().strip("'\"").rstrip("/")
        settings = {
            "Dir::State": f"{directory}/",
            "Dir::State::lists": f"{directory}/lists/",
            "Dir::State::status": f"{directory}/status",
            "Dir::Cache": f"{directory}/",
            "Dir::Cache::archives": f"{directory}/archives/",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": f"{directory}/sources.list.d/",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": f"{directory}/empty/",
            "APT::Architecture": "riscv64",
            "APT::Architectures": "riscv64",
            "Acquire::Languages": "none",
            # Fetch as whoever runs this: apt's own user could not write below the cache directory.
            "APT::Sandbox::User": "",
        }
        # The host's settings first (proxy, certificates), then ours; its hooks clean the host's cache, not ours.
        included = f'#include "{host_directory}/";\n' if host_directory else ""
        (directory / "apt.conf.d" / "wirt.conf").write_text(
            included
            + "".join(f"#clear {hook};\n" for hook in ("APT::Update", "APT::Architectures", "DPkg::Post-Invoke"))
            + "".join(f'{name} "{value}";\n' for name, value in settings.items()),
            encoding="utf-8",
        )
        (directory / "apt.conf").write_text(f'Dir::Etc::parts "{directory}/apt.conf.d/";\n', encoding="utf-8")
        self._environment = {"APT_CONFIG": str(directory / "apt.conf")}

    def update(self) -> None:
        """Fetches and verifies the suite's list of packages.

        Raises:
            PullError: the mirror cannot be reached, is out of date, or is not signed with the keyring's keys.
        """
        result = _run(["apt-get", "update", "-q", "--error-on=any"], self._environment)
        if result.returncode != 0:
            raise PullError(f"apt cannot read the archive: {_reason(result)}; check --mirror and --suite")

    def depends(self, package: str) -> list[str]:
        """Names of the real packages that one depends on, first alternatives first."""
        result = _run(
            ["apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
             "--no-replaces", "--no-enhances", package],
            self._environment,
        )  # fmt: skip
        if result.returncode != 0:
            raise PullError(f"package {package}: is not in this suite for riscv64; try another --suite")
        return [line.split(":", 1)[1].strip() for line in result.stdout.splitlines() if "Depends:" in line]

    def version(self, package: str) -> str:
        """The version that a download would fetch."""
        result = _run(["apt-cache", "show", "--no-all-versions", package], self._environment)
        for line in result.stdout.splitlines():
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
        raise PullError(f"package {package}: is not in this suite for riscv64; try another --suite")

    def download(self, packages: Sequence[str], into: Path, progress: Progress) -> list[Path]:
        """Fetches packages, verified, into a directory; returns their files in the order asked for.

        Raises:
            PullError: a package cannot be fetched or fails its check.
        """
        into.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                ["apt-get", "download", "-q", "-o", f"APT::Status-Fd={write_end}", *packages],
                cwd=into, env=tool_environment(**self._environment), pass_fds=[write_end],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        finally:
            os.close(write_end)
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as status:
            for line in status:
                # "dlstatus:FILE:PERCENT:TEXT"
                fields = line.split(":")
                if fields[0] == "dlstatus" and len(fields) > 2:
                    progress.fraction(float(fields[2]) / 100)
        _, errors = process.communicate()
        if process.returncode != 0:
            raise PullError(f"apt cannot download {', '.join(packages)}: {errors.strip() or 'no reason given'}")
        found = []
        for package in packages:
            version = self.version(package).replace(":", "%3a")
            matches = list(into.glob(f"{package}_{version}_*.deb"))
            if not matches:
                raise PullError(f"apt downloaded no file for {package}; remove {into} and pull again")
            found.append(matches[0])
        return found


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=tool_environment(**environment), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in result.stderr.splitlines() if line.startswith(("E:", "W:"))]
    return "; ".join(line[2:].strip() for line in lines[:2]) or f"exit status {result.returncode}"

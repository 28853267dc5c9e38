"""The parts of a pull that need no network: packages, archives, modules."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import shutil
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

import wirt
from wirt.debian import deb, initramfs
from wirt.debian.apt import find_keyring
from wirt.debian.archive import Archive
from wirt.debian.cpio import CpioWriter
from wirt.debian.modules import ModuleTree, alias_file, closure, dependency_file, unpack
from wirt.debian.progress import silent


def make_deb(path: Path, files: dict[str, bytes], compress=lzma.compress, suffix: str = ".xz") -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar": b"odd", f"data.tar{suffix}": compress(stream.getvalue())}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content)
            file.write(b"\n" * (len(content) & 1))
    return path


def make_module(**info: str) -> bytes:
    """An ELF64 file with nothing but a .modinfo section."""
    modinfo = b"".join(f"{key}={value}\0".encode() for key, value in info.items())
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 1, 243, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    offset = 64 + 3 * 64

    def section(name: int, at: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 1, 0)

    return (
        header
        + bytes(64)
        + section(1, offset, len(modinfo))
        + section(10, offset + len(modinfo), len(names))
        + modinfo
        + names
    )


def read_cpio(data: bytes) -> dict[str, tuple[int, bytes]]:
    entries = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        assert name not in entries
        entries[name] = (mode, data[at : at + size])
        at = (at + size + 3) & ~3


@pytest.mark.parametrize(("compress", "suffix"), [(lzma.compress, ".xz"), (gzip.compress, ".gz"), (bytes, "")])
def test_deb(tmp_path, compress, suffix):
    file = make_deb(tmp_path / "a.deb", {"usr/bin/busybox": b"box", "usr/share/doc": b"text"}, compress, suffix)
    assert dict(deb.members(file, lambda path: "bin/" in path)) == {"usr/bin/busybox": b"box"}


def test_deb_with_zstd(tmp_path):
    import zstandard

    file = make_deb(tmp_path / "a.deb", {"x": b"y" * 10000}, zstandard.ZstdCompressor().compress, ".zst")
    assert dict(deb.members(file, lambda _: True)) == {"x": b"y" * 10000}


@pytest.mark.parametrize("cut", [0, 4, 40, 200, 260])
def test_broken_deb(tmp_path, cut):
    file = make_deb(tmp_path / "a.deb", {"x": bytes(range(256)) * 16})
    file.write_bytes(file.read_bytes()[:cut] if cut else b"MZ not a package")
    with pytest.raises(wirt.PullError, match=r"a\.deb"):
        list(deb.members(file, lambda _: True))


def test_cpio_is_what_cpio_reads(tmp_path):
    writer = CpioWriter()
    writer.file("etc/hosts", b"localhost\n", 0o600)
    writer.symlink("bin", "usr/bin")
    writer.character_device("dev/console", 5, 1)
    archive = writer.finish()
    entries = read_cpio(archive)
    assert list(entries) == ["etc", "etc/hosts", "bin", "dev", "dev/console"]
    assert entries["etc/hosts"] == (stat.S_IFREG | 0o600, b"localhost\n")
    assert entries["bin"] == (stat.S_IFLNK | 0o777, b"usr/bin")
    assert stat.S_ISCHR(entries["dev/console"][0])
    if shutil.which("cpio"):
        listing = subprocess.run(["cpio", "-it", "--quiet"], input=archive, capture_output=True, check=True)
        assert listing.stdout.decode().split() == list(entries)


def test_module_information():
    module = unpack(
        "kernel/fs/ext4/ext4.ko.xz",
        lzma.compress(make_module(depends="mbcache,jbd2", softdep="pre: crc32c post: zstd", alias="fs-ext4")),
    )
    assert (module.name, module.path) == ("ext4", "kernel/fs/ext4/ext4.ko")
    assert module.needs == ("mbcache", "jbd2", "crc32c")
    assert module.aliases == ("fs-ext4",)


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x01", b"\x7fELF\x02" + bytes(20), make_module()[:100]])
def test_broken_module(content):
    with pytest.raises(wirt.PullError):
        unpack("kernel/x.ko", content)


def test_dependencies_come_first():
    tree = ModuleTree(
        [
            ("kernel/a.ko", make_module(depends="b,c")),
            ("kernel/b-b.ko", make_module()),
            ("kernel/b.ko", make_module(depends="c,b-b")),
            ("kernel/c.ko", make_module(alias="virtio:d00000001v*")),
        ]
    )
    chosen = closure(["a", "missing"], tree)
    assert [module.name for module in chosen] == ["c", "b_b", "b", "a"]
    assert "kernel/b.ko: kernel/b-b.ko kernel/c.ko\n" in dependency_file(chosen)
    assert alias_file(chosen) == "alias virtio:d00000001v* c\n"


def test_initramfs_is_reproducible_and_complete():
    tree = ModuleTree([("kernel/virtio_blk.ko", make_module())])
    built = initramfs.build("7.2", b"#!busybox", closure(["virtio_blk"], tree))
    assert built == initramfs.build("7.2", b"#!busybox", closure(["virtio_blk"], tree))
    entries = read_cpio(gzip.decompress(built))
    assert entries["init"][0] == stat.S_IFREG | 0o755
    assert entries["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert "lib/modules/7.2/kernel/virtio_blk.ko" in entries
    assert stat.S_ISCHR(entries["dev/console"][0])


def make_archive(root: Path) -> str:
    """A Debian archive with one package, not signed."""
    pool = root / "pool"
    pool.mkdir()
    package = make_deb(pool / "busybox-static_1_riscv64.deb", {"bin/busybox": b"box"}).read_bytes()
    packages = (
        "Package: busybox-static\nVersion: 1:1.0\nDepends: libc6 (>= 2) | musl, linux-image-7-riscv64\n"
        f"Filename: pool/busybox-static_1_riscv64.deb\nSize: {len(package)}\n"
        f"SHA256: {hashlib.sha256(package).hexdigest()}\nDescription: a\n continued: line\n\n"
    )
    packed = lzma.compress(packages.encode())
    lists = root / "dists" / "forky" / "main" / "binary-riscv64"
    lists.mkdir(parents=True)
    (lists / "Packages.xz").write_bytes(packed)
    (root / "dists" / "forky" / "InRelease").write_text(
        "Suite: forky\nMD5Sum:\n 0 0 main/binary-riscv64/Packages.xz\n"
        f"SHA256:\n {hashlib.sha256(packed).hexdigest()} {len(packed)} main/binary-riscv64/Packages.xz\n"
    )
    return root.as_uri()


@pytest.fixture
def mirror(tmp_path):
    root = tmp_path / "mirror"
    root.mkdir()
    return make_archive(root)


def test_archive_without_apt(mirror, tmp_path):
    archive = Archive(mirror, "forky", None, insecure=True)
    archive.update()
    assert archive.version("busybox-static") == "1:1.0"
    assert archive.depends("busybox-static") == ["libc6", "linux-image-7-riscv64"]
    (file,) = archive.download(["busybox-static"], tmp_path / "into", silent)
    assert dict(deb.members(file, lambda _: True)) == {"bin/busybox": b"box"}
    # What is there and right is not fetched again.
    (tmp_path / "mirror" / "pool" / "busybox-static_1_riscv64.deb").unlink()
    assert archive.download(["busybox-static"], tmp_path / "into", silent) == [file]
    with pytest.raises(wirt.PullError, match="--suite"):
        archive.version("linux-image-riscv64")


def test_unsigned_archive_is_refused(mirror):
    keyring = find_keyring()
    with pytest.raises(wirt.PullError, match="sign"):
        Archive(mirror, "forky", keyring).update()


@pytest.mark.parametrize("place", ["pool/busybox-static_1_riscv64.deb", "dists/forky/main/binary-riscv64/Packages.xz"])
def test_tampering_is_noticed(mirror, tmp_path, place):
    file = tmp_path / "mirror" / place
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    archive = Archive(mirror, "forky", None, insecure=True)
    with pytest.raises(wirt.PullError, match="another --mirror"):
        archive.update()
        archive.download(["busybox-static"], tmp_path / "into", silent)


@pytest.mark.parametrize("mirror", ["gopher://example", "not an address", ""])
def test_mirror_must_be_an_address(mirror):
    with pytest.raises(wirt.PullError, match="http"):
        Archive(mirror, "forky", None)


def test_mirror_that_is_not_there(tmp_path):
    with pytest.raises(wirt.PullError, match="--mirror"):
        Archive(tmp_path.as_uri(), "forky", None, insecure=True).update()

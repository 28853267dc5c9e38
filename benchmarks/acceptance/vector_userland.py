"""Programs for the vector profile under Debian's kernel: OpenSSL's vector code, and loops that a compiler vectorised.

    python benchmarks/acceptance/debian_root.py loop.img --with openssl
    python benchmarks/acceptance/vector_userland.py loop.img [--isa rva23s64 ...] [--sample SECONDS]

On each ISA the kernel boots to a shell, with the image mounted read-only. There

- vector_userland/numbers.c (transforms, matrices, reductions, conversions, strings), compiled here with ziglang for
  rv64gc and for the vector profile, prints the same hashes in both forms as on this host;
- vector_userland/crypto.c has Debian's OpenSSL seal, open and digest data of some 120 sizes by 19 ciphers and 7
  digests, as it is and with OPENSSL_riscvcap=rv64gc; both times its hashes are those of this host's OpenSSL;
- ``openssl dgst`` and ``openssl enc`` of a file give what this host's do;
- while ``openssl speed`` runs, the machine is paused again and again, and what it is about to execute is looked at: the
  algorithms for which the ISA has vector instructions have to be found in vector code.

It needs gcc, Debian's gcc-riscv64-linux-gnu, ziglang, and OpenSSL 3 on the host. Ends with status 0 only when all of
that holds.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wirt
from guests import PROMPT, pulled, report
from wirt.debian.cpio import CpioWriter
from wirt.debian.shell import Shell

_SOURCES = Path(__file__).parent / "vector_userland"
_FLAGS = ["-O3", "-ffp-contract=off", "-static", "-s"]
_SCALAR = "baseline_rv64"
# What RVA23U64 asks for, as far as compilers know it.
VECTOR = "baseline_rv64+v+zba+zbb+zbs+zicond+zfa+zfhmin+zvfhmin+zvbb+zcb"
# The algorithms whose vector code the ISA's extensions bring: ChaCha20 takes Zvkb, the others Zvkned, Zvkg and Zvknhb.
_ISAS = {
    "rva23s64": ("chacha20",),
    "rva23s64_zvkng_zvbc": ("chacha20", "aes-128-cbc", "aes-256-ctr", "aes-128-gcm", "sha256", "sha512"),
    "rva23s64_zvkng_zvbc_zvl512b": ("chacha20", "aes-256-ctr", "aes-128-gcm", "sha256", "sha512"),
}
_PATIENCE = 1800.0
_FILE = random.Random(1).randbytes(300_007)


def ziglang(target: str, output: Path, *flags: str) -> bytes:
    """numbers.c as a static program."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *_FLAGS, *flags]
    subprocess.run([*command, "-o", output, _SOURCES / "numbers.c"], check=True)
    return output.read_bytes()


def printed(*command: str | Path, stdin: bytes | None = None) -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, check=True)
    return result.stdout.decode().strip()


class Programs:
    """What runs in the guest, and what it has to print."""

    def __init__(self, folder: Path) -> None:
        self.files = {
            "scalar": ziglang("riscv64-linux-musl", folder / "scalar", f"-mcpu={_SCALAR}"),
            "vector": ziglang("riscv64-linux-musl", folder / "vector", f"-mcpu={VECTOR}"),
            "data": _FILE,
        }
        ziglang(f"{platform.machine()}-linux-musl", folder / "host")
        self.numbers = printed(folder / "host")
        for compiler, name in (("riscv64-linux-gnu-gcc", "crypto"), ("gcc", "host-crypto")):
            subprocess.run([compiler, "-O1", "-o", folder / name, _SOURCES / "crypto.c"], check=True)
        self.files["crypto"] = (folder / "crypto").read_bytes()
        self.crypto = printed(folder / "host-crypto")
        self.commands = {
            command: printed(*command.split(), stdin=_FILE)
            for command in (
                "openssl dgst -sha256",
                "openssl dgst -sha512",
                f"openssl enc -aes-256-ctr -base64 -A -K {'1f' * 32} -iv {'2e' * 16}",
                f"openssl enc -aes-128-cbc -base64 -A -K {'3d' * 16} -iv {'4c' * 16}",
                f"openssl enc -chacha20 -base64 -A -K {'5b' * 32} -iv {'6a' * 16}",
            )
        }

    def initramfs(self) -> bytes:
        archive = CpioWriter()
        archive.directory("programs")
        for name, content in self.files.items():
            archive.file(f"programs/{name}", content, 0o755)
        return gzip.compress(archive.finish(), compresslevel=1, mtime=0)


class Check:
    """One machine, and what has gone wrong in it."""

    def __init__(self, isa: str, image: Path, programs: Programs) -> None:
        guest = pulled()
        self.isa, self.programs, self.wrong = isa, programs, 0
        self.vm = wirt.Machine(
            guest.kernel,
            initrd=guest.initrd.read_bytes() + programs.initramfs(),
            cmdline="earlycon=sbi console=ttyS0",
            memory="512M",
            isa=isa,
            disks=[wirt.Disk(image, read_only=True)],
        )

    def expect(self, what: str, holds: bool, more: str = "") -> None:
        self.wrong += not holds
        report(f"{self.isa}: {what}", f"{'yes' if holds else 'NO'}{more and f', {more}'}")

    def run(self, sample: float) -> None:
        self.vm.start()
        self.vm.console.expect(PROMPT, timeout=_PATIENCE)
        self.shell = Shell(self.vm.console)
        self.shell.check(
            "mkdir -p /mnt; modprobe ext4; mount -t ext4 -o ro /dev/vda /mnt && mount -t tmpfs tmpfs /mnt/tmp",
            _PATIENCE,
        )
        self.shell.check("mount -t proc proc /mnt/proc && cp /programs/* /mnt/tmp", _PATIENCE)
        self.same_output("numbers, for rv64gc", "/programs/scalar", self.programs.numbers)
        self.same_output("numbers, vectorised", "/programs/vector", self.programs.numbers)
        self.same_output("OpenSSL", "chroot /mnt /tmp/crypto", self.programs.crypto)
        self.same_output(
            "OpenSSL without vectors", "OPENSSL_riscvcap=rv64gc chroot /mnt /tmp/crypto", self.programs.crypto
        )
        for command, expected in self.programs.commands.items():
            found = self.shell.check(f"chroot /mnt {command} </mnt/tmp/data | md5sum", _PATIENCE)
            self.expect(" ".join(command.split()[:3]) + " like the host's", found == md5(expected, command))
        for algorithm in _ISAS.get(self.isa, ()):
            self.sampled(algorithm, sample)
        self.shell.check("umount /mnt/tmp /mnt/proc /mnt", _PATIENCE)

    def same_output(self, what: str, command: str, expected: str) -> None:
        before = self.vm.instructions
        found = self.shell.run(command, _PATIENCE).output.strip()
        count = self.vm.instructions - before
        different = [
            f"{ours} for {theirs}"
            for ours, theirs in zip(found.splitlines(), expected.splitlines(), strict=False)
            if ours != theirs
        ]
        more = f"{count / 1e6:.0f} M instructions of the machine meanwhile"
        self.expect(f"{what} like the host", found == expected, "; ".join([more, *different[:3]]))

    def sampled(self, algorithm: str, seconds: float) -> None:
        """What a hart is about to execute while OpenSSL works, at instants that the host's clock gives."""
        speed = f"openssl speed -seconds {max(1, round(seconds))} -bytes 16384 -evp {algorithm}"
        self.shell.check(f"rm -f /tmp/end; (chroot /mnt {speed} >/tmp/speed 2>&1; echo $? >/tmp/end) &", _PATIENCE)
        names: collections.Counter[str] = collections.Counter()
        samples = found = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end or samples < 10:
            time.sleep(0.02)
            self.vm.pause()
            code = self.vm.harts[0].disassemble(48)
            self.vm.resume()
            vectors = [row.text.split()[0] for row in code if row.text.startswith("v")]
            names.update(set(vectors))
            samples += 1
            found += bool(vectors)
        said = self.shell.check("while [ ! -e /tmp/end ]; do sleep 0.1; done; tail -n 1 /tmp/speed", _PATIENCE)
        often = ", ".join(name for name, _ in names.most_common(6))
        self.expect(f"{algorithm} in vector code", found > 0, f"{found} of {samples} samples ({often}); {said}")


def md5(text: str, command: str) -> str:
    """What md5sum prints of a command's output; that of `dgst` ends with a line feed."""
    content = text.encode() + (b"\n" if "dgst" in command else b"")
    return printed("md5sum", stdin=content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="that debian_root.py made; it is not written to")
    parser.add_argument("--isa", nargs="+", default=list(_ISAS), help=f"[{' '.join(_ISAS)}]")
    parser.add_argument("--sample", type=float, default=2.0, metavar="SECONDS", help="of each algorithm's speed [2]")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(Path(folder))
        for isa in options.isa:
            check = Check(isa, options.image, programs)
            with check.vm:
                check.run(options.sample)
            wrong += check.wrong
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Builds the kernel for vfio.py from Debian's sources: VFIO and IOMMUFD on, and the DMA API behind the IOMMU.

    apt-get download linux-source-7.2 && dpkg-deb -x linux-source-7.2_*.deb .
    python benchmarks/acceptance/vfio_kernel.py usr/src/linux-source-7.2.tar.xz build/vfio

leaves build/vfio/Image. Needs Debian's gcc-riscv64-linux-gnu, make, flex, bison, bc and xz-utils; half an hour on two
cores. Debian's own riscv64 kernel has VFIO's type 1 and IOMMUFD off, and Linux 7.2 lacks two things that this adds to
the sources: the DMA API may use an IOMMU on riscv64 (IOMMU_DMA), and the driver says that DMA is coherent, which VFIO
insists on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

# Beside the architecture's tinyconfig: what Wirt's board has, what a busybox guest needs, and VFIO.
OPTIONS = """
64BIT SMP MMU FPU SOC_VIRT RISCV_SBI RISCV_ISA_C PRINTK TTY MULTIUSER BLOCK NET INET PACKET UNIX EPOLL EVENTFD FUTEX
SIGNALFD TIMERFD POSIX_TIMERS SHMEM BINFMT_ELF BINFMT_SCRIPT BLK_DEV_INITRD RD_GZIP RD_ZSTD PROC_FS SYSFS TMPFS
DEVTMPFS DEVTMPFS_MOUNT EXT4_FS HIGH_RES_TIMERS NO_HZ_IDLE
SERIAL_8250 SERIAL_8250_CONSOLE SERIAL_OF_PLATFORM HVC_DRIVER VIRTIO_CONSOLE POWER_RESET POWER_RESET_SYSCON
POWER_RESET_SYSCON_POWEROFF RTC_CLASS RTC_DRV_GOLDFISH
PCI PCIEPORTBUS HOTPLUG_PCI HOTPLUG_PCI_PCIE PCI_HOST_GENERIC PCI_MSI RISCV_APLIC RISCV_APLIC_MSI RISCV_IMSIC SIFIVE_PLIC
VIRTIO_MENU VIRTIO_MMIO VIRTIO_PCI VIRTIO_BLK NETDEVICES VIRTIO_NET ETHERNET NET_VENDOR_INTEL E1000E
SCSI ATA SATA_HOST SATA_AHCI BLK_DEV_SD
IOMMU_SUPPORT RISCV_IOMMU RISCV_IOMMU_PCI IOMMUFD VFIO VFIO_DEVICE_CDEV VFIO_PCI
""".split()

DMA_API = "config IOMMU_DMA\n\tdef_bool ARM64 || X86 || S390"
OPERATIONS = "static const struct iommu_ops riscv_iommu_ops = {\n"
CAPABLE = """static bool riscv_iommu_capable(struct device *dev, enum iommu_cap cap)
{
\treturn cap == IOMMU_CAP_CACHE_COHERENCY;
}

"""


def replace(path: Path, old: str, new: str) -> None:
    """Puts `new` in the place of `old`, once; a second run changes nothing."""
    text = path.read_text()
    if new in text:
        return
    if text.count(old) != 1:
        raise SystemExit(f"{path} is not as in Linux 7.2: {old!r} occurs {text.count(old)} times")
    path.write_text(text.replace(old, new))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="linux-source-*.tar.xz")
    parser.add_argument("build", type=Path, help="where to build")
    options = parser.parse_args()
    tree: Path = options.build.resolve() / options.source.name.removesuffix(".tar.xz")
    if not tree.is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-C", tree.parent, "-xf", options.source], check=True)
    replace(tree / "drivers/iommu/Kconfig", DMA_API, DMA_API + " || RISCV")
    driver = tree / "drivers/iommu/riscv/iommu.c"
    replace(driver, OPERATIONS, CAPABLE + OPERATIONS + "\t.capable = riscv_iommu_capable,\n")

    def make(*arguments: str) -> None:
        environment = {**os.environ, "ARCH": "riscv", "CROSS_COMPILE": "riscv64-linux-gnu-"}
        subprocess.run(["make", "-s", *arguments], cwd=tree, env=environment, check=True)

    fragment = tree / "wirt.config"
    fragment.write_text("".join(f"CONFIG_{option}=y\n" for option in OPTIONS))
    make("tinyconfig")
    merge = [tree / "scripts/kconfig/merge_config.sh", "-m", ".config", fragment]
    subprocess.run(merge, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    make("olddefconfig")
    configured = set((tree / ".config").read_text().splitlines())
    missing = [option for option in OPTIONS if f"CONFIG_{option}=y" not in configured]
    if missing:
        raise SystemExit(f"this kernel does not know or cannot have: {' '.join(missing)}")
    make(f"-j{os.cpu_count()}", "Image")
    image = tree.parent / "Image"
    image.write_bytes((tree / "arch/riscv/boot/Image").read_bytes())
    print(image)


if __name__ == "__main__":
    main()

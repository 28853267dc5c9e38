"""Builds the kernel for vfio.py from Debian's sources: VFIO and IOMMUFD on, and the DMA API behind the IOMMU.

    apt-get download linux-source-7.2 && dpkg-deb -x linux-source-7.2_*.deb .
    python benchmarks/acceptance/vfio_kernel.py usr/src/linux-source-7.2.tar.xz build/vfio

leaves build/vfio/Image. Needs Debian's gcc-riscv64-linux-gnu, make, flex, bison, bc and xz-utils; half an hour on two
cores. Debian's own riscv64 kernel has VFIO's type 1 and IOMMUFD off, and Linux 7.2 lacks three things that this adds to
the sources: the DMA API may use an IOMMU on riscv64 (IOMMU_DMA); the driver says that DMA is coherent, which VFIO
insists on; and page tables with Svpbmt, which the driver asks for where capabilities.Svpbmt is set, are compiled in.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

DMA_API = "config IOMMU_DMA\n\tdef_bool ARM64 || X86 || S390"
# Without it no paging domain can be had behind an IOMMU with Svpbmt: "cannot register iommu interface".
PAGE_TABLES = "\t(BIT(PT_FEAT_SIGN_EXTEND) |"
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
    tables = tree / "drivers/iommu/generic_pt/fmt/iommu_riscv64.c"
    replace(tables, PAGE_TABLES, PAGE_TABLES + " BIT(PT_FEAT_RISCV_SVPBMT) |")
    driver = tree / "drivers/iommu/riscv/iommu.c"
    replace(driver, OPERATIONS, CAPABLE + OPERATIONS + "\t.capable = riscv_iommu_capable,\n")

    def make(*arguments: str) -> None:
        environment = {**os.environ, "ARCH": "riscv", "CROSS_COMPILE": "riscv64-linux-gnu-"}
        subprocess.run(["make", "-s", *arguments], cwd=tree, env=environment, check=True)

    fragment = Path(__file__).resolve().with_suffix(".config")
    make("allnoconfig")
    merge = [tree / "scripts/kconfig/merge_config.sh", "-m", ".config", fragment]
    subprocess.run(merge, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    make("olddefconfig")
    configured = set((tree / ".config").read_text().splitlines())
    missing = set(fragment.read_text().splitlines()[1:]) - configured
    if missing:
        raise SystemExit(f"this kernel does not know or cannot have: {' '.join(sorted(missing))}")
    make(f"-j{os.cpu_count()}", "Image")
    image = tree.parent / "Image"
    image.write_bytes((tree / "arch/riscv/boot/Image").read_bytes())
    print(image)


if __name__ == "__main__":
    main()

"""Builds the kernel for vfio.py and nested.py from Debian's sources: KVM, VFIO, IOMMUFD, the DMA API behind the IOMMU.

    apt-get download linux-source-7.2 && dpkg-deb -x linux-source-7.2_*.deb .
    python benchmarks/acceptance/vfio_kernel.py usr/src/linux-source-7.2.tar.xz build/vfio

leaves build/vfio/Image. Needs Debian's gcc-riscv64-linux-gnu, make, flex, bison, bc and xz-utils; half an hour on two
cores. Debian's own riscv64 kernel has VFIO's type 1 and IOMMUFD off, and Linux 7.2 lacks four things that this adds to
the sources: the DMA API may use an IOMMU on riscv64 (IOMMU_DMA); the driver says that DMA is coherent, which VFIO
insists on; page tables with Svpbmt, which the driver asks for where capabilities.Svpbmt is set, are compiled in; and
devices behind the IOMMU send messages: the page of the hart's interrupt file is mapped for them, as on Arm, and such an
interrupt stays on that hart.
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


# What follows is the use of iommu_dma_prepare_msi(), as the kernel's own drivers for Arm have it.
RESERVED = """static void riscv_iommu_get_resv_regions(struct device *dev, struct list_head *head)
{
\tstruct iommu_resv_region *region = iommu_alloc_resv_region(
\t\t0x8000000, 0x100000, IOMMU_WRITE | IOMMU_NOEXEC | IOMMU_MMIO, IOMMU_RESV_SW_MSI, GFP_KERNEL);

\tif (region)
\t\tlist_add_tail(&region->list, head);
}

"""
COMPOSE = "static void imsic_irq_compose_vector_msg(struct imsic_vector *vec, struct msi_msg *msg)"
ADDRESS = """\tmsg->address_hi = upper_32_bits(msi_addr);
\tmsg->address_lo = lower_32_bits(msi_addr);
\tmsg->data"""
MOVE = """\t/* If move is already in-flight then return failure */
"""
ALLOCATE = """\tif (!vec)
\t\treturn -ENOSPC;

\tirq_domain_set_info"""
IMSIC = [
    ("#include <linux/irq.h>\n", "#include <linux/iommu.h>\n#include <linux/irq.h>\n"),
    (COMPOSE, COMPOSE.replace("(struct imsic_vector", "(struct irq_data *d, struct imsic_vector")),
    (ADDRESS, "\tmsi_msg_set_addr(irq_data_get_msi_desc(d), msg, msi_addr);\n\tmsg->data"),
    (
        "imsic_irq_compose_vector_msg(irq_data_get_irq_chip_data(d), msg);",
        "imsic_irq_compose_vector_msg(d, irq_data_get_irq_chip_data(d), msg);",
    ),
    ("imsic_irq_compose_vector_msg(vec, &msg);", "imsic_irq_compose_vector_msg(d, vec, &msg);"),
    # One page is mapped an interrupt, and the files of other harts have other pages.
    (MOVE, "\tif (irq_data_get_msi_desc(d)->iommu_msi_shift)\n\t\treturn -EINVAL;\n\n" + MOVE),
    (
        ALLOCATE,
        """\tif (!vec)
\t\treturn -ENOSPC;

\tphys_addr_t page;
\tint error = -EINVAL;

\tif (imsic_cpu_page_phys(vec->cpu, 0, &page))
\t\terror = iommu_dma_prepare_msi(((msi_alloc_info_t *)args)->desc, page);
\tif (error) {
\t\timsic_vector_free(vec);
\t\treturn error;
\t}

\tirq_domain_set_info""",
    ),
]


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
    capable = CAPABLE + OPERATIONS + "\t.capable = riscv_iommu_capable,\n"
    replace(driver, OPERATIONS, capable)
    replace(driver, capable, RESERVED + capable + "\t.get_resv_regions = riscv_iommu_get_resv_regions,\n")
    # It has no prompt of its own.
    imsic = "config RISCV_IMSIC\n\tbool\n\tdepends on RISCV\n"
    replace(tree / "drivers/irqchip/Kconfig", imsic, imsic + "\tselect IRQ_MSI_IOMMU\n")
    for old, new in IMSIC:
        replace(tree / "drivers/irqchip/irq-riscv-imsic-platform.c", old, new)

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

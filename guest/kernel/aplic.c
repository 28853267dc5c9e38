/*
 * RISC-V Advanced Interrupt Architecture v1.0: the APLIC (chapter 4: 4.5 registers, 4.8 direct delivery, 4.9
 * forwarding by MSIs), and the hart's IMSIC where there is one (chapter 3: 3.8 indirect registers, 3.9
 * stopei). All sources have one priority. In messages a source's number is its interrupt identity.
 *
 * Devices' wires are level-sensitive. In direct delivery a source is pending for as long as its wire is high
 * (4.7). A message is sent once each time it becomes so, which is why a handler has to ask for the next one.
 */
#include "kernel/controller.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/riscv.h"

enum {
    APLIC_DOMAINCFG = 0x0,
    APLIC_SOURCECFG = 0x0, /* + 4 * source */
    APLIC_SETIPNUM = 0x1cdc,
    APLIC_SETIENUM = 0x1edc,
    APLIC_TARGET = 0x3000, /* + 4 * source */
    APLIC_IDC = 0x4000,    /* + 32 * hart index */
    APLIC_IDC_DELIVERY = 0x0,
    APLIC_IDC_THRESHOLD = 0x8,
    APLIC_IDC_CLAIMI = 0x1c,
};

enum { DOMAINCFG_DM = 1 << 2, DOMAINCFG_IE = 1 << 8, SOURCECFG_LEVEL1 = 6, TARGET_HART_SHIFT = 18 };

/* The registers behind siselect and sireg (3.8); of the enable bits each even one has 64. */
enum { IMSIC_EIDELIVERY = 0x70, IMSIC_EITHRESHOLD = 0x72, IMSIC_EIE0 = 0xc0 };

/* By their numbers, which an assembler knows that does not know the extension. */
#define SISELECT "0x150"
#define SIREG "0x151"
#define STOPEI "0x15c"

static uintptr_t base;
static uint32_t hart_index;

static void imsic_write(uint64_t number, uint64_t value) {
    csr_write(SISELECT, number);
    csr_write(SIREG, value);
}

static void start(int index) {
    base = page_table_map_device(platform.aplic.base, platform.aplic.size);
    hart_index = (uint32_t)index;
    if (platform.has_imsic) {
        imsic_write(IMSIC_EITHRESHOLD, 0);
        imsic_write(IMSIC_EIDELIVERY, 1);
        mmio_write32(base + APLIC_DOMAINCFG, DOMAINCFG_IE | DOMAINCFG_DM);
        return;
    }
    uintptr_t idc = base + APLIC_IDC + 32 * hart_index;
    mmio_write32(base + APLIC_DOMAINCFG, DOMAINCFG_IE);
    mmio_write32(idc + APLIC_IDC_THRESHOLD, 0);
    mmio_write32(idc + APLIC_IDC_DELIVERY, 1);
}

static void enable(uint32_t source) {
    if (platform.has_imsic) {
        csr_write(SISELECT, IMSIC_EIE0 + source / 64 * 2);
        csr_set(SIREG, 1ul << source % 64);
    }
    uint32_t how = platform.has_imsic ? source /* the identity */ : 1 /* the priority */;
    mmio_write32(base + APLIC_SOURCECFG + 4 * source, SOURCECFG_LEVEL1);
    mmio_write32(base + APLIC_TARGET + 4 * source, hart_index << TARGET_HART_SHIFT | how);
    mmio_write32(base + APLIC_SETIENUM, source);
}

static uint32_t claim(void) {
    if (!platform.has_imsic) return mmio_read32(base + APLIC_IDC + 32 * hart_index + APLIC_IDC_CLAIMI) >> 16;
    uint64_t top;
    asm volatile("csrrw %0, " STOPEI ", zero" : "=r"(top)::"memory");
    return (uint32_t)(top >> 16);
}

static void complete(uint32_t source) {
    /* 4.9.2: pending again if the wire is high still. */
    if (platform.has_imsic) mmio_write32(base + APLIC_SETIPNUM, source);
}

const struct controller aplic = {"aplic", start, enable, claim, complete};

/*
 * A hypervisor that has the help of the hart: the hypervisor extension (Privileged Specification, chapter
 * "H").
 *
 * The guest's kernel runs in VS-mode, its programs in VU-mode. Each register that S-mode has is there a
 * second time, as vsstatus, vstvec, vsatp and so on, and the guest's instructions use those under the names
 * that they know. Its traps go to its own kernel without a detour (hedeleg), its timer interrupt likewise
 * (hideleg, vstimecmp). And its addresses are translated twice: by the tables of its own that vsatp names, to
 * guest physical addresses, then by the hypervisor's, which hgatp names, to those of the machine. So neither
 * a CSR, nor a fence, nor a page fault of the guest concerns the hypervisor.
 *
 * What is left is short enough to be this file: calls of the guest's kernel into its SBI, and guest physical
 * pages that the second stage does not have yet. The price is in the walk: each of the up to three entries of
 * the guest's own tables lies at a guest physical address, and so does what the last one leads to; each of
 * these four costs a walk of the second stage, of three entries: 15 loads in the place of 3.
 */
#include "hypervisors/hypervisor.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"

/* By number, for assemblers that do not know the extension. */
#define CSR_VSSTATUS "0x200"
#define CSR_VSIE "0x204"
#define CSR_VSTVEC "0x205"
#define CSR_VSEPC "0x241"
#define CSR_VSCAUSE "0x242"
#define CSR_VSTVAL "0x243"
#define CSR_VSTIMECMP "0x24d"
#define CSR_VSATP "0x280"
#define CSR_HSTATUS "0x600"
#define CSR_HEDELEG "0x602"
#define CSR_HIDELEG "0x603"
#define CSR_HCOUNTEREN "0x606"
#define CSR_HENVCFG "0x60a"
#define CSR_HTVAL "0x643"
#define CSR_HVIP "0x645"
#define CSR_HGATP "0x680"

#define BIT(n) (1ul << (n))
#define HSTATUS_SPV BIT(7)
#define HSTATUS_SPVP BIT(8)
#define HENVCFG_STCE BIT(63) /* stimecmp is vstimecmp in the guest (Sstc) */
#define HENVCFG_ADUE BIT(61) /* its tables' A and D are kept by the hart (Svadu) */
#define SSTATUS_SPP BIT(8)

/* ---------------------------------------------------------------- the second stage */

enum { ENTRIES = 512, TABLES = 8, VMID = 1 };

/* Sv39x4: guest physical addresses have two bits more than Sv39's, and the root is four times as large, and
 * so aligned. */
static uint64_t stage2_root[4 * ENTRIES] __attribute__((aligned(16384)));
static uint64_t tables[TABLES][ENTRIES] __attribute__((aligned(4096)));
static unsigned tables_taken;

static uint64_t* stage2_entry(uint64_t guest_physical) {
    uint64_t* entry = &stage2_root[guest_physical >> 30 & (4 * ENTRIES - 1)];
    for (int level = 1; level >= 0; level--) {
        if (*entry == 0) {
            if (tables_taken == TABLES) panic("no tables left for the second stage\n");
            *entry = physical_of(tables[tables_taken++]) >> 12 << 10 | PTE_V;
        }
        uint64_t* table = (uint64_t*)((*entry >> 10 << 12) + VIRTUAL_OFFSET);
        entry = &table[guest_physical >> (12 + 9 * level) & (ENTRIES - 1)];
    }
    return entry;
}

/* What a hart does when it traps to S-mode, for one that runs in VS- or VU-mode. */
static void inject(struct vcpu* vcpu, uint64_t cause, uint64_t value) {
    uint64_t status = csr_read(CSR_VSSTATUS);
    csr_write(CSR_VSEPC, vcpu->x[0]);
    csr_write(CSR_VSCAUSE, cause);
    csr_write(CSR_VSTVAL, value);
    bool supervisor = (csr_read("sstatus") & SSTATUS_SPP) != 0;
    bool enabled = (status & SSTATUS_SIE) != 0;
    status &= ~(SSTATUS_SIE | SSTATUS_SPIE | SSTATUS_SPP);
    csr_write(CSR_VSSTATUS, status | (enabled ? SSTATUS_SPIE : 0) | (supervisor ? SSTATUS_SPP : 0));
    csr_set("sstatus", SSTATUS_SPP);
    vcpu->x[0] = csr_read(CSR_VSTVEC) & ~3ul;
}

/*
 * Guest physical memory is given page by page, as it is touched. `access` is the exception that the guest
 * gets where there is none.
 */
static void give_page(struct vcpu* vcpu, uint64_t access, uint64_t address) {
    /* htval has the address without its two lowest bits, which are those of the virtual one. */
    uint64_t page = csr_read(CSR_HTVAL) >> 10 << 12;
    const void* memory = guest_memory(page, PAGE_SIZE);
    if (memory == NULL) {
        inject(vcpu, access, address);
        return;
    }
    uint64_t* entry = stage2_entry(page);
    /* As in a first stage, that it was invalid may have been cached: then this is the second fault for it. */
    if (*entry != 0) asm volatile(".insn r 0x73, 0, 0x31, zero, zero, zero" ::: "memory"); /* hfence.gvma */
    *entry = physical_of(memory) >> 12 << 10 | PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D;
}

/* ---------------------------------------------------------------- the way in and out */

/* The guest could set vstimecmp itself, and does where it asks for no help; when it asks, this is all the
 * help. */
void virtual_set_timer(uint64_t time) {
    csr_write(CSR_VSTIMECMP, time);
}

void handle_exit(struct vcpu* vcpu) {
    uint64_t cause = csr_read("scause"), value = csr_read("stval");
    switch (cause) {
        case EXCEPTION_ECALL_VS:
            virtual_sbi(vcpu);
            break;
        case EXCEPTION_FETCH_GUEST_PAGE_FAULT:
            give_page(vcpu, 1, value);
            break;
        case EXCEPTION_LOAD_GUEST_PAGE_FAULT:
            give_page(vcpu, 5, value);
            break;
        case EXCEPTION_STORE_GUEST_PAGE_FAULT:
            give_page(vcpu, 7, value);
            break;
        case EXCEPTION_VIRTUAL_INSTRUCTION:
            /* Allowed in HS-mode, but not here: to the guest it is an illegal one. */
            inject(vcpu, EXCEPTION_ILLEGAL_INSTRUCTION, value);
            break;
        default:
            panic("an exit that nobody asked for: scause %lx, stval %lx, at %lx\n", cause, value, vcpu->x[0]);
    }
}

static struct vcpu vcpu;

void hypervisor_main(uint64_t hart_id, const void* device_tree) {
    (void)hart_id;
    sbi_console_start();
    guest_load(&vcpu, device_tree);
    print("h-extension: the guest begins at %lx, in VS-mode\n", vcpu.x[0]);

    /* Every exception that S-mode would handle on a hart of its own, and the three interrupts of a guest. */
    csr_write(CSR_HEDELEG, BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) |
                               BIT(EXCEPTION_ECALL_U) | BIT(EXCEPTION_FETCH_PAGE_FAULT) |
                               BIT(EXCEPTION_LOAD_PAGE_FAULT) | BIT(EXCEPTION_STORE_PAGE_FAULT));
    csr_write(CSR_HIDELEG, BIT(2) | BIT(6) | BIT(10)); /* VSSI, VSTI, VSEI */
    csr_write(CSR_HVIP, 0);
    csr_write(CSR_HCOUNTEREN, 7);
    csr_write(CSR_HENVCFG, HENVCFG_STCE | HENVCFG_ADUE);
    if ((csr_read(CSR_HENVCFG) & HENVCFG_STCE) == 0) panic("this hypervisor needs Sstc\n");

    /* What the guest finds: S-mode's state after a reset. */
    csr_write(CSR_VSSTATUS, 0);
    csr_write(CSR_VSIE, 0);
    csr_write(CSR_VSATP, 0);
    csr_write(CSR_VSTIMECMP, ~0ul);
    csr_write(CSR_HGATP, ATP_MODE_SV39 | (uint64_t)VMID << 44 | physical_of(stage2_root) >> 12);
    asm volatile(".insn r 0x73, 0, 0x31, zero, zero, zero" ::: "memory"); /* hfence.gvma */

    /* SRET goes to VS-mode. The guest's floating-point state is its own business: sstatus.FS is never off
     * below it. */
    csr_set(CSR_HSTATUS, HSTATUS_SPV | HSTATUS_SPVP);
    csr_clear("sstatus", SSTATUS_SPIE);
    csr_set("sstatus", SSTATUS_SPP | SSTATUS_FS_INITIAL);
    vcpu_run(&vcpu);
}

/*
 * A hypervisor that has no help from the hart: trap and emulate (Popek and Goldberg, "Formal Requirements for
 * Virtualizable Third Generation Architectures", 1974).
 *
 * The guest's kernel, written for S-mode, runs in U-mode like its programs. Whatever it does that only S-mode
 * may do is an illegal instruction there; the hart traps to this hypervisor, which looks at the instruction,
 * does to a hart of its own imagination (struct virtual_hart) what the instruction would have done to a real
 * one, and lets the guest go on behind it. Its programs' traps arrive here as well, since this is S-mode, and
 * are passed on: `reflect` does what a hart does when it traps.
 *
 * That this can work at all is a property of the architecture: everything sensitive must trap in U-mode. Of
 * S-mode it does: each S-level CSR, SRET, SFENCE.VMA and WFI. What does not trap needs a second look:
 *  - Loads and stores, whose meaning depends on satp, the privilege, SUM and MXR: shadow.c.
 *  - `time`, `cycle` and `instret` can be read in U-mode where scounteren says so. The guest then reads the
 *    hart's own. Its kernel may always; for its programs its own scounteren has to hold: so the real one
 *    changes with the mode.
 *  - FENCE and FENCE.I mean the same in every mode.
 *  - Floating-point instructions ask sstatus.FS, and change it without a trap: so the guest's FS is the
 *    hart's own.
 *  - MPRV, which would make loads depend on yet another mode, is M-mode's; HLV does not exist for this guest.
 * And the guest could see the truth only in what takes time.
 */
#include "hypervisors/hypervisor.h"
#include "hypervisors/shadow.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"

enum {
    CSR_SSTATUS = 0x100,
    CSR_SIE = 0x104,
    CSR_STVEC = 0x105,
    CSR_SCOUNTEREN = 0x106,
    CSR_SENVCFG = 0x10a,
    CSR_SSCRATCH = 0x140,
    CSR_SEPC = 0x141,
    CSR_SCAUSE = 0x142,
    CSR_STVAL = 0x143,
    CSR_SIP = 0x144,
    CSR_STIMECMP_NUMBER = 0x14d,
    CSR_SATP = 0x180,
};
#define SSTATUS_SPP (1ul << 8)
#define SSTATUS_FS (3ul << 13)
#define SSTATUS_SUM (1ul << 18)
#define SSTATUS_MXR (1ul << 19)
#define SSTATUS_UXL_64 (2ul << 32)
#define SSTATUS_SD (1ul << 63)
#define SSTATUS_WRITABLE (SSTATUS_SIE | SSTATUS_SPIE | SSTATUS_SPP | SSTATUS_SUM | SSTATUS_MXR)
#define BIT(n) (1ul << (n))
#define INTERRUPTS (BIT(INTERRUPT_SOFTWARE) | BIT(INTERRUPT_TIMER) | BIT(INTERRUPT_EXTERNAL))

enum { INSTRUCTION_SRET = 0x10200073, INSTRUCTION_WFI = 0x10500073 };

/* The hart that the guest believes in: what S-mode can see of one. */
static struct virtual_hart {
    struct vcpu vcpu;
    bool user; /* the mode that it is in */
    uint64_t sstatus, stvec, sscratch, sepc, scause, stval, satp;
    uint64_t sie, software_pending, stimecmp, scounteren;
    struct view shown;        /* what the real satp stands for */
    uint64_t host_scounteren; /* as the real hart has it */
} hart;

/* ---------------------------------------------------------------- traps of the virtual hart */

/* Privileged Specification, "Supervisor Status Register": what happens when a trap is taken into S-mode. */
static void reflect(uint64_t cause, uint64_t value) {
    hart.sepc = hart.vcpu.x[0];
    hart.scause = cause;
    hart.stval = value;
    bool enabled = (hart.sstatus & SSTATUS_SIE) != 0;
    hart.sstatus &= ~(SSTATUS_SIE | SSTATUS_SPIE | SSTATUS_SPP);
    hart.sstatus |= (enabled ? SSTATUS_SPIE : 0) | (hart.user ? 0 : SSTATUS_SPP);
    hart.user = false;
    uint64_t offset = (hart.stvec & 1) != 0 && (cause & SCAUSE_INTERRUPT) != 0 ? 4 * (cause & 63) : 0;
    hart.vcpu.x[0] = (hart.stvec & ~3ul) + offset;
}

static uint64_t pending(void) {
    return hart.software_pending | (read_time() >= hart.stimecmp ? BIT(INTERRUPT_TIMER) : 0);
}

static void deliver_interrupts(void) {
    if (hart.sie == 0 || (!hart.user && (hart.sstatus & SSTATUS_SIE) == 0)) return;
    uint64_t ready = pending() & hart.sie;
    if ((ready & BIT(INTERRUPT_SOFTWARE)) != 0)
        reflect(SCAUSE_INTERRUPT | INTERRUPT_SOFTWARE, 0);
    else if ((ready & BIT(INTERRUPT_TIMER)) != 0)
        reflect(SCAUSE_INTERRUPT | INTERRUPT_TIMER, 0);
}

/* The real timer rings for the virtual one. A time that has passed needs no bell: it is pending at once. */
void virtual_set_timer(uint64_t time) {
    hart.stimecmp = time;
    sbi_set_timer(read_time() >= time ? ~0ul : time);
}

/* The hart sleeps for the guest, until the guest's own hart would wake up. */
static void wait(void) {
    while ((pending() & hart.sie) == 0) {
        wait_for_interrupt();
        if ((csr_read("sip") & BIT(INTERRUPT_TIMER)) != 0) sbi_set_timer(~0ul);
    }
}

/* ---------------------------------------------------------------- the privileged instructions */

static bool read_csr(unsigned number, uint64_t* value) {
    switch (number) {
        case CSR_SSTATUS: {
            uint64_t fs = csr_read("sstatus") & SSTATUS_FS;
            *value = hart.sstatus | fs | SSTATUS_UXL_64 | (fs == SSTATUS_FS ? SSTATUS_SD : 0);
            return true;
        }
        case CSR_SIE:
            *value = hart.sie;
            return true;
        case CSR_STVEC:
            *value = hart.stvec;
            return true;
        case CSR_SCOUNTEREN:
            *value = hart.scounteren;
            return true;
        case CSR_SENVCFG:
            *value = 0; /* nothing in it exists here */
            return true;
        case CSR_SSCRATCH:
            *value = hart.sscratch;
            return true;
        case CSR_SEPC:
            *value = hart.sepc;
            return true;
        case CSR_SCAUSE:
            *value = hart.scause;
            return true;
        case CSR_STVAL:
            *value = hart.stval;
            return true;
        case CSR_SIP:
            *value = pending();
            return true;
        case CSR_STIMECMP_NUMBER:
            *value = hart.stimecmp;
            return true;
        case CSR_SATP:
            *value = hart.satp;
            return true;
        default:
            return false;
    }
}

/* What does not exist reads as it did before, and what may not be written stays (WARL and WPRI fields). */
static void write_csr(unsigned number, uint64_t value) {
    switch (number) {
        case CSR_SSTATUS:
            hart.sstatus = value & SSTATUS_WRITABLE;
            csr_clear("sstatus", SSTATUS_FS);
            csr_set("sstatus", value & SSTATUS_FS);
            break;
        case CSR_SIE:
            hart.sie = value & INTERRUPTS;
            break;
        case CSR_STVEC:
            hart.stvec = value & ~2ul;
            break;
        case CSR_SCOUNTEREN:
            hart.scounteren = value & 7;
            break;
        case CSR_SSCRATCH:
            hart.sscratch = value;
            break;
        case CSR_SEPC:
            hart.sepc = value & ~1ul;
            break;
        case CSR_SCAUSE:
            hart.scause = value;
            break;
        case CSR_STVAL:
            hart.stval = value;
            break;
        case CSR_SIP:
            hart.software_pending = value & BIT(INTERRUPT_SOFTWARE);
            break;
        case CSR_STIMECMP_NUMBER:
            virtual_set_timer(value);
            break;
        case CSR_SATP:
            /* A mode that is not there leaves the register as it was. */
            if (value >> 60 == 0 || value >> 60 == 8) hart.satp = value;
            break;
    }
}

/* Volume I, "Zicsr". False: there is no such register. */
static bool emulate_csr(uint32_t instruction) {
    unsigned number = instruction >> 20, source = instruction >> 15 & 31, function = instruction >> 12 & 7;
    unsigned destination = instruction >> 7 & 31;
    uint64_t operand = (function & 4) != 0 ? source : source != 0 ? hart.vcpu.x[source] : 0, old;
    if (!read_csr(number, &old)) return false;
    switch (function & 3) {
        case 1:
            write_csr(number, operand);
            break;
        case 2: /* set and clear bits: with x0 nothing is written */
            if (source != 0) write_csr(number, old | operand);
            break;
        case 3:
            if (source != 0) write_csr(number, old & ~operand);
            break;
    }
    if (destination != 0) hart.vcpu.x[destination] = old;
    return true;
}

/* An instruction that is illegal in U-mode, in what the guest holds for S-mode. */
static bool emulate(uint32_t instruction) {
    if ((instruction & 0x7f) != 0x73) return false; /* SYSTEM */
    uint64_t next = hart.vcpu.x[0] + 4;
    if ((instruction >> 12 & 3) != 0) {
        if (!emulate_csr(instruction)) return false;
    } else if (instruction == INSTRUCTION_SRET) {
        next = hart.sepc;
        hart.user = (hart.sstatus & SSTATUS_SPP) == 0;
        bool enable = (hart.sstatus & SSTATUS_SPIE) != 0;
        hart.sstatus =
            (hart.sstatus & ~(SSTATUS_SIE | SSTATUS_SPP)) | SSTATUS_SPIE | (enable ? SSTATUS_SIE : 0);
    } else if (instruction == INSTRUCTION_WFI) {
        wait();
    } else if ((instruction & 0xfe007fff) == 0x12000073) { /* SFENCE.VMA */
        unsigned address = instruction >> 15 & 31, asid = instruction >> 20 & 31;
        shadow_fence(address != 0, hart.vcpu.x[address], asid != 0, (uint16_t)hart.vcpu.x[asid]);
    } else {
        return false;
    }
    hart.vcpu.x[0] = next;
    return true;
}

/* ---------------------------------------------------------------- the way in and out */

static struct view view(void) {
    return (struct view){
        .satp = hart.satp,
        .user = hart.user,
        .sum = !hart.user && (hart.sstatus & SSTATUS_SUM) != 0,
        .mxr = (hart.sstatus & SSTATUS_MXR) != 0,
    };
}

/* The real registers that stand for virtual ones, where they have changed. */
static void prepare_host(void) {
    const struct view now = view();
    if (!same_view(&now, &hart.shown)) {
        csr_write("satp", shadow_satp(&now));
        hart.shown = now;
    }
    uint64_t scounteren = hart.user ? hart.scounteren : 7;
    if (scounteren != hart.host_scounteren) csr_write("scounteren", hart.host_scounteren = scounteren);
}

void handle_exit(struct vcpu* vcpu) {
    uint64_t cause = csr_read("scause"), value = csr_read("stval");
    const struct view now = view();
    switch (cause) {
        case SCAUSE_INTERRUPT | INTERRUPT_TIMER:
            sbi_set_timer(~0ul);
            break;
        case EXCEPTION_ECALL_U:
            if (hart.user)
                reflect(EXCEPTION_ECALL_U, 0); /* a system call of the guest's */
            else
                virtual_sbi(vcpu);
            break;
        case EXCEPTION_ILLEGAL_INSTRUCTION:
            /* To the guest's programs it is as illegal as to the hart. */
            if (hart.user || !emulate((uint32_t)value)) reflect(cause, value);
            break;
        case EXCEPTION_FETCH_PAGE_FAULT:
        case EXCEPTION_LOAD_PAGE_FAULT:
        case EXCEPTION_STORE_PAGE_FAULT: {
            uint64_t refused = shadow_fault(&now, value, (enum access)cause);
            if (refused != 0) reflect(refused, value);
            break;
        }
        default:
            reflect(cause, value);
    }
    deliver_interrupts();
    prepare_host();
}

void hypervisor_main(uint64_t hart_id, const void* device_tree) {
    (void)hart_id;
    sbi_console_start();
    guest_load(&hart.vcpu, device_tree);
    print("trap-and-emulate: the guest begins at %lx, in U-mode\n", hart.vcpu.x[0]);
    shadow_start();
    hart.stimecmp = ~0ul;
    hart.shown.satp = hart.host_scounteren = ~0ul; /* neither is true yet */
    sbi_set_timer(~0ul);
    csr_write("sie", BIT(INTERRUPT_TIMER));
    csr_clear("sstatus", SSTATUS_SPP | SSTATUS_SPIE);
    prepare_host();
    vcpu_run(&hart.vcpu);
}

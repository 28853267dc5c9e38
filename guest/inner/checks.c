/*
 * What a hypervisor may get wrong: each check is one sentence of the privileged specification, and comes out
 * the same on a bare hart and on one that is only pretended.
 */
#include "inner/inner.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"

#define SSTATUS_SPP (1ul << 8)
#define SSTATUS_FS_MASK (3ul << 13)
#define SSTATUS_SUM (1ul << 18)
#define SSTATUS_MXR (1ul << 19)
#define SSTATUS_SD (1ul << 63)
enum { EXCEPTION_LOAD_ACCESS_FAULT = 5 };

#define WINDOW 0x7f000000ul /* an address of the kernel's that is free for what is tried here */

static uint64_t* window(const void* page, unsigned flags) {
    page_map(&kernel_space, WINDOW, page, flags);
    flush_page(WINDOW);
    return page_entry(&kernel_space, WINDOW);
}

static void* scratch; /* a page */

static bool read_only_is_not_written(void) {
    window(scratch, PAGE_READ | PAGE_ACCESSED | PAGE_DIRTY);
    return probe(probe_store, WINDOW) == EXCEPTION_STORE_PAGE_FAULT && csr_read("stval") == WINDOW;
}

static bool data_is_not_run(void) {
    window(scratch, PAGE_READ | PAGE_WRITE | PAGE_ACCESSED | PAGE_DIRTY);
    return probe(probe_fetch, WINDOW) == EXCEPTION_FETCH_PAGE_FAULT;
}

/* "An instruction page fault if U=1, whatever SUM" and "a load only with SUM". */
static bool user_pages_need_sum(void) {
    window(scratch, PAGE_READ | PAGE_EXECUTE | PAGE_USER | PAGE_ACCESSED | PAGE_DIRTY);
    bool without = probe(probe_load, WINDOW) == EXCEPTION_LOAD_PAGE_FAULT;
    csr_set("sstatus", SSTATUS_SUM);
    bool with = probe(probe_load, WINDOW) == 0 && probe(probe_fetch, WINDOW) == EXCEPTION_FETCH_PAGE_FAULT;
    csr_clear("sstatus", SSTATUS_SUM);
    return without && with && probe(probe_load, WINDOW) == EXCEPTION_LOAD_PAGE_FAULT;
}

static bool execute_only_needs_mxr(void) {
    window(scratch, PAGE_EXECUTE | PAGE_ACCESSED | PAGE_DIRTY);
    bool without = probe(probe_load, WINDOW) == EXCEPTION_LOAD_PAGE_FAULT;
    csr_set("sstatus", SSTATUS_MXR);
    bool with = probe(probe_load, WINDOW) == 0;
    csr_clear("sstatus", SSTATUS_MXR);
    return without && with;
}

/* A by a load, D by a store only, and both again once they were cleared and fenced. Svade: software sets
 * them. */
static bool accessed_and_dirty(void) {
    for (int round = 0; round < 2; round++) {
        uint64_t* entry = window(scratch, PAGE_READ | PAGE_WRITE);
        if (probe(probe_load, WINDOW) == EXCEPTION_LOAD_PAGE_FAULT) {
            window(scratch, PAGE_READ | PAGE_WRITE | PAGE_ACCESSED);
            if (probe(probe_store, WINDOW) != EXCEPTION_STORE_PAGE_FAULT) return false;
            continue;
        }
        if ((*entry & (PAGE_ACCESSED | PAGE_DIRTY)) != PAGE_ACCESSED) return false;
        if (probe(probe_store, WINDOW) != 0 || (*entry & PAGE_DIRTY) == 0) return false;
    }
    return true;
}

/* A leaf of 2 MiB whose lower PPN bits are set is a page fault, for all of its pages once one of them was
 * fenced. */
static bool superpage_is_aligned(void) {
    uint64_t* entry = &((uint64_t*)(kernel_space.root[1] >> 10 << 12))[0x1f0];
    *entry = (0x80200000ul >> 12 << 10) | PAGE_VALID | PAGE_READ | PAGE_ACCESSED | PAGE_DIRTY;
    flush_page(0x7e000000);
    bool good = probe(probe_load, 0x7e000000 + PAGE_SIZE) == 0;
    *entry += 1ul << 10;
    flush_page(0x7e000000);
    bool bad = probe(probe_load, 0x7e000000) == EXCEPTION_LOAD_PAGE_FAULT &&
               probe(probe_load, 0x7e000000 + PAGE_SIZE) == EXCEPTION_LOAD_PAGE_FAULT;
    *entry = 0;
    flush_page(0x7e000000);
    return good && bad;
}

static bool a_mapping_ends(void) {
    *window(scratch, PAGE_READ | PAGE_ACCESSED | PAGE_DIRTY) = 0;
    flush_page(WINDOW);
    return probe(probe_load, WINDOW) == EXCEPTION_LOAD_PAGE_FAULT;
}

/* All bits that the tables are indexed by are those of a page that is there. */
static bool not_canonical(void) {
    uint64_t address = (uintptr_t)scratch | 1ul << 40;
    return probe(probe_load, address) == EXCEPTION_LOAD_PAGE_FAULT && csr_read("stval") == address;
}

/* Nothing lies there: between the virt board's ACLINT and PLIC, and beyond what a hypervisor gives. */
static bool no_memory_there(void) {
    window((const void*)0x08000000, PAGE_READ | PAGE_ACCESSED | PAGE_DIRTY);
    return probe(probe_load, WINDOW) == EXCEPTION_LOAD_ACCESS_FAULT;
}

static uint64_t fault_of(user_program* program, uint64_t argument) {
    struct process process;
    uint64_t fault = 0;
    process_create(&process, program, argument, 0);
    enum process_event event = process_run(&process, &fault);
    process_destroy(&process);
    return event == PROCESS_FAULTED ? fault : 0;
}

static bool user_may_not_touch_csrs(void) {
    return fault_of(user_privileged, 0) == EXCEPTION_ILLEGAL_INSTRUCTION;
}

/* Where the kernel has just been itself, in the same address space: its stack. */
static bool user_may_not_see_the_kernel(void) {
    return fault_of(user_peek, (uintptr_t)__builtin_frame_address(0)) == EXCEPTION_LOAD_PAGE_FAULT;
}

/* And the other way round. */
static bool the_kernel_may_not_see_a_program(void) {
    struct process process;
    uint64_t fault;
    process_create(&process, user_touch, 1, 1);
    process.demand_end = USER_DATA + PAGE_SIZE;
    bool ended = process_run(&process, &fault) == PROCESS_EXITED;
    bool faulted = probe(probe_load, USER_DATA) == EXCEPTION_LOAD_PAGE_FAULT;
    process_destroy(&process);
    return ended && faulted;
}

/* Fields that are fixed stay so, and the others hold what was written. */
static bool registers_hold(void) {
    if (probe(probe_breakpoint, 0) != EXCEPTION_BREAKPOINT || (csr_read("sstatus") & SSTATUS_SPP) != 0)
        return false;
    csr_write("sscratch", 0x123456789abcdef0);
    bool scratch_holds = csr_read("sscratch") == 0x123456789abcdef0;
    csr_write("sscratch", 0);
    csr_write("sepc", 0x80200001); /* bit 0 is always zero */
    csr_write("sie", ~0ul);
    bool sie = (csr_read("sie") & 0x2ff) == 0x222 || (csr_read("sie") & 0x2ff) == 0x22;
    csr_write("sie", 0);
    return scratch_holds && sie && csr_read("sepc") == 0x80200000 && csr_read("sie") == 0;
}

/* A trap puts SIE into SPIE and clears it, SRET brings it back. */
static bool interrupt_enable_is_stacked(void) {
    interrupts_enable(); /* none is enabled in sie */
    bool on = probe(probe_breakpoint, 0) == EXCEPTION_BREAKPOINT && (csr_read("sstatus") & SSTATUS_SIE) != 0;
    interrupts_disable();
    bool off = probe(probe_breakpoint, 0) == EXCEPTION_BREAKPOINT && (csr_read("sstatus") & SSTATUS_SIE) == 0;
    return on && off;
}

/* FS: off makes it an illegal instruction, a write to an f register makes it dirty, and SD sums that up. */
static uint64_t touch_f0(uint64_t bits) {
    asm volatile("fmv.d.x ft0, %0" ::"r"(bits));
    return 0;
}
static bool float_state(void) {
    csr_clear("sstatus", SSTATUS_FS_MASK);
    if ((csr_read("sstatus") & SSTATUS_SD) != 0) return false;
    csr_set("sstatus", SSTATUS_FS_INITIAL);
    if ((csr_read("sstatus") & SSTATUS_FS_MASK) != SSTATUS_FS_INITIAL) return false;
    touch_f0(0);
    uint64_t after = csr_read("sstatus");
    csr_clear("sstatus", SSTATUS_FS_MASK);
    return (after & SSTATUS_FS_MASK) == SSTATUS_FS_MASK && (after & SSTATUS_SD) != 0;
}

static bool satp_takes_no_unknown_mode(void) {
    uint64_t before = csr_read("satp");
    csr_write("satp", 15ul << 60 | 0x1234);
    return csr_read("satp") == before;
}

/* A software interrupt that the kernel gives to itself stays pending while it is not enabled. */
static bool software_interrupt(void) {
    csr_set("sip", 1ul << INTERRUPT_SOFTWARE);
    bool up = (csr_read("sip") >> INTERRUPT_SOFTWARE & 1) != 0;
    csr_clear("sip", 1ul << INTERRUPT_SOFTWARE);
    return up && (csr_read("sip") >> INTERRUPT_SOFTWARE & 1) == 0;
}

static bool timer_interrupts(void) {
    return timer_count(3, 1000, true) == 3 && (!has_stimecmp || timer_count(3, 1000, false) == 3);
}

static bool time_goes_on(void) {
    uint64_t before = read_time();
    for (unsigned i = 0; i < 100000 && read_time() == before; i++) {
    }
    return read_time() > before && read_instret() != read_instret();
}

/* Nobody serves an extension number of the experimental space. */
static bool unknown_extension(void) {
    return sbi_call(0x08abcdef, 0, 0, 0, 0).error == SBI_ERR_NOT_SUPPORTED && !sbi_has_extension(0x08abcdef);
}

static const struct check {
    const char* name;
    bool (*run)(void);
} checks[] = {
    {"read-only pages are not written", read_only_is_not_written},
    {"data is not run", data_is_not_run},
    {"U pages need SUM", user_pages_need_sum},
    {"execute-only pages need MXR", execute_only_needs_mxr},
    {"A and D", accessed_and_dirty},
    {"superpages are aligned", superpage_is_aligned},
    {"a mapping ends with its fence", a_mapping_ends},
    {"addresses repeat their top bit", not_canonical},
    {"no memory there", no_memory_there},
    {"U-mode may not touch CSRs", user_may_not_touch_csrs},
    {"U-mode may not see the kernel", user_may_not_see_the_kernel},
    {"the kernel may not see a program", the_kernel_may_not_see_a_program},
    {"registers hold what they should", registers_hold},
    {"the interrupt enable is stacked", interrupt_enable_is_stacked},
    {"floating-point state", float_state},
    {"satp takes no unknown mode", satp_takes_no_unknown_mode},
    {"software interrupt", software_interrupt},
    {"timer interrupts", timer_interrupts},
    {"time goes on", time_goes_on},
    {"unknown SBI extension", unknown_extension},
};
const unsigned check_count = sizeof checks / sizeof checks[0];

uint64_t checks_run(void) {
    uint64_t right = 0;
    scratch = page_allocate();
    for (unsigned i = 0; i < check_count; i++) {
        if (checks[i].run())
            right |= 1ul << i;
        else
            print("inner: FAILED: %s\n", checks[i].name);
    }
    page_free(scratch);
    return right;
}

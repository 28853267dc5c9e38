/*
 * `traps`: takes exceptions on purpose and looks at scause and stval. What must trap is, above all, what the
 * page tables forbid: writing to code, running data, a null pointer, the page below a stack.
 *
 * `crash=stack` and `crash=null` take one that nobody expects, to show the report and the failed ending.
 */
#include "kernel/bootargs.h"
#include "kernel/hart.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"
#include "kernel/trap.h"
#include "programs/programs.h"

static const uint64_t constant = 42;
static uint32_t return_instruction[1] = {0x00008067}; /* jalr zero, 0(ra) */

static void write_to_text(void) {
    *(volatile uint32_t*)(uintptr_t)program_traps = 0;
}
static void write_to_constant(void) {
    *(volatile uint64_t*)(uintptr_t)&constant = 0;
}
static void run_data(void) {
    ((void (*)(void))(uintptr_t)return_instruction)();
}
/* Through a variable, so that the compiler does not see it coming. */
static volatile uint64_t* volatile nowhere = (volatile uint64_t*)8;
static void read_null(void) {
    (void)*nowhere;
}
static void write_to_guard(void) {
    *(volatile uint64_t*)(uintptr_t)hart_stacks[0].guard = 0;
}
static void illegal(void) {
    asm volatile(".4byte 0xffffffff");
}
static void breakpoint(void) {
    asm volatile("ebreak");
}
/* Volume II, "CSR Address Mapping Conventions": bits 9:8 are the privilege it takes. */
static void read_machine_csr(void) {
    (void)csr_read("mstatus");
}

static const struct {
    const char* what;
    void (*action)(void);
    uint64_t cause;
    uintptr_t value; /* what stval must hold; 0 where the specification leaves it open */
} cases[] = {
    {"store to text", write_to_text, EXCEPTION_STORE_PAGE_FAULT, (uintptr_t)program_traps},
    {"store to a constant", write_to_constant, EXCEPTION_STORE_PAGE_FAULT, (uintptr_t)&constant},
    {"fetch from data", run_data, EXCEPTION_FETCH_PAGE_FAULT, (uintptr_t)return_instruction},
    {"load through null", read_null, EXCEPTION_LOAD_PAGE_FAULT, 8},
    {"store to the guard page", write_to_guard, EXCEPTION_STORE_PAGE_FAULT, (uintptr_t)hart_stacks[0].guard},
    {"illegal instruction", illegal, EXCEPTION_ILLEGAL_INSTRUCTION, 0},
    {"M-mode CSR", read_machine_csr, EXCEPTION_ILLEGAL_INSTRUCTION, 0},
    {"breakpoint", breakpoint, EXCEPTION_BREAKPOINT, 0},
};

void program_traps(void) {
    unsigned good = 0, count = sizeof cases / sizeof cases[0];
    for (unsigned i = 0; i < count; i++) {
        bool trapped = trap_catch(cases[i].action);
        uint64_t cause = this_hart()->trap_cause, value = this_hart()->trap_value;
        if (!trapped)
            print_failure("traps: %s did not trap\n", cases[i].what);
        else if (cause != cases[i].cause || (cases[i].value != 0 && value != cases[i].value))
            print_failure("traps: %s: scause %lu stval 0x%lx instead of %lu and 0x%lx\n", cases[i].what,
                          cause, value, cases[i].cause, cases[i].value);
        else
            good++;
    }
    print("traps: %u of %u exceptions as the specification has them\n", good, count);
}

/* Each call needs a frame of its own, because the caller still reads from it afterwards. */
__attribute__((noinline)) static unsigned recurse(unsigned depth) {
    volatile unsigned frame[64];
    frame[depth % 64] = depth;
    return depth == ~0u ? 0 : recurse(depth + 1) + frame[depth % 64];
}

void program_crash(void) {
    const char* how = bootargs_text("crash", "");
    if (text_equal(how, "stack")) print("%u\n", recurse(0));
    if (text_equal(how, "null")) read_null();
    print_failure("crash=%s is not known; there are stack and null\n", how);
}

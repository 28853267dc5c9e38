/*
 * What happens at a trap: RISC-V Privileged Specification, "Supervisor Cause Register", for the codes.
 * Interrupts go to their drivers. An exception is a bug in this kernel, unless it was provoked on purpose
 * (trap_catch): it is reported with everything a person needs to find it, and the machine stops.
 */
#include "kernel/trap.h"

#include <stddef.h>

#include "kernel/clock.h"
#include "kernel/controller.h"
#include "kernel/hart.h"
#include "kernel/hart_offsets.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"

_Static_assert(offsetof(struct trap_frame, sepc) == FRAME_SEPC, "boot/trap_entry.S stores it there");
_Static_assert(offsetof(struct trap_frame, stval) == FRAME_STVAL, "boot/trap_entry.S stores it there");
_Static_assert(sizeof(struct trap_frame) == FRAME_SIZE && FRAME_SIZE % 16 == 0,
               "the ABI aligns stacks to 16");

extern void trap_entry(void);
extern char text_start[], text_end[];

void trap_start(char* trap_stack_top) {
    csr_write("sscratch", trap_stack_top);
    csr_write("stvec", trap_entry); /* the two low bits are zero: Direct mode */
    csr_set("sstatus", SSTATUS_FS_INITIAL);
    csr_set("sie", 1ul << INTERRUPT_SOFTWARE);
}

static const char* cause_name(uint64_t scause) {
    static const char* const names[] = {
        [0] = "instruction address misaligned",
        [1] = "instruction access fault",
        [2] = "illegal instruction",
        [3] = "breakpoint",
        [4] = "load address misaligned",
        [5] = "load access fault",
        [6] = "store address misaligned",
        [7] = "store access fault",
        [8] = "environment call",
        [12] = "instruction page fault",
        [13] = "load page fault",
        [15] = "store page fault",
    };
    bool known = scause < sizeof names / sizeof names[0] && names[scause] != NULL;
    return known ? names[scause] : "unknown cause";
}

/* ABI names in register order: "RISC-V Calling Conventions". */
static const char* const register_names[32] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0",  "a1",  "a2", "a3", "a4", "a5",
    "a6",   "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};

static const char* stack_place(uint64_t address) {
    const struct hart_stacks* stacks = &hart_stacks[this_hart()->index];
    if (address - (uintptr_t)stacks->guard < sizeof stacks->guard) return " (stack overflow)";
    if (address - (uintptr_t)stacks->trap_guard < sizeof stacks->trap_guard) return " (trap stack overflow)";
    if (address < 4096) return " (null pointer)";
    return "";
}

/* Frame pointers make a list: s0 points behind the saved ra and the caller's s0. */
static void print_backtrace(uint64_t frame_pointer) {
    const struct hart_stacks* stacks = &hart_stacks[this_hart()->index];
    uint64_t low = (uintptr_t)stacks->stack + 16, high = (uintptr_t)stacks->stack + STACK_SIZE;
    for (int depth = 0; depth < 16; depth++) {
        if (frame_pointer < low || frame_pointer > high || (frame_pointer & 7) != 0) return;
        const uint64_t* words = (const uint64_t*)frame_pointer;
        print("  called from 0x%lx\n", words[-1]);
        if (words[-2] <= frame_pointer) return;
        frame_pointer = words[-2];
    }
}

static void report(const struct trap_frame* frame) {
    print_take_over();
    print("\nUNEXPECTED TRAP on hart %lu: %s\n", this_hart()->id, cause_name(frame->scause));
    print("  scause 0x%lx  sepc 0x%lx  stval 0x%lx%s  sstatus 0x%lx\n", frame->scause, frame->sepc,
          frame->stval, stack_place(frame->stval), frame->sstatus);
    for (int i = 1; i < 32; i++)
        print("  %-4s %016lx%s", register_names[i], frame->x[i], i % 4 == 0 || i == 31 ? "\n" : "");
    print_backtrace(frame->x[8]);
    sbi_shutdown(true);
}

/* The length of the instruction at sepc: Volume I, "Base Instruction-Length Encoding". */
static uint64_t instruction_length(uint64_t sepc) {
    return (*(const uint16_t*)sepc & 3) == 3 ? 4 : 2;
}

void trap_handle(struct trap_frame* frame) {
    struct hart* hart = this_hart();
    if ((frame->scause & SCAUSE_INTERRUPT) != 0) {
        switch (frame->scause & ~SCAUSE_INTERRUPT) {
            case INTERRUPT_EXTERNAL:
                controller_handle_interrupt();
                return;
            case INTERRUPT_TIMER:
                clock_handle_interrupt();
                return;
            case INTERRUPT_SOFTWARE:
                csr_clear("sip", 1ul << INTERRUPT_SOFTWARE);
                hart->software_interrupts++;
                return;
        }
    } else if (hart->trap_expected) {
        hart->trap_expected = false;
        hart->trap_cause = frame->scause;
        hart->trap_value = frame->stval;
        /* A fetch that failed has no instruction to step over: go back to the caller instead. */
        if (frame->scause == EXCEPTION_FETCH_PAGE_FAULT)
            frame->sepc = frame->x[1];
        else
            frame->sepc += instruction_length(frame->sepc);
        return;
    }
    report(frame);
}

void trap_report_nested(void) {
    panic("a trap while handling a trap on hart %lu: %s, scause 0x%lx sepc 0x%lx stval 0x%lx%s\n",
          this_hart()->id, cause_name(csr_read("scause")), csr_read("scause"), csr_read("sepc"),
          csr_read("stval"), stack_place(csr_read("stval")));
}

bool trap_catch(void (*action)(void)) {
    struct hart* hart = this_hart();
    hart->trap_expected = true;
    asm volatile("" ::: "memory");
    action();
    asm volatile("" ::: "memory");
    bool trapped = !hart->trap_expected;
    hart->trap_expected = false;
    return trapped;
}

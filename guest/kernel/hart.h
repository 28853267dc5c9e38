/* Harts: the struct each one's tp points to, and starting the others with SBI HSM. */
#ifndef GUEST_KERNEL_HART_H
#define GUEST_KERNEL_HART_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/platform.h"

enum { STACK_SIZE = 16384, TRAP_STACK_SIZE = 8192 };

/* Each hart's stacks, each above a page that page_table.c leaves unmapped. */
struct hart_stacks {
    char guard[4096];
    char stack[STACK_SIZE];
    char trap_guard[4096];
    char trap_stack[TRAP_STACK_SIZE];
};
extern struct hart_stacks hart_stacks[MAX_HARTS];

typedef void hart_function(unsigned index);

struct hart {
    uint64_t stack_top; /* the first two are read by boot/start.S: hart_offsets.h */
    uint64_t satp;
    uint64_t id; /* the number the firmware knows it by */
    unsigned index;
    hart_function* function;
    volatile uint64_t software_interrupts;
    /* How a trap that is meant to happen is caught: see trap.h. */
    bool trap_expected;
    uint64_t trap_cause, trap_value;
};
extern struct hart harts[MAX_HARTS];

static inline struct hart* this_hart(void) {
    struct hart* hart;
    asm("mv %0, tp" : "=r"(hart));
    return hart;
}

/* Gives this hart its trap stack and points its traps at the kernel. */
void hart_start_traps(void);

/* Numbers the harts: harts[0] is the one that booted. */
void hart_start_boot(uint64_t boot_id);

/*
 * Runs `function` on every hart at once, this one included, and returns when all are done: the others are
 * started by the firmware for it and stop when they return. Gives how many harts took part.
 */
unsigned hart_run_on_all(hart_function* function);

#endif

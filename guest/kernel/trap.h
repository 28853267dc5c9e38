/* Traps: the saved registers, and catching one on purpose. */
#ifndef GUEST_KERNEL_TRAP_H
#define GUEST_KERNEL_TRAP_H

#include <stdbool.h>
#include <stdint.h>

/* As boot/trap_entry.S lays it out. x[0] is not stored. */
struct trap_frame {
    uint64_t x[32];
    uint64_t sepc;
    uint64_t sstatus;
    uint64_t scause;
    uint64_t stval;
};

/* Points this hart's traps here; what is enabled in sie is unchanged. */
void trap_start(char* trap_stack_top);

void trap_handle(struct trap_frame* frame);
void trap_report_nested(void) __attribute__((noreturn));

/*
 * Runs `action`, which may take one synchronous exception: the instruction that took it is stepped over.
 * True if there was one; its scause and stval are then in this_hart()->trap_cause and trap_value.
 */
bool trap_catch(void (*action)(void));

#endif

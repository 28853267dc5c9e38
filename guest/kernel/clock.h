/* Time and the timer interrupt. */
#ifndef GUEST_KERNEL_CLOCK_H
#define GUEST_KERNEL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/riscv.h"

enum { CLOCK_TICKS_PER_SECOND = 10 };

/* A slow tick on the boot hart: it wakes a WFI whose device never answers, so that waits can time out. */
void clock_start(void);
void clock_handle_interrupt(void);
extern volatile uint64_t clock_ticks;

/* Arms the timer for an absolute time of the `time` CSR. */
void clock_set_timer(uint64_t time);

uint64_t clock_microseconds(uint64_t timer_ticks);
void clock_spin_microseconds(uint64_t microseconds);

/*
 * Sleeps until `condition` holds or about `seconds` have passed; gives the condition. All drivers wait this
 * way, so what is measured of them is measured alike.
 *
 * The condition is looked at with interrupts off, and WFI comes before they are on again. That order
 * matters: an interrupt between the look and the WFI stays pending and WFI returns at once, where with
 * interrupts on it would be handled too early and WFI would sleep over it.
 */
#define clock_wait(condition, seconds)                                                     \
    ({                                                                                     \
        uint64_t wait_end_ = clock_ticks + (uint64_t)(seconds)*CLOCK_TICKS_PER_SECOND + 1; \
        bool wait_met_;                                                                    \
        for (;;) {                                                                         \
            interrupts_disable();                                                          \
            wait_met_ = (condition);                                                       \
            if (wait_met_ || clock_ticks > wait_end_) break;                               \
            wait_for_interrupt();                                                          \
            interrupts_enable();                                                           \
        }                                                                                  \
        interrupts_enable();                                                               \
        wait_met_;                                                                         \
    })

#endif

/*
 * Time: the `time` CSR (Volume I, "Zicntr"), the timer compare register stimecmp where the hart has one
 * (Volume II, "Sstc"), and SBI v2.0 chapter 6 where it has not.
 */
#include "kernel/clock.h"

#include "kernel/platform.h"
#include "kernel/sbi.h"

volatile uint64_t clock_ticks;

void clock_set_timer(uint64_t time) {
    if (platform.has_sstc)
        csr_write(CSR_STIMECMP, time);
    else
        sbi_set_timer(time);
}

void clock_start(void) {
    clock_set_timer(read_time() + platform.timebase_frequency / CLOCK_TICKS_PER_SECOND);
    csr_set("sie", 1ul << INTERRUPT_TIMER);
}

void clock_handle_interrupt(void) {
    clock_ticks++;
    /* A new compare value in the future also takes the pending bit down, in both ways. */
    clock_set_timer(read_time() + platform.timebase_frequency / CLOCK_TICKS_PER_SECOND);
}

uint64_t clock_microseconds(uint64_t timer_ticks) {
    uint64_t seconds = timer_ticks / platform.timebase_frequency;
    uint64_t rest = timer_ticks % platform.timebase_frequency;
    return seconds * 1000000 + rest * 1000000 / platform.timebase_frequency;
}

void clock_spin_microseconds(uint64_t microseconds) {
    uint64_t end = read_time() + microseconds * platform.timebase_frequency / 1000000 + 1;
    while (read_time() < end) {
    }
}

/*
 * A spin lock: RISC-V Volume I, chapter "A" Extension, whose own example this is. amoswap.w.aq keeps the
 * critical section's accesses from moving before the lock, amoswap.w.rl from moving behind the unlock.
 */
#ifndef GUEST_KERNEL_LOCK_H
#define GUEST_KERNEL_LOCK_H

#include <stdint.h>

struct lock {
    volatile uint32_t taken;
};

static inline void lock_take(struct lock* lock) {
    uint32_t before;
    do {
        while (lock->taken != 0) { /* look with plain loads: they do not fight over the cache line */
        }
        asm volatile("amoswap.w.aq %0, %2, %1" : "=r"(before), "+A"(lock->taken) : "r"(1) : "memory");
    } while (before != 0);
}

static inline void lock_drop(struct lock* lock) {
    asm volatile("amoswap.w.rl zero, zero, %0" : "+A"(lock->taken)::"memory");
}

#endif

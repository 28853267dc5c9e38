/*
 * `smp`: all harts at once on the same memory. Counters that come out exact only if LR/SC, the AMOs and a
 * lock made of them are atomic between harts, and two litmus tests of the memory model (Volume I, "RVWMO"),
 * with the fences that forbid the outcome looked for.
 *
 *   smp.count=20000   increments a hart and counter
 */
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/hart.h"
#include "kernel/lock.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"
#include "programs/programs.h"

enum { LITMUS_CELLS = 4096 };

static struct {
    uint64_t increments;
    unsigned harts;
    volatile unsigned arrived;
    volatile uint64_t amo, lr_sc, locked;
    volatile uint32_t amo_word;
    struct lock lock;
    volatile uint8_t x[LITMUS_CELLS], y[LITMUS_CELLS];
    uint8_t seen[2][LITMUS_CELLS];
    volatile uint32_t data[LITMUS_CELLS];
    volatile uint8_t flag[LITMUS_CELLS];
    unsigned flags_seen, stale;
    volatile unsigned woken;
} shared;

static void meet(unsigned target) {
    __atomic_fetch_add(&shared.arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&shared.arrived, __ATOMIC_ACQUIRE) < target) {
    }
}

/* Volume I, "Zalrsc": the SC writes only if the reservation of the LR still stands; else once more. */
static void increment_lr_sc(volatile uint64_t* counter) {
    uint64_t value, failed;
    do {
        asm volatile("lr.d.aq %0, %1" : "=r"(value), "+A"(*counter)::"memory");
        value++;
        asm volatile("sc.d.rl %0, %2, %1" : "=&r"(failed), "+A"(*counter) : "r"(value) : "memory");
    } while (failed != 0);
}

static void count_together(unsigned index) {
    (void)index;
    meet(shared.harts);
    for (uint64_t i = 0; i < shared.increments; i++) {
        asm volatile("amoadd.d zero, %1, %0" : "+A"(shared.amo) : "r"(1ul) : "memory");
        asm volatile("amoadd.w zero, %1, %0" : "+A"(shared.amo_word) : "r"(1) : "memory");
        increment_lr_sc(&shared.lr_sc);
        lock_take(&shared.lock);
        shared.locked = shared.locked + 1;
        lock_drop(&shared.lock);
    }
}

/*
 * Store buffering (SB): each of two harts stores to its own variable, then loads the other's. With a full
 * fence in between it cannot be that both see nothing.
 */
static void store_buffering(unsigned index) {
    if (index >= 2) return;
    volatile uint8_t* mine = index == 0 ? shared.x : shared.y;
    volatile uint8_t* theirs = index == 0 ? shared.y : shared.x;
    meet(2);
    for (unsigned i = 0; i < LITMUS_CELLS; i++) {
        mine[i] = 1;
        asm volatile("fence rw, rw" ::: "memory");
        shared.seen[index][i] = theirs[i];
    }
}

/* Message passing (MP): who sees the flag sees the data that was written before it. */
static void message_passing(unsigned index) {
    if (index >= 2) return;
    meet(2);
    if (index == 0) {
        for (unsigned i = 0; i < LITMUS_CELLS; i++) {
            shared.data[i] = i + 1;
            fence_write_write();
            shared.flag[i] = 1;
        }
        return;
    }
    /* From the end to the beginning and again until all are there, so that the two cross on the way. */
    for (bool all = false; !all;) {
        all = true;
        for (unsigned i = LITMUS_CELLS; i-- > 0;) {
            bool flag = shared.flag[i] != 0;
            fence_read_read();
            if (flag && shared.data[i] != i + 1) shared.stale++;
            if (flag) shared.flags_seen++;
            all = all && flag;
        }
    }
}

/* SBI IPIs: every other hart sleeps until hart 0 wakes it. */
static void wake_up(unsigned index) {
    if (index == 0) {
        for (unsigned i = 1; i < shared.harts; i++) {
            uint64_t deadline = read_time() + 10 * platform.timebase_frequency;
            while (shared.woken < i && read_time() < deadline) {
                sbi_send_ipi(harts[i].id);
                clock_spin_microseconds(1000);
            }
        }
        return;
    }
    uint64_t before = this_hart()->software_interrupts;
    uint64_t deadline = read_time() + 20 * platform.timebase_frequency;
    while (this_hart()->software_interrupts == before && read_time() < deadline) {
        interrupts_enable();
        interrupts_disable();
    }
    if (this_hart()->software_interrupts == before)
        print_failure("smp: no IPI reached hart %lu\n", this_hart()->id);
    __atomic_fetch_add(&shared.woken, 1, __ATOMIC_RELAXED);
}

static void run(hart_function* function) {
    shared.arrived = 0;
    hart_run_on_all(function);
}

void program_smp(void) {
    shared.harts = platform.hart_count;
    shared.increments = bootargs_number("smp.count", 20000);
    uint64_t expected = shared.increments * shared.harts;
    uint64_t start = read_time();
    run(count_together);
    uint64_t time = clock_microseconds(read_time() - start);
    print("smp: %u harts, %lu increments each: amoadd %lu, lr/sc %lu, lock %lu, in %lu us\n", shared.harts,
          shared.increments, shared.amo, shared.lr_sc, shared.locked, time);
    if (shared.amo != expected || shared.amo_word != (uint32_t)expected || shared.lr_sc != expected ||
        shared.locked != expected)
        print_failure("smp: every counter should stand at %lu\n", expected);
    if (shared.harts < 2) return;

    run(store_buffering);
    unsigned forbidden = 0;
    for (unsigned i = 0; i < LITMUS_CELLS; i++)
        if (shared.seen[0][i] == 0 && shared.seen[1][i] == 0) forbidden++;
    run(message_passing);
    print("smp: litmus SB %u forbidden of %d; MP %u stale of %u seen\n", forbidden, LITMUS_CELLS,
          shared.stale, shared.flags_seen);
    if (forbidden != 0 || shared.stale != 0) print_failure("smp: the memory model is broken\n");

    run(wake_up);
    print("smp: %u hart(s) woken by IPI\n", shared.woken);
}

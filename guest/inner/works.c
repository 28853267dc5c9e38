/*
 * The works that are measured, each framed by the marks of the monitor's vendor extension (guest/README.md).
 * The result is a number that depends on every step: it must be the same whatever the kernel runs on.
 */
#include "inner/inner.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"

#define WINDOW 0x7f000000ul

static uint64_t compute(uint64_t operations) {
    return process_result(user_compute, operations, 88172645463325252ul);
}

static uint64_t system_calls(uint64_t operations) {
    return process_result(user_calls, operations, 1);
}

/* Memory that a program gets by touching it. */
static uint64_t page_faults(uint64_t operations) {
    struct process process;
    uint64_t fault;
    process_create(&process, user_touch, operations, 362436069);
    process.demand_end = USER_DATA + operations * PAGE_SIZE;
    if (process_run(&process, &fault) != PROCESS_EXITED) panic("inner: a program did not end\n");
    process_destroy(&process);
    return process.result;
}

/* One address of the kernel's shows one page, then the other. */
static uint64_t mapping_changes(uint64_t operations) {
    uint64_t* shown[2] = {page_allocate(), page_allocate()};
    uint64_t sum = 0;
    *shown[0] = 3, *shown[1] = 5;
    for (uint64_t i = 0; i < operations; i++) {
        page_map(&kernel_space, WINDOW, shown[i & 1], PAGE_READ | PAGE_ACCESSED | PAGE_DIRTY);
        flush_page(WINDOW);
        sum = sum * 31 + *(volatile uint64_t*)WINDOW;
    }
    *page_entry(&kernel_space, WINDOW) = 0;
    flush_page(WINDOW);
    page_free(shown[0]);
    page_free(shown[1]);
    return sum;
}

/* Loads that miss the TLB: 2048 pages of address space, and one page of memory behind all of them. */
static uint64_t tlb_misses(uint64_t operations) {
    struct process process;
    uint64_t fault;
    process_create(&process, user_scan, operations, 1);
    uint64_t* page = page_allocate();
    *page = 7;
    for (uint64_t i = 0; i < 2048; i++)
        page_map(&process.space, USER_DATA + i * PAGE_SIZE, page,
                 PAGE_READ | PAGE_USER | PAGE_ACCESSED | PAGE_DIRTY);
    if (process_run(&process, &fault) != PROCESS_EXITED) panic("inner: a program did not end\n");
    for (uint64_t i = 0; i < 2048; i++) *page_entry(&process.space, USER_DATA + i * PAGE_SIZE) = 0;
    page_free(page);
    process_destroy(&process);
    return process.result;
}

/* Two processes, each in its own address space, that take turns. */
static uint64_t context_switches(uint64_t operations) {
    struct process processes[2];
    uint64_t fault;
    for (unsigned i = 0; i < 2; i++) process_create(&processes[i], user_yield, operations / 2, i + 1);
    for (uint64_t i = 0; i < operations; i++)
        if (process_run(&processes[i & 1], &fault) != PROCESS_YIELDED) panic("inner: a program ended\n");
    for (unsigned i = 0; i < 2; i++) {
        if (process_run(&processes[i], &fault) != PROCESS_EXITED) panic("inner: a program did not end\n");
        process_destroy(&processes[i]);
    }
    return processes[0].result * 31 + processes[1].result;
}

/* 10,000 ticks are a millisecond of the virt board's timer. */
static uint64_t timer_through_sbi(uint64_t operations) {
    return timer_count(operations, 10000, true);
}
static uint64_t timer_through_stimecmp(uint64_t operations) {
    return timer_count(operations, 10000, false);
}

static uint64_t console_lines(uint64_t operations) {
    return process_result(user_write, operations, 521288629);
}

static const struct work {
    const char* name;
    uint64_t operations;
    uint64_t (*run)(uint64_t operations);
    bool needs_stimecmp;
} works[] = {
    {"compute", 200000, compute, false},          {"system-call", 4000, system_calls, false},
    {"page-fault", 256, page_faults, false},      {"mapping-change", 2000, mapping_changes, false},
    {"tlb-miss", 262144, tlb_misses, false},      {"context-switch", 2000, context_switches, false},
    {"timer-sbi", 200, timer_through_sbi, false}, {"timer-stimecmp", 200, timer_through_stimecmp, true},
    {"console", 64, console_lines, false},
};

void works_run(void) {
    for (unsigned i = 0; i < sizeof works / sizeof works[0]; i++) {
        const struct work* work = &works[i];
        if (work->needs_stimecmp && !has_stimecmp) continue;
        sbi_mark_begin(work->name, work->operations, 0);
        uint64_t result = work->run(work->operations);
        sbi_mark_end(work->name, work->operations, 0);
        print("WIRT-VIRT {\"name\":\"%s\",\"operations\":%lu,\"result\":\"0x%lx\",\"ok\":true}\n", work->name,
              work->operations, result);
    }
}

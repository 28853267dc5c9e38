/*
 * The inner kernel: small, but with all that makes a hypervisor work. It has Sv39 address spaces of its own,
 * user programs and their system calls, demand paging, a timer, and a console through the SBI. It runs on a
 * bare machine and on either hypervisor of guest/hypervisors, as the same bytes, and cannot tell which.
 */
#ifndef GUEST_INNER_H
#define GUEST_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inner/offsets.h"

enum { PAGE_SIZE = 4096 };

/* ---- memory.c ---- */

enum page_flags {
    PAGE_VALID = 1,
    PAGE_READ = 2,
    PAGE_WRITE = 4,
    PAGE_EXECUTE = 8,
    PAGE_USER = 16,
    PAGE_ACCESSED = 64,
    PAGE_DIRTY = 128,
};

/* Zeroed; panics when there is none left. */
void* page_allocate(void);
void page_free(void* page);

struct address_space {
    uint64_t* root;
    uint64_t satp;
};

/* Maps the kernel, and turns translation on. */
void memory_start(void);
/* One with the kernel in it, and nothing else. */
struct address_space address_space_create(void);
/* Gives back its tables and, where `pages` says so, what they map. Its translations are flushed. */
void address_space_destroy(struct address_space* space, bool pages);
void address_space_activate(const struct address_space* space);
extern struct address_space kernel_space;

/* The entry of level 0 that maps `address`; its tables are made when they are missing. */
uint64_t* page_entry(struct address_space* space, uint64_t address);
void page_map(struct address_space* space, uint64_t address, const void* page, unsigned flags);
void flush_page(uint64_t address);

/* ---- user.c: programs for U-mode ---- */

/* What a program asks for by ecall: a7 says what, a0 and a1 with what; the answer comes in a0. */
enum system_call { CALL_EXIT, CALL_STEP, CALL_YIELD, CALL_WRITE };

typedef void user_program(uint64_t amount, uint64_t seed);
user_program user_compute, user_calls, user_touch, user_scan, user_yield, user_write, user_privileged,
    user_peek;

/* Where a program finds its stack and its data. */
#define USER_STACK_TOP 0x00800000ul
#define USER_DATA 0x40000000ul

/* ---- process.c ---- */

struct user_frame {
    uint64_t x[32]; /* x[0] is the program counter */
    uint64_t sstatus;
    uint64_t kernel_stack;
};
_Static_assert(offsetof(struct user_frame, sstatus) == FRAME_SSTATUS, "offsets.h");
_Static_assert(offsetof(struct user_frame, kernel_stack) == FRAME_KERNEL_STACK, "offsets.h");

struct process {
    struct user_frame frame;
    struct address_space space;
    uint64_t demand_end; /* what lies in [USER_DATA, demand_end) is given when it is touched */
    uint64_t result;
};

enum process_event { PROCESS_EXITED, PROCESS_YIELDED, PROCESS_FAULTED };

void process_create(struct process* process, user_program* program, uint64_t amount, uint64_t seed);
/* Runs it until something happens that concerns its owner; `fault` receives scause then. */
enum process_event process_run(struct process* process, uint64_t* fault);
void process_destroy(struct process* process);
/* Creates, runs to its end, destroys. */
uint64_t process_result(user_program* program, uint64_t amount, uint64_t seed);

/* ---- kernel traps, in main.c ---- */

/* Calls a probe; returns scause if it trapped, or 0. No expected exception has code 0. */
uint64_t probe(uint64_t (*function)(uint64_t), uint64_t argument);
uint64_t probe_load(uint64_t address);
uint64_t probe_store(uint64_t address);
uint64_t probe_fetch(uint64_t address);
uint64_t probe_breakpoint(uint64_t ignored);
uint64_t probe_stimecmp(uint64_t ignored);

extern volatile uint64_t timer_ticks;
/* Takes `count` timer interrupts, `interval` apart, asleep in between. */
uint64_t timer_count(uint64_t count, uint64_t interval, bool through_sbi);
extern bool has_stimecmp;

/* ---- checks.c, works.c ---- */

/* What a hypervisor may get wrong; a bit for each check that came out right. */
uint64_t checks_run(void);
extern const unsigned check_count;
void works_run(void);

#endif

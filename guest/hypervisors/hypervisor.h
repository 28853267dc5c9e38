/*
 * What both hypervisors have in common: a guest of one hart, its memory, and the SBI that they serve to it.
 * The guest is not trusted: each address that comes from it is checked before it is used.
 */
#ifndef GUEST_HYPERVISORS_HYPERVISOR_H
#define GUEST_HYPERVISORS_HYPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE_SIZE = 4096 };

/* A page table entry (Privileged Specification, "Sv39"). */
enum {
    PTE_V = 1,
    PTE_R = 2,
    PTE_W = 4,
    PTE_X = 8,
    PTE_U = 16,
    PTE_A = 64,
    PTE_D = 128,
    PTE_LEAF = PTE_R | PTE_W | PTE_X,
};
#define ATP_MODE_SV39 (8ul << 60)

enum {
    EXCEPTION_FETCH_ACCESS_FAULT = 1,
    EXCEPTION_ECALL_U = 8,
    EXCEPTION_ECALL_VS = 10,
    EXCEPTION_FETCH_GUEST_PAGE_FAULT = 20,
    EXCEPTION_LOAD_GUEST_PAGE_FAULT = 21,
    EXCEPTION_VIRTUAL_INSTRUCTION = 22,
    EXCEPTION_STORE_GUEST_PAGE_FAULT = 23,
};

/* ---- start.S ---- */

/* The guest's registers, while it does not run. */
struct vcpu {
    uint64_t x[32]; /* x[0] is its program counter */
    uint64_t host_stack;
};
_Static_assert(offsetof(struct vcpu, host_stack) == 256, "VCPU_STACK in start.S");

extern uint64_t host_root[];
extern char host_stack_top[];

void vcpu_run(struct vcpu* vcpu) __attribute__((noreturn));

/* Each hypervisor has these: where it begins, and what it does when its guest has trapped. */
void hypervisor_main(uint64_t hart_id, const void* device_tree) __attribute__((noreturn));
void handle_exit(struct vcpu* vcpu);

/* ---- inner_guest.c ---- */

/* Guest physical memory: where an S-mode payload of the virt board expects it. There is nothing else, and no
 * device. */
#define GUEST_MEMORY_BASE 0x80200000ul
#define GUEST_MEMORY_SIZE 0x400000ul

/* What lies at a guest physical address, or NULL where the range leaves the guest's memory. */
void* guest_memory(uint64_t guest_physical, uint64_t length);
uint64_t physical_of(const void* pointer);

/* Puts the image that came as the initial RAM disk into the guest's memory, and sets up its registers. */
void guest_load(struct vcpu* vcpu, const void* device_tree);

/* ---- virtual_sbi.c ---- */

/* An ecall of the guest's kernel: the answer goes to a0 and a1. */
void virtual_sbi(struct vcpu* vcpu);
/* Each hypervisor has this: when the guest wants its timer interrupt. */
void virtual_set_timer(uint64_t time);

#endif

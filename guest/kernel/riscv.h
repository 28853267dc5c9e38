/*
 * The instructions that C has no word for: control and status registers, fences, counters, WFI.
 * RISC-V Instruction Set Manual, Volume I (unprivileged) and Volume II (privileged).
 */
#ifndef GUEST_KERNEL_RISCV_H
#define GUEST_KERNEL_RISCV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define csr_read(name)                                               \
    ({                                                               \
        uint64_t csr_value_;                                         \
        asm volatile("csrr %0, " name : "=r"(csr_value_)::"memory"); \
        csr_value_;                                                  \
    })
#define csr_write(name, value) asm volatile("csrw " name ", %0" ::"rK"((uint64_t)(value)) : "memory")
#define csr_set(name, bits) asm volatile("csrs " name ", %0" ::"rK"((uint64_t)(bits)) : "memory")
#define csr_clear(name, bits) asm volatile("csrc " name ", %0" ::"rK"((uint64_t)(bits)) : "memory")

/* stimecmp (Sstc) by number, for assemblers that do not know the extension. */
#define CSR_STIMECMP "0x14d"

/* sstatus */
#define SSTATUS_SIE (1ul << 1)
#define SSTATUS_SPIE (1ul << 5)
#define SSTATUS_FS_INITIAL (1ul << 13)
/* sie and sip, and the cause codes of the same interrupts */
#define INTERRUPT_SOFTWARE 1
#define INTERRUPT_TIMER 5
#define INTERRUPT_EXTERNAL 9
#define SCAUSE_INTERRUPT (1ul << 63)
/* exceptions */
#define EXCEPTION_ILLEGAL_INSTRUCTION 2
#define EXCEPTION_BREAKPOINT 3
#define EXCEPTION_FETCH_PAGE_FAULT 12
#define EXCEPTION_LOAD_PAGE_FAULT 13
#define EXCEPTION_STORE_PAGE_FAULT 15

/* Volume I, "Zicntr": cycle, time and retired-instruction counters. */
static inline uint64_t read_cycle(void) {
    return csr_read("cycle");
}
static inline uint64_t read_time(void) {
    return csr_read("time");
}
static inline uint64_t read_instret(void) {
    return csr_read("instret");
}

/*
 * Volume I, "RVWMO". What the C code puts in memory for a device must be there before the device is
 * told (writes before a doorbell: fence w,o), and what a device says is done must be read after it
 * said so (fence r,r for a ring in RAM; fence i,r for a status register).
 */
static inline void fence_full(void) {
    asm volatile("fence iorw, iorw" ::: "memory");
}
static inline void fence_write_write(void) {
    asm volatile("fence w, w" ::: "memory");
}
static inline void fence_read_read(void) {
    asm volatile("fence r, r" ::: "memory");
}
static inline void fence_before_doorbell(void) {
    asm volatile("fence w, o" ::: "memory");
}
static inline void fence_after_status(void) {
    asm volatile("fence i, r" ::: "memory");
}

static inline void interrupts_enable(void) {
    csr_set("sstatus", SSTATUS_SIE);
}
static inline void interrupts_disable(void) {
    csr_clear("sstatus", SSTATUS_SIE);
}

/* Volume II, "Wait for Interrupt": resumes when an interrupt enabled in sie is pending, whatever SIE says. */
static inline void wait_for_interrupt(void) {
    asm volatile("wfi" ::: "memory");
}

#endif

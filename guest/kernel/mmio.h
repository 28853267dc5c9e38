/*
 * Device registers. `volatile` makes the compiler do exactly the accesses that are written, in that
 * order and of that width; the page table maps devices where the memory attributes make them I/O.
 */
#ifndef GUEST_KERNEL_MMIO_H
#define GUEST_KERNEL_MMIO_H

#include <stdint.h>

static inline uint8_t mmio_read8(uintptr_t address) {
    return *(volatile uint8_t*)address;
}
static inline uint16_t mmio_read16(uintptr_t address) {
    return *(volatile uint16_t*)address;
}
static inline uint32_t mmio_read32(uintptr_t address) {
    return *(volatile uint32_t*)address;
}
static inline void mmio_write8(uintptr_t address, uint8_t value) {
    *(volatile uint8_t*)address = value;
}
static inline void mmio_write16(uintptr_t address, uint16_t value) {
    *(volatile uint16_t*)address = value;
}
static inline void mmio_write32(uintptr_t address, uint32_t value) {
    *(volatile uint32_t*)address = value;
}

#endif

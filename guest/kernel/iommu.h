/*
 * The IOMMU, for drivers: a device's view of memory, into which buffers are mapped for as long as the device
 * may touch them and no longer ("strict"). Without an IOMMU, and without the bootarg iommu=strict, every
 * space is NULL: addresses are then physical, and mapping and unmapping cost nothing.
 */
#ifndef GUEST_KERNEL_IOMMU_H
#define GUEST_KERNEL_IOMMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void iommu_start(void);

/* Is there one, and does it translate? */
bool iommu_translates(void);

/* Requests that the IOMMU has refused so far; each is printed when it is first counted. */
unsigned iommu_count_faults(void);

struct dma_space;

/* The address space of a device, made when it is first asked for; NULL where devices reach memory as it is.
 */
struct dma_space* iommu_space(uint32_t device_id);

/* With a space of NULL these do nothing, and the address is the memory's own. Interrupts off, or at start. */
uint64_t dma_map(struct dma_space* space, const void* memory, size_t length, bool device_writes);
void dma_unmap(struct dma_space* space, uint64_t address, size_t length);
/* The device has forgotten what was unmapped once this returns. */
void dma_finish_unmapping(struct dma_space* space);
/* For good, and in both directions: rings and the like. */
uint64_t dma_share(struct dma_space* space, const void* memory, size_t length);

#endif

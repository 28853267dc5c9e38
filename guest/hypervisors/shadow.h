/*
 * Shadow page tables: what the hart really walks while the guest believes that it walks the guest's own.
 *
 * A guest's table leads from guest virtual to guest physical addresses, which mean nothing to the hart. Its
 * shadow leads from guest virtual to host physical ones. It is filled by the faults of the guest, entry by
 * entry, and emptied by the guest's fences: in all that the specification says of it, it is a TLB, and a
 * guest that does not fence what it should would see the same on hardware.
 */
#ifndef GUEST_HYPERVISORS_SHADOW_H
#define GUEST_HYPERVISORS_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What a translation depends on besides the address. The hart runs all of the guest in U-mode and so cannot
 * tell the guest's kernel from its programs: each has a shadow of its own. So has the kernel with SUM, or
 * with MXR.
 */
struct view {
    uint64_t satp; /* the guest's */
    bool user, sum, mxr;
};

static inline bool same_view(const struct view* a, const struct view* b) {
    return a->satp == b->satp && a->user == b->user && a->sum == b->sum && a->mxr == b->mxr;
}

enum access { ACCESS_FETCH = 12, ACCESS_LOAD = 13, ACCESS_STORE = 15 }; /* by the number of the page fault */

void shadow_start(void);

/* satp for the hart, with the shadow of that view, which may be empty still. */
uint64_t shadow_satp(const struct view* view);

/*
 * The guest's access has faulted. 0: its tables allow it; A and D are set in them, the shadow has the page,
 * and the guest may try again. Else the exception that a hart of its own would raise.
 */
uint64_t shadow_fault(const struct view* view, uint64_t address, enum access access);

/* The guest has executed SFENCE.VMA: for one address or all of them, in one address space or all of them. */
void shadow_fence(bool has_address, uint64_t address, bool has_asid, uint16_t asid);

#endif

/* Shadow page tables, for Sv39 guests on an Sv39 hart (Privileged Specification, "Sv39" and "SFENCE.VMA"). */
#include "hypervisors/shadow.h"

#include "hypervisors/hypervisor.h"
#include "kernel/string.h"

enum { ENTRIES = 512, SHADOWS = 7, TABLES = 256 };
#define ASID_SHIFT 44
#define ASID_MASK 0xfffful
#define PPN_MASK ((1ul << 44) - 1)
/* The hypervisor's own GiB, in every shadow; U-mode may not enter it. */
enum { HOST_INDEX = 511 };

struct shadow {
    bool used;
    bool fragments; /* of larger pages of the guest's: a fence of one address concerns all of such a page */
    struct view view;
    uint64_t* root;
    uint64_t last_use;
};

static struct shadow shadows[SHADOWS];
static uint64_t clock;

static uint64_t tables[TABLES][ENTRIES] __attribute__((aligned(4096)));
static uint64_t* free_tables; /* the first entry of each is the address of the next */

static void table_free(uint64_t* table) {
    table[0] = (uintptr_t)free_tables;
    free_tables = table;
}

static uint64_t* table_allocate(void) {
    uint64_t* table = free_tables;
    if (table == NULL) return NULL;
    free_tables = (uint64_t*)table[0];
    return memset(table, 0, PAGE_SIZE);
}

static uint64_t* table_of(uint64_t entry) {
    return (uint64_t*)((entry >> 10 << 12) + VIRTUAL_OFFSET);
}

void shadow_start(void) {
    for (unsigned i = 0; i < TABLES; i++) table_free(tables[i]);
}

/* ---------------------------------------------------------------- the set of shadows */

/* Each shadow has an ASID of the hart's of its own, so that to change from one to another flushes nothing. */
static uint64_t host_asid(const struct shadow* shadow) {
    return (uint64_t)(shadow - shadows) + 1;
}

static void empty(struct shadow* shadow) {
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (i == HOST_INDEX || shadow->root[i] == 0) continue;
        uint64_t* middle = table_of(shadow->root[i]);
        for (unsigned j = 0; j < ENTRIES; j++)
            if (middle[j] != 0) table_free(table_of(middle[j]));
        table_free(middle);
        shadow->root[i] = 0;
    }
    shadow->fragments = false;
    asm volatile("sfence.vma zero, %0" ::"r"(host_asid(shadow)) : "memory");
}

static struct shadow* shadow_for(const struct view* view) {
    struct shadow* oldest = &shadows[0];
    for (struct shadow* shadow = shadows; shadow < shadows + SHADOWS; shadow++) {
        if (shadow->used && same_view(&shadow->view, view)) {
            shadow->last_use = ++clock;
            return shadow;
        }
        if (shadow->last_use < oldest->last_use) oldest = shadow;
    }
    if (oldest->root == NULL) {
        oldest->root = table_allocate(); /* there are more tables than shadows */
        oldest->root[HOST_INDEX] = host_root[HOST_INDEX];
    } else {
        empty(oldest);
    }
    oldest->used = true;
    oldest->view = *view;
    oldest->last_use = ++clock;
    return oldest;
}

uint64_t shadow_satp(const struct view* view) {
    const struct shadow* shadow = shadow_for(view);
    return ATP_MODE_SV39 | host_asid(shadow) << ASID_SHIFT | physical_of(shadow->root) >> 12;
}

/* ---------------------------------------------------------------- the guest's tables */

/* One that means the same as in the guest's tables; for a guest without translation, everything is allowed.
 */
struct translation {
    uint64_t physical; /* guest physical */
    unsigned permits;  /* R, W, X */
    bool large;        /* more than 4 KiB are mapped by one leaf */
};

static uint64_t access_fault(enum access access) {
    return access == ACCESS_FETCH ? 1 : access == ACCESS_LOAD ? 5 : 7;
}

/* The algorithm of "Virtual Address Translation Process", step by step, as a hart with Svadu carries it out.
 */
static uint64_t walk(const struct view* view, uint64_t address, enum access access,
                     struct translation* result) {
    if (view->satp >> 60 == 0) {
        *result = (struct translation){address, PTE_R | PTE_W | PTE_X, false};
        return 0;
    }
    if ((uint64_t)((int64_t)(address << 25) >> 25) != address) return access;
    uint64_t table = (view->satp & PPN_MASK) << 12;
    for (int level = 2; level >= 0; level--) {
        uint64_t* at = guest_memory(table + (address >> (12 + 9 * level) & (ENTRIES - 1)) * 8, 8);
        if (at == NULL) return access_fault(access);
        uint64_t entry = *at;
        if ((entry & PTE_V) == 0 || (entry & (PTE_R | PTE_W)) == PTE_W || entry >> 54 != 0) return access;
        uint64_t target = (entry >> 10 & PPN_MASK) << 12;
        if ((entry & PTE_LEAF) == 0) {
            if ((entry & (PTE_U | PTE_A | PTE_D)) != 0) return access;
            table = target;
            continue;
        }
        unsigned permits = entry & PTE_LEAF;
        if (view->mxr && (permits & PTE_X) != 0) permits |= PTE_R;
        if ((entry & PTE_U) != 0) {
            /* The kernel may load and store there with SUM, and never fetch. */
            if (!view->user) permits = view->sum ? permits & ~(unsigned)PTE_X : 0;
        } else if (view->user) {
            return access;
        }
        unsigned needs = access == ACCESS_FETCH ? PTE_X : access == ACCESS_LOAD ? PTE_R : PTE_W;
        uint64_t extent = (uint64_t)PAGE_SIZE << (9 * level);
        if ((permits & needs) == 0 || (target & (extent - 1)) != 0) return access;
        entry |= PTE_A | (access == ACCESS_STORE ? PTE_D : 0);
        *at = entry;
        /* As long as the guest's D is clear the shadow must not let a store pass: the first one is to be
         * seen. */
        if ((entry & PTE_D) == 0) permits &= ~(unsigned)PTE_W;
        *result = (struct translation){target | (address & (extent - 1)), permits, level > 0};
        return 0;
    }
    return access;
}

/* ---------------------------------------------------------------- faults and fences */

/* Where the shadow's entry for an address is; NULL when there are no tables left for it. */
static uint64_t* entry_for(struct shadow* shadow, uint64_t address) {
    uint64_t* table = shadow->root;
    for (int level = 2; level > 0; level--) {
        uint64_t* entry = &table[address >> (12 + 9 * level) & (ENTRIES - 1)];
        if (*entry == 0) {
            uint64_t* next = table_allocate();
            if (next == NULL) return NULL;
            *entry = physical_of(next) >> 12 << 10 | PTE_V;
        }
        table = table_of(*entry);
    }
    return &table[address >> 12 & (ENTRIES - 1)];
}

uint64_t shadow_fault(const struct view* view, uint64_t address, enum access access) {
    /* The GiB that the hypervisor hides in is the one thing that the guest cannot have. */
    if (address >> 30 == ~0ul >> 30) return access_fault(access);
    struct translation translation;
    uint64_t refused = walk(view, address, access, &translation);
    if (refused != 0) return refused;
    const void* page = guest_memory(translation.physical & ~(uint64_t)(PAGE_SIZE - 1), PAGE_SIZE);
    if (page == NULL) return access_fault(access);

    struct shadow* shadow = shadow_for(view);
    uint64_t* entry = entry_for(shadow, address);
    if (entry == NULL) {
        /* A TLB may forget whatever it likes. */
        for (struct shadow* other = shadows; other < shadows + SHADOWS; other++)
            if (other->used) empty(other);
        entry = entry_for(shadow, address);
    }
    /* A and D are kept in the guest's entry, so the hart finds them set in the shadow's. U, since all of it
     * runs there. */
    uint64_t wanted = physical_of(page) >> 12 << 10 | translation.permits | PTE_V | PTE_U | PTE_A | PTE_D;
    /*
     * That an entry was invalid, or read-only, may have been cached. Then the guest faults again, and finds
     * here what it wanted: that is when to fence ("SFENCE.VMA": software may do so lazily).
     */
    if (*entry == wanted) asm volatile("sfence.vma %0, %1" ::"r"(address), "r"(host_asid(shadow)) : "memory");
    *entry = wanted;
    shadow->fragments |= translation.large;
    return 0;
}

void shadow_fence(bool has_address, uint64_t address, bool has_asid, uint16_t asid) {
    for (struct shadow* shadow = shadows; shadow < shadows + SHADOWS; shadow++) {
        if (!shadow->used || (has_asid && (shadow->view.satp >> ASID_SHIFT & ASID_MASK) != asid)) continue;
        if (!has_address || shadow->fragments) {
            empty(shadow);
            continue;
        }
        if (address >> 30 == ~0ul >> 30) continue;
        uint64_t* table = shadow->root;
        for (int level = 2; level > 0 && table != NULL; level--) {
            uint64_t entry = table[address >> (12 + 9 * level) & (ENTRIES - 1)];
            table = entry != 0 ? table_of(entry) : NULL;
        }
        if (table == NULL) continue;
        uint64_t* entry = &table[address >> 12 & (ENTRIES - 1)];
        if (*entry == 0) continue;
        *entry = 0;
        asm volatile("sfence.vma %0, %1" ::"r"(address), "r"(host_asid(shadow)) : "memory");
    }
}

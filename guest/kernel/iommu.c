/*
 * The RISC-V IOMMU: RISC-V IOMMU Architecture Specification 1.0; section numbers stand where they matter.
 *
 * It is to devices what the MMU is to harts. A directory in memory, indexed by the device's number, has a
 * context for each device; the context points to page tables of the harts' own format, here Sv39.
 * Translations are cached, so taking one back is two steps: clear the entry, and have the IOMMU forget it, by
 * a command in a queue in memory. The queue's doorbell is a store; that the commands are carried out the last
 * of them, a fence, writes to memory. The price of strict protection is this doorbell, and the entries
 * written and cleared, for every request.
 */
#include "kernel/iommu.h"

#include "kernel/bootargs.h"
#include "kernel/memory.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"

/* 6, registers */
enum {
    CAPABILITIES = 0x00,
    DDTP = 0x10,
    CQB = 0x18,
    CQT = 0x24,
    FQB = 0x28,
    FQH = 0x30,
    FQT = 0x34,
    CQCSR = 0x48,
    FQCSR = 0x4c,
};
#define CAPABILITY_SV39 (1ul << 9)
#define CAPABILITY_MSI_FLAT (1ul << 22) /* device contexts are 64 bytes instead of 32 */
enum { DDTP_BARE = 1, DDTP_THREE_LEVELS = 4, DDTP_BUSY = 1 << 4 };
enum { QUEUE_ENABLE = 1 << 0, QUEUE_ON = 1 << 16 };
#define CQCSR_ERRORS (7u << 8)

/* 3.1.3, device context */
struct device_context {
    uint64_t control, guest_table, attributes, table;
    uint64_t msi[4]; /* only with MSI_FLAT */
};
#define CONTEXT_VALID (1ul << 0)
#define TABLE_SV39 (8ul << 60)
#define ATTRIBUTES_PSCID(id) ((uint64_t)(id) << 12)

/* 4.1, commands of 16 bytes */
struct command {
    uint64_t what, operand;
};
#define IOTINVAL_VMA (1ul | 1ul << 10 | 1ul << 32) /* of one address (AV) and one process (PSCV) */
#define IOTINVAL_PSCID(id) ((uint64_t)(id) << 12)
#define IOFENCE_WRITE(data) (2ul | 1ul << 10 | (uint64_t)(data) << 32) /* and then write the data (AV) */
#define IODIR_INVAL_DDT 3ul

enum { COMMANDS = 256, FAULTS = 64, FAULT_SIZE = 32, ENTRIES = 512 };
/* Where buffers appear to devices: 64 MiB, which is 32 page tables of the last level, at 1 GiB. */
enum { WINDOW_TABLES = 32, WINDOW_PAGES = WINDOW_TABLES * ENTRIES };
static const uint64_t WINDOW = 1ul << 30;

struct dma_space {
    struct dma_space* next;
    uint32_t device_id;
    uint64_t* entries; /* of the whole window, in a row */
    unsigned cursor;   /* where the search for free pages goes on */
};

static struct {
    uintptr_t registers;
    bool translates;
    bool long_contexts;
    uint64_t* directory; /* the root of three levels */
    struct command* commands;
    unsigned command_tail;
    unsigned commands_since_fence;
    volatile uint32_t fence_word;
    uint32_t fences;
    uint64_t* faults;
    unsigned fault_count;
    struct dma_space* spaces;
} iommu;

static uint64_t page_entry(const void* page) {
    return (uint64_t)(uintptr_t)page >> 12 << 10;
}

static bool settles(unsigned number, uint32_t mask, uint32_t value) {
    uint64_t end = read_time() + platform.timebase_frequency / 10;
    while ((mmio_read32(iommu.registers + number) & mask) != value)
        if (read_time() > end) return false;
    return true;
}

/* --- commands --- */

static void ring(void) {
    fence_before_doorbell();
    mmio_write32(iommu.registers + CQT, iommu.command_tail);
}

/* 4.1.2, IOFENCE.C: everything before it is done when its word arrives in memory. */
static void finish_commands(void) {
    iommu.commands[iommu.command_tail] =
        (struct command){IOFENCE_WRITE(++iommu.fences), (uint64_t)(uintptr_t)&iommu.fence_word >> 2};
    iommu.command_tail = (iommu.command_tail + 1) % COMMANDS;
    iommu.commands_since_fence = 0;
    ring();
    uint64_t end = read_time() + platform.timebase_frequency;
    while (iommu.fence_word != iommu.fences)
        if (read_time() > end)
            panic("the IOMMU does not finish its commands: cqcsr is 0x%x\n",
                  mmio_read32(iommu.registers + CQCSR));
    fence_full();
}

static void command(uint64_t what, uint64_t operand) {
    iommu.commands[iommu.command_tail] = (struct command){what, operand};
    iommu.command_tail = (iommu.command_tail + 1) % COMMANDS;
    if (++iommu.commands_since_fence == COMMANDS - 2) finish_commands();
}

/* --- the directory: 3.1 --- */

/* The number's bits are an index for each level, the last one's 7 bits, or 6 where contexts are twice as
 * long. */
static struct device_context* context_of(uint32_t device_id) {
    unsigned leaf_bits = iommu.long_contexts ? 6 : 7;
    unsigned index[3] = {device_id >> (leaf_bits + 9) & 511, device_id >> leaf_bits & 511,
                         device_id & ((1u << leaf_bits) - 1)};
    uint64_t* level = iommu.directory;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t* entry = &level[index[i]];
        if ((*entry & 1) == 0) *entry = page_entry(memory_allocate(PAGE_SIZE, PAGE_SIZE)) | 1;
        level = (uint64_t*)(uintptr_t)(*entry >> 10 << 12);
    }
    return (struct device_context*)((uintptr_t)level + (index[2] * PAGE_SIZE >> leaf_bits));
}

struct dma_space* iommu_space(uint32_t device_id) {
    if (!iommu.translates) return NULL;
    for (struct dma_space* space = iommu.spaces; space != NULL; space = space->next)
        if (space->device_id == device_id) return space;

    struct dma_space* space = memory_allocate(sizeof *space, 64);
    space->device_id = device_id;
    space->entries = memory_allocate(WINDOW_TABLES * PAGE_SIZE, PAGE_SIZE);
    uint64_t* root = memory_allocate(PAGE_SIZE, PAGE_SIZE);
    uint64_t* middle = memory_allocate(PAGE_SIZE, PAGE_SIZE);
    root[WINDOW >> 30] = page_entry(middle) | PAGE_VALID;
    for (unsigned i = 0; i < WINDOW_TABLES; i++)
        middle[i] = page_entry(space->entries + i * ENTRIES) | PAGE_VALID;
    space->next = iommu.spaces;
    iommu.spaces = space;

    struct device_context* context = context_of(device_id);
    context->attributes = ATTRIBUTES_PSCID(device_id & 0xfffff);
    context->table = TABLE_SV39 | (uint64_t)(uintptr_t)root >> 12;
    fence_write_write(); /* the whole context before it is valid: 3.1.3 */
    context->control = CONTEXT_VALID;
    command(IODIR_INVAL_DDT | 1ul << 33 | (uint64_t)device_id << 40, 0);
    finish_commands();
    return space;
}

/* --- mapping --- */

/* Buffers begin and end anywhere: all pages that they touch. */
static unsigned pages_of(uint64_t address, size_t length) {
    return (unsigned)((address % PAGE_SIZE + length + PAGE_SIZE - 1) / PAGE_SIZE);
}

/* The first of `count` free pages in a row, or WINDOW_PAGES. Next fit: what was freed is used last. */
static unsigned find_free(struct dma_space* space, unsigned count) {
    unsigned at = space->cursor, run = 0;
    for (unsigned looked = 0; looked < WINDOW_PAGES + count; looked++) {
        if (at == WINDOW_PAGES) at = run = 0;
        run = space->entries[at++] == 0 ? run + 1 : 0;
        if (run == count) {
            space->cursor = at % WINDOW_PAGES;
            return at - count;
        }
    }
    return WINDOW_PAGES;
}

static uint64_t map(struct dma_space* space, const void* memory, size_t length, uint64_t flags) {
    uint64_t physical = (uintptr_t)memory;
    unsigned count = pages_of(physical, length);
    unsigned first = find_free(space, count);
    if (first == WINDOW_PAGES)
        panic("device 0x%x has no room for %zu more bytes\n", space->device_id, length);
    for (unsigned i = 0; i < count; i++)
        space->entries[first + i] = ((physical >> 12) + i) << 10 | flags | PAGE_VALID | PAGE_ACCESSED |
                                    0x10 /* U: devices are users */;
    fence_write_write();
    return WINDOW + first * (uint64_t)PAGE_SIZE + physical % PAGE_SIZE;
}

uint64_t dma_map(struct dma_space* space, const void* memory, size_t length, bool device_writes) {
    if (space == NULL) return (uintptr_t)memory;
    return map(space, memory, length, device_writes ? PAGE_READ | PAGE_WRITE | PAGE_DIRTY : PAGE_READ);
}

uint64_t dma_share(struct dma_space* space, const void* memory, size_t length) {
    return dma_map(space, memory, length, true);
}

void dma_unmap(struct dma_space* space, uint64_t address, size_t length) {
    if (space == NULL) return;
    unsigned first = (unsigned)((address - WINDOW) / PAGE_SIZE), count = pages_of(address, length);
    for (unsigned i = 0; i < count; i++) {
        space->entries[first + i] = 0;
        uint64_t page = WINDOW + (first + i) * (uint64_t)PAGE_SIZE;
        command(IOTINVAL_VMA | IOTINVAL_PSCID(space->device_id & 0xfffff), page >> 12 << 10);
    }
}

void dma_finish_unmapping(struct dma_space* space) {
    if (space != NULL && iommu.commands_since_fence != 0) finish_commands();
}

/* --- setting up: 6.2 --- */

/* 5: a queue's base register has its address and the binary logarithm of its length, less one. */
static void* make_queue(unsigned base_register, unsigned control_register, unsigned entries,
                        size_t entry_size) {
    void* queue = memory_allocate(entries * entry_size,
                                  entries * entry_size > PAGE_SIZE ? entries * entry_size : PAGE_SIZE);
    unsigned log2 = 0;
    while (1u << (log2 + 1) < entries) log2++;
    uint64_t value = page_entry(queue) | log2;
    mmio_write32(iommu.registers + base_register, (uint32_t)value);
    mmio_write32(iommu.registers + base_register + 4, (uint32_t)(value >> 32));
    mmio_write32(iommu.registers + control_register, QUEUE_ENABLE);
    if (!settles(control_register, QUEUE_ON, QUEUE_ON)) panic("an IOMMU queue does not come up\n");
    return queue;
}

static void set_directory(uint64_t value) {
    mmio_write32(iommu.registers + DDTP, (uint32_t)value);
    mmio_write32(iommu.registers + DDTP + 4, (uint32_t)(value >> 32));
    if (!settles(DDTP, DDTP_BUSY, 0)) panic("the IOMMU does not take its directory\n");
}

void iommu_start(void) {
    if (platform.iommu.size == 0) return;
    iommu.registers = page_table_map_device(platform.iommu.base, platform.iommu.size);
    uint64_t capabilities = mmio_read32(iommu.registers + CAPABILITIES);
    if (!text_equal(bootargs_text("iommu", "bypass"), "strict")) {
        set_directory(DDTP_BARE);
        return;
    }
    if ((capabilities & CAPABILITY_SV39) == 0) panic("the IOMMU has no Sv39\n");
    iommu.long_contexts = (capabilities & CAPABILITY_MSI_FLAT) != 0;
    iommu.commands = make_queue(CQB, CQCSR, COMMANDS, sizeof(struct command));
    iommu.faults = make_queue(FQB, FQCSR, FAULTS, FAULT_SIZE);
    iommu.directory = memory_allocate(PAGE_SIZE, PAGE_SIZE);
    set_directory(page_entry(iommu.directory) | DDTP_THREE_LEVELS);
    iommu.translates = true;
}

bool iommu_translates(void) {
    return iommu.translates;
}

/* 4.2, fault record: cause in bits 11:0 and device number in 63:40 of the first word; the address is the
 * third. */
unsigned iommu_count_faults(void) {
    if (!iommu.translates) return 0;
    uint32_t tail = mmio_read32(iommu.registers + FQT), head = mmio_read32(iommu.registers + FQH);
    for (; head != tail; head = (head + 1) % FAULTS, iommu.fault_count++) {
        const uint64_t* record = iommu.faults + head * (FAULT_SIZE / 8);
        print("iommu: device 0x%lx, cause %lu, address 0x%lx\n", record[0] >> 40, record[0] & 0xfff,
              record[2]);
    }
    mmio_write32(iommu.registers + FQH, head);
    return iommu.fault_count;
}

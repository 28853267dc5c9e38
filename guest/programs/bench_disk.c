/*
 * Disks: sequential reads and writes from 4 KiB to 1 MiB, one at a time, and random 4 KiB ones at queue depth
 * 1 and 32. Preparing and checking the data happens outside of the measured sections, so what is counted is
 * the driver and the device; the loop around them is the same code for every kind of disk.
 */
#include "drivers/block.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/memory.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"
#include "programs/bench.h"

enum { RANDOM_BLOCK = 4096, CHUNK = 256 * 1024, DEEP_QUEUE = 32, LARGEST_BLOCK = 1 << 20 };

static struct disk_bench {
    struct block_device* disk;
    char name[32];
    uint8_t* buffer; /* holds the whole region, the byte at disk offset n at n */
    size_t region;
    bool may_write;
    bool prepared;       /* has the region been filled for the first time? */
    uint64_t generation; /* which pattern the region holds now */
    uint8_t* touched;    /* one bit a RANDOM_BLOCK: hit by the random section */
    uint64_t random;
} bench;

/* xorshift64* (Marsaglia 2003, Vigna 2016): the same positions on every disk and in every run. */
static uint64_t next_random(uint64_t* state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dul;
}

/*
 * Every sector holds a pattern of its own that also changes with each write section, so that data from the
 * wrong place or from an earlier time are noticed.
 */
static uint64_t pattern_start(uint64_t sector, uint64_t generation) {
    return (sector + 1) * 0x9e3779b97f4a7c15ul ^ generation * 0xc2b2ae3d27d4eb4ful;
}
static const uint64_t PATTERN_STEP = 0xff51afd7ed558ccdul;

static void fill_pattern(void) {
    uint64_t* words = (uint64_t*)bench.buffer;
    for (uint64_t sector = 0; sector < bench.region / SECTOR_SIZE; sector++) {
        uint64_t word = pattern_start(sector, bench.generation);
        for (unsigned i = 0; i < SECTOR_SIZE / 8; i++, word += PATTERN_STEP) *words++ = word;
    }
}

static bool holds_pattern(uint64_t sector, uint64_t count, uint64_t generation) {
    for (uint64_t end = sector + count; sector < end; sector++) {
        const uint64_t* words = (const uint64_t*)(bench.buffer + sector * SECTOR_SIZE);
        uint64_t word = pattern_start(sector, generation);
        for (unsigned i = 0; i < SECTOR_SIZE / 8; i++, word += PATTERN_STEP)
            if (words[i] != word) {
                print("%s: sector %lu, word %u: 0x%lx instead of 0x%lx\n", bench.name, sector, i, words[i],
                      word);
                return false;
            }
    }
    return true;
}

static bool transfer_region(enum block_operation operation, size_t block) {
    for (size_t at = 0; at < bench.region; at += block)
        if (!block_transfer(bench.disk, operation, at / SECTOR_SIZE, (uint32_t)(block / SECTOR_SIZE),
                            bench.buffer + at))
            return false;
    return true;
}

static bool flush(void) {
    return !bench.disk->can_flush || block_transfer(bench.disk, BLOCK_FLUSH, 0, 0, NULL);
}

static bool read_back(void) {
    memset(bench.buffer, 0, bench.region);
    return transfer_region(BLOCK_READ, CHUNK);
}

/* Leaves the whole region in one known generation. */
static bool write_region(void) {
    bench.generation++;
    fill_pattern();
    return transfer_region(BLOCK_WRITE, CHUNK);
}

/* Before the first section that is wanted, so that a disk nobody asks for keeps its contents. */
static void prepare(void) {
    if (bench.prepared) return;
    bench.prepared = true;
    if (bench.may_write && !write_region()) print_failure("%s does not take the test pattern\n", bench.name);
}

static void measure_sequential(enum block_operation operation, size_t block) {
    struct bench_section section;
    const char* kind = operation == BLOCK_READ ? "read" : "write";
    if (!bench_wanted(&section, "disk/%s/seq-%s/%zu", bench.name, kind, block)) return;
    prepare();
    section.interrupt = bench.disk->interrupt;
    uint64_t total = bootargs_number("bench.mb", 8) << 20;
    uint64_t rounds = (total + bench.region - 1) / bench.region;
    if (operation == BLOCK_WRITE) {
        bench.generation++;
        fill_pattern();
    } else {
        memset(bench.buffer, 0, bench.region);
    }
    bool good = true;
    bench_begin(&section, rounds * (bench.region / block), rounds * bench.region);
    for (uint64_t round = 0; round < rounds && good; round++) good = transfer_region(operation, block);
    bench_end(&section);
    if (operation == BLOCK_WRITE) good = good && flush() && read_back();
    bench_report(&section, good && (!bench.may_write ||
                                    holds_pattern(0, bench.region / SECTOR_SIZE, bench.generation)));
}

static void start_random(struct block_request* request, enum block_operation operation) {
    uint64_t block = next_random(&bench.random) % (bench.region / RANDOM_BLOCK);
    bench.touched[block / 8] |= (uint8_t)(1 << block % 8);
    request->operation = operation;
    request->sector = block * (RANDOM_BLOCK / SECTOR_SIZE);
    request->sector_count = RANDOM_BLOCK / SECTOR_SIZE;
    request->data = bench.buffer + block * RANDOM_BLOCK;
}

/*
 * Keeps `depth` requests under way: whatever has finished is replaced, with one kick for all of it, and
 * then we sleep until something more has. False as soon as a request fails.
 */
static bool run_random(enum block_operation operation, uint64_t operations, unsigned depth) {
    static struct block_request requests[DEEP_QUEUE];
    struct block_request* volatile done = NULL;
    struct block_request* idle = NULL;
    for (unsigned i = 0; i < depth; i++) {
        requests[i] = (struct block_request){.done_list = (struct block_request**)&done, .next_done = idle};
        idle = &requests[i];
    }
    uint64_t to_start = operations, to_finish = operations;
    bool good = true;
    for (;;) {
        bool started = false;
        while (idle != NULL && to_start > 0) {
            struct block_request* request = idle;
            idle = request->next_done;
            start_random(request, operation);
            if (!block_submit(bench.disk, request)) return false;
            to_start--;
            started = true;
        }
        if (started) block_kick(bench.disk);
        if (!clock_wait(done != NULL, 30)) panic("%s does not answer\n", bench.disk->description);
        interrupts_disable();
        idle = done;
        done = NULL;
        interrupts_enable();
        for (struct block_request* request = idle; request != NULL; request = request->next_done) {
            good = good && request->state == BLOCK_DONE;
            to_finish--;
        }
        if (to_finish == 0) return good;
    }
}

/* The touched blocks hold the present generation, the others the one before. */
static bool random_writes_hold(void) {
    enum { SECTORS = RANDOM_BLOCK / SECTOR_SIZE };
    for (uint64_t block = 0; block < bench.region / RANDOM_BLOCK; block++) {
        bool touched = (bench.touched[block / 8] >> block % 8 & 1) != 0;
        if (!holds_pattern(block * SECTORS, SECTORS, touched ? bench.generation : bench.generation - 1))
            return false;
    }
    return true;
}

static bool random_reads_hold(void) {
    enum { SECTORS = RANDOM_BLOCK / SECTOR_SIZE };
    for (uint64_t block = 0; block < bench.region / RANDOM_BLOCK; block++) {
        bool touched = (bench.touched[block / 8] >> block % 8 & 1) != 0;
        if (touched && !holds_pattern(block * SECTORS, SECTORS, bench.generation)) return false;
    }
    return true;
}

static void measure_random(enum block_operation operation, unsigned depth) {
    struct bench_section section;
    const char* kind = operation == BLOCK_READ ? "read" : "write";
    if (!bench_wanted(&section, "disk/%s/rand-%s/%u/qd%u", bench.name, kind, RANDOM_BLOCK, depth)) return;
    prepare();
    section.interrupt = bench.disk->interrupt;
    if (depth > bench.disk->queue_depth) depth = bench.disk->queue_depth;
    bench.random = 0x57495254; /* any seed but zero */
    memset(bench.touched, 0, bench.region / RANDOM_BLOCK / 8);
    bool good = true;
    if (operation == BLOCK_WRITE) {
        good = write_region();
        bench.generation++;
        fill_pattern();
    } else {
        memset(bench.buffer, 0, bench.region);
    }
    uint64_t operations = bootargs_number("bench.ops", 2048);
    bench_begin(&section, operations, operations * RANDOM_BLOCK);
    good = good && run_random(operation, operations, depth);
    bench_end(&section);
    if (operation == BLOCK_WRITE) {
        good = good && flush() && read_back() && random_writes_hold();
        good = good && write_region();
    } else if (bench.may_write) {
        good = good && random_reads_hold();
    }
    bench_report(&section, good);
}

static void name_disk(unsigned index) {
    unsigned before = 0;
    for (unsigned i = 0; i < index; i++)
        if (text_equal(block_devices[i]->interface, block_devices[index]->interface)) before++;
    format_text(bench.name, sizeof bench.name, before == 0 ? "%s" : "%s.%u", block_devices[index]->interface,
                before);
}

static void measure_disk(unsigned index, size_t region) {
    bench.disk = block_devices[index];
    bench.generation = 0;
    name_disk(index);
    uint64_t disk_size = bench.disk->sector_count * SECTOR_SIZE & ~(uint64_t)(LARGEST_BLOCK - 1);
    bench.region = disk_size < region ? disk_size : region;
    if (bench.region == 0) {
        print("%s is smaller than 1 MiB and is not measured\n", bench.disk->description);
        return;
    }
    bench.may_write = !bench.disk->read_only && bootargs_number("bench.write", 1) != 0;
    bench.prepared = false;
    static const size_t sizes[] = {4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (bench.may_write) measure_sequential(BLOCK_WRITE, sizes[i]);
        measure_sequential(BLOCK_READ, sizes[i]);
    }
    static const unsigned depths[] = {1, DEEP_QUEUE};
    for (unsigned i = 0; i < 2; i++) {
        if (bench.may_write) measure_random(BLOCK_WRITE, depths[i]);
        measure_random(BLOCK_READ, depths[i]);
    }
}

void bench_disks(void) {
    if (block_device_count == 0) return;
    size_t region = bootargs_number("bench.mb", 8) << 20;
    size_t limit = (memory_available() / 2) & ~(size_t)(LARGEST_BLOCK - 1);
    if (region > limit) region = limit;
    if (region == 0) {
        print_failure("bench.mb=0, or too little memory for the disk sections\n");
        return;
    }
    bench.buffer = memory_allocate(region, PAGE_SIZE);
    bench.touched = memory_allocate(region / RANDOM_BLOCK / 8 + 1, 8);
    for (unsigned i = 0; i < block_device_count; i++) measure_disk(i, region);
}

/*
 * `journal`: keeps numbered records on the first disk and in memory, and names each on the console once the
 * disk has it. What was written a lap ago is read back and checked before its place is taken, on either. So
 * whoever moves, copies or kills the machine can tell from the console whether it ran twice, and from the
 * disk whether anything of it is lost.
 *
 *   journal.records=0  how many; 0: until it is switched off
 *   journal.burst=16   records at a time, ten times a second
 *   journal.mb=4       the part of memory
 *   journal.sectors=0  the first so many of the disk; 0: all
 *
 * Record n has a sector, n modulo their number; its first word is n, each other one is the one before
 * times PATTERN_FACTOR, plus one. In memory it has the beginning of a page.
 */
#include "drivers/block.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/memory.h"
#include "kernel/print.h"
#include "kernel/string.h"
#include "programs/programs.h"

enum { RECORD_WORDS = SECTOR_SIZE / sizeof(uint64_t), FLUSH_EVERY = 64 };

static const uint64_t PATTERN_FACTOR = 6364136223846793005ul;

static void fill(uint64_t* record, uint64_t number) {
    for (unsigned i = 0; i < RECORD_WORDS; i++, number = number * PATTERN_FACTOR + 1) record[i] = number;
}

static bool holds(const uint64_t* record, uint64_t number) {
    for (unsigned i = 0; i < RECORD_WORDS; i++, number = number * PATTERN_FACTOR + 1)
        if (record[i] != number) return false;
    return true;
}

void program_journal(void) {
    if (block_device_count == 0) {
        print_failure("journal: there is no disk\n");
        return;
    }
    struct block_device* disk = block_devices[0];
    uint64_t last = bootargs_number("journal.records", 0), burst = bootargs_number("journal.burst", 16);
    uint64_t sectors = bootargs_number("journal.sectors", 0);
    if (sectors == 0 || sectors > disk->sector_count) sectors = disk->sector_count;
    size_t size = bootargs_number("journal.mb", 4) << 20, pages = size / PAGE_SIZE;
    char* memory = memory_allocate(size, PAGE_SIZE);
    uint64_t* record = memory_allocate(SECTOR_SIZE, SECTOR_SIZE);
    for (uint64_t number = 1; last == 0 || number <= last; number++) {
        uint64_t sector = number % sectors;
        uint64_t* page = (uint64_t*)(memory + number % pages * PAGE_SIZE);
        bool good = number <= pages || holds(page, number - pages);
        if (good && number > sectors)
            good = block_transfer(disk, BLOCK_READ, sector, 1, record) && holds(record, number - sectors);
        fill(page, number);
        fill(record, number);
        good = good && block_transfer(disk, BLOCK_WRITE, sector, 1, record);
        if (good && disk->can_flush && number % FLUSH_EVERY == 0)
            good = block_transfer(disk, BLOCK_FLUSH, 0, 0, NULL);
        if (!good) {
            print_failure("journal: record %lu is not what it was, or cannot be written\n", number);
            return;
        }
        print("journal %lu\n", number);
        if (burst != 0 && number % burst == 0) {
            uint64_t tick = clock_ticks;
            clock_wait(clock_ticks != tick, 1);
        }
    }
}

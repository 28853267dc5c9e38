/*
 * `dirty`: writes a word into page after page of a region, at a rate, until it is told to stop: what a live
 * migration has to keep up with.
 *
 *   dirty.mb=64        the region
 *   dirty.rate=50      MiB of pages a second; 0: as fast as it goes
 *   dirty.seconds=60   how long
 *   dirty.fill=0       MiB that are filled before, and then left alone
 */
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/memory.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "programs/programs.h"

void program_dirty(void) {
    size_t size = bootargs_number("dirty.mb", 64) << 20, fill = bootargs_number("dirty.fill", 0) << 20;
    uint64_t rate = bootargs_number("dirty.rate", 50) << 20;
    char* still = memory_allocate(fill + PAGE_SIZE, PAGE_SIZE);
    for (size_t at = 0; at < fill; at += sizeof(uint64_t))
        *(volatile uint64_t*)(still + at) = (at + 1) * 0x9e3779b97f4a7c15ul;
    char* region = memory_allocate(size, PAGE_SIZE);
    size_t pages = size / PAGE_SIZE;
    print("dirty: begins\n");
    uint64_t hertz = platform.timebase_frequency;
    uint64_t start = read_time(), end = start + bootargs_number("dirty.seconds", 60) * hertz, written = 0, wrong = 0;
    for (uint64_t now = start; now < end; now = read_time()) {
        if (rate != 0 && (written * PAGE_SIZE >> 10) * hertz > (now - start) * (rate >> 10)) continue;
        uint64_t lap = written / pages;
        volatile uint64_t* word = (volatile uint64_t*)(region + written % pages * PAGE_SIZE);
        if (lap != 0 && word[lap % 512 == 0 ? 511 : lap % 512 - 1] != written - pages) wrong++;
        word[lap % 512] = written;
        written++;
    }
    for (size_t at = 0; at < fill; at += sizeof(uint64_t))
        if (*(volatile uint64_t*)(still + at) != (at + 1) * 0x9e3779b97f4a7c15ul) wrong++;
    print("WIRT-DIRTY {\"pages\":%lu,\"wrong\":%lu}\n", written, wrong);
    if (wrong != 0) print_failure("dirty: memory does not keep what is written\n");
}

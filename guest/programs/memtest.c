/*
 * `memtest`: fills free memory with patterns in every access width and reads them back. Each word holds its
 * own address under a key, so that aliases show as well as lost bits.
 *
 *   memtest.mb=64   how much; all of what is free at most
 */
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/memory.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "programs/programs.h"

static uint64_t word_at(const void* address, uint64_t key) {
    return ((uintptr_t)address ^ key) * 0x9e3779b97f4a7c15ul;
}

#define DEFINE_PASS(bits)                                                                    \
    static uint64_t pass##bits(char* memory, size_t size, uint64_t key) {                    \
        volatile uint##bits##_t* end = (volatile uint##bits##_t*)(memory + size);            \
        for (volatile uint##bits##_t* at = (volatile uint##bits##_t*)memory; at < end; at++) \
            *at = (uint##bits##_t)(word_at((const void*)at, key) >> 32);                     \
        uint64_t wrong = 0;                                                                  \
        for (volatile uint##bits##_t* at = (volatile uint##bits##_t*)memory; at < end; at++) \
            if (*at != (uint##bits##_t)(word_at((const void*)at, key) >> 32)) wrong++;       \
        return wrong;                                                                        \
    }
DEFINE_PASS(8)
DEFINE_PASS(16)
DEFINE_PASS(32)

static uint64_t pass64(char* memory, size_t size, uint64_t key) {
    volatile uint64_t* end = (volatile uint64_t*)(memory + size);
    for (volatile uint64_t* at = (volatile uint64_t*)memory; at < end; at++)
        *at = word_at((const void*)at, key);
    uint64_t wrong = 0;
    for (volatile uint64_t* at = (volatile uint64_t*)memory; at < end; at++)
        if (*at != word_at((const void*)at, key)) wrong++;
    return wrong;
}

/* Loads and stores that straddle every boundary: Volume I, "Load and Store Instructions". */
static uint64_t pass_misaligned(char* memory, size_t size) {
    uint64_t wrong = 0;
    for (size_t at = 1; at + 16 < size; at += 4093) {
        uint64_t value = word_at(memory + at, 7), read;
        asm volatile("sd %1, 0(%2); ld %0, 0(%2)" : "=&r"(read) : "r"(value), "r"(memory + at) : "memory");
        for (unsigned i = 0; i < 8; i++)
            if ((uint8_t)memory[at + i] != (uint8_t)(value >> 8 * i)) wrong++;
        if (read != value) wrong++;
    }
    return wrong;
}

void program_memtest(void) {
    size_t size = bootargs_number("memtest.mb", 64) << 20;
    size_t available = memory_available() / 2 & ~(size_t)(PAGE_SIZE - 1);
    if (size > available) size = available;
    char* memory = memory_allocate(size, PAGE_SIZE);
    uint64_t start = read_time();
    uint64_t wrong = pass64(memory, size, 0) + pass64(memory, size, ~0ul);
    wrong += pass32(memory, size, 1) + pass16(memory, size / 8, 2) + pass8(memory, size / 8, 3);
    wrong += pass_misaligned(memory, size);
    uint64_t time = clock_microseconds(read_time() - start);
    print("memtest: %zu MiB at %p, %lu wrong, %lu ms\n", size >> 20, (void*)memory, wrong, time / 1000);
    if (wrong != 0) print_failure("memtest: memory does not keep what is written\n");
}

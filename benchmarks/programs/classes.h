/*
 * The classes of work that `bench_classes.py` compares machines by. A unit returns a checksum that main.c compares with the one of
 * the host's own run, so that a fast machine is also a right one; the system classes return 0 when all went well.
 */
#pragma once

#include <stdint.h>

/* cpu.c: integer programs. */
uint64_t class_mixed(void);
uint64_t class_records(void);
uint64_t class_bytecode(void);
uint64_t class_fibonacci(void);
uint64_t class_sha256(void);

/* floats.c: double precision. */
uint64_t class_bodies(void);
uint64_t class_linear(void);

/* memory.c */
uint64_t class_sieve(void);
uint64_t class_chase(void);
uint64_t class_copy(void);
uint64_t class_sort(void);

/* system.c */
uint64_t class_getppid(void);
uint64_t class_faults(void);
uint64_t class_forkexec(void);
uint64_t class_pipes(void);
uint64_t class_pair(void);

/* splitmix64 (Steele, Lea, Flood 2014): test data that look random and are the same everywhere. */
static inline uint64_t next_random(uint64_t* state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ul;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static inline uint64_t mix(uint64_t sum, uint64_t value) {
    return (sum ^ value) * 0x100000001b3ul;
}

/* Keeps the compiler from computing at build time, or once for all rounds, what the machine is to be measured by. */
#define OPAQUE(variable) __asm__ volatile("" : "+r"(variable) : : "memory")

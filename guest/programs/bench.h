/* Measured sections: what all of `bench=io` and `bench=net` share. */
#ifndef GUEST_PROGRAMS_BENCH_H
#define GUEST_PROGRAMS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_section {
    char name[64];
    uint64_t operations, bytes;
    uint32_t interrupt; /* the source whose interrupts are counted */
    uint64_t interrupts, instret, time;
};

/*
 * Is the section wanted (bench.only= lists prefixes, all are wanted without it)? Then it is named and the
 * caller may prepare; nothing is counted yet.
 */
bool bench_wanted(struct bench_section* section, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

/* Nothing but the measured work may stand between these two. */
void bench_begin(struct bench_section* section, uint64_t operations, uint64_t bytes);
void bench_end(struct bench_section* section);

/* Prints the section's line, once it is known whether the data were right. */
void bench_report(const struct bench_section* section, bool good);

void bench_disks(void);
void bench_consoles(void);
void bench_exits(void);
void bench_network(bool serving);

#endif

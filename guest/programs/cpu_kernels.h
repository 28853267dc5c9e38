/*
 * The units of work that `cpu` times. Each is a pure function: it does the same work at every call and
 * returns a checksum of all of it. Nothing here touches the machine, so the file also builds on a host, which
 * is where the expected checksums come from.
 */
#ifndef GUEST_PROGRAMS_CPU_KERNELS_H
#define GUEST_PROGRAMS_CPU_KERNELS_H

#include <stdint.h>

uint64_t cpu_crc(void);
uint64_t cpu_matrix(void);
uint64_t cpu_list(void);
uint64_t cpu_state(void);
uint64_t cpu_sieve(void);
uint64_t cpu_fibonacci(void);
uint64_t cpu_copy(void);
uint64_t cpu_mandelbrot(void);

#endif

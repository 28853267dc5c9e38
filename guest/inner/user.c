/*
 * The programs that the inner kernel runs in U-mode. All they have is a stack, what the kernel maps for them,
 * and ecall; they lie in a section of their own, and nothing in it calls what lies outside.
 */
#include "inner/inner.h"

#define USER __attribute__((section(".user.text")))
#define USER_INLINE static inline __attribute__((always_inline))

USER_INLINE uint64_t call(enum system_call what, uint64_t first, uint64_t second) {
    register uint64_t a0 asm("a0") = first;
    register uint64_t a1 asm("a1") = second;
    register uint64_t a7 asm("a7") = what;
    asm volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a7) : "memory");
    return a0;
}

/* Marsaglia, "Xorshift RNGs" (2003): three shifts, and no state but the number. */
USER_INLINE uint64_t mixed(uint64_t x) {
    x ^= x << 13;
    x ^= x >> 7;
    return x ^ x << 17;
}

/* Arithmetic and nothing else. */
USER void user_compute(uint64_t amount, uint64_t seed) {
    uint64_t x = seed, sum = 0;
    for (; amount > 0; amount--) {
        x = mixed(x);
        sum += x * 0x9e3779b97f4a7c15ul;
    }
    call(CALL_EXIT, sum, 0);
}

/* System calls that do next to nothing. */
USER void user_calls(uint64_t amount, uint64_t seed) {
    uint64_t x = seed;
    for (; amount > 0; amount--) x = call(CALL_STEP, x, 0);
    call(CALL_EXIT, x, 0);
}

/* Writes to pages that nobody has given it yet, and reads them again. */
USER void user_touch(uint64_t amount, uint64_t seed) {
    volatile uint64_t* data = (volatile uint64_t*)USER_DATA;
    uint64_t x = seed, sum = 0;
    for (uint64_t i = 0; i < amount; i++) data[i * (PAGE_SIZE / 8) + i % 512] = x = mixed(x);
    for (uint64_t i = 0; i < amount; i++) sum = sum * 31 + data[i * (PAGE_SIZE / 8) + i % 512];
    call(CALL_EXIT, sum, 0);
}

/* Reads a word in each of 2048 pages, over and over: more than a TLB holds. */
USER void user_scan(uint64_t amount, uint64_t seed) {
    volatile uint64_t* data = (volatile uint64_t*)USER_DATA;
    uint64_t sum = seed;
    for (uint64_t i = 0; i < amount; i++) sum = sum * 31 + data[i % 2048 * (PAGE_SIZE / 8)];
    call(CALL_EXIT, sum, 0);
}

/* Lets the other one go on after each step. */
USER void user_yield(uint64_t amount, uint64_t seed) {
    uint64_t x = seed;
    for (; amount > 0; amount--) x = mixed(call(CALL_YIELD, x, 0));
    call(CALL_EXIT, x, 0);
}

/* Lines on the console: letters that the kernel has to fetch from here. */
USER void user_write(uint64_t amount, uint64_t seed) {
    char line[64];
    uint64_t x = seed, sum = 0;
    for (; amount > 0; amount--) {
        for (unsigned i = 0; i < sizeof line - 1; i++) {
            x = mixed(x);
            line[i] = (char)('a' + (x >> 32) % 26);
        }
        line[sizeof line - 1] = '\n';
        sum = sum * 31 + call(CALL_WRITE, (uintptr_t)line, sizeof line);
    }
    call(CALL_EXIT, sum ^ x, 0);
}

/* What only a kernel may do. */
USER void user_privileged(uint64_t amount, uint64_t seed) {
    (void)amount, (void)seed;
    asm volatile("csrw sscratch, zero" ::: "memory");
    call(CALL_EXIT, 0, 0);
}

/* Looks where it was told to. */
USER void user_peek(uint64_t amount, uint64_t seed) {
    (void)seed;
    call(CALL_EXIT, *(volatile uint64_t*)amount, 0);
}

/* Programs that live by memory: strides, dependent loads over more than any cache holds, copies, sorting. */
#include <stdlib.h>

#include "classes.h"

/* As a C library for the architecture does it, eight words a turn: the one that the compiler brings along stores bytes. */
static void move_words(uint64_t* to, const uint64_t* from, size_t count) {
    for (size_t i = 0; i < count; i += 8) {
        uint64_t a = from[i], b = from[i + 1], c = from[i + 2], d = from[i + 3];
        uint64_t e = from[i + 4], f = from[i + 5], g = from[i + 6], h = from[i + 7];
        to[i] = a, to[i + 1] = b, to[i + 2] = c, to[i + 3] = d;
        to[i + 4] = e, to[i + 5] = f, to[i + 6] = g, to[i + 7] = h;
        OPAQUE(i);
    }
}

static void clear_words(uint64_t* to, size_t count) {
    for (size_t i = 0; i < count; i += 8) {
        to[i] = 0, to[i + 1] = 0, to[i + 2] = 0, to[i + 3] = 0;
        to[i + 4] = 0, to[i + 5] = 0, to[i + 6] = 0, to[i + 7] = 0;
        OPAQUE(i);
    }
}

/* ---- sieve: byte stores at growing strides over 4 MiB ---- */

uint64_t class_sieve(void) {
    enum { SIZE = 4 << 20 };
    uint8_t* composite = calloc(SIZE, 1);
    uint64_t count = 0;
    for (unsigned round = 0; round < 2; round++) {
        clear_words((uint64_t*)composite, SIZE / 8);
        for (uint64_t i = 2; i < SIZE; i++) {
            if (composite[i] != 0) continue;
            count++;
            for (uint64_t multiple = i * i; multiple < SIZE; multiple += i) composite[multiple] = 1;
        }
    }
    free(composite);
    return count;
}

/* ---- chase: one cycle through 64 MiB, a cache line at a time, in random order ---- */

uint64_t class_chase(void) {
    enum { LINE = 64, LINES = (64 << 20) / LINE };
    uint8_t* memory = malloc((size_t)LINE * LINES);
    uint32_t* order = malloc(sizeof(uint32_t) * LINES);
    uint64_t random = 7, sum = 0;
    for (uint32_t i = 0; i < LINES; i++) order[i] = i;
    for (uint32_t i = LINES; i-- > 1;) {
        uint32_t other = (uint32_t)(next_random(&random) % (i + 1)), swapped = order[i];
        order[i] = order[other];
        order[other] = swapped;
    }
    for (uint32_t i = 0; i < LINES; i++)
        *(void**)(memory + (size_t)LINE * order[i]) = memory + (size_t)LINE * order[(i + 1) % LINES];
    void** at = (void**)memory;
    for (uint32_t i = 0; i < 2 * LINES; i++) at = *at;
    sum = (uint64_t)((uint8_t*)at - memory);
    free(order);
    free(memory);
    return sum;
}

/* ---- copy: 32 MiB by words ---- */

uint64_t class_copy(void) {
    enum { SIZE = 32 << 20 };
    uint64_t *from = malloc(SIZE), *to = malloc(SIZE);
    uint64_t sum = 0;
    for (size_t i = 0; i < SIZE / 8; i++) from[i] = i * 0x9e3779b97f4a7c15ul;
    for (unsigned round = 0; round < 12; round++) {
        from[round] = round;
        OPAQUE(to);
        move_words(to, from, SIZE / 8);
        OPAQUE(to);
        sum = mix(sum, to[round] + to[SIZE / 8 - 1]);
    }
    free(from);
    free(to);
    return sum;
}

/* ---- sort: 64 MiB of 64-bit integers, by merging ---- */

static void merge_sort(uint64_t* values, uint64_t* space, size_t count) {
    if (count <= 8) {
        for (size_t i = 1; i < count; i++) {
            uint64_t value = values[i];
            size_t at = i;
            for (; at > 0 && values[at - 1] > value; at--) values[at] = values[at - 1];
            values[at] = value;
        }
        return;
    }
    size_t half = count / 2, left = 0, right = half;
    merge_sort(values, space, half);
    merge_sort(values + half, space, count - half);
    for (size_t i = 0; i < half; i++) space[i] = values[i];
    for (size_t at = 0; left < half; at++)
        values[at] = right < count && values[right] < space[left] ? values[right++] : space[left++];
}

uint64_t class_sort(void) {
    enum { COUNT = 8 << 20 };
    uint64_t *values = malloc(COUNT * sizeof *values), *space = malloc(COUNT / 2 * sizeof *space);
    uint64_t random = 8, sum = 0;
    for (size_t i = 0; i < COUNT; i++) values[i] = next_random(&random);
    merge_sort(values, space, COUNT);
    for (size_t i = 0; i < COUNT; i += 1021) sum = mix(sum, values[i]);
    free(values);
    free(space);
    return sum;
}

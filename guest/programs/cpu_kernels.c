/* The units of work that `cpu` times; see the header for what they have in common. */
#include "programs/cpu_kernels.h"

#include <stdbool.h>
#include <stddef.h>

#include "kernel/string.h"

/* splitmix64 (Steele, Lea, Flood 2014): test data that look random and are the same everywhere. */
static uint64_t next(uint64_t* state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ul;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ z >> 27) * 0x94d049bb133111ebul;
    return z ^ z >> 31;
}

static uint64_t mix(uint64_t sum, uint64_t value) {
    return (sum ^ value) * 0x100000001b3ul;
}

/* CRC-32C, bit by bit and then by table: shifts, exclusive ors, branches on data. */
uint64_t cpu_crc(void) {
    enum { SIZE = 4096 };
    static uint8_t data[SIZE];
    static uint32_t table[256];
    uint64_t state = 1;
    for (unsigned i = 0; i < SIZE; i++) data[i] = (uint8_t)next(&state);
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (unsigned bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
        table[i] = crc;
    }
    uint32_t by_bit = ~0u, by_table = ~0u;
    for (unsigned i = 0; i < SIZE; i++) {
        by_bit ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++)
            by_bit = (by_bit & 1) != 0 ? by_bit >> 1 ^ 0x82f63b78u : by_bit >> 1;
        by_table = table[(by_table ^ data[i]) & 255] ^ by_table >> 8;
    }
    return (uint64_t)by_bit << 32 | by_table;
}

/* 32-bit matrices: multiplication and regular strides through memory. */
uint64_t cpu_matrix(void) {
    enum { N = 32 };
    static int32_t a[N][N], b[N][N], c[N][N];
    uint64_t state = 2;
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++) {
            a[i][j] = (int16_t)next(&state);
            b[i][j] = (int16_t)next(&state);
        }
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++) {
            uint32_t sum = 0;
            for (unsigned k = 0; k < N; k++) sum += (uint32_t)a[i][k] * (uint32_t)b[k][j];
            c[i][j] = (int32_t)sum;
        }
    uint64_t checksum = 0;
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++) checksum = mix(checksum, (uint32_t)c[i][j]);
    return checksum;
}

struct list_node {
    struct list_node* next;
    int32_t key;
    uint32_t place;
};

static struct list_node* merge(struct list_node* left, struct list_node* right) {
    struct list_node head = {0}, *tail = &head;
    while (left != NULL && right != NULL) {
        struct list_node** smaller = left->key <= right->key ? &left : &right;
        tail->next = *smaller;
        tail = *smaller;
        *smaller = (*smaller)->next;
    }
    tail->next = left != NULL ? left : right;
    return head.next;
}

static struct list_node* sort(struct list_node* list, unsigned length) {
    if (length == 1) {
        list->next = NULL;
        return list;
    }
    struct list_node* middle = list;
    for (unsigned i = 0; i < length / 2; i++) middle = middle->next;
    struct list_node* right = sort(middle, length - length / 2);
    return merge(sort(list, length / 2), right);
}

/* A linked list, sorted by merging: pointers that must be loaded before they can be followed. */
uint64_t cpu_list(void) {
    enum { N = 512 };
    static struct list_node nodes[N];
    uint64_t state = 3;
    for (unsigned i = 0; i < N; i++) {
        /* 197 is coprime to 512: the list visits the array in scattered order. */
        nodes[i * 197 % N].next = i + 1 < N ? &nodes[(i + 1) * 197 % N] : NULL;
        nodes[i].key = (int32_t)next(&state);
        nodes[i].place = i;
    }
    uint64_t checksum = 0;
    for (const struct list_node* node = sort(&nodes[0], N); node != NULL; node = node->next)
        checksum = mix(mix(checksum, (uint32_t)node->key), node->place);
    return checksum;
}

/* A state machine over text, telling integers, fractions and words apart: branches that are hard to guess. */
uint64_t cpu_state(void) {
    static const char text[] =
        "5012,-874,+122,.55,0.66,-9.001,1e10,6.02e23,-1.6e-19,spin,lock,0x1f,12ab,e9,7.,.,+,-,,3.14159,"
        "2147483648,wirt,riscv64,-0,00012,8e,8e+,8e+4,4.e2,-.5e-5,nan,inf,1.2.3,--4,+-5,99,100,101,102";
    enum {
        START,
        SIGN,
        INTEGER,
        POINT,
        FRACTION,
        EXPONENT,
        EXPONENT_SIGN,
        EXPONENT_DIGITS,
        WORD,
        STATES
    } state = START;
    unsigned ends[STATES] = {0}, steps = 0;
    for (unsigned round = 0; round < 16; round++)
        for (const char* at = text; at < text + sizeof text; at++, steps++) {
            char character = *at;
            bool digit = character >= '0' && character <= '9';
            bool sign = character == '+' || character == '-';
            if (character == ',' || character == '\0') {
                ends[state]++;
                state = START;
                continue;
            }
            switch (state) {
                case START:
                    state = digit ? INTEGER : sign ? SIGN : character == '.' ? POINT : WORD;
                    break;
                case SIGN:
                    state = digit ? INTEGER : character == '.' ? POINT : WORD;
                    break;
                case INTEGER:
                    state = digit              ? INTEGER
                            : character == '.' ? FRACTION
                            : character == 'e' ? EXPONENT
                                               : WORD;
                    break;
                case POINT:
                    state = digit ? FRACTION : WORD;
                    break;
                case FRACTION:
                    state = digit ? FRACTION : character == 'e' ? EXPONENT : WORD;
                    break;
                case EXPONENT:
                    state = digit ? EXPONENT_DIGITS : sign ? EXPONENT_SIGN : WORD;
                    break;
                case EXPONENT_SIGN:
                case EXPONENT_DIGITS:
                    state = digit ? EXPONENT_DIGITS : WORD;
                    break;
                default:
                    state = WORD;
            }
        }
    uint64_t checksum = steps;
    for (unsigned i = 0; i < STATES; i++) checksum = mix(checksum, ends[i]);
    return checksum;
}

/* The sieve of Eratosthenes: byte stores at growing strides. */
uint64_t cpu_sieve(void) {
    enum { N = 8192 };
    static uint8_t composite[N];
    memset(composite, 0, N);
    uint64_t count = 0, sum = 0;
    for (unsigned i = 2; i < N; i++) {
        if (composite[i] != 0) continue;
        count++;
        sum += i;
        for (unsigned multiple = i * i; multiple < N; multiple += i) composite[multiple] = 1;
    }
    return count << 32 | sum;
}

__attribute__((noinline)) static uint64_t fibonacci(uint64_t n) {
    if (n < 2) return n;
    /* The empty statement keeps the compiler from making a loop of one of the calls. */
    uint64_t left = fibonacci(n - 1);
    __asm__ volatile("" ::: "memory");
    return left + fibonacci(n - 2);
}

/* Fibonacci numbers by their definition: calls and returns, little else. */
uint64_t cpu_fibonacci(void) {
    return fibonacci(18);
}

/* 64 KiB copied twice: loads and stores of eight bytes. */
uint64_t cpu_copy(void) {
    enum { WORDS = 8192 };
    static uint64_t from[WORDS], to[WORDS];
    for (unsigned i = 0; i < WORDS; i++) from[i] = i * 0x9e3779b97f4a7c15ul;
    memcpy(to, from, sizeof to);
    memmove(from + 1, to, sizeof from - 8);
    uint64_t checksum = 0;
    for (unsigned i = 0; i < WORDS; i += 61) checksum = mix(checksum, to[i] + from[i]);
    return checksum;
}

/* The Mandelbrot set in double precision: additions and multiplications, exact under IEEE 754. */
uint64_t cpu_mandelbrot(void) {
    enum { WIDTH = 32, HEIGHT = 24, LIMIT = 64 };
    uint64_t checksum = 0;
    for (unsigned y = 0; y < HEIGHT; y++)
        for (unsigned x = 0; x < WIDTH; x++) {
            double real = -2.0 + 0.09375 * x, imaginary = -1.125 + 0.09375 * y;
            double a = 0.0, b = 0.0;
            unsigned steps = 0;
            for (; steps < LIMIT; steps++) {
                double aa = a * a, bb = b * b;
                if (aa + bb > 4.0) break;
                double ab = a * b;
                b = ab + ab + imaginary;
                a = aa - bb + real;
            }
            checksum = mix(checksum, steps);
        }
    return checksum;
}

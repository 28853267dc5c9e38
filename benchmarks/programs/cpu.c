/* Integer programs, written for the classes of CoreMark, Dhrystone, byte-code interpreters, calls and hashes. */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "classes.h"

/* ---- mixed (CoreMark's class): a list, small matrices, a state machine over text, CRC-16 of all results ---- */

static uint16_t crc16_byte(uint16_t crc, uint8_t value) {
    for (unsigned bit = 0; bit < 8; bit++) {
        bool carry = ((crc ^ value) & 1) != 0;
        value >>= 1;
        crc >>= 1;
        if (carry) crc ^= 0xa001;
    }
    return crc;
}

static uint16_t crc16(uint16_t crc, uint32_t value) {
    for (unsigned i = 0; i < 4; i++) crc = crc16_byte(crc, (uint8_t)(value >> 8 * i));
    return crc;
}

struct item {
    struct item* next;
    int16_t key, place;
};

enum { ITEMS = 64, SIDE = 10, TEXT = 640 };
static struct item items[ITEMS];
static int16_t matrix_a[SIDE * SIDE], matrix_b[SIDE * SIDE];
static int32_t matrix_c[SIDE * SIDE];
static char text[TEXT];

static int by_key(const struct item* a, const struct item* b) {
    return a->key - b->key;
}
static int by_place(const struct item* a, const struct item* b) {
    return a->place - b->place;
}

static struct item* sort_items(struct item* list, int (*order)(const struct item*, const struct item*)) {
    for (unsigned width = 1;; width *= 2) {
        struct item *left = list, *tail = NULL;
        unsigned merges = 0;
        list = NULL;
        while (left != NULL) {
            struct item* right = left;
            unsigned left_size = 0, right_size = width;
            merges++;
            while (left_size < width && right != NULL) left_size++, right = right->next;
            while (left_size > 0 || (right_size > 0 && right != NULL)) {
                struct item* taken;
                if (left_size == 0 || (right_size > 0 && right != NULL && order(left, right) > 0)) {
                    taken = right, right = right->next, right_size--;
                } else {
                    taken = left, left = left->next, left_size--;
                }
                if (tail != NULL) {
                    tail->next = taken;
                } else {
                    list = taken;
                }
                tail = taken;
            }
            left = right;
        }
        tail->next = NULL;
        if (merges <= 1) return list;
    }
}

static uint16_t list_work(uint16_t crc, int seed) {
    struct item* list = &items[0];
    unsigned found = 0;
    for (int wanted = 0; wanted < 24; wanted++) {
        struct item* at = list;
        while (at != NULL && at->key != ((wanted * 37 + seed) & 0x7f)) at = at->next;
        if (at != NULL) found += (unsigned)at->place;
        struct item *reversed = NULL, *rest = list;
        while (rest != NULL) {
            struct item* next = rest->next;
            rest->next = reversed;
            reversed = rest;
            rest = next;
        }
        list = reversed;
    }
    list = sort_items(list, by_key);
    for (const struct item* at = list; at != NULL; at = at->next) crc = crc16_byte(crc, (uint8_t)at->place);
    sort_items(list, by_place);
    return crc16(crc, found);
}

static uint16_t matrix_work(uint16_t crc, int constant) {
    int32_t sum = 0;
    for (unsigned i = 0; i < SIDE * SIDE; i++) matrix_a[i] = (int16_t)(matrix_a[i] + constant);
    for (unsigned i = 0; i < SIDE * SIDE; i++) matrix_c[i] = matrix_a[i] * constant;
    for (unsigned i = 0; i < SIDE * SIDE; i++) sum += matrix_c[i] > sum ? 10 : matrix_c[i] & 3;
    crc = crc16(crc, (uint32_t)sum);
    for (unsigned i = 0; i < SIDE; i++) {
        int32_t row = 0;
        for (unsigned j = 0; j < SIDE; j++) row += matrix_a[i * SIDE + j] * matrix_b[j];
        matrix_c[i] = row;
    }
    for (unsigned bits = 0; bits < 2; bits++) {
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE; j++) {
                int32_t product = 0;
                for (unsigned k = 0; k < SIDE; k++) {
                    int32_t term = matrix_a[i * SIDE + k] * matrix_b[k * SIDE + j];
                    product += bits != 0 ? (term >> 2 & 15) * (term >> 5 & 127) : term;
                }
                matrix_c[i * SIDE + j] = product;
            }
        for (unsigned i = 0; i < SIDE * SIDE; i++) sum += matrix_c[i] > sum ? 10 : matrix_c[i] & 7;
        crc = crc16(crc, (uint32_t)sum);
    }
    for (unsigned i = 0; i < SIDE * SIDE; i++) matrix_a[i] = (int16_t)(matrix_a[i] - constant);
    return crc;
}

enum text_state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, POWER, WORD, STATES };

__attribute__((noinline)) static enum text_state next_field(const char** at, unsigned* steps) {
    enum text_state state = START;
    for (;; (*at)++) {
        char c = **at;
        if (c == '\0') return state;
        if (c == ',') {
            (*at)++;
            return state;
        }
        bool digit = c >= '0' && c <= '9';
        steps[state]++;
        switch (state) {
            case START:
                state = digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : WORD;
                break;
            case SIGN:
                state = digit ? INTEGER : c == '.' ? POINT : WORD;
                break;
            case INTEGER:
                state = digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : WORD;
                break;
            case POINT:
            case FRACTION:
                state = digit ? FRACTION : c == 'e' ? EXPONENT : WORD;
                break;
            case EXPONENT:
                state = digit ? POWER : c == '+' || c == '-' ? EXPONENT_SIGN : WORD;
                break;
            case EXPONENT_SIGN:
            case POWER:
                state = digit ? POWER : WORD;
                break;
            default:
                break;
        }
    }
}

static uint16_t text_work(uint16_t crc, unsigned stride) {
    unsigned ends[STATES] = {0}, steps[STATES] = {0};
    for (unsigned i = 0; i < TEXT - 1; i += stride) text[i] ^= text[i] != ',' ? 1 : 0;
    for (const char* at = text; *at != '\0';) ends[next_field(&at, steps)]++;
    for (unsigned i = 0; i < TEXT - 1; i += stride) text[i] ^= text[i] != ',' ? 1 : 0;
    for (unsigned i = 0; i < STATES; i++) crc = crc16(crc16(crc, ends[i]), steps[i]);
    return crc;
}

uint64_t class_mixed(void) {
    static const char* const fields[] = {"5012", "-874", "0.66", "-9.001", "6.02e23", "-1.6e-19", "spin", "0x1f", "+122", "8e+4"};
    uint64_t random = 1;
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i] = (struct item){i + 1 < ITEMS ? &items[i + 1] : NULL, (int16_t)(next_random(&random) & 0x7f), (int16_t)i};
    }
    for (unsigned i = 0; i < SIDE * SIDE; i++) {
        matrix_a[i] = (int16_t)next_random(&random);
        matrix_b[i] = (int16_t)(next_random(&random) & 0xff);
    }
    memset(text, 0, sizeof text);
    for (unsigned length = 0, i = 0; length < TEXT - 12; i++) {
        const char* field = fields[i * 7 % 10];
        memcpy(text + length, field, strlen(field));
        length += (unsigned)strlen(field);
        text[length++] = ',';
    }
    uint16_t crc = 0xffff;
    for (int round = 0; round < 12000; round++) {
        crc = list_work(crc, round & 7);
        crc = matrix_work(crc, round & 15);
        crc = text_work(crc, 7 + (unsigned)(round & 3));
    }
    return crc;
}

/* ---- records (Dhrystone's class): procedures, records behind pointers, strings, enumerations ---- */

enum colour { RED, GREEN, BLUE, WHITE, BLACK };

struct record {
    struct record* other;
    enum colour colour, kept;
    int number;
    char name[31];
};

static struct record first_record, second_record;
static int global_number;
static bool global_flag;
static char global_letter;
static int row[50], table[50][50];

__attribute__((noinline)) static enum colour turned(enum colour colour) {
    switch (colour) {
        case RED:
            return RED;
        case GREEN:
            return global_number > 100 ? RED : BLACK;
        case BLUE:
            return GREEN;
        case WHITE:
            return WHITE;
        default:
            return BLUE;
    }
}

__attribute__((noinline)) static void add_seven(int a, int b, int* sum) {
    *sum = a + 2 + b;
}

__attribute__((noinline)) static bool same_letter(char a, char b) {
    char copy = a;
    if (copy != b) return false;
    global_letter = copy;
    return true;
}

__attribute__((noinline)) static bool ordered(const char* a, const char* b) {
    int at = 2;
    char letter = 'A';
    while (at <= 2) {
        if (!same_letter(a[at], b[at + 1])) letter = 'A', at++;
    }
    if (letter >= 'W' && letter < 'Z') at = 7;
    if (letter == 'R') return true;
    if (strcmp(a, b) > 0) {
        global_number = at + 7;
        return true;
    }
    return false;
}

__attribute__((noinline)) static void fill_tables(int* line, int (*square)[50], int at, int value) {
    int index = at + 5;
    line[index] = value;
    line[index + 1] = line[index];
    line[index + 30] = index;
    for (int i = index; i <= index + 1; i++) square[index][i] = index;
    square[index][index - 1]++;
    square[index + 20][index] = line[index];
    global_number = 5;
}

__attribute__((noinline)) static void follow(struct record* record) {
    struct record* next = record->other;
    *next = *record;
    record->number = 5;
    next->number = record->number;
    next->other = record->other;
    if (next->colour == RED) {
        next->number = 6;
        next->kept = turned(record->kept);
        next->other = first_record.other;
        add_seven(next->number, 10, &next->number);
    } else {
        *record = *record->other;
    }
}

uint64_t class_records(void) {
    char one[31], two[31];
    uint64_t sum = 0;
    memset(table, 0, sizeof table);
    first_record = (struct record){&second_record, RED, BLUE, 40, "A PROGRAM OF RECORDS, SOME'TEXT"};
    strcpy(one, "A PROGRAM OF RECORDS, 1'ST TEX");
    for (int round = 1; round <= 1200000; round++) {
        global_flag = false;
        global_letter = 'A';
        if (global_letter == 'A') global_flag = true;
        int a = 2, b = 3, c = 0;
        strcpy(two, "A PROGRAM OF RECORDS, 2'ND TEX");
        OPAQUE(a);
        global_flag = !ordered(one, two);
        while (a < b) {
            c = 5 * a - b;
            add_seven(a, b, &c);
            a++;
        }
        fill_tables(row, table, a, c);
        follow(&first_record);
        for (char letter = 'A'; letter <= 'B' + (round & 1); letter++) {
            if (turned((enum colour)(letter - 'A')) == WHITE) c += round;
        }
        b *= a;
        a = b / (c | 1);
        b = 7 * (b - c) - a;
        sum = mix(sum, (uint64_t)(a + b + c + global_number));
    }
    return mix(sum, (uint64_t)table[8][7]);
}

/* ---- bytecode: an interpreter's switch in a loop ---- */

enum operation { PUSH, LOAD, SAVE, ADD, SUBTRACT, MULTIPLY, AND, LESS, JUMP_IF, JUMP, HALT };

uint64_t class_bytecode(void) {
    /* for (i = 0; i < n; i++) sum = (sum * 3 + (i & 7)) - i; */
    static const int32_t program[] = {
        PUSH, 0, SAVE, 0, PUSH, 0, SAVE, 1,                          /* i = 0, sum = 0 */
        LOAD, 0, LOAD, 2, LESS, JUMP_IF, 18, JUMP, 46 - 0,           /* 8: while (i < n), else to the end */
        HALT,                                                        /* 17: never reached */
        LOAD, 1, PUSH, 3, MULTIPLY, LOAD, 0, PUSH, 7, AND, ADD,      /* 18 */
        LOAD, 0, SUBTRACT, SAVE, 1,                                  /* 29 */
        LOAD, 0, PUSH, 1, ADD, SAVE, 0, JUMP, 8, HALT, HALT, HALT,   /* 34 */
        LOAD, 1, HALT,                                               /* 46 */
    };
    int64_t stack[16], variables[3] = {0, 0, 2000000};
    int64_t* top = stack;
    const int32_t* at = program;
    for (;;) {
        switch (*at++) {
            case PUSH:
                *top++ = *at++;
                break;
            case LOAD:
                *top++ = variables[*at++];
                break;
            case SAVE:
                variables[*at++] = *--top;
                break;
            case ADD:
                top--, top[-1] = (int64_t)((uint64_t)top[-1] + (uint64_t)top[0]);
                break;
            case SUBTRACT:
                top--, top[-1] = (int64_t)((uint64_t)top[-1] - (uint64_t)top[0]);
                break;
            case MULTIPLY:
                top--, top[-1] = (int64_t)((uint64_t)top[-1] * (uint64_t)top[0]);
                break;
            case AND:
                top--, top[-1] &= top[0];
                break;
            case LESS:
                top--, top[-1] = top[-1] < top[0];
                break;
            case JUMP_IF:
                at = *--top != 0 ? program + *at : at + 1;
                break;
            case JUMP:
                at = program + *at;
                break;
            default:
                return (uint64_t)top[-1];
        }
    }
}

/* ---- fibonacci: calls and returns ---- */

__attribute__((noinline)) static uint64_t fibonacci(uint64_t n) {
    if (n < 2) return n;
    uint64_t left = fibonacci(n - 1);
    OPAQUE(left);
    return left + fibonacci(n - 2);
}

uint64_t class_fibonacci(void) {
    return fibonacci(35);
}

/* ---- sha256 (FIPS 180-4): shifts, rotations, additions ---- */

static uint32_t rotated(uint32_t value, unsigned by) {
    return value >> by | value << (32 - by);
}

/* The constants are the fractions of the cube roots of the first 64 primes: found here, by exact integers. */
static void constants(uint32_t* k) {
    unsigned count = 0;
    for (uint64_t n = 2; count < 64; n++) {
        bool prime = true;
        for (uint64_t d = 2; d * d <= n; d++) prime = prime && n % d != 0;
        if (!prime) continue;
        uint64_t root = 0;
        for (int bit = 35; bit >= 0; bit--) {
            unsigned __int128 larger = root | 1ul << bit;
            if (larger * larger * larger <= (unsigned __int128)n << 96) root = (uint64_t)larger;
        }
        k[count++] = (uint32_t)root;
    }
}

static void compress(uint32_t* h, const uint32_t* k, const uint32_t* block) {
    uint32_t w[64];
    for (unsigned i = 0; i < 16; i++) w[i] = block[i];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) + (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
    }
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], l = h[7];
    for (unsigned i = 0; i < 64; i++) {
        uint32_t one = l + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
        uint32_t two = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        l = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += l;
}

uint64_t class_sha256(void) {
    uint32_t k[64], block[16];
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    constants(k);
    for (uint32_t n = 0; n < 160000; n++) {
        for (uint32_t i = 0; i < 16; i++) block[i] = n * 16 + i;
        compress(h, k, block);
    }
    return (uint64_t)h[0] << 32 | h[7];
}

/*
 * Memory and text. A freestanding C compiler may still emit calls to memcpy, memmove, memset and memcmp
 * (C17 4p6 and every compiler's manual), so these exist under their standard names. The file is compiled
 * like the others; -fno-builtin keeps the compiler from turning the loops into calls to themselves.
 */
#include "kernel/string.h"

#include <stdint.h>

void* memcpy(void* restrict to, const void* restrict from, size_t length) {
    uint8_t* out = to;
    const uint8_t* in = from;
    if ((((uintptr_t)out | (uintptr_t)in) & 7) == 0) {
        for (; length >= 32; length -= 32, out += 32, in += 32) {
            const uint64_t* source = (const uint64_t*)in;
            uint64_t a = source[0], b = source[1], c = source[2], d = source[3];
            uint64_t* target = (uint64_t*)out;
            target[0] = a, target[1] = b, target[2] = c, target[3] = d;
        }
        for (; length >= 8; length -= 8, out += 8, in += 8) *(uint64_t*)out = *(const uint64_t*)in;
    }
    while (length-- > 0) *out++ = *in++;
    return to;
}

void* memmove(void* to, const void* from, size_t length) {
    if ((uintptr_t)to - (uintptr_t)from >= length) return memcpy(to, from, length);
    uint8_t* out = (uint8_t*)to + length;
    const uint8_t* in = (const uint8_t*)from + length;
    while (length-- > 0) *--out = *--in;
    return to;
}

void* memset(void* to, int byte, size_t length) {
    uint8_t* out = to;
    uint64_t word = (uint8_t)byte * 0x0101010101010101ul;
    for (; length > 0 && ((uintptr_t)out & 7) != 0; length--) *out++ = (uint8_t)byte;
    for (; length >= 8; length -= 8, out += 8) *(uint64_t*)out = word;
    while (length-- > 0) *out++ = (uint8_t)byte;
    return to;
}

int memcmp(const void* left, const void* right, size_t length) {
    const uint8_t* l = left;
    const uint8_t* r = right;
    for (; length > 0; length--, l++, r++)
        if (*l != *r) return *l < *r ? -1 : 1;
    return 0;
}

size_t strlen(const char* text) {
    size_t length = 0;
    while (text[length] != '\0') length++;
    return length;
}

bool text_equal(const char* left, const char* right) {
    while (*left != '\0' && *left == *right) left++, right++;
    return *left == *right;
}

bool text_starts_with(const char* text, const char* prefix) {
    while (*prefix != '\0')
        if (*text++ != *prefix++) return false;
    return true;
}

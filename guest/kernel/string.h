/* The few functions of <string.h> that the kernel, or the compiler on its own account, calls. */
#ifndef GUEST_KERNEL_STRING_H
#define GUEST_KERNEL_STRING_H

#include <stdbool.h>
#include <stddef.h>

void* memcpy(void* restrict to, const void* restrict from, size_t length);
void* memmove(void* to, const void* from, size_t length);
void* memset(void* to, int byte, size_t length);
int memcmp(const void* left, const void* right, size_t length);
size_t strlen(const char* text);

bool text_equal(const char* left, const char* right);
bool text_starts_with(const char* text, const char* prefix);

#endif

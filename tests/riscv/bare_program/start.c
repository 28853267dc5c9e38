// What a program needs on the bare board, in M-mode: a stack, both units switched on, a way to print, and an
// end.
#include <stddef.h>
#include <stdint.h>

int main(void);
void print(const char* text);

// mstatus.FS and VS; the stack is the last of the first 16 MiB of memory.
__asm__(
    ".section .text.init\n"
    ".globl _start\n"
    "_start:\n"
    "    li t0, 0x6600\n"
    "    csrs mstatus, t0\n"
    "    li sp, 0x81000000\n"
    "    call main\n"
    "    li t0, 0x100000\n"
    "    li t1, 0x5555\n"
    "    sw t1, 0(t0)\n"
    "1:  wfi\n"
    "    j 1b\n");

// The 16550 UART, which takes bytes as fast as they come.
void print(const char* text) {
    volatile uint8_t* const transmit = (volatile uint8_t*)0x10000000;
    while (*text != '\0') *transmit = (uint8_t)*text++;
}

// Compilers call these by themselves.
void* memcpy(void* to, const void* from, size_t size) {
    for (size_t i = 0; i < size; ++i) ((uint8_t*)to)[i] = ((const uint8_t*)from)[i];
    return to;
}

void* memset(void* to, int value, size_t size) {
    for (size_t i = 0; i < size; ++i) ((uint8_t*)to)[i] = (uint8_t)value;
    return to;
}

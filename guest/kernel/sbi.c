/*
 * RISC-V Supervisor Binary Interface Specification v2.0, the caller's side. Nothing here is trusted
 * beyond what the firmware returns.
 */
#include "kernel/sbi.h"

#include "kernel/riscv.h"

/* Extension numbers; the readable ones are ASCII. */
enum {
    EXTENSION_LEGACY_PUTCHAR = 0x01,
    EXTENSION_BASE = 0x10,
    EXTENSION_TIME = 0x54494D45, /* "TIME" */
    EXTENSION_IPI = 0x735049,    /* "sPI" */
    EXTENSION_HSM = 0x48534D,    /* "HSM" */
    EXTENSION_SRST = 0x53525354, /* "SRST" */
    EXTENSION_DBCN = 0x4442434E, /* "DBCN" */
    EXTENSION_WIRT = 0x0A574952, /* firmware-specific space, "WIR" */
};

/* Chapter 3, "Binary Encoding": EID in a7, FID in a6, arguments from a0, error in a0, value in a1. */
struct sbi_result sbi_call(long extension, long function, uint64_t a0, uint64_t a1, uint64_t a2) {
    register uint64_t r0 asm("a0") = a0;
    register uint64_t r1 asm("a1") = a1;
    register uint64_t r2 asm("a2") = a2;
    register long r6 asm("a6") = function;
    register long r7 asm("a7") = extension;
    asm volatile("ecall" : "+r"(r0), "+r"(r1) : "r"(r2), "r"(r6), "r"(r7) : "memory");
    return (struct sbi_result){.error = (long)r0, .value = (long)r1};
}

/* Chapter 4, Base Extension. */
long sbi_specification_version(void) {
    return sbi_call(EXTENSION_BASE, 0, 0, 0, 0).value;
}
long sbi_implementation_id(void) {
    return sbi_call(EXTENSION_BASE, 1, 0, 0, 0).value;
}
bool sbi_has_extension(long extension) {
    return sbi_call(EXTENSION_BASE, 3, (uint64_t)extension, 0, 0).value != 0;
}

/* Chapter 12, Debug Console Extension; chapter 5.2 for firmware older than SBI v2.0. */
static enum { CONSOLE_NONE, CONSOLE_DBCN, CONSOLE_LEGACY } console;

void sbi_console_start(void) {
    if (sbi_has_extension(EXTENSION_DBCN))
        console = CONSOLE_DBCN;
    else if (sbi_has_extension(EXTENSION_LEGACY_PUTCHAR))
        console = CONSOLE_LEGACY;
}

void sbi_console_write(const char* bytes, size_t length) {
    if (console == CONSOLE_DBCN) {
        while (length > 0) {
            /* The call may take fewer bytes than it was given. */
            struct sbi_result result =
                sbi_call(EXTENSION_DBCN, 0, length, (uintptr_t)bytes - VIRTUAL_OFFSET, 0);
            if (result.error != SBI_SUCCESS || result.value < 0 || (size_t)result.value > length) return;
            bytes += result.value;
            length -= (size_t)result.value;
        }
    } else if (console == CONSOLE_LEGACY) {
        for (size_t i = 0; i < length; i++) sbi_call(EXTENSION_LEGACY_PUTCHAR, 0, (uint8_t)bytes[i], 0, 0);
    }
}

/* Chapter 6, Timer Extension. */
void sbi_set_timer(uint64_t time) {
    sbi_call(EXTENSION_TIME, 0, time, 0, 0);
}

/* Chapter 7, IPI Extension: a mask of harts and the id that bit 0 of it stands for. */
void sbi_send_ipi(uint64_t hart_id) {
    sbi_call(EXTENSION_IPI, 0, 1, hart_id, 0);
}

/* Chapter 9, Hart State Management. */
long sbi_hart_start(uint64_t hart_id, uintptr_t start, uint64_t opaque) {
    return sbi_call(EXTENSION_HSM, 0, hart_id, start, opaque).error;
}

void sbi_hart_stop(void) {
    sbi_call(EXTENSION_HSM, 1, 0, 0, 0);
    for (;;) wait_for_interrupt();
}

long sbi_hart_status(uint64_t hart_id) {
    struct sbi_result result = sbi_call(EXTENSION_HSM, 2, hart_id, 0, 0);
    return result.error != SBI_SUCCESS ? result.error : result.value;
}

/* Chapter 10, System Reset: type 0 is shutdown; reason 0 is none, 1 is system failure. */
void sbi_shutdown(bool failed) {
    sbi_call(EXTENSION_SRST, 0, 0, failed ? 1 : 0, 0);
    for (;;) wait_for_interrupt();
}

void sbi_mark_begin(const char* name, uint64_t operations, uint64_t bytes) {
    sbi_call(EXTENSION_WIRT, 0, (uintptr_t)name, operations, bytes);
}

void sbi_mark_end(const char* name, uint64_t operations, uint64_t bytes) {
    sbi_call(EXTENSION_WIRT, 1, (uintptr_t)name, operations, bytes);
}

/*
 * Calls into the firmware: RISC-V Supervisor Binary Interface Specification v2.0.
 * Chapter numbers stand at each function in sbi.c.
 */
#ifndef GUEST_KERNEL_SBI_H
#define GUEST_KERNEL_SBI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SBI_SUCCESS = 0,
    SBI_ERR_NOT_SUPPORTED = -2,
    SBI_ERR_ALREADY_AVAILABLE = -6,
};

/*
 * The SBI takes physical addresses. A program that does not map its memory where it lies is compiled with how
 * far beyond them its own addresses are.
 */
#ifndef VIRTUAL_OFFSET
#define VIRTUAL_OFFSET 0ul
#endif

struct sbi_result {
    long error;
    long value;
};

enum sbi_hart_state {
    SBI_HART_STARTED = 0,
    SBI_HART_STOPPED = 1,
    SBI_HART_START_PENDING = 2,
    SBI_HART_STOP_PENDING = 3,
};

struct sbi_result sbi_call(long extension, long function, uint64_t a0, uint64_t a1, uint64_t a2);

long sbi_specification_version(void);
long sbi_implementation_id(void);
bool sbi_has_extension(long extension);

/* Finds out how the console is reached; before it, and without a console, writes vanish. */
void sbi_console_start(void);
void sbi_console_write(const char* bytes, size_t length);

void sbi_set_timer(uint64_t time);
void sbi_send_ipi(uint64_t hart_id);
long sbi_hart_start(uint64_t hart_id, uintptr_t start, uint64_t opaque);
void sbi_hart_stop(void) __attribute__((noreturn));
long sbi_hart_status(uint64_t hart_id);

/* Powers the machine off; `failed` goes to the host as the reset reason. */
void sbi_shutdown(bool failed) __attribute__((noreturn));

/*
 * Marks for a monitor that measures us. Their extension number lies in the space of
 * firmware-specific extensions (0x0A000000 and up): any other SBI answers SBI_ERR_NOT_SUPPORTED, which is
 * fine.
 */
void sbi_mark_begin(const char* name, uint64_t operations, uint64_t bytes);
void sbi_mark_end(const char* name, uint64_t operations, uint64_t bytes);

#endif

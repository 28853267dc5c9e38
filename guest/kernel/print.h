/* Formatted text, on the firmware's console. */
#ifndef GUEST_KERNEL_PRINT_H
#define GUEST_KERNEL_PRINT_H

#include <stdarg.h>
#include <stddef.h>

/*
 * The printf subset: %d %i %u %x %c %s %p %%, with `l`/`z` lengths, `0` and `-` flags and a width.
 * Text beyond the buffer is cut; the result is always terminated. Returns the length written.
 */
size_t format_text(char* buffer, size_t size, const char* format, ...) __attribute__((format(printf, 3, 4)));
size_t format_text_list(char* buffer, size_t size, const char* format, va_list arguments);

/*
 * One call, one piece of output: lines of different harts do not mix. At most 511 characters. Not for
 * interrupt handlers, which may have interrupted a print.
 */
void print(const char* format, ...) __attribute__((format(printf, 1, 2)));

/* A failed check: prints, and the machine will be switched off with the failure reason. */
void print_failure(const char* format, ...) __attribute__((format(printf, 1, 2)));
int print_failure_count(void);

/* For a report of a trap, which may have come from within a print: the lock is taken from whoever has it. */
void print_take_over(void);

/* Cannot go on: prints and switches the machine off at once. */
void panic(const char* format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif

/*
 * Formatted text, on the firmware's console (SBI v2.0 chapter 12). The kernel's own words take that way
 * and not one of the devices, so that what is measured or tested on a device is not disturbed by them.
 */
#include "kernel/print.h"

#include <stdbool.h>
#include <stdint.h>

#include "kernel/lock.h"
#include "kernel/sbi.h"
#include "kernel/string.h"

struct writer {
    char* buffer;
    size_t size;
    size_t length;
};

static void put(struct writer* writer, char character) {
    if (writer->length + 1 < writer->size) writer->buffer[writer->length++] = character;
}

static void put_padded(struct writer* writer, const char* text, size_t length, int width, bool left,
                       char pad) {
    size_t padding = (size_t)width > length ? (size_t)width - length : 0;
    if (!left)
        for (size_t i = 0; i < padding; i++) put(writer, pad);
    for (size_t i = 0; i < length; i++) put(writer, text[i]);
    if (left)
        for (size_t i = 0; i < padding; i++) put(writer, ' ');
}

size_t format_text_list(char* buffer, size_t size, const char* format, va_list arguments) {
    struct writer writer = {buffer, size, 0};
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(&writer, *format);
            continue;
        }
        format++;
        bool left = false, is_long = false;
        char pad = ' ';
        int width = 0;
        for (; *format == '-' || *format == '0'; format++) {
            if (*format == '-') left = true;
            if (*format == '0') pad = '0';
        }
        for (; *format >= '0' && *format <= '9'; format++) width = width * 10 + (*format - '0');
        for (; *format == 'l' || *format == 'z'; format++) is_long = true;

        char digits[24];
        size_t at = sizeof digits;
        switch (*format) {
            case 'c':
                put(&writer, (char)va_arg(arguments, int));
                break;
            case 's': {
                const char* text = va_arg(arguments, const char*);
                put_padded(&writer, text, strlen(text), width, left, ' ');
                break;
            }
            case 'd':
            case 'i': {
                int64_t value = is_long ? va_arg(arguments, long) : va_arg(arguments, int);
                uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
                do digits[--at] = (char)('0' + rest % 10);
                while ((rest /= 10) != 0);
                if (value < 0) digits[--at] = '-';
                put_padded(&writer, digits + at, sizeof digits - at, width, left, pad);
                break;
            }
            case 'u': {
                uint64_t rest = is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
                do digits[--at] = (char)('0' + rest % 10);
                while ((rest /= 10) != 0);
                put_padded(&writer, digits + at, sizeof digits - at, width, left, pad);
                break;
            }
            case 'p':
                is_long = true;
                put(&writer, '0');
                put(&writer, 'x');
                /* fallthrough */
            case 'x': {
                uint64_t rest = is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
                do digits[--at] = "0123456789abcdef"[rest & 15];
                while ((rest >>= 4) != 0);
                put_padded(&writer, digits + at, sizeof digits - at, width, left, pad);
                break;
            }
            case '\0':
                format--;
                break;
            default:
                put(&writer, *format);
        }
    }
    if (size > 0) buffer[writer.length] = '\0';
    return writer.length;
}

size_t format_text(char* buffer, size_t size, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t length = format_text_list(buffer, size, format, arguments);
    va_end(arguments);
    return length;
}

static struct lock console_lock;
static volatile int failures;

static void print_list(const char* prefix, const char* format, va_list arguments) {
    char line[512];
    size_t length = format_text(line, sizeof line, "%s", prefix);
    length += format_text_list(line + length, sizeof line - length, format, arguments);
    lock_take(&console_lock);
    sbi_console_write(line, length);
    lock_drop(&console_lock);
}

void print(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_list("", format, arguments);
    va_end(arguments);
}

void print_failure(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_list("FAILED: ", format, arguments);
    va_end(arguments);
    __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
}

void print_take_over(void) {
    lock_drop(&console_lock);
}

int print_failure_count(void) {
    return failures;
}

void panic(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char line[512];
    size_t length = format_text(line, sizeof line, "PANIC: ");
    length += format_text_list(line + length, sizeof line - length, format, arguments);
    va_end(arguments);
    sbi_console_write(line, length); /* without the lock: its holder may be the one that went wrong */
    sbi_shutdown(true);
}

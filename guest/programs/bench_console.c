/* Console bytes: the 16550, one store a byte, against virtio-console, one buffer a write. */
#include "drivers/console.h"
#include "kernel/bootargs.h"
#include "kernel/memory.h"
#include "kernel/print.h"
#include "programs/bench.h"

enum { LINE_SIZE = 64, LARGEST_WRITE = 4096 };

/* Readable lines, so that what arrives at the other end can be checked: a number, letters, a newline. */
static void fill_lines(char* text, size_t size) {
    for (size_t line = 0; line * LINE_SIZE < size; line++) {
        char* at = text + line * LINE_SIZE;
        size_t number = format_text(at, LINE_SIZE, "wirt %06zu ", line);
        for (size_t i = number; i < LINE_SIZE - 1; i++) at[i] = (char)('a' + (line + i) % 26);
        at[LINE_SIZE - 1] = '\n';
    }
}

static void measure(struct console* console, bool polled, const char* text, size_t size, size_t write_size) {
    struct bench_section section;
    if (!bench_wanted(&section, "console/%s%s/write/%zu", console->interface, polled ? "-polled" : "",
                      write_size))
        return;
    section.interrupt = console->interrupt;
    bool (*write)(struct console*, const char*, size_t) = polled ? console->write_polled : console->write;
    bool good = true;
    bench_begin(&section, size / write_size, size);
    for (size_t at = 0; at < size && good; at += write_size) good = write(console, text + at, write_size);
    bench_end(&section);
    bench_report(&section, good);
}

void bench_consoles(void) {
    size_t size = bootargs_number("bench.console", 65536) & ~(size_t)(LARGEST_WRITE - 1);
    if (size == 0 || console_count == 0) return;
    char* text = memory_allocate(size, 64);
    fill_lines(text, size);
    for (unsigned i = 0; i < console_count; i++)
        for (size_t write_size = LINE_SIZE; write_size <= LARGEST_WRITE;
             write_size *= LARGEST_WRITE / LINE_SIZE) {
            measure(consoles[i], false, text, size, write_size);
            if (consoles[i]->write_polled != NULL) measure(consoles[i], true, text, size, write_size);
        }
}

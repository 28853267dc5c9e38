/*
 * `bench=io` and `bench=net` (bench_net.c): the same work through a fully virtualised device and through a
 * paravirtual one.
 *
 * Around each section the monitor is told by an SBI call of its own (sbi_mark_begin), so that it can count
 * exits and copied bytes for exactly this work; under another SBI the calls fail and the guest's figures
 * are all there is. Each section prints one line, `WIRT-BENCH {json}`, with times in ticks of `timebase` Hz.
 *
 *   bench.only=a,b      only sections whose names begin so        bench.mb=8           sequential MiB a
 * section bench.ops=2048      random operations a section               bench.console=65536  bytes a console
 * section bench.write=0       leave the disks as they are: no write sections, and reads are not verified
 *
 * The disks lose their contents unless bench.write=0.
 */
#include "programs/bench.h"

#include <stdarg.h>

#include "kernel/bootargs.h"
#include "kernel/controller.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"
#include "kernel/string.h"
#include "programs/programs.h"

/* Does any of the comma-separated prefixes begin the name? */
static bool matches(const char* prefixes, const char* name) {
    while (*prefixes != '\0') {
        const char* at = name;
        while (*prefixes != '\0' && *prefixes != ',' && *prefixes != '*' && *prefixes == *at)
            prefixes++, at++;
        if (*prefixes == '\0' || *prefixes == ',' || *prefixes == '*') return true;
        while (*prefixes != '\0' && *prefixes != ',') prefixes++;
        if (*prefixes == ',') prefixes++;
    }
    return false;
}

bool bench_wanted(struct bench_section* section, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    *section = (struct bench_section){0};
    format_text_list(section->name, sizeof section->name, format, arguments);
    va_end(arguments);
    const char* only = bootargs_text("bench.only", NULL);
    return only == NULL || matches(only, section->name);
}

void bench_begin(struct bench_section* section, uint64_t operations, uint64_t bytes) {
    section->operations = operations;
    section->bytes = bytes;
    section->interrupts = controller_count(section->interrupt);
    sbi_mark_begin(section->name, operations, bytes);
    section->time = read_time();
    section->instret = read_instret();
}

void bench_end(struct bench_section* section) {
    uint64_t instret = read_instret();
    uint64_t time = read_time();
    sbi_mark_end(section->name, section->operations, section->bytes);
    section->instret = instret - section->instret;
    section->time = time - section->time;
    section->interrupts = controller_count(section->interrupt) - section->interrupts;
}

static unsigned reported;

void bench_report(const struct bench_section* section, bool good) {
    print(
        "WIRT-BENCH {\"name\":\"%s\",\"ops\":%lu,\"bytes\":%lu,\"instret\":%lu,\"time\":%lu,\"timebase\":%lu,"
        "\"interrupts\":%lu,\"ok\":%s}\n",
        section->name, section->operations, section->bytes, section->instret, section->time,
        platform.timebase_frequency, section->interrupts, good ? "true" : "false");
    reported++;
    if (!good) print_failure("%s\n", section->name);
}

void program_bench(void) {
    const char* kind = bootargs_text("bench", "io");
    bool serving = text_equal(kind, "netserve");
    if (text_equal(kind, "io")) {
        print("bench=io: every driver waits for its device in WFI and is woken by the device's interrupt\n");
        bench_exits();
        bench_consoles();
        bench_disks();
    } else if (serving || text_equal(kind, "net")) {
        bench_network(serving);
    } else {
        print_failure("bench=%s is not known; there are bench=io, bench=net and bench=netserve\n", kind);
        return;
    }
    if (reported == 0)
        print_failure("bench.only=%s leaves nothing to measure\n", bootargs_text("bench.only", ""));
}

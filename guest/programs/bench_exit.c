/* What an exit costs by itself: the same loop over a word of memory, and over a register of a device. */
#include "kernel/bootargs.h"
#include "kernel/mmio.h"
#include "kernel/platform.h"
#include "kernel/plic.h"
#include "programs/bench.h"

static void measure(const char* what, uintptr_t address) {
    struct bench_section section;
    if (!bench_wanted(&section, "exit/%s", what)) return;
    uint64_t count = bootargs_number("bench.exits", 65536);
    bench_begin(&section, count, 4 * count);
    for (uint64_t i = 0; i < count; i++) (void)mmio_read32(address);
    bench_end(&section);
    bench_report(&section, true);
}

void bench_exits(void) {
    static uint32_t word;
    if (!plic_present()) return;
    measure("memory", (uintptr_t)&word);
    measure("register", platform.plic.base + 4); /* the priority of source 1; reading it has no effect */
}

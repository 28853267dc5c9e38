/* What an exit costs by itself: the same loop over a word of memory, and over a register of a device. */
#include "kernel/bootargs.h"
#include "kernel/controller.h"
#include "kernel/mmio.h"
#include "kernel/platform.h"
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
    if (controller_present() == NULL) return;
    measure("memory", (uintptr_t)&word);
    /* The priority or the mode of source 1; reading it has no effect. */
    uint64_t base = platform.plic.size != 0 ? platform.plic.base : platform.aplic.base;
    measure("register", base + 4);
}

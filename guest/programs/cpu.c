/*
 * `cpu=all` or `cpu=crc,sieve,...`: small programs of our own that time the hart, in the spirit of CoreMark
 * and Dhrystone but neither of them: their figures compare machines running this very image, nothing else.
 * Each prints one line, `WIRT-CPU {json}`; results are checked against those of a host.
 *
 *   cpu.scale=100   per cent of the usual number of iterations
 */
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "programs/cpu_kernels.h"
#include "programs/programs.h"

static const struct {
    const char* name;
    uint64_t (*run)(void);
    uint64_t iterations; /* some hundred million instructions at 100 per cent */
    uint64_t expected;
} kernels[] = {
    {"crc", cpu_crc, 400, 0xec6ff051ec6ff051},     {"matrix", cpu_matrix, 400, 0x09f7efafc655ea99},
    {"list", cpu_list, 800, 0x0ff43ef7d1108d63},   {"state", cpu_state, 1600, 0xdc11736a17f11450},
    {"sieve", cpu_sieve, 800, 0x00000404003ba421}, {"fibonacci", cpu_fibonacci, 800, 0x0000000000000a18},
    {"copy", cpu_copy, 800, 0x487582791b018660},   {"mandelbrot", cpu_mandelbrot, 400, 0x58d02a0cde22a9de},
};

void program_cpu(void) {
    uint64_t scale = bootargs_number("cpu.scale", 100);
    bool any = false;
    for (unsigned i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (!bootargs_lists("cpu", kernels[i].name)) continue;
        any = true;
        uint64_t iterations = kernels[i].iterations * scale / 100 + 1;
        bool good = true;
        uint64_t time = read_time(), cycle = read_cycle(), instret = read_instret(), result = 0;
        for (uint64_t n = 0; n < iterations; n++) {
            result = kernels[i].run();
            good = good && result == kernels[i].expected;
        }
        instret = read_instret() - instret, cycle = read_cycle() - cycle, time = read_time() - time;
        print(
            "WIRT-CPU {\"name\":\"%s\",\"iterations\":%lu,\"cycles\":%lu,\"instret\":%lu,\"time\":%lu,"
            "\"timebase\":%lu,\"ok\":%s}\n",
            kernels[i].name, iterations, cycle, instret, time, platform.timebase_frequency,
            good ? "true" : "false");
        if (!good)
            print_failure("cpu: %s gives 0x%lx instead of 0x%lx\n", kernels[i].name, result,
                          kernels[i].expected);
    }
    if (!any) print_failure("cpu=%s names no program; there is cpu=all\n", bootargs_text("cpu", ""));
}

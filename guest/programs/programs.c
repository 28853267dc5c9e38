/* The programs and the bootargs words that choose them. */
#include "programs/programs.h"

#include <stddef.h>

#include "kernel/bootargs.h"
#include "kernel/print.h"

static const struct {
    const char* word;
    void (*run)(void);
} programs[] = {
    {"demo", program_demo},                             /* introduces the machine */
    {"traps", program_traps},                           /* provokes exceptions and looks at what arrives */
    {"smp", program_smp},                               /* all harts on shared memory */
    {"memtest", program_memtest}, {"cpu", program_cpu}, /* cpu=all or cpu=crc,matrix,... */
    {"bench", program_bench},                           /* bench=io */
    {"echo", program_echo},                             /* sends back lines on the consoles */
};

void programs_run(void) {
    unsigned chosen = 0;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (!bootargs_has(programs[i].word)) continue;
        chosen++;
        programs[i].run();
    }
    if (chosen == 0) program_demo();
}

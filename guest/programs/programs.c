/* The programs and the bootargs words that choose them. */
#include "programs/programs.h"

#include <stdbool.h>
#include <stddef.h>

#include "kernel/bootargs.h"

static const struct {
    const char* words[4]; /* any of them chooses the program */
    void (*run)(void);
} programs[] = {
    {{"demo"}, program_demo},       /* introduces the machine */
    {{"traps"}, program_traps},     /* provokes exceptions and looks at what arrives */
    {{"crash"}, program_crash},     /* crash=stack, crash=null */
    {{"smp"}, program_smp},         /* all harts on shared memory */
    {{"memtest"}, program_memtest}, /* patterns in free memory */
    {{"cpu"}, program_cpu},         /* cpu=all or cpu=crc,matrix,... */
    {{"dirty"}, program_dirty},     /* writes memory at a rate */
    {{"journal"}, program_journal}, /* numbered records on a disk */
    {{"bench"}, program_bench},     /* bench=io, bench=net, bench=netserve */
    {{"echo"}, program_echo},       /* sends back lines on the consoles */
    {{"net", "ping", "netsend", "netrecv"}, program_net},
};

static bool chosen(const char* const words[4]) {
    for (unsigned i = 0; i < 4 && words[i] != NULL; i++)
        if (bootargs_has(words[i])) return true;
    return false;
}

void programs_run(void) {
    bool any = false;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (!chosen(programs[i].words)) continue;
        any = true;
        programs[i].run();
    }
    if (!any) program_demo();
}

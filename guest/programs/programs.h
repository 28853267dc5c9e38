/* What the kernel can do when asked by the bootargs; programs/programs.c lists the words. */
#ifndef GUEST_PROGRAMS_PROGRAMS_H
#define GUEST_PROGRAMS_PROGRAMS_H

/* Runs the programs that the bootargs name, in the order of the table; the demo when they name none. */
void programs_run(void);

void program_demo(void);
void program_traps(void);
void program_crash(void);
void program_smp(void);
void program_memtest(void);
void program_cpu(void);
void program_dirty(void);
void program_journal(void);
void program_bench(void);
void program_echo(void);
void program_net(void);

#endif

# The first instructions of the kernel, once for the hart that boots and once for each hart it starts.
#
# Contract with the firmware (SBI v2.0, chapter 9 "Hart State Management", table "hart start register
# state", which the boot protocol follows): S-mode, satp = 0 (no translation), sstatus.SIE = 0,
# a0 = this hart's id. For the boot hart a1 = physical address of the flattened device tree; for a hart
# started by sbi_hart_start a1 = the `opaque` argument, by our convention a pointer to its struct hart.

#include "kernel/hart_offsets.h"

    .section .text.boot, "ax"

    .globl _start
_start:
    csrw    sie, zero
    la      t0, bss_start           # C expects zero where no value was given; the loader need not do it
    la      t1, bss_end
1:  bgeu    t0, t1, 2f
    sd      zero, 0(t0)
    addi    t0, t0, 8
    j       1b
2:  la      tp, harts               # tp points to this hart's struct for as long as the kernel runs
    la      sp, hart_stacks + 4096 + 16384  # the top of the first hart's stack
    li      s0, 0                   # a zero frame pointer ends a backtrace
    call    kernel_main             # (hart id, device tree); does not return
3:  wfi
    j       3b

    .globl secondary_start
secondary_start:
    csrw    sie, zero
    mv      tp, a1
    ld      sp, HART_STACK_TOP(tp)
    ld      t0, HART_SATP(tp)       # the kernel is mapped where it lies, so the next fetch is the same
    sfence.vma                      # byte with translation on as without
    csrw    satp, t0
    sfence.vma
    li      s0, 0
    mv      a0, tp
    call    hart_secondary_main     # stops the hart; does not return
4:  wfi
    j       4b

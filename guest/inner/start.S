# The inner kernel's assembly: the first instructions, the way to U-mode and back, and probes that may trap.
#
# Contract: SBI v2.0, chapter 9, "hart start register state": S-mode, satp = 0, sstatus.SIE = 0. What a0 and a1 hold
# is not looked at, so that nothing tells the kernel what it runs on.

#include "inner/offsets.h"

    .section .text.boot, "ax"
    .globl _start
_start:
    csrw    sie, zero
    la      t0, bss_start
    la      t1, bss_end
1:  bgeu    t0, t1, 2f
    sd      zero, 0(t0)
    addi    t0, t0, 8
    j       1b
2:  la      sp, kernel_stack + 16384
    la      t0, trap_entry
    csrw    stvec, t0
    csrw    sscratch, zero
    li      s0, 0
    call    inner_main              # does not return

    .text

# void user_enter(struct user_frame*): runs the user program until it traps, then returns.
# What the kernel's C expects to keep is on its stack meanwhile; sscratch points to the frame while U-mode runs
# and is zero while the kernel does.
    .globl user_enter
user_enter:
    addi    sp, sp, -112
    sd      ra, 0(sp)
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11
    sd      s\n, 8*\n+8(sp)
    .endr
    sd      sp, FRAME_KERNEL_STACK(a0)
    csrw    sscratch, a0
    ld      t0, FRAME_PC(a0)
    csrw    sepc, t0
    ld      t0, FRAME_SSTATUS(a0)
    csrw    sstatus, t0
    .irp    n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      x\n, 8*\n(a0)
    .endr
    ld      a0, 80(a0)
    sret

    .balign 4
    .globl trap_entry
trap_entry:
    csrrw   t6, sscratch, t6
    beqz    t6, trap_from_kernel
    .irp    n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    sd      x\n, 8*\n(t6)
    .endr
    csrrw   t0, sscratch, zero
    sd      t0, 8*31(t6)
    csrr    t0, sepc
    sd      t0, FRAME_PC(t6)
    csrr    t0, sstatus
    sd      t0, FRAME_SSTATUS(t6)
    ld      sp, FRAME_KERNEL_STACK(t6)
    ld      ra, 0(sp)
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11
    ld      s\n, 8*\n+8(sp)
    .endr
    addi    sp, sp, 112
    ret                             # to whoever called user_enter

# An interrupt in the kernel, or the trap of a probe: on the kernel's own stack. kernel_trap gets the address to
# return to, and may change it: the second argument is where the interrupted function was called from.
trap_from_kernel:
    csrrw   t6, sscratch, t6
    addi    sp, sp, -128
    sd      ra, 0(sp)
    .irp    n, 0,1,2,3,4,5,6
    sd      t\n, 8*\n+8(sp)
    sd      a\n, 8*\n+64(sp)
    .endr
    sd      a7, 120(sp)
    csrr    a0, sepc
    mv      a1, ra
    call    kernel_trap
    csrw    sepc, a0
    ld      ra, 0(sp)
    .irp    n, 0,1,2,3,4,5,6
    ld      t\n, 8*\n+8(sp)
    ld      a\n, 8*\n+64(sp)
    .endr
    ld      a7, 120(sp)
    addi    sp, sp, 128
    sret

# Probes: leaf functions, so that after a trap the kernel can go on where they were called from.
    .globl probe_load, probe_store, probe_fetch, probe_breakpoint, probe_stimecmp
probe_load:
    ld      a0, 0(a0)
    ret
probe_store:
    sd      zero, 0(a0)
    ret
probe_fetch:
    jr      a0
probe_breakpoint:
    ebreak
    ret
probe_stimecmp:
    csrr    a0, 0x14d
    ret

    .bss
    .balign 16
kernel_stack:
    .skip   16384

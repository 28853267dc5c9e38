# Where every trap arrives (stvec, Direct mode: privileged specification, "Supervisor Trap Vector Base
# Address Register"). It saves all integer registers into a struct trap_frame and calls trap_handle.
#
# The frame is built on a trap stack of its own, not on the interrupted one: if the trap was a stack
# overflow there is no interrupted stack left to write to. Outside a trap sscratch holds the top of that
# trap stack, inside one it holds zero, and that is how a trap inside the trap handler is recognised.
#
# Floating-point registers are not saved. Instead sstatus.FS is set to Off while the handler runs, so
# that a handler that touches them by mistake is told so by an illegal-instruction exception.

#include "kernel/hart_offsets.h"

    .macro  each_saved_register operation
    .irp    n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \operation x\n, \n*8(sp)
    .endr
    .endm

    .text
    .balign 4
    .globl trap_entry
trap_entry:
    csrrw   sp, sscratch, sp
    beqz    sp, trap_within_trap
    addi    sp, sp, -FRAME_SIZE
    sd      x1, 1*8(sp)
    each_saved_register sd
    csrrw   t0, sscratch, zero      # the interrupted stack pointer; and mark that a trap is being handled
    sd      t0, 2*8(sp)
    csrr    t1, sepc
    sd      t1, FRAME_SEPC(sp)
    csrr    t2, sstatus
    sd      t2, FRAME_SSTATUS(sp)
    csrr    t3, scause
    sd      t3, FRAME_SCAUSE(sp)
    csrr    t4, stval
    sd      t4, FRAME_STVAL(sp)
    li      t5, SSTATUS_FS_MASK
    csrc    sstatus, t5
    mv      a0, sp
    call    trap_handle             # (frame); may change the frame, and with it where we return to

    ld      t1, FRAME_SEPC(sp)
    csrw    sepc, t1
    ld      t2, FRAME_SSTATUS(sp)
    csrw    sstatus, t2
    addi    t0, sp, FRAME_SIZE
    csrw    sscratch, t0
    ld      x1, 1*8(sp)
    each_saved_register ld
    ld      sp, 2*8(sp)
    sret

trap_within_trap:
    csrrw   sp, sscratch, sp        # the trap stack again: what is left of it is enough to say what happened
    call    trap_report_nested      # does not return

# A hypervisor's first instructions, and the switch between it and its guest.
#
# Contract with the firmware: as in boot/start.S. The guest's registers lie in a struct vcpu (vcpu.h), whose address is
# in sscratch while the guest runs; sscratch is zero while the hypervisor does.

#define VCPU_PC 0
#define VCPU_STACK 256

    .section .text.boot, "ax"
    .globl _start
_start:
    csrw    sie, zero
    csrw    sscratch, zero
    la      t0, bss_start           # still at the physical address: what `la` gives is relative to pc
    la      t1, bss_end
1:  bgeu    t0, t1, 2f
    sd      zero, 0(t0)
    addi    t0, t0, 8
    j       1b

    # Two tables. The last GiB of addresses is physical memory from 0x80000000 on, in leaves of 2 MiB; the first of them
    # is the firmware's, the second is what runs, the rest is data.
2:  la      t0, host_root
    la      t1, host_map
    srli    t2, t1, 2
    ori     t2, t2, 0x01            # V: the next level
    li      t3, 511*8
    add     t3, t3, t0
    sd      t2, 0(t3)
    li      t2, 0x20080000 + 0xcb   # 0x80200000 >> 2, and D A X R V
    sd      t2, 8(t1)
    li      t2, 0x20100000 + 0xc7   # 0x80400000 >> 2, and D A W R V
    li      t3, 2
    addi    t4, t1, 16
    li      t5, 512
    li      t6, 0x80000             # 2 MiB >> 2
3:  sd      t2, 0(t4)
    add     t2, t2, t6
    addi    t4, t4, 8
    addi    t3, t3, 1
    bne     t3, t5, 3b

    # With translation on, the next instruction is where nothing is mapped: its fault is the way up.
    li      t2, VIRTUAL_OFFSET
    la      t3, 4f
    add     t3, t3, t2
    csrw    stvec, t3
    srli    t0, t0, 12
    li      t3, 8 << 60
    or      t0, t0, t3
    sfence.vma
    csrw    satp, t0
    .balign 4
4:  la      t0, trap_entry
    csrw    stvec, t0
    la      sp, host_stack + 16384
    add     a1, a1, t2              # the device tree, where it can be read now
    li      s0, 0
    call    hypervisor_main         # (hart id, device tree)

    .text

# Every trap. One of the hypervisor's own is a mistake.
    .balign 4
    .globl trap_entry
trap_entry:
    csrrw   sp, sscratch, sp
    beqz    sp, trap_within_hypervisor
    sd      x1, 8*1(sp)
    .irp    n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd      x\n, 8*\n(sp)
    .endr
    csrrw   t0, sscratch, zero
    sd      t0, 8*2(sp)
    csrr    t0, sepc
    sd      t0, VCPU_PC(sp)
    mv      s1, sp
    mv      a0, sp
    ld      sp, VCPU_STACK(s1)
    call    handle_exit
    mv      a0, s1

# void vcpu_run(struct vcpu*): lets the guest run; what it comes back with goes to handle_exit.
    .globl vcpu_run
vcpu_run:
    csrw    sscratch, a0
    ld      t0, VCPU_PC(a0)
    csrw    sepc, t0
    mv      sp, a0
    ld      x1, 8*1(sp)
    .irp    n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      x\n, 8*\n(sp)
    .endr
    ld      sp, 8*2(sp)
    sret

trap_within_hypervisor:
    la      sp, host_stack + 16384
    csrr    a0, scause
    csrr    a1, sepc
    csrr    a2, stval
    call    hypervisor_fault        # does not return

    .bss
    .balign 4096
    .globl host_root, host_stack_top
host_root:
    .skip   4096
host_map:
    .skip   4096
host_stack:
    .skip   16384
host_stack_top:

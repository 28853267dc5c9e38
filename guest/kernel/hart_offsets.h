/* Offsets into struct hart and struct trap_frame for the assembly; hart.c and trap.c assert that they hold.
 */
#ifndef GUEST_KERNEL_HART_OFFSETS_H
#define GUEST_KERNEL_HART_OFFSETS_H

#define HART_STACK_TOP 0
#define HART_SATP 8

#define FRAME_SEPC (32 * 8)
#define FRAME_SSTATUS (33 * 8)
#define FRAME_SCAUSE (34 * 8)
#define FRAME_STVAL (35 * 8)
#define FRAME_SIZE (36 * 8)

#define SSTATUS_FS_MASK 0x6000

#endif

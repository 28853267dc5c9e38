/* Offsets in struct user_frame, for assembly; inner.h checks them. */
#ifndef GUEST_INNER_OFFSETS_H
#define GUEST_INNER_OFFSETS_H

#define FRAME_PC 0 /* register n is at 8 n, and x0 needs no place */
#define FRAME_SSTATUS 256
#define FRAME_KERNEL_STACK 264

#endif

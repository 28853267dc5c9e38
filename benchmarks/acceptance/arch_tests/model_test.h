// What the architectural test suite (riscv-arch-test) asks of a model: where it ends, and where its signature is.
#define RVMODEL_BOOT
#define RVMODEL_HALT            \
    .global arch_test_end;      \
    arch_test_end:              \
    li t0, 1;                   \
    la t1, tohost;              \
    sd t0, 0(t1);               \
    arch_test_spin:             \
    j arch_test_spin;
#define RVMODEL_DATA_BEGIN                        \
    .pushsection .tohost, "aw", @progbits;        \
    .balign 64;                                   \
    .global tohost;                               \
    tohost:                                       \
    .dword 0;                                     \
    .balign 64;                                   \
    .global fromhost;                             \
    fromhost:                                     \
    .dword 0;                                     \
    .popsection;                                  \
    .balign 16;                                   \
    .global begin_signature;                      \
    begin_signature:
#define RVMODEL_DATA_END   \
    .balign 16;            \
    .global end_signature; \
    end_signature:
#define RVMODEL_IO_INIT
#define RVMODEL_IO_WRITE_STR(register, text)
#define RVMODEL_IO_CHECK()
#define RVMODEL_IO_ASSERT_GPR_EQ(signature, register, value)
#define RVMODEL_IO_ASSERT_SFPR_EQ(signature, register, value)
#define RVMODEL_IO_ASSERT_DFPR_EQ(signature, register, value)
#define RVMODEL_CBZ_BLOCKSIZE 64
#define RVMODEL_CMO_BLOCKSIZE 64
// The ACLINT's software interrupt of hart 0, which Spike has at the same address.
#define RVMODEL_SET_MSW_INT \
    li t1, 1;               \
    li t2, 0x2000000;       \
    sw t1, 0(t2);
#define RVMODEL_CLEAR_MSW_INT \
    li t2, 0x2000000;         \
    sw zero, 0(t2);
#define RVMODEL_CLEAR_MTIMER_INT
#define RVMODEL_CLEAR_MEXT_INT

// Names of CSR numbers, fields, interrupts and exceptions (Privileged Architecture 1.13; hypervisor extension
// 1.0).
#pragma once

#include "base/types.h"

namespace wirt::riscv {

enum class Privilege : u8 { user = 0, supervisor = 1, machine = 3 };

enum class Access : u8 { fetch, load, store };

// The nominal privilege mode and V: VS-mode is {supervisor, true}, VU-mode {user, true}.
struct Mode {
    Privilege level;
    bool guest;
};

// mcause of exceptions (Table "Machine cause register values after trap").
enum Exception : u8 {
    exc_fetch_misaligned = 0,
    exc_fetch_access = 1,
    exc_illegal = 2,
    exc_breakpoint = 3,
    exc_load_misaligned = 4,
    exc_load_access = 5,
    exc_store_misaligned = 6,
    exc_store_access = 7,
    exc_ecall_u = 8,
    exc_ecall_s = 9,
    exc_ecall_vs = 10,
    exc_ecall_m = 11,
    exc_fetch_page = 12,
    exc_load_page = 13,
    exc_store_page = 15,
    exc_fetch_guest_page = 20,
    exc_load_guest_page = 21,
    exc_virtual_instruction = 22,
    exc_store_guest_page = 23,
};

// Bit numbers in mip and mie.
enum Interrupt : u8 {
    irq_ssi = 1,
    irq_vssi = 2,
    irq_msi = 3,
    irq_sti = 5,
    irq_vsti = 6,
    irq_mti = 7,
    irq_sei = 9,
    irq_vsei = 10,
    irq_mei = 11,
    irq_sgei = 12,
    irq_lcofi = 13,
};
constexpr u64 irq_bit(Interrupt which) {
    return u64{1} << which;
}
// The interrupts of VS-level, and those of hie and hip.
inline constexpr u64 vs_irqs = irq_bit(irq_vssi) | irq_bit(irq_vsti) | irq_bit(irq_vsei);
inline constexpr u64 hs_irqs = vs_irqs | irq_bit(irq_sgei);

namespace mstatus {
inline constexpr u64 sie = 1u << 1, mie = 1u << 3, spie = 1u << 5, ube = 1u << 6, mpie = 1u << 7,
                     spp = 1u << 8, mpp = 3u << 11, fs = 3u << 13, vs = 3u << 9, xs = 3u << 15,
                     mprv = 1u << 17, sum = 1u << 18, mxr = 1u << 19, tvm = 1u << 20, tw = 1u << 21,
                     tsr = 1u << 22, uxl = u64{3} << 32, sxl = u64{3} << 34, gva = u64{1} << 38,
                     mpv = u64{1} << 39, sd = u64{1} << 63;
inline constexpr unsigned vs_shift = 9, mpp_shift = 11, fs_shift = 13;
// SD sums up: the state of one of the units is Dirty.
constexpr bool dirty(u64 value) {
    return (value & fs) == fs || (value & vs) == vs;
}
}  // namespace mstatus

inline constexpr u64 sstatus_writable =
    mstatus::sie | mstatus::spie | mstatus::spp | mstatus::fs | mstatus::vs | mstatus::sum | mstatus::mxr;
inline constexpr u64 sstatus_visible =
    sstatus_writable | mstatus::ube | mstatus::xs | mstatus::uxl | mstatus::sd;

namespace hstatus {
inline constexpr u64 gva = 1u << 6, spv = 1u << 7, spvp = 1u << 8, hu = 1u << 9, vgein = 63u << 12,
                     vtvm = 1u << 20, vtw = 1u << 21, vtsr = 1u << 22, vsxl = u64{3} << 32,
                     hupmm = u64{3} << 48;
inline constexpr unsigned vgein_shift = 12;
}  // namespace hstatus

namespace hvictl {
inline constexpr u64 vti = 1u << 30, iid = 0x3fu << 16, dpr = 1u << 9, ipriom = 1u << 8, iprio = 0xff;
inline constexpr unsigned iid_shift = 16;
}  // namespace hvictl

namespace envcfg {
inline constexpr u64 fiom = 1, cbie = 3u << 4, cbcfe = 1u << 6, cbze = 1u << 7, pmm = u64{3} << 32,
                     adue = u64{1} << 61, pbmte = u64{1} << 62, stce = u64{1} << 63;
}

namespace mseccfg {
inline constexpr u64 useed = 1u << 8, sseed = 1u << 9;
}

// Of mstateen0; the last one of the other three, too.
namespace stateen {
inline constexpr u64 imsic = u64{1} << 58, aia = u64{1} << 59, csrind = u64{1} << 60, envcfg = u64{1} << 62,
                     se = u64{1} << 63;
}

namespace mhpmevent {
inline constexpr u64 vuinh = u64{1} << 58, vsinh = u64{1} << 59, uinh = u64{1} << 60, sinh = u64{1} << 61,
                     minh = u64{1} << 62, of = u64{1} << 63;
}  // namespace mhpmevent

namespace pte {
inline constexpr u64 v = 1, r = 2, w = 4, x = 8, u = 16, g = 32, a = 64, d = 128, pbmt = u64{3} << 61,
                     n = u64{1} << 63;
}  // namespace pte

// Priority numbers of the Advanced Interrupt Architecture go to 255 and beyond (an IMSIC's identities, to
// 2047); these are what stands in for one.
namespace priority {
inline constexpr u32 no_identity = 256;  // 5.4.1: an external interrupt that no controller signals
inline constexpr u32 default_low =
    0x1'0000;                         // number 0 of an interrupt whose default is below the external one
inline constexpr u32 none = ~u32{0};  // no interrupt at all
}  // namespace priority

enum CsrNumber : u16 {
    csr_fflags = 0x001,
    csr_frm = 0x002,
    csr_fcsr = 0x003,
    // V 1.0, chapter 3
    csr_vstart = 0x008,
    csr_vxsat = 0x009,
    csr_vxrm = 0x00a,
    csr_vcsr = 0x00f,
    csr_vl = 0xc20,
    csr_vtype = 0xc21,
    csr_vlenb = 0xc22,
    csr_cycle = 0xc00,
    csr_time = 0xc01,
    csr_instret = 0xc02,
    csr_hpmcounter3 = 0xc03,
    csr_sstatus = 0x100,
    csr_sie = 0x104,
    csr_stvec = 0x105,
    csr_scounteren = 0x106,
    csr_senvcfg = 0x10a,
    csr_sscratch = 0x140,
    csr_sepc = 0x141,
    csr_scause = 0x142,
    csr_stval = 0x143,
    csr_sip = 0x144,
    csr_stimecmp = 0x14d,
    csr_satp = 0x180,
    csr_mvendorid = 0xf11,
    csr_marchid = 0xf12,
    csr_mimpid = 0xf13,
    csr_mhartid = 0xf14,
    csr_mconfigptr = 0xf15,
    csr_mstatus = 0x300,
    csr_misa = 0x301,
    csr_medeleg = 0x302,
    csr_mideleg = 0x303,
    csr_mie = 0x304,
    csr_mtvec = 0x305,
    csr_mcounteren = 0x306,
    csr_menvcfg = 0x30a,
    csr_mcountinhibit = 0x320,
    csr_mhpmevent3 = 0x323,
    csr_mscratch = 0x340,
    csr_mepc = 0x341,
    csr_mcause = 0x342,
    csr_mtval = 0x343,
    csr_mip = 0x344,
    csr_pmpcfg0 = 0x3a0,
    csr_pmpaddr0 = 0x3b0,
    // hypervisor extension
    csr_vsstatus = 0x200,
    csr_vsie = 0x204,
    csr_vstvec = 0x205,
    csr_vsscratch = 0x240,
    csr_vsepc = 0x241,
    csr_vscause = 0x242,
    csr_vstval = 0x243,
    csr_vsip = 0x244,
    csr_vstimecmp = 0x24d,
    csr_vsatp = 0x280,
    csr_mtinst = 0x34a,
    csr_mtval2 = 0x34b,
    csr_hstatus = 0x600,
    csr_hedeleg = 0x602,
    csr_hideleg = 0x603,
    csr_hie = 0x604,
    csr_htimedelta = 0x605,
    csr_hcounteren = 0x606,
    csr_hgeie = 0x607,
    csr_henvcfg = 0x60a,
    csr_htval = 0x643,
    csr_hip = 0x644,
    csr_hvip = 0x645,
    csr_htinst = 0x64a,
    csr_hgatp = 0x680,
    csr_hgeip = 0xe12,
    // Advanced Interrupt Architecture 1.0, chapter 2
    csr_vsiselect = 0x250,
    csr_vsireg = 0x251,
    csr_vstopei = 0x25c,
    csr_vstopi = 0xeb0,
    csr_hvien = 0x608,
    csr_hvictl = 0x609,
    csr_hviprio1 = 0x646,
    csr_hviprio2 = 0x647,
    csr_siselect = 0x150,
    csr_sireg = 0x151,
    csr_stopei = 0x15c,
    csr_stopi = 0xdb0,
    csr_mvien = 0x308,
    csr_mvip = 0x309,
    csr_miselect = 0x350,
    csr_mireg = 0x351,
    csr_mtopei = 0x35c,
    csr_mtopi = 0xfb0,
    csr_mcycle = 0xb00,
    csr_minstret = 0xb02,
    csr_mhpmcounter3 = 0xb03,
    // Sscofpmf
    csr_scountovf = 0xda0,
    // Zkr
    csr_seed = 0x015,
    csr_mseccfg = 0x747,
    // Smstateen
    csr_sstateen0 = 0x10c,
    csr_mstateen0 = 0x30c,
    csr_hstateen0 = 0x60c,
    // Sdtrig
    csr_tselect = 0x7a0,
    csr_tdata1 = 0x7a1,
    csr_tdata2 = 0x7a2,
    csr_tdata3 = 0x7a3,
    csr_tinfo = 0x7a4,
};

constexpr bool is_vector_csr(u16 number) {
    switch (number) {
        case csr_vstart:
        case csr_vxsat:
        case csr_vxrm:
        case csr_vcsr:
        case csr_vl:
        case csr_vtype:
        case csr_vlenb:
            return true;
        default:
            return false;
    }
}

}  // namespace wirt::riscv

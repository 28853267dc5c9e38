// The HBA's registers and their fields, by the names of Serial ATA AHCI 1.3.1, 3.
#pragma once

#include "base/types.h"

namespace wirt::devices::hardware::ahci {

// Generic host control (3.1).
enum : u32 {
    CAP = 0x00,
    GHC = 0x04,
    IS = 0x08,
    PI = 0x0c,
    VS = 0x10,
    CCC_CTL = 0x14,
    CCC_PORTS = 0x18,
    EM_LOC = 0x1c,
    EM_CTL = 0x20,
    CAP2 = 0x24,
    BOHC = 0x28,
};

// Port registers (3.3), from the start of a port's 80h bytes.
inline constexpr u32 first_port = 0x100;
inline constexpr u32 port_bytes = 0x80;
enum : u32 {
    PxCLB = 0x00,
    PxCLBU = 0x04,
    PxFB = 0x08,
    PxFBU = 0x0c,
    PxIS = 0x10,
    PxIE = 0x14,
    PxCMD = 0x18,
    PxTFD = 0x20,
    PxSIG = 0x24,
    PxSSTS = 0x28,
    PxSCTL = 0x2c,
    PxSERR = 0x30,
    PxSACT = 0x34,
    PxCI = 0x38,
    PxSNTF = 0x3c,
    PxFBS = 0x40,
    PxDEVSLP = 0x44,
};

// CAP (3.1.1)
inline constexpr u32 cap_s64a = 1u << 31, cap_sncq = 1u << 30, cap_sclo = 1u << 24, cap_iss_gen3 = 3u << 20,
                     cap_sam = 1u << 18, cap_pmd = 1u << 15, cap_ncs_32 = 31u << 8;
// GHC (3.1.2)
inline constexpr u32 ghc_ae = 1u << 31, ghc_ie = 1u << 1, ghc_hr = 1u << 0;

// PxIS and PxIE (3.3.5, 3.3.6)
inline constexpr u32 pxis_dhrs = 1u << 0, pxis_pss = 1u << 1, pxis_sdbs = 1u << 3, pxis_dps = 1u << 5,
                     pxis_pcs = 1u << 6, pxis_prcs = 1u << 22, pxis_ofs = 1u << 24, pxis_ifs = 1u << 27,
                     pxis_hbfs = 1u << 29, pxis_tfes = 1u << 30;
inline constexpr u32 pxie_writable = 0xfdc0'00ff;

// PxCMD (3.3.7). SUD and POD are fixed: no staggered spin-up, no cold presence detection.
inline constexpr u32 pxcmd_st = 1u << 0, pxcmd_sud = 1u << 1, pxcmd_pod = 1u << 2, pxcmd_clo = 1u << 3,
                     pxcmd_fre = 1u << 4, pxcmd_fr = 1u << 14, pxcmd_cr = 1u << 15, pxcmd_atapi = 1u << 24,
                     pxcmd_dlae = 1u << 25;
inline constexpr unsigned pxcmd_ccs_shift = 8;
inline constexpr u32 pxcmd_writable = pxcmd_st | pxcmd_fre | pxcmd_atapi | pxcmd_dlae;

// PxSSTS and PxSCTL (3.3.10, 3.3.11)
inline constexpr u32 sctl_det = 0xf, sctl_writable = 0xfff;
inline constexpr u32 det_comreset = 1, det_offline = 4;
inline constexpr u32 ssts_det_no_phy = 1, ssts_det_established = 3, ssts_ipm_active = 1u << 8;

// PxSERR (3.3.12)
inline constexpr u32 serr_err_p = 1u << 10, serr_diag_n = 1u << 16, serr_diag_x = 1u << 26;

// PxTFD and PxSIG with no register FIS received (3.3.8, 3.3.9), and the signature of an ATA disk.
inline constexpr u8 no_device_status = 0x7f;
inline constexpr u32 no_signature = 0xffff'ffff, ata_signature = 0x0000'0101;

}  // namespace wirt::devices::hardware::ahci

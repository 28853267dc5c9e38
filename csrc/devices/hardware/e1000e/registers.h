// The 82574's registers and their fields, by the names of the Intel 82574 GbE Controller Family
// Datasheet, 10.2.
#pragma once

#include "base/types.h"

namespace wirt::devices::hardware::e1000e {

inline constexpr u32 register_bytes = 0x2'0000;

// General (10.2.2)
enum : u32 {
    CTRL = 0x0'0000,
    CTRL_DUP = 0x0'0004,
    STATUS = 0x0'0008,
    EEC = 0x0'0010,
    EERD = 0x0'0014,
    CTRL_EXT = 0x0'0018,
    FLA = 0x0'001c,
    MDIC = 0x0'0020,
    FCAL = 0x0'0028,
    FCAH = 0x0'002c,
    FCT = 0x0'0030,
    VET = 0x0'0038,
    FCTTV = 0x0'0170,
    LEDCTL = 0x0'0e00,
    EXTCNF_CTRL = 0x0'0f00,
    EXTCNF_SIZE = 0x0'0f08,
    POEMB = 0x0'0f10,
    PBA = 0x0'1000,
    PBS = 0x0'1008,
    EEMNGCTL = 0x0'1010,
    EEMNGDATA = 0x0'1014,
    FLMNGCTL = 0x0'1018,
    FLMNGDATA = 0x0'101c,
    FLMNGCNT = 0x0'1020,
    FLASHT = 0x0'1028,
    EEWR = 0x0'102c,
    FLSWCTL = 0x0'1030,
    FLSWDATA = 0x0'1034,
    FLSWCNT = 0x0'1038,
    FLOP = 0x0'103c,
};

// PCIe (10.2.3)
enum : u32 {
    GCR = 0x0'5b00,
    GSCL_1 = 0x0'5b10,
    GSCL_2 = 0x0'5b14,
    GSCL_3 = 0x0'5b18,
    GSCL_4 = 0x0'5b1c,
    FACTPS = 0x0'5b30,
    SWSM = 0x0'5b50,
    FWSM = 0x0'5b54,
    SWSM2 = 0x0'5b58,
    SW_FW_SYNC = 0x0'5b5c,
    GCR2 = 0x0'5b64,
    PBACLR = 0x0'5b68,
};

// Interrupts (10.2.4)
enum : u32 {
    ICR = 0x0'00c0,
    ITR = 0x0'00c4,
    ICS = 0x0'00c8,
    IMS = 0x0'00d0,
    IMC = 0x0'00d8,
    EIAC = 0x0'00dc,
    IAM = 0x0'00e0,
    IVAR = 0x0'00e4,
    EITR = 0x0'00e8,  // one a vector
};

// Receive (10.2.5). A ring's registers are `ring_bytes` further for queue 1.
inline constexpr u32 ring_bytes = 0x100;
enum : u32 {
    RCTL = 0x0'0100,
    ERT = 0x0'2008,
    FCRTL = 0x0'2160,
    FCRTH = 0x0'2168,
    PSRCTL = 0x0'2170,
    RDFH = 0x0'2410,
    RDFT = 0x0'2418,
    RDFHS = 0x0'2420,
    RDFTS = 0x0'2428,
    RDFPC = 0x0'2430,
    RDBAL = 0x0'2800,
    RDBAH = 0x0'2804,
    RDLEN = 0x0'2808,
    RDH = 0x0'2810,
    RDT = 0x0'2818,
    RDTR = 0x0'2820,
    RXDCTL = 0x0'2828,
    RADV = 0x0'282c,
    RSRPD = 0x0'2c00,
    RAID = 0x0'2c08,
    RXCSUM = 0x0'5000,
    RFCTL = 0x0'5008,
    MTA = 0x0'5200,
    RAL = 0x0'5400,
    RAH = 0x0'5404,
    VFTA = 0x0'5600,
    MRQC = 0x0'5818,
    RETA = 0x0'5c00,
    RSSRK = 0x0'5c80,
};

// Transmit (10.2.6)
enum : u32 {
    TCTL = 0x0'0400,
    TCTL_EXT = 0x0'0404,
    TIPG = 0x0'0410,
    AIT = 0x0'0458,
    TDFH = 0x0'3410,
    TDFT = 0x0'3418,
    TDFHS = 0x0'3420,
    TDFTS = 0x0'3428,
    TDFPC = 0x0'3430,
    TDBAL = 0x0'3800,
    TDBAH = 0x0'3804,
    TDLEN = 0x0'3808,
    TDH = 0x0'3810,
    TDT = 0x0'3818,
    TIDV = 0x0'3820,
    TXDCTL = 0x0'3828,
    TADV = 0x0'382c,
    TARC = 0x0'3840,
};

// Statistics (10.2.7). The high half of a counter of 64 bits comes behind the low one.
enum : u32 {
    CRCERRS = 0x0'4000,
    ALGNERRC = 0x0'4004,
    RXERRC = 0x0'400c,
    MPC = 0x0'4010,
    ROC = 0x0'40ac,
    PRC64 = 0x0'405c,
    GPRC = 0x0'4074,
    BPRC = 0x0'4078,
    MPRC = 0x0'407c,
    GPTC = 0x0'4080,
    GORCL = 0x0'4088,
    GOTCL = 0x0'4090,
    RNBC = 0x0'40a0,
    TORL = 0x0'40c0,
    TOTL = 0x0'40c8,
    TPR = 0x0'40d0,
    TPT = 0x0'40d4,
    PTC64 = 0x0'40d8,
    MPTC = 0x0'40f0,
    BPTC = 0x0'40f4,
    TSCTC = 0x0'40f8,
    TSCTFC = 0x0'40fc,
    IAC = 0x0'4100,
    ICRXPTC = 0x0'4104,
    ICRXATC = 0x0'4108,
    ICTXPTC = 0x0'410c,
    ICTXATC = 0x0'4110,
    ICTXQEC = 0x0'4118,
    ICTXQMTC = 0x0'411c,
    ICRXDMTC = 0x0'4120,
    ICRXOC = 0x0'4124,
};

// Wake-up and manageability (10.2.8)
enum : u32 {
    WUC = 0x0'5800,
    WUFC = 0x0'5808,
    WUS = 0x0'5810,
    MFUTP01 = 0x0'5828,
    MFUTP23 = 0x0'5830,
    MANC = 0x0'5820,
    IPAV = 0x0'5838,
    IP4AT = 0x0'5840,
    MANC2H = 0x0'5860,
    IP6AT = 0x0'5880,
    MDEF = 0x0'5890,
    WUPL = 0x0'5900,
    WUPM = 0x0'5a00,
    FFLT = 0x0'5f00,
    FFMT = 0x0'9000,
    FFVT = 0x0'9800,
    HICR = 0x0'8f00,
};

// Time synchronisation (10.2.9)
enum : u32 {
    SYSTIML = 0x0'b600,
    SYSTIMH = 0x0'b604,
    TIMINCA = 0x0'b608,
    TIMADJL = 0x0'b60c,
    TIMADJH = 0x0'b610,
    TSYNCTXCTL = 0x0'b614,
    TXSTMPL = 0x0'b618,
    TXSTMPH = 0x0'b61c,
    TSYNCRXCTL = 0x0'b620,
    RXSTMPL = 0x0'b624,
    RXSTMPH = 0x0'b628,
    RXSATRL = 0x0'b62c,
    RXSATRH = 0x0'b630,
    RXMTRL = 0x0'b634,
    RXUDP = 0x0'b638,
};

inline constexpr unsigned queue_count = 2;
inline constexpr unsigned vector_count = 5;
inline constexpr unsigned receive_address_count = 16;

inline constexpr u32 ctrl_fd = 1u << 0, ctrl_gio_master_disable = 1u << 2, ctrl_slu = 1u << 6,
                     ctrl_speed = 3u << 8, ctrl_speed_1000 = 2u << 8, ctrl_frcspd = 1u << 11,
                     ctrl_frcdplx = 1u << 12, ctrl_swdpin0 = 1u << 18, ctrl_advd3wuc = 1u << 20,
                     ctrl_rst = 1u << 26, ctrl_vme = 1u << 30, ctrl_phy_rst = 1u << 31;

inline constexpr u32 status_fd = 1u << 0, status_lu = 1u << 1, status_phyra = 1u << 10,
                     status_gio_master_enable = 1u << 19;
inline constexpr unsigned status_speed_shift = 6, status_asdv_shift = 8;

inline constexpr u32 eec_ee_req = 1u << 6, eec_ee_gnt = 1u << 7, eec_ee_pres = 1u << 8, eec_auto_rd = 1u << 9,
                     eec_size_256_words = 2u << 11;
inline constexpr u32 eerd_start = 1u << 0, eerd_done = 1u << 1;
inline constexpr unsigned eerd_addr_shift = 2, eerd_data_shift = 16;

inline constexpr u32 ctrl_ext_asdchk = 1u << 12, ctrl_ext_ee_rst = 1u << 13, ctrl_ext_eiame = 1u << 24,
                     ctrl_ext_iame = 1u << 27;

inline constexpr u32 mdic_op_write = 1u << 26, mdic_op_read = 2u << 26, mdic_op = 3u << 26,
                     mdic_ready = 1u << 28, mdic_i = 1u << 29, mdic_e = 1u << 30;
inline constexpr unsigned mdic_regadd_shift = 16, mdic_phyadd_shift = 21;

inline constexpr u32 swsm_smbi = 1u << 0, swsm_swesmbi = 1u << 1;
inline constexpr u32 eemngctl_cfg_done = 3u << 18, eemngctl_done = 1u << 31;

// ICR, ICS, IMS and IMC (10.2.4)
inline constexpr u32 icr_txdw = 1u << 0, icr_txqe = 1u << 1, icr_lsc = 1u << 2, icr_rxdmt0 = 1u << 4,
                     icr_rxo = 1u << 6, icr_rxt0 = 1u << 7, icr_mdac = 1u << 9, icr_txd_low = 1u << 15,
                     icr_srpd = 1u << 16, icr_ack = 1u << 17, icr_mng = 1u << 18, icr_rxq0 = 1u << 20,
                     icr_txq0 = 1u << 22, icr_other = 1u << 24, icr_int_asserted = 1u << 31;
inline constexpr u32 icr_causes = icr_txdw | icr_txqe | icr_lsc | icr_rxdmt0 | icr_rxo | icr_rxt0 | icr_mdac |
                                  icr_txd_low | icr_srpd | icr_ack | icr_mng | 0x1f0'0000;
// What raises the Other cause where messages are told apart (7.4.1).
inline constexpr u32 icr_other_causes = icr_lsc | icr_rxo | icr_mdac | icr_srpd | icr_ack | icr_mng;

inline constexpr u32 ivar_valid = 1u << 3, ivar_vector = 7;
inline constexpr u32 ivar_on_every_write_back = 1u << 31;

inline constexpr u32 rctl_en = 1u << 1, rctl_sbp = 1u << 2, rctl_upe = 1u << 3, rctl_mpe = 1u << 4,
                     rctl_lpe = 1u << 5, rctl_lbm = 3u << 6, rctl_lbm_mac = 1u << 6, rctl_dtyp = 3u << 10,
                     rctl_dtyp_split = 1u << 10, rctl_bam = 1u << 15, rctl_vfe = 1u << 18,
                     rctl_cfien = 1u << 19, rctl_cfi = 1u << 20, rctl_bsex = 1u << 25, rctl_secrc = 1u << 26;
inline constexpr unsigned rctl_rdmts_shift = 8, rctl_mo_shift = 12, rctl_bsize_shift = 16,
                          rctl_flxbuf_shift = 27;

inline constexpr u32 rxcsum_ipofld = 1u << 8, rxcsum_tuofld = 1u << 9, rxcsum_pcsd = 1u << 13;
inline constexpr u32 rfctl_exsten = 1u << 15, rfctl_ipv6_ex_dis = 1u << 16;
inline constexpr u32 rah_asel = 3u << 16, rah_av = 1u << 31;
inline constexpr u32 delay_fpd = 1u << 31;  // of RDTR and TIDV

inline constexpr u32 mrqc_enable = 3, mrqc_enable_rss = 1, mrqc_tcp_ipv4 = 1u << 16, mrqc_ipv4 = 1u << 17,
                     mrqc_tcp_ipv6 = 1u << 18, mrqc_ipv6_ex = 1u << 19, mrqc_ipv6 = 1u << 20;

inline constexpr u32 tctl_en = 1u << 1, tctl_psp = 1u << 3;
inline constexpr u32 tarc_enable = 1u << 10;

// Receive descriptors (7.1.4 to 7.1.6): the status bits and, in the same word of an extended descriptor, the
// errors above them. A legacy descriptor has each as a byte.
inline constexpr u32 rxd_dd = 1u << 0, rxd_eop = 1u << 1, rxd_ixsm = 1u << 2, rxd_vp = 1u << 3,
                     rxd_udpcs = 1u << 4, rxd_tcpcs = 1u << 5, rxd_ipcs = 1u << 6, rxd_pif = 1u << 7,
                     rxd_tcpe = 1u << 29, rxd_ipe = 1u << 30, rxd_rxe = 1u << 31;
inline constexpr u16 rxd_sph = 1u << 15;  // in the header status of a packet-split descriptor

// Transmit descriptors (7.2.3): the third word, and the status in the fourth.
inline constexpr u32 txd_eop = 1u << 24, txd_ifcs = 1u << 25, txd_ic = 1u << 26, txd_tse = 1u << 26,
                     txd_rs = 1u << 27, txd_dext = 1u << 29, txd_vle = 1u << 30, txd_ide = 1u << 31;
inline constexpr u32 txd_dtyp = 0xfu << 20, txd_dtyp_context = 0u << 20, txd_dtyp_data = 1u << 20;
inline constexpr u32 txd_tucmd_tcp = 1u << 24, txd_tucmd_ip = 1u << 25;
inline constexpr u32 txd_popts_ixsm = 1u << 8, txd_popts_txsm = 1u << 9;
inline constexpr u32 txd_dd = 1u << 0;

}  // namespace wirt::devices::hardware::e1000e

#include "devices/hardware/e1000e/register_file.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>

namespace wirt::devices::hardware::e1000e {

namespace {

using enum memory::RegisterAccess;

constexpr u32 all = ~u32{0};

constexpr const char* general = "82574 datasheet, 10.2.2";
constexpr const char* pcie = "82574 datasheet, 10.2.3";
constexpr const char* interrupt = "82574 datasheet, 10.2.4";
constexpr const char* receive = "82574 datasheet, 10.2.5";
constexpr const char* transmit = "82574 datasheet, 10.2.6";
constexpr const char* statistic = "82574 datasheet, 10.2.7";
constexpr const char* management = "82574 datasheet, 10.2.8";
constexpr const char* time_sync = "82574 datasheet, 10.2.9";

// Sorted by offset.
constexpr RegisterSpec specs[] = {
    {CTRL, 4, rw, "CTRL", ctrl_fd | ctrl_slu | ctrl_speed_1000 | ctrl_swdpin0 | ctrl_advd3wuc, 0x7bff'ffff,
     general},
    {CTRL_DUP, 4, rw, "CTRL_DUP", 0, 0, general},
    {STATUS, 4, rw, "STATUS", 0, 0, general},
    {EEC, 4, rw, "EEC", eec_ee_pres | eec_auto_rd | eec_size_256_words, 0x0030'00ff & ~eec_ee_gnt, general},
    {EERD, 4, rw, "EERD", eerd_done, 0, general},
    {CTRL_EXT, 4, rw, "CTRL_EXT", 0, ~(ctrl_ext_asdchk | ctrl_ext_ee_rst), general},
    {FLA, 4, rw, "FLA", 0, 0x3f, general},
    {MDIC, 4, rw, "MDIC", mdic_ready, 0, general},
    {FCAL, 4, rw, "FCAL", 0x00c2'8001, all, general},
    {FCAH, 4, rw, "FCAH", 0x0000'0100, 0xffff, general},
    {FCT, 4, rw, "FCT", 0x0000'8808, 0xffff, general},
    {VET, 4, rw, "VET", 0x0000'8100, 0xffff, general},
    {ICR, 4, rc, "ICR", 0, 0, interrupt},
    {ITR, 4, rw, "ITR", 0, 0xffff, interrupt},
    {ICS, 4, wo, "ICS", 0, 0, interrupt},
    {IMS, 4, rw, "IMS", 0, 0, interrupt},
    {IMC, 4, wo, "IMC", 0, 0, interrupt},
    {EIAC, 4, rw, "EIAC", 0, 0x01f0'0000, interrupt},
    {IAM, 4, rw, "IAM", 0, all, interrupt},
    {IVAR, 4, rw, "IVAR", 0, 0x800f'ffff, interrupt},
    {EITR, 4 * vector_count, rw, "EITR", 0, 0xffff, interrupt},
    {RCTL, 4, rw, "RCTL", 0, 0x7eff'fffe, receive},
    {FCTTV, 4, rw, "FCTTV", 0, 0xffff, general},
    {TCTL, 4, rw, "TCTL", 0, all, transmit},
    {TCTL_EXT, 4, rw, "TCTL_EXT", 0, all, transmit},
    {TIPG, 4, rw, "TIPG", 0x0060'2008, 0x3fff'ffff, transmit},
    {AIT, 4, rw, "AIT", 0, 0xffff, transmit},
    {LEDCTL, 4, rw, "LEDCTL", 0x0706'8302, all, general},
    {EXTCNF_CTRL, 4, rw, "EXTCNF_CTRL", 0, all, general},
    {EXTCNF_SIZE, 4, rw, "EXTCNF_SIZE", 0, all, general},
    {POEMB, 4, rw, "POEMB", 0x30d, 0xffff, general},
    {PBA, 4, rw, "PBA", 0x0014'0014, 0x003f'003f, general},
    {PBS, 4, rw, "PBS", 0x28, 0x3f, general},
    {EEMNGCTL, 4, rw, "EEMNGCTL", eemngctl_done | eemngctl_cfg_done, 0, general},
    {EEMNGDATA, 4, ro, "EEMNGDATA", 0, 0, general},
    {FLMNGCTL, 4, ro, "FLMNGCTL", 0, 0, general},
    {FLMNGDATA, 4, ro, "FLMNGDATA", 0, 0, general},
    {FLMNGCNT, 4, ro, "FLMNGCNT", 0, 0, general},
    {FLASHT, 4, rw, "FLASHT", 2, 0xff, general},
    {EEWR, 4, rw, "EEWR", eerd_done, 0, general},
    {FLSWCTL, 4, rw, "FLSWCTL", 3u << 30, 0x00ff'ffff, general},
    {FLSWDATA, 4, rw, "FLSWDATA", 0, all, general},
    {FLSWCNT, 4, rw, "FLSWCNT", 0, all, general},
    {FLOP, 4, rw, "FLOP", 1, 0xffff, general},
    {ERT, 4, rw, "ERT", 0, 0x3fff, receive},
    {FCRTL, 4, rw, "FCRTL", 0, 0x8000'fff8, receive},
    {FCRTH, 4, rw, "FCRTH", 0, 0xfff8, receive},
    {PSRCTL, 4, rw, "PSRCTL", 0x0004'0402, 0x3f3f'3f7f, receive},
    {RDFH, 4, rw, "RDFH", 0, 0x1fff, receive},
    {RDFT, 4, rw, "RDFT", 0, 0x1fff, receive},
    {RDFHS, 4, rw, "RDFHS", 0, 0x1fff, receive},
    {RDFTS, 4, rw, "RDFTS", 0, 0x1fff, receive},
    {RDFPC, 4, ro, "RDFPC", 0, 0, receive},
    {RDBAL, 4, rw, "RDBAL0", 0, ~u32{0xf}, receive},
    {RDBAH, 4, rw, "RDBAH0", 0, all, receive},
    {RDLEN, 4, rw, "RDLEN0", 0, 0x000f'ff80, receive},
    {RDH, 4, rw, "RDH0", 0, 0xffff, receive},
    {RDT, 4, rw, "RDT0", 0, 0xffff, receive},
    {RDTR, 4, rw, "RDTR", 0, 0xffff, receive},
    {RXDCTL, 4, rw, "RXDCTL0", 0x0001'0000, 0x017f'7f3f, receive},
    {RADV, 4, rw, "RADV", 0, 0xffff, receive},
    {RDBAL + ring_bytes, 4, rw, "RDBAL1", 0, ~u32{0xf}, receive},
    {RDBAH + ring_bytes, 4, rw, "RDBAH1", 0, all, receive},
    {RDLEN + ring_bytes, 4, rw, "RDLEN1", 0, 0x000f'ff80, receive},
    {RDH + ring_bytes, 4, rw, "RDH1", 0, 0xffff, receive},
    {RDT + ring_bytes, 4, rw, "RDT1", 0, 0xffff, receive},
    {RXDCTL + ring_bytes, 4, rw, "RXDCTL1", 0x0001'0000, 0x017f'7f3f, receive},
    {RSRPD, 4, rw, "RSRPD", 0, 0xfff, receive},
    {RAID, 4, rw, "RAID", 0, 0xffff, receive},
    {TDFH, 4, rw, "TDFH", 0x600, 0x1fff, transmit},
    {TDFT, 4, rw, "TDFT", 0x600, 0x1fff, transmit},
    {TDFHS, 4, rw, "TDFHS", 0x600, 0x1fff, transmit},
    {TDFTS, 4, rw, "TDFTS", 0x600, 0x1fff, transmit},
    {TDFPC, 4, ro, "TDFPC", 0, 0, transmit},
    {TDBAL, 4, rw, "TDBAL0", 0, ~u32{0xf}, transmit},
    {TDBAH, 4, rw, "TDBAH0", 0, all, transmit},
    {TDLEN, 4, rw, "TDLEN0", 0, 0x000f'ff80, transmit},
    {TDH, 4, rw, "TDH0", 0, 0xffff, transmit},
    {TDT, 4, rw, "TDT0", 0, 0xffff, transmit},
    {TIDV, 4, rw, "TIDV", 0, 0xffff, transmit},
    {TXDCTL, 4, rw, "TXDCTL0", 0, all, transmit},
    {TADV, 4, rw, "TADV", 0, 0xffff, transmit},
    {TARC, 4, rw, "TARC0", tarc_enable | 3, 0x7fff'ffff, transmit},
    {TDBAL + ring_bytes, 4, rw, "TDBAL1", 0, ~u32{0xf}, transmit},
    {TDBAH + ring_bytes, 4, rw, "TDBAH1", 0, all, transmit},
    {TDLEN + ring_bytes, 4, rw, "TDLEN1", 0, 0x000f'ff80, transmit},
    {TDH + ring_bytes, 4, rw, "TDH1", 0, 0xffff, transmit},
    {TDT + ring_bytes, 4, rw, "TDT1", 0, 0xffff, transmit},
    {TXDCTL + ring_bytes, 4, rw, "TXDCTL1", 0, all, transmit},
    {TARC + ring_bytes, 4, rw, "TARC1", tarc_enable | 3, 0x7fff'ffff, transmit},
    {CRCERRS, 4, rc, "CRCERRS", 0, 0, statistic},
    {ALGNERRC, 4, rc, "ALGNERRC", 0, 0, statistic},
    {0x4008, 4, rc, "SYMERRS", 0, 0, statistic},
    {RXERRC, 4, rc, "RXERRC", 0, 0, statistic},
    {MPC, 4, rc, "MPC", 0, 0, statistic},
    {0x4014, 4, rc, "SCC", 0, 0, statistic},
    {0x4018, 4, rc, "ECOL", 0, 0, statistic},
    {0x401c, 4, rc, "MCC", 0, 0, statistic},
    {0x4020, 4, rc, "LATECOL", 0, 0, statistic},
    {0x4028, 4, rc, "COLC", 0, 0, statistic},
    {0x4030, 4, rc, "DC", 0, 0, statistic},
    {0x4034, 4, rc, "TNCRS", 0, 0, statistic},
    {0x4038, 4, rc, "SEC", 0, 0, statistic},
    {0x403c, 4, rc, "CEXTERR", 0, 0, statistic},
    {0x4040, 4, rc, "RLEC", 0, 0, statistic},
    {0x4048, 4, rc, "XONRXC", 0, 0, statistic},
    {0x404c, 4, rc, "XONTXC", 0, 0, statistic},
    {0x4050, 4, rc, "XOFFRXC", 0, 0, statistic},
    {0x4054, 4, rc, "XOFFTXC", 0, 0, statistic},
    {0x4058, 4, rc, "FCRUC", 0, 0, statistic},
    {PRC64, 4, rc, "PRC64", 0, 0, statistic},
    {PRC64 + 4, 4, rc, "PRC127", 0, 0, statistic},
    {PRC64 + 8, 4, rc, "PRC255", 0, 0, statistic},
    {PRC64 + 12, 4, rc, "PRC511", 0, 0, statistic},
    {PRC64 + 16, 4, rc, "PRC1023", 0, 0, statistic},
    {PRC64 + 20, 4, rc, "PRC1522", 0, 0, statistic},
    {GPRC, 4, rc, "GPRC", 0, 0, statistic},
    {BPRC, 4, rc, "BPRC", 0, 0, statistic},
    {MPRC, 4, rc, "MPRC", 0, 0, statistic},
    {GPTC, 4, rc, "GPTC", 0, 0, statistic},
    {GORCL, 4, ro, "GORCL", 0, 0, statistic},
    {GORCL + 4, 4, rc, "GORCH", 0, 0, statistic},
    {GOTCL, 4, ro, "GOTCL", 0, 0, statistic},
    {GOTCL + 4, 4, rc, "GOTCH", 0, 0, statistic},
    {RNBC, 4, rc, "RNBC", 0, 0, statistic},
    {0x40a4, 4, rc, "RUC", 0, 0, statistic},
    {0x40a8, 4, rc, "RFC", 0, 0, statistic},
    {ROC, 4, rc, "ROC", 0, 0, statistic},
    {0x40b0, 4, rc, "RJC", 0, 0, statistic},
    {0x40b4, 4, rc, "MNGPRC", 0, 0, statistic},
    {0x40b8, 4, rc, "MNGPDC", 0, 0, statistic},
    {0x40bc, 4, rc, "MNGPTC", 0, 0, statistic},
    {TORL, 4, ro, "TORL", 0, 0, statistic},
    {TORL + 4, 4, rc, "TORH", 0, 0, statistic},
    {TOTL, 4, ro, "TOTL", 0, 0, statistic},
    {TOTL + 4, 4, rc, "TOTH", 0, 0, statistic},
    {TPR, 4, rc, "TPR", 0, 0, statistic},
    {TPT, 4, rc, "TPT", 0, 0, statistic},
    {PTC64, 4, rc, "PTC64", 0, 0, statistic},
    {PTC64 + 4, 4, rc, "PTC127", 0, 0, statistic},
    {PTC64 + 8, 4, rc, "PTC255", 0, 0, statistic},
    {PTC64 + 12, 4, rc, "PTC511", 0, 0, statistic},
    {PTC64 + 16, 4, rc, "PTC1023", 0, 0, statistic},
    {PTC64 + 20, 4, rc, "PTC1522", 0, 0, statistic},
    {MPTC, 4, rc, "MPTC", 0, 0, statistic},
    {BPTC, 4, rc, "BPTC", 0, 0, statistic},
    {TSCTC, 4, rc, "TSCTC", 0, 0, statistic},
    {TSCTFC, 4, rc, "TSCTFC", 0, 0, statistic},
    {IAC, 4, rc, "IAC", 0, 0, statistic},
    {ICRXPTC, 4, rc, "ICRXPTC", 0, 0, statistic},
    {ICRXATC, 4, rc, "ICRXATC", 0, 0, statistic},
    {ICTXPTC, 4, rc, "ICTXPTC", 0, 0, statistic},
    {ICTXATC, 4, rc, "ICTXATC", 0, 0, statistic},
    {ICTXQEC, 4, rc, "ICTXQEC", 0, 0, statistic},
    {ICTXQMTC, 4, rc, "ICTXQMTC", 0, 0, statistic},
    {ICRXDMTC, 4, rc, "ICRXDMTC", 0, 0, statistic},
    {ICRXOC, 4, rc, "ICRXOC", 0, 0, statistic},
    {RXCSUM, 4, rw, "RXCSUM", rxcsum_ipofld | rxcsum_tuofld, 0x3fff, receive},
    {RFCTL, 4, rw, "RFCTL", 0, all, receive},
    {MTA, 512, rw, "MTA", 0, all, receive},
    {RAL, 8 * receive_address_count, rw, "RAL, RAH", 0, all, receive},
    {VFTA, 512, rw, "VFTA", 0, all, receive},
    {WUC, 4, rw, "WUC", 0, 0xf, management},
    {WUFC, 4, rw, "WUFC", 0, all, management},
    {WUS, 4, w1c, "WUS", 0, 0, management},
    {MRQC, 4, rw, "MRQC", 0, 0x001f'0003, receive},
    {MANC, 4, rw, "MANC", 0, all, management},
    {MFUTP01, 4, rw, "MFUTP01", 0, all, management},
    {MFUTP23, 4, rw, "MFUTP23", 0, all, management},
    {IPAV, 4, rw, "IPAV", 0, 0x0001'000f, management},
    {IP4AT, 28, rw, "IP4AT", 0, all, management},
    {MANC2H, 4, rw, "MANC2H", 0, 0xff, management},
    {IP6AT, 16, rw, "IP6AT", 0, all, management},
    {MDEF, 32, rw, "MDEF", 0, all, management},
    {WUPL, 4, ro, "WUPL", 0, 0, management},
    {WUPM, 128, ro, "WUPM", 0, 0, management},
    {GCR, 4, rw, "GCR", 0x0024'0000, all, pcie},
    {GSCL_1, 4, rw, "GSCL_1", 0, all, pcie},
    {GSCL_2, 4, rw, "GSCL_2", 0, all, pcie},
    {GSCL_3, 4, rw, "GSCL_3", 0, all, pcie},
    {GSCL_4, 4, rw, "GSCL_4", 0, all, pcie},
    {FACTPS, 4, ro, "FACTPS", 0x2000'0004, 0, pcie},
    {SWSM, 4, rw, "SWSM", 0, 0xf, pcie},
    {FWSM, 4, ro, "FWSM", 0, 0, pcie},
    {SWSM2, 4, rw, "SWSM2", 0, all, pcie},
    {SW_FW_SYNC, 4, rw, "SW_FW_SYNC", 0, all, pcie},
    {GCR2, 4, rw, "GCR2", 0, all, pcie},
    {PBACLR, 4, rw, "PBACLR", 0, 0x1f, pcie},
    {RETA, 128, rw, "RETA", 0, 0x8080'8080, receive},
    {RSSRK, 40, rw, "RSSRK", 0, all, receive},
    {FFLT, 64, rw, "FFLT", 0, 0x7ff, management},
    {HICR, 4, rw, "HICR", 0, 0, management},
    {FFMT, 1024, rw, "FFMT", 0, 0xf, management},
    {FFVT, 1024, rw, "FFVT", 0, all, management},
    {SYSTIML, 4, rw, "SYSTIML", 0, 0, time_sync},
    {SYSTIMH, 4, rw, "SYSTIMH", 0, 0, time_sync},
    {TIMINCA, 4, rw, "TIMINCA", 0, all, time_sync},
    {TIMADJL, 4, rw, "TIMADJL", 0, all, time_sync},
    {TIMADJH, 4, rw, "TIMADJH", 0, all, time_sync},
    {TSYNCTXCTL, 4, rw, "TSYNCTXCTL", 0, 0x10, time_sync},
    {TXSTMPL, 4, ro, "TXSTMPL", 0, 0, time_sync},
    {TXSTMPH, 4, ro, "TXSTMPH", 0, 0, time_sync},
    {TSYNCRXCTL, 4, rw, "TSYNCRXCTL", 0, 0x1e, time_sync},
    {RXSTMPL, 4, ro, "RXSTMPL", 0, 0, time_sync},
    {RXSTMPH, 4, ro, "RXSTMPH", 0, 0, time_sync},
    {RXSATRL, 4, ro, "RXSATRL", 0, 0, time_sync},
    {RXSATRH, 4, ro, "RXSATRH", 0, 0, time_sync},
    {RXMTRL, 4, rw, "RXMTRL", 0x88f7, all, time_sync},
    {RXUDP, 4, rw, "RXUDP", 0x319, 0xffff, time_sync},
};
static_assert(std::is_sorted(std::begin(specs), std::end(specs),
                             [](const RegisterSpec& a, const RegisterSpec& b) {
                                 return a.offset < b.offset;
                             }));

// Addresses of registers in earlier controllers of the family, at which they are found as well (10.2.1.1).
struct Alias {
    u32 offset;
    u32 bytes;
    u32 of;
};
constexpr Alias aliases[] = {
    {0x040, 128, RAL}, {0x108, 4, RDTR},  {0x110, 8, RDBAL}, {0x118, 4, RDLEN}, {0x120, 4, RDH},
    {0x128, 4, RDT},   {0x160, 4, FCRTH}, {0x168, 4, FCRTL}, {0x200, 512, MTA}, {0x420, 8, TDBAL},
    {0x428, 4, TDLEN}, {0x430, 4, TDH},   {0x438, 4, TDT},   {0x440, 4, TIDV},  {0x600, 512, VFTA},
    {0x8000, 4, RDFH}, {0x8008, 4, RDFT}, {0x8010, 4, TDFH}, {0x8018, 4, TDFT},
};

constexpr u16 none = 0xffff;

// Where each dword of the address space is stored, and which register it belongs to.
struct Map {
    Map() {
        index.fill(none);
        spec.fill(none);
        for (std::size_t s = 0; s < std::size(specs); ++s) {
            for (u32 at = 0; at < specs[s].bytes; at += 4) {
                index[(specs[s].offset + at) / 4] = count++;
                spec[(specs[s].offset + at) / 4] = static_cast<u16>(s);
            }
            add(specs[s], specs[s].offset, specs[s].bytes, specs[s].name);
        }
        alias_names.reserve(std::size(aliases));  // the table points into it
        for (const Alias& alias : aliases) {
            const RegisterSpec& of = specs[spec[alias.of / 4]];
            alias_names.push_back(std::string(of.name) + " (alias)");
            add(of, alias.offset, alias.bytes, alias_names.back().c_str());
        }
        std::sort(table.begin(), table.end(),
                  [](const memory::Register& a, const memory::Register& b) { return a.offset < b.offset; });
    }
    void add(const RegisterSpec& of, u32 offset, u32 bytes, const char* name) {
        table.push_back({offset, bytes, of.access, name, of.reset, of.cite});
    }
    std::array<u16, register_bytes / 4> index;
    std::array<u16, register_bytes / 4> spec;
    std::vector<memory::Register> table;
    std::vector<std::string> alias_names;
    u16 count = 0;
};

const Map& map() {
    static const Map instance;
    return instance;
}

}  // namespace

RegisterFile::RegisterFile() : values_(map().count) {
    reset();
}

std::span<const memory::Register> RegisterFile::table() {
    return map().table;
}

const RegisterSpec* RegisterFile::find(u32& offset) {
    for (const Alias& alias : aliases) {
        if (offset >= alias.offset && offset - alias.offset < alias.bytes) {
            offset = alias.of + (offset - alias.offset);
            break;
        }
    }
    const u16 spec = map().spec[offset / 4];
    return spec == none ? nullptr : &specs[spec];
}

std::size_t RegisterFile::index_of(u32 offset) {
    return map().index[offset / 4];
}

void RegisterFile::reset() {
    for (const RegisterSpec& spec : specs) {
        for (u32 at = 0; at < spec.bytes; at += 4) (*this)[spec.offset + at] = spec.reset;
    }
}

void RegisterFile::visit_state(StateVisitor& v) {
    for (const RegisterSpec& spec : specs) {
        for (u32 at = 0; at < spec.bytes; at += 4) {
            const std::string number = spec.bytes == 4 ? "" : std::to_string(at / 4);
            v.field(spec.name + number, (*this)[spec.offset + at]);
        }
    }
}

}  // namespace wirt::devices::hardware::e1000e

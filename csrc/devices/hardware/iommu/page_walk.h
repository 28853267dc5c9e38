// Both stages of address translation: walks of page tables, with the atomic update of A and D.
//
// Implements: RISC-V Privileged Architecture, 12.3.2 (virtual address translation), 12.4 to 12.6 (Sv39, Sv48,
// Sv57), 21.5 (two-stage translation), Svnapot, Svpbmt, Svadu, as RISC-V IOMMU Architecture
// Specification 1.0, 3.1.3 and 3.3 apply them to devices.
//
// Untrusted input: every entry, its address, and harts that change an entry while it is looked at. An entry
// is read once; a walk is as long as the table has levels.
#pragma once

#include "devices/hardware/iommu/performance_monitor.h"
#include "devices/hardware/iommu/request.h"
#include "devices/hardware/iommu/table_memory.h"

namespace wirt::devices::hardware::iommu {

// One stage of one context.
struct PageTable {
    unsigned mode = mode_bare;  // iosatp.MODE or iohgatp.MODE
    u64 root_ppn = 0;
    bool big_endian = false;
    bool update_ad = false;  // SADE or GADE
};

// What is asked of the memory.
struct Access {
    bool read = false, write = false, execute = false;
    bool supervisor = false;
    bool sum = false;
    bool check = true;  // off for ATS translation requests, which are answered with the permissions there are
};

struct Leaf {
    u64 address = 0;  // translated
    u64 size = page_bytes;
    u64 reach = page_bytes;  // of the entry it comes from: more than `size` for NAPOT
    bool r = true, w = true, x = true, u = true, d = true;
    bool g = false;
    u8 pbmt = 0;
};

enum class WalkFault : u8 { none, page, guest_page, access };

class PageWalk {
  public:
    PageWalk(const TableMemory& memory, const IommuOptions& options, PerformanceMonitor& monitor)
        : memory_(memory), options_(options), monitor_(monitor) {}

    // The context of the next walks.
    PageTable first, second;
    bool sxl = false, gxl = false;
    EventIds ids;
    // A counter overflowed on the way.
    bool overflowed = false;

    // IOVA to guest physical address. On WalkFault::guest_page, `iotval2` says which access to a table
    // failed.
    WalkFault first_stage(u64 iova, const Access& access, Leaf& leaf, u64& iotval2);
    // Guest physical to physical address. `implicit`: an access to a first-stage entry.
    WalkFault second_stage(u64 address, const Access& access, bool implicit, Leaf& leaf);

    void count(Event event) { overflowed |= monitor_.count(event, ids); }

  private:
    struct Geometry {
        unsigned levels, index_bits, entry_bytes, address_bits;
    };
    enum class Kind : u8 { invalid, pointer, leaf };

    static Geometry geometry(unsigned mode, bool narrow, bool second_stage);
    Kind classify(u64 entry, unsigned level, const Geometry& shape) const;
    static bool finish_leaf(u64 entry, unsigned level, const Geometry& shape, u64 address, Leaf& leaf);

    const TableMemory& memory_;
    const IommuOptions& options_;
    PerformanceMonitor& monitor_;
};

}  // namespace wirt::devices::hardware::iommu

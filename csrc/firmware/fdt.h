// Flattened device trees: a writer for our own, and a check for one that the user supplies.
//
// Implements: Devicetree Specification 0.4, chapter 5 "Flattened Devicetree (DTB) Format", version 17.
//
// Untrusted input: all bytes given to check_dtb.
#pragma once

#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace wirt::firmware {

class FdtWriter {
  public:
    FdtWriter() = default;

    void begin_node(std::string_view name);  // the root's name is empty
    void end_node();

    void property(std::string_view name);  // empty: its presence is the value
    void property(std::string_view name, u32 value);
    void property(std::string_view name, u64 value);
    void property(std::string_view name, std::initializer_list<u32> cells);
    void property(std::string_view name, const std::vector<u32>& cells);
    void property(std::string_view name, std::string_view text);
    void property(std::string_view name, const char* text) { property(name, std::string_view(text)); }
    void property(std::string_view name, const std::vector<std::string>& texts);
    void property_bytes(std::string_view name, std::span<const u8> bytes);

    // A phandle that no other node has; `phandle_property` gives it to the open node.
    u32 new_phandle() { return next_phandle_++; }
    void phandle_property(u32 phandle) { property("phandle", phandle); }

    // An entry of the memory reservation block (5.3).
    void reserve(u64 address, u64 size);

    // The finished blob. Throws ConfigError when nodes are still open or there is no root.
    std::vector<u8> finish() const;

  private:
    void token(u32 value);
    u32 string_offset(std::string_view name);

    std::vector<u8> structure_;
    std::vector<u8> strings_;
    std::map<std::string, u32, std::less<>> string_offsets_;
    std::vector<u8> reservations_;
    unsigned depth_ = 0;
    bool has_root_ = false;
    u32 next_phandle_ = 1;
};

// Checks that `dtb` is a well-formed flattened device tree: header, block bounds, tokens, nesting and names.
// Returns its totalsize (the bytes behind it are not part of the tree). Throws ImageError with `name` and the
// reason.
std::size_t check_dtb(std::span<const u8> dtb, const std::string& name);

// A copy of a tree that check_dtb has passed, whose /chosen says what this start is about: `bootargs` unless
// it is empty, and the initrd in [initrd_start, initrd_end) unless that is empty. The rest stays as it is.
std::vector<u8> with_chosen(std::span<const u8> checked_dtb, std::string_view bootargs, u64 initrd_start,
                            u64 initrd_end);

}  // namespace wirt::firmware

#include "firmware/fdt.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::firmware {

namespace {

// Section 5.2 "Header" and 5.4 "Structure Block".
constexpr u32 FDT_MAGIC = 0xd00dfeed;
constexpr u32 FDT_BEGIN_NODE = 1, FDT_END_NODE = 2, FDT_PROP = 3, FDT_NOP = 4, FDT_END = 9;
constexpr u32 version = 17, last_compatible_version = 16;
constexpr std::size_t header_size = 40;
constexpr std::size_t reservation_size = 16;
// Far above any real tree; a reader in the guest that recurses is spared more.
constexpr unsigned depth_limit = 64;

void append_be32(std::vector<u8>& out, u32 value) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<u8>(value >> shift));
}

void append_be64(std::vector<u8>& out, u64 value) {
    append_be32(out, static_cast<u32>(value >> 32));
    append_be32(out, static_cast<u32>(value));
}

void pad_to(std::vector<u8>& out, std::size_t alignment) {
    out.resize(align_up(out.size(), alignment));
}

u32 load_be32(std::span<const u8> from, std::size_t offset) {
    return __builtin_bswap32(load_le<u32>(from.data() + offset));
}

u64 load_be64(std::span<const u8> from, std::size_t offset) {
    return __builtin_bswap64(load_le<u64>(from.data() + offset));
}

}  // namespace

void FdtWriter::token(u32 value) {
    append_be32(structure_, value);
}

u32 FdtWriter::string_offset(std::string_view name) {
    if (const auto known = string_offsets_.find(name); known != string_offsets_.end()) return known->second;
    const u32 offset = static_cast<u32>(strings_.size());
    strings_.insert(strings_.end(), name.begin(), name.end());
    strings_.push_back(0);
    string_offsets_.emplace(name, offset);
    return offset;
}

void FdtWriter::begin_node(std::string_view name) {
    if (depth_ == 0 && (has_root_ || !name.empty())) {
        throw ConfigError("a device tree has one root node, and its name is empty");
    }
    has_root_ = true;
    ++depth_;
    token(FDT_BEGIN_NODE);
    structure_.insert(structure_.end(), name.begin(), name.end());
    structure_.push_back(0);
    pad_to(structure_, 4);
}

void FdtWriter::end_node() {
    if (depth_ == 0) throw ConfigError("device tree: end_node() without an open node");
    --depth_;
    token(FDT_END_NODE);
}

void FdtWriter::property_bytes(std::string_view name, std::span<const u8> bytes) {
    if (depth_ == 0) throw ConfigError("device tree: property " + std::string(name) + " outside a node");
    token(FDT_PROP);
    token(static_cast<u32>(bytes.size()));
    token(string_offset(name));
    structure_.insert(structure_.end(), bytes.begin(), bytes.end());
    pad_to(structure_, 4);
}

void FdtWriter::property(std::string_view name) {
    property_bytes(name, {});
}

void FdtWriter::property(std::string_view name, u32 value) {
    property(name, {value});
}

void FdtWriter::property(std::string_view name, u64 value) {
    property(name, {static_cast<u32>(value >> 32), static_cast<u32>(value)});
}

void FdtWriter::property(std::string_view name, std::initializer_list<u32> cells) {
    property(name, std::vector<u32>(cells));
}

void FdtWriter::property(std::string_view name, const std::vector<u32>& cells) {
    std::vector<u8> bytes;
    for (const u32 cell : cells) append_be32(bytes, cell);
    property_bytes(name, bytes);
}

void FdtWriter::property(std::string_view name, std::string_view text) {
    std::vector<u8> bytes(text.begin(), text.end());
    bytes.push_back(0);
    property_bytes(name, bytes);
}

void FdtWriter::property(std::string_view name, const std::vector<std::string>& texts) {
    std::vector<u8> bytes;
    for (const std::string& text : texts) {
        bytes.insert(bytes.end(), text.begin(), text.end());
        bytes.push_back(0);
    }
    property_bytes(name, bytes);
}

void FdtWriter::reserve(u64 address, u64 size) {
    append_be64(reservations_, address);
    append_be64(reservations_, size);
}

std::vector<u8> FdtWriter::finish() const {
    if (!has_root_ || depth_ != 0)
        throw ConfigError("device tree: finished without a root or with open nodes");

    const std::size_t reservations_offset = header_size;
    const std::size_t structure_offset = reservations_offset + reservations_.size() + reservation_size;
    const std::size_t structure_size = structure_.size() + 4;  // with FDT_END
    const std::size_t strings_offset = structure_offset + structure_size;
    const std::size_t total_size = align_up(strings_offset + strings_.size(), 8);

    std::vector<u8> dtb;
    dtb.reserve(total_size);
    for (const std::size_t field :
         {std::size_t{FDT_MAGIC}, total_size, structure_offset, strings_offset, reservations_offset,
          std::size_t{version}, std::size_t{last_compatible_version}, std::size_t{0} /* boot_cpuid_phys */,
          strings_.size(), structure_size}) {
        append_be32(dtb, static_cast<u32>(field));
    }
    dtb.insert(dtb.end(), reservations_.begin(), reservations_.end());
    dtb.resize(structure_offset);  // 5.3: the list ends with an entry of zeroes
    dtb.insert(dtb.end(), structure_.begin(), structure_.end());
    append_be32(dtb, FDT_END);
    dtb.insert(dtb.end(), strings_.begin(), strings_.end());
    dtb.resize(total_size);
    return dtb;
}

namespace {

// Walks a foreign blob. Every offset is checked against the block it points into before it is used.
class DtbChecker {
  public:
    DtbChecker(std::span<const u8> dtb, const std::string& name) : dtb_(dtb), name_(name) {}

    std::size_t check() {
        check_header();
        check_reservations();
        check_structure();
        return total_size_;
    }

  private:
    [[noreturn]] void fail(const std::string& reason) const {
        throw ImageError(name_ + ": not a usable device tree blob: " + reason);
    }

    void check_header() {
        if (dtb_.size() < header_size) fail("shorter than the 40-byte header");
        if (load_be32(dtb_, 0) != FDT_MAGIC) {
            fail("magic 0xd00dfeed is missing (a .dts source must be compiled with dtc first)");
        }
        total_size_ = load_be32(dtb_, 4);
        if (total_size_ < header_size) fail("totalsize is smaller than the header");
        if (total_size_ > dtb_.size()) {
            fail("truncated: totalsize says " + std::to_string(total_size_) + " bytes, the file has " +
                 std::to_string(dtb_.size()));
        }
        dtb_ = dtb_.first(total_size_);
        if (load_be32(dtb_, 20) < version || load_be32(dtb_, 24) > version) {
            fail("version " + std::to_string(load_be32(dtb_, 20)) + " is not compatible with version 17");
        }
        structure_ = block("structure block", load_be32(dtb_, 8), load_be32(dtb_, 36), 4);
        strings_ = block("strings block", load_be32(dtb_, 12), load_be32(dtb_, 32), 1);
    }

    std::span<const u8> block(const char* what, std::size_t offset, std::size_t size, std::size_t alignment) {
        if (offset < header_size || !range_inside(offset, size, 0, total_size_)) {
            fail(std::string(what) + " lies outside the blob");
        }
        if (offset % alignment != 0) fail(std::string(what) + " is misaligned");
        return dtb_.subspan(offset, size);
    }

    void check_reservations() {
        std::size_t offset = load_be32(dtb_, 16);
        if (offset % 8 != 0) fail("memory reservation block is misaligned");
        while (true) {
            if (offset < header_size || !range_inside(offset, reservation_size, 0, total_size_)) {
                fail("memory reservation block does not end inside the blob");
            }
            if (load_be64(dtb_, offset) == 0 && load_be64(dtb_, offset + 8) == 0) return;
            offset += reservation_size;
        }
    }

    u32 next_cell() {
        if (structure_.size() - at_ < 4) fail("structure block ends without FDT_END");
        const u32 value = load_be32(structure_, at_);
        at_ += 4;
        return value;
    }

    void check_structure() {
        unsigned depth = 0;
        bool root_seen = false;
        bool properties_allowed = false;  // 5.4.2: properties come before a node's children
        while (true) {
            switch (const u32 token = next_cell()) {
                case FDT_BEGIN_NODE:
                    if (depth == 0 && root_seen) fail("more than one root node");
                    if (++depth > depth_limit) fail("nodes are nested too deep");
                    check_node_name(!root_seen);
                    root_seen = properties_allowed = true;
                    break;
                case FDT_END_NODE:
                    if (depth == 0) fail("FDT_END_NODE without a node");
                    --depth;
                    properties_allowed = false;
                    break;
                case FDT_PROP:
                    if (depth == 0) fail("property outside a node");
                    if (!properties_allowed) fail("property behind a child node");
                    check_property();
                    break;
                case FDT_NOP:
                    break;
                case FDT_END:
                    if (depth != 0) fail("FDT_END inside a node");
                    if (!root_seen) fail("no root node");
                    return;
                default:
                    fail("unknown token " + std::to_string(token) + " in the structure block");
            }
        }
    }

    void check_node_name(bool is_root) {
        const auto rest = structure_.subspan(at_);
        const void* end = std::memchr(rest.data(), 0, rest.size());
        if (end == nullptr) fail("a node's name is not terminated");
        const auto length = static_cast<std::size_t>(static_cast<const u8*>(end) - rest.data());
        if (is_root && length != 0) fail("the root node has a name");
        if (!is_root && length == 0) fail("a node has no name");
        advance(length + 1);
    }

    void check_property() {
        const u32 length = next_cell();
        const u32 name_offset = next_cell();
        if (name_offset >= strings_.size()) fail("a property's name lies outside the strings block");
        const auto rest = strings_.subspan(name_offset);
        if (std::memchr(rest.data(), 0, rest.size()) == nullptr) fail("a property's name is not terminated");
        if (length > structure_.size() - at_) fail("a property's value runs out of the structure block");
        advance(length);
    }

    // To the next 4-byte boundary; a blob that ends before it fails at the next token.
    void advance(std::size_t length) { at_ = std::min(align_up(at_ + length, 4), structure_.size()); }

    std::span<const u8> dtb_;
    const std::string& name_;
    std::size_t total_size_ = 0;
    std::span<const u8> structure_;
    std::span<const u8> strings_;
    std::size_t at_ = 0;
};

}  // namespace

std::size_t check_dtb(std::span<const u8> dtb, const std::string& name) {
    return DtbChecker(dtb, name).check();
}

namespace {

// Copies a well-formed tree token by token and replaces what /chosen says about the start.
class ChosenEditor {
  public:
    ChosenEditor(std::span<const u8> dtb, std::string_view bootargs, u64 initrd_start, u64 initrd_end)
        : dtb_(dtb), bootargs_(bootargs), initrd_start_(initrd_start), initrd_end_(initrd_end) {}

    std::vector<u8> edit() {
        for (std::size_t at = load_be32(dtb_, 16);; at += reservation_size) {
            const u64 address = load_be64(dtb_, at), size = load_be64(dtb_, at + 8);
            if (address == 0 && size == 0) break;
            tree_.reserve(address, size);
        }
        at_ = load_be32(dtb_, 8);
        while (true) {
            switch (next_cell()) {
                case FDT_BEGIN_NODE:
                    begin_node();
                    break;
                case FDT_END_NODE:
                    end_node();
                    break;
                case FDT_PROP:
                    property();
                    break;
                case FDT_END:
                    return tree_.finish();
            }
        }
    }

  private:
    u32 next_cell() {
        at_ += 4;
        return load_be32(dtb_, at_ - 4);
    }

    std::string_view text_at(std::size_t offset) const {
        return reinterpret_cast<const char*>(dtb_.data() + offset);
    }

    void begin_node() {
        const std::string_view name = text_at(at_);
        at_ = align_up(at_ + name.size() + 1, 4);
        tree_.begin_node(name);
        ++depth_;
        if (depth_ == 2 && name == "chosen") {
            in_chosen_ = chosen_seen_ = true;
            write_chosen();
        }
    }

    void end_node() {
        if (depth_ == 1 && !chosen_seen_) {
            tree_.begin_node("chosen");
            write_chosen();
            tree_.end_node();
        }
        if (depth_ == 2) in_chosen_ = false;
        --depth_;
        tree_.end_node();
    }

    void property() {
        const u32 length = next_cell();
        const std::string_view name = text_at(load_be32(dtb_, 12) + next_cell());
        const auto value = dtb_.subspan(at_, length);
        at_ = align_up(at_ + length, 4);
        const bool replaced = in_chosen_ && depth_ == 2 &&
                              ((has_bootargs() && name == "bootargs") ||
                               (has_initrd() && (name == initrd_start_name || name == initrd_end_name)));
        if (!replaced) tree_.property_bytes(name, value);
    }

    void write_chosen() {
        if (has_bootargs()) tree_.property("bootargs", bootargs_);
        if (!has_initrd()) return;
        tree_.property(initrd_start_name, initrd_start_);
        tree_.property(initrd_end_name, initrd_end_);
    }

    bool has_bootargs() const { return !bootargs_.empty(); }
    bool has_initrd() const { return initrd_end_ > initrd_start_; }

    static constexpr std::string_view initrd_start_name = "linux,initrd-start";
    static constexpr std::string_view initrd_end_name = "linux,initrd-end";

    const std::span<const u8> dtb_;
    const std::string_view bootargs_;
    const u64 initrd_start_, initrd_end_;
    FdtWriter tree_;
    std::size_t at_ = 0;
    unsigned depth_ = 0;
    bool in_chosen_ = false;
    bool chosen_seen_ = false;
};

}  // namespace

std::vector<u8> with_chosen(std::span<const u8> checked_dtb, std::string_view bootargs, u64 initrd_start,
                            u64 initrd_end) {
    return ChosenEditor(checked_dtb, bootargs, initrd_start, initrd_end).edit();
}

}  // namespace wirt::firmware

#include "state/state_hash.h"

#include <cstdio>
#include <cstring>

namespace wirt::state {

void HashVisitor::mix(u64 word) {
    // Two lanes of multiply-and-fold with different odd constants.
    const u128 a = static_cast<u128>(low_ ^ word) * 0x9e3779b97f4a7c15u;
    const u128 b = static_cast<u128>(high_ + word) * 0xd6e8feb86659fd93u;
    low_ = static_cast<u64>(a) ^ static_cast<u64>(a >> 64) ^ high_;
    high_ = static_cast<u64>(b) ^ static_cast<u64>(b >> 64) ^ (low_ << 1 | low_ >> 63);
}

void HashVisitor::mix(const void* data, std::size_t size) {
    const u8* from = static_cast<const u8*>(data);
    mix(size);
    while (size > 0) {
        u64 word = 0;
        const std::size_t part = size < 8 ? size : 8;
        std::memcpy(&word, from, part);
        mix(word);
        from += part;
        size -= part;
    }
}

void HashVisitor::section(std::string_view name, u32 version) {
    mix(name.data(), name.size());
    mix(version);
}

void HashVisitor::integer(std::string_view name, u64& value, unsigned) {
    mix(name.data(), name.size());
    mix(value);
}

void HashVisitor::bytes(std::string_view name, void* data, std::size_t size) {
    mix(name.data(), name.size());
    mix(data, size);
}

void HashVisitor::blob(std::string_view name, std::vector<u8>& data, std::size_t) {
    mix(name.data(), name.size());
    mix(data.data(), data.size());
}

std::string HashVisitor::hex() const {
    char text[40];
    std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(high_),
                  static_cast<unsigned long long>(low_));
    return text;
}

void InspectVisitor::section(std::string_view name, u32) {
    section_ = name;
}

void InspectVisitor::integer(std::string_view name, u64& value, unsigned) {
    fields.emplace_back(section_ + "." + std::string(name), value);
}

}  // namespace wirt::state

// Visitors that look: a digest of all state, and a flat list of its integer fields.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/state_visitor.h"

namespace wirt::state {

// 128 bits over section names, versions, field names and values. Made to tell states apart, not to withstand
// someone who looks for a collision.
class HashVisitor final : public StateVisitor {
  public:
    void section(std::string_view name, u32 version) override;
    void blob(std::string_view name, std::vector<u8>& data, std::size_t limit) override;
    std::string hex() const;

  protected:
    void integer(std::string_view name, u64& value, unsigned width_bytes) override;
    void bytes(std::string_view name, void* data, std::size_t size) override;

  private:
    void mix(u64 word);
    void mix(const void* data, std::size_t size);

    u64 low_ = 0x243f6a8885a308d3;
    u64 high_ = 0x13198a2e03707344;
};

class InspectVisitor final : public StateVisitor {
  public:
    void section(std::string_view name, u32 version) override;
    void blob(std::string_view, std::vector<u8>&, std::size_t) override {}
    std::vector<std::pair<std::string, u64>> fields;

  protected:
    void integer(std::string_view name, u64& value, unsigned width_bytes) override;
    void bytes(std::string_view, void*, std::size_t) override {}

  private:
    std::string section_;
};

}  // namespace wirt::state

// The one way in which state leaves or enters a part: snapshot, restore, fork, migration, the state hash
// and the inspector all implement StateVisitor, and every part with state names each field once in its
// `visit_state(StateVisitor&)`.
//
//   void Rtc::visit_state(StateVisitor& v) {
//       v.section("goldfish-rtc", 1);
//       v.field("alarm", alarm_);
//   }
//
// A visitor that loads writes into the references; one that saves or hashes only reads them. A part whose
// fields depend on each other validates in its own `visit_state` after the fields, when `v.loading()`.
#pragma once

#include <array>
#include <atomic>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/types.h"

namespace wirt {

class StateVisitor {
  public:
    virtual ~StateVisitor() = default;

    // Opens a section; it lasts until the next call. `version` is what this release writes.
    virtual void section(std::string_view name, u32 version) = 0;
    virtual bool loading() const { return false; }
    // Loading: nothing came from outside while this was saved, so whoever had to be told of it was, and that
    // is in the state as well.
    virtual bool quiet() const { return false; }

    template <typename T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>) void field(std::string_view name, T& value) {
        u64 wide;
        if constexpr (std::is_same_v<T, bool>) {
            wide = value;
        } else if constexpr (std::is_enum_v<T>) {
            wide = static_cast<u64>(static_cast<std::underlying_type_t<T>>(value));
        } else {
            wide = static_cast<std::make_unsigned_t<T>>(value);
        }
        integer(name, wide, sizeof(T));
        if (loading()) value = static_cast<T>(wide);
    }

    template <typename T>
    void field(std::string_view name, std::atomic<T>& value) {
        T plain = value.load();
        field(name, plain);
        if (loading()) value.store(plain);
    }

    template <typename T, std::size_t N>
    requires std::is_integral_v<T>
    void field(std::string_view name, std::array<T, N>& values) { bytes(name, values.data(), sizeof values); }

    template <typename T, std::size_t N>
    requires std::is_integral_v<T>
    void field(std::string_view name, T (&values)[N]) { bytes(name, values, sizeof values); }

    // Bytes whose number the machine's configuration fixes.
    void field(std::string_view name, std::span<u8> values) { bytes(name, values.data(), values.size()); }

    // Variable-length bytes; on loading the vector is resized to what was stored, at most `limit`.
    virtual void blob(std::string_view name, std::vector<u8>& data, std::size_t limit) = 0;

  protected:
    virtual void integer(std::string_view name, u64& value, unsigned width_bytes) = 0;
    virtual void bytes(std::string_view name, void* data, std::size_t size) = 0;
};

}  // namespace wirt

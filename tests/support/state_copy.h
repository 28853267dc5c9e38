// A saved state that a test holds in its hand: loaded into another part of the same kind, compared, forged.
#pragma once

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/bits.h"
#include "base/error.h"
#include "base/state_visitor.h"

namespace wirt {

class StateCopy {
  public:
    template <typename Part>
    static StateCopy of(Part& part) {
        StateCopy copy;
        Visitor visitor(copy, false);
        part.visit_state(visitor);
        return copy;
    }
    // Throws what the part throws, and Error when it asks for more than was saved.
    template <typename Part>
    void load_into(Part& part) {
        Visitor visitor(*this, true);
        part.visit_state(visitor);
    }

    bool operator==(const StateCopy& other) const { return fields_ == other.fields_; }
    // The value of an integer, by "section.field".
    u64 get(const std::string& name) const { return load_le<u64>(find(name).data()); }
    void set(const std::string& name, u64 value) { store_le<u64>(find(name).data(), value); }
    std::vector<u8>& bytes(const std::string& name) { return find(name); }
    std::size_t size() const {
        std::size_t total = 0;
        for (const auto& [name, content] : fields_) total += content.size();
        return total;
    }

  private:
    class Visitor final : public StateVisitor {
      public:
        Visitor(StateCopy& copy, bool loading) : copy_(copy), loading_(loading) {}
        bool loading() const override { return loading_; }
        void section(std::string_view name, u32) override { section_ = name; }
        void blob(std::string_view name, std::vector<u8>& data, std::size_t limit) override {
            if (!loading_) return add(name, data);
            data = next();
            if (data.size() > limit) throw Error("a blob is longer than there may be");
        }

      private:
        void integer(std::string_view name, u64& value, unsigned) override {
            if (loading_) {
                value = load_le<u64>(next().data());
                return;
            }
            std::vector<u8> content(8);
            store_le<u64>(content.data(), value);
            add(name, std::move(content));
        }
        void bytes(std::string_view name, void* data, std::size_t size) override {
            u8* const from = static_cast<u8*>(data);
            if (!loading_) return add(name, {from, from + size});
            std::memcpy(data, next().data(), size);
        }
        void add(std::string_view name, std::vector<u8> content) {
            copy_.fields_.emplace_back(section_ + "." + std::string(name), std::move(content));
        }
        const std::vector<u8>& next() {
            if (at_ == copy_.fields_.size()) throw Error("the saved state ends early");
            return copy_.fields_[at_++].second;
        }

        StateCopy& copy_;
        const bool loading_;
        std::string section_;
        std::size_t at_ = 0;
    };

    std::vector<u8>& find(const std::string& name) {
        for (auto& [key, content] : fields_) {
            if (key == name) return content;
        }
        throw Error("nothing was saved as " + name);
    }
    const std::vector<u8>& find(const std::string& name) const {
        return const_cast<StateCopy*>(this)->find(name);
    }

    std::vector<std::pair<std::string, std::vector<u8>>> fields_;
};

}  // namespace wirt

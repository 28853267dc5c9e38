// State as bytes: the visitor that writes them, the one that loads them, and a list of what is in them.
//
// Records follow each other in the order of the visit; numbers are little-endian:
//
//   section  01 length:u8 name version:u32       lasts until the next section
//   integer  02 length:u8 name width:u8 value    `width` bytes, 1 to 8
//   bytes    03 length:u8 name size:u32 data     a fixed number of bytes
//   blob     04 length:u8 name size:u32 data     any number of bytes
//   end      00                                  nothing follows
//
// A reader takes sections of its own version and of older ones: a field that an older version did not have
// keeps the value that it has after a reset, and one that is gone since is passed over.
//
// Untrusted input: all of it. Every length is checked before it is used, and nothing is allocated that is
// larger than the input or the field's own limit. Values are the parts' to check.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/state_visitor.h"

namespace wirt::state {

class SaveVisitor final : public StateVisitor {
  public:
    void section(std::string_view name, u32 version) override;
    void blob(std::string_view name, std::vector<u8>& data, std::size_t limit) override;
    // All that was visited; the visitor is empty then.
    std::vector<u8> finish();

  protected:
    void integer(std::string_view name, u64& value, unsigned width_bytes) override;
    void bytes(std::string_view name, void* data, std::size_t size) override;

  private:
    void name(u8 tag, std::string_view text);
    void number(u64 value, unsigned width);

    std::vector<u8> out_;
};

// A record of state in bytes.
struct Record {
    enum class Kind : u8 { end = 0, section = 1, integer = 2, bytes = 3, blob = 4 };
    Kind kind = Kind::end;
    std::string_view name;
    u64 value = 0;             // of an integer; of a section its version
    unsigned width = 0;        // of an integer, bytes
    std::span<const u8> data;  // of bytes and blobs
};

// The records of state in bytes, one after the other. Throws SnapshotError where they are broken.
class RecordReader {
  public:
    explicit RecordReader(std::span<const u8> state) : left_(state) {}
    Record next();
    // Bytes that are still to be read.
    u64 left() const { return left_.size(); }

  private:
    std::span<const u8> take(u64 size);
    u64 number(unsigned width);

    std::span<const u8> left_;
};

// Throws SnapshotError with the section and the field where what is visited does not fit what is stored. The
// parts that were visited are then in a state that nobody should use.
class LoadVisitor final : public StateVisitor {
  public:
    explicit LoadVisitor(std::span<const u8> state, bool quiet = false)
        : reader_(state), next_(reader_.next()), quiet_(quiet) {}
    bool loading() const override { return true; }
    bool quiet() const override { return quiet_; }
    void section(std::string_view name, u32 version) override;
    void blob(std::string_view name, std::vector<u8>& data, std::size_t limit) override;
    // After the last part: all was used.
    void finish();

  protected:
    void integer(std::string_view name, u64& value, unsigned width_bytes) override;
    void bytes(std::string_view name, void* data, std::size_t size) override;

  private:
    // Whether the next record is the field; if not, it is one that the stored version did not have.
    bool arrive(Record::Kind kind, std::string_view name);
    void leave_section();
    [[noreturn]] void refuse(std::string_view name, const std::string& why) const;
    void advance() { next_ = reader_.next(); }

    RecordReader reader_;
    Record next_;
    std::string section_;
    const bool quiet_;
    bool older_ = false;  // the section was stored in a version before this release's
};

}  // namespace wirt::state

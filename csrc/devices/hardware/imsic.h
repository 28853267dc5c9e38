// Incoming message-signalled interrupt controllers, `riscv,imsics`: the interrupt files of all harts at one
// privilege level.
//
// Implements: RISC-V Advanced Interrupt Architecture 1.0, chapter 3: each hart's file of the level, and at
// supervisor level its guest interrupt files behind it, 255 identities each, one page a file; eidelivery
// 0x4000_0000, by which an APLIC delivers in the file's stead.
//
// Untrusted input: the address and data of every message, and what harts write through their CSRs.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/interrupt.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class Imsic final : public memory::MmioDevice, public MessageSink, public InterruptSink {
  public:
    static constexpr unsigned identities = 255;
    static constexpr unsigned most_guest_files = 63;  // a hart's: GEILEN of RV64

    // For `outputs.size()` harts, at physical address `base`. `guest_outputs`: of all guest interrupt files,
    // those of a hart together; as many for each. A hart without the hypervisor extension hears nothing of
    // its own.
    Imsic(std::string name, u64 base, std::vector<InterruptLine> outputs,
          std::vector<InterruptLine> guest_outputs = {});

    // 3.6: a hart's pages are a power of two apart, and so are all of them together.
    unsigned guest_index_bits() const { return guest_index_bits_; }
    unsigned guest_files() const { return files_per_hart_ - 1; }
    u64 region_size() const;

    // `guest` 0 is the hart's file of this level itself.
    InterruptFile& file(unsigned hart, unsigned guest = 0);

    // MessageSink: takes no lock but the file's own, so that messages to different harts never meet.
    bool send_message(u64 address, u32 data) override;
    // InterruptSink: the wire of an APLIC to hart `source`.
    void set_level(unsigned source, bool level) override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return registers_; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    class File final : public InterruptFile {
      public:
        File(InterruptLine output, bool guest) : output_(output), guest_(guest) {}
        bool modify(u32 select, u64 mask, u64 value, u64& old) override;
        u32 top(bool claim) override;
        void receive(u32 identity);
        void set_wire(bool level);
        void reset();
        void visit_state(StateVisitor& v, const std::string& prefix);

      private:
        static constexpr unsigned word_count = (identities + 1) / 64;
        using IdentitySet = std::array<u64, word_count>;

        bool legal_delivery(u64 value) const;
        u32 best() const;
        void update();

        std::mutex mutex_;
        const InterruptLine output_;
        const bool guest_;
        u32 eidelivery_ = 0;
        u32 eithreshold_ = 0;
        IdentitySet pending_{};  // eip
        IdentitySet enabled_{};  // eie
        bool wire_ = false;
        bool asserted_ = false;
    };

    File* file_at(u64 offset) const;

    const std::string name_;
    const u64 base_;
    const unsigned harts_;
    const unsigned files_per_hart_;
    const unsigned guest_index_bits_;
    std::vector<std::unique_ptr<File>> files_;  // a hart's together
    std::vector<std::string> register_names_;
    std::vector<memory::Register> registers_;
};

}  // namespace wirt::devices::hardware

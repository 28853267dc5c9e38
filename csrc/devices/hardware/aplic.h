// The Advanced Platform-Level Interrupt Controller, `riscv,aplic`: one interrupt domain of it.
//
// Implements: RISC-V Advanced Interrupt Architecture 1.0, chapter 4, with sources 1 to 96 as on the `virt`
// board, eight-bit priorities (IPRIOLEN = 8) and little-endian registers. The wires arrive at the root
// domain, which is at machine level; each domain passes the sources it delegates on to its child. Hart index
// numbers are hart numbers in all domains.
//
// A domain delivers by wire when it was given outputs, by MSI when it was given somewhere to send messages,
// and lets domaincfg.DM choose when it has both.
//
// Untrusted input: every register write, its offset and its size; the address of a message is computed from
// registers that machine-level software wrote, and reaches interrupt files only.
#pragma once

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "base/interrupt.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class Aplic final : public memory::MmioDevice, public InterruptSink {
  public:
    static constexpr u64 region_size = 0x8000;
    static constexpr unsigned last_source = 96;

    enum class Level : u8 { machine, supervisor };

    struct Delivery {
        std::vector<InterruptLine> outputs;  // one a hart: direct delivery
        MessageSink* messages = nullptr;     // MSI delivery
        unsigned guest_files = 0;            // a hart's: what target.Guest Index may name
    };

    Aplic(std::string name, Level level, Delivery delivery);

    // Makes this the root of a hierarchy of two, before anything else happens. The child must outlive this.
    void adopt(Aplic& child);

    // InterruptSink: a device's line at the root domain. Sources that do not exist are ignored.
    void set_level(unsigned source, bool level) override;

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return registers_; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    static constexpr unsigned source_count = last_source + 1;  // including source 0, which does not exist
    static constexpr unsigned word_count = (source_count + 31) / 32;
    using SourceSet = std::array<u32, word_count>;

    // Interrupt delivery control (4.8.1).
    struct Idc {
        InterruptLine output;
        u32 idelivery = 0, iforce = 0, ithreshold = 0;
        bool asserted = false;
    };

    void build_registers();
    bool has_msi_registers() const { return level_ == Level::machine && messages_ != nullptr; }
    u32 read_word(u32 offset);
    void write_word(u32 offset, u32 value);
    u32 read_idc(u32 offset);
    void write_idc(u32 offset, u32 value);
    void write_domaincfg(u32 value);
    void write_sourcecfg(unsigned source, u32 value);
    void write_msiaddrcfg(unsigned index, u32 value);
    void write_genmsi(u32 value);
    u32 legal_target(u32 value) const;

    bool level_sensitive(unsigned source) const;
    bool rectified(unsigned source) const;
    u32 rectified_word(unsigned word) const;
    void set_pending(unsigned source);
    void clear_pending(unsigned source);
    template <typename Fn>
    void for_each_active(unsigned word, u32 mask, Fn&& fn);

    // What the parent domain tells: with this domain's mutex held.
    void set_delegated(unsigned source, bool delegated, bool level);
    void take_wire(unsigned source, bool level);
    void make_inactive(unsigned source);

    u32 topi(const Idc& idc) const;
    u32 claim(Idc& idc);
    void deliver();
    bool signals(const Idc& idc) const;
    void drive_outputs();
    u64 message_address(u32 target) const;

    const std::string name_;
    const Level level_;
    MessageSink* const messages_;
    const u32 guest_index_mask_;
    std::vector<Idc> idcs_;  // by hart index
    std::vector<std::string> register_names_;
    std::vector<memory::Register> registers_;
    Aplic* child_ = nullptr;
    const Aplic* root_ = this;

    bool interrupt_enable_ = false;  // domaincfg.IE
    bool msi_mode_ = false;          // domaincfg.DM
    u32 genmsi_ = 0;
    // mmsiaddrcfg, mmsiaddrcfgh, smsiaddrcfg, smsiaddrcfgh. A child reads its root's, without the root's
    // mutex.
    std::array<std::atomic<u32>, 4> msiaddrcfg_{};

    SourceSet implemented_{};  // as this domain sees it: the child has what is delegated to it
    SourceSet wire_{};
    SourceSet active_{};  // neither delegated nor Inactive
    SourceSet pending_{};
    SourceSet enabled_{};
    std::array<u32, source_count> sourcecfg_{};
    std::array<u32, source_count> target_{};
};

}  // namespace wirt::devices::hardware

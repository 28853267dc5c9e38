// Fuzzes what a board has beside its buses: the PLIC, both domains of an APLIC with their IMSIC, the ACLINT,
// the UART, the real-time clock and the VM generation ID. An `own` step drives a wire, an interrupt file's
// registers (as a hart's CSRs do) or the UART's input, or changes the generation.
#include <vector>

#include "base/bits.h"
#include "base/clock.h"
#include "base/deadline.h"
#include "bench.h"
#include "devices/console_port.h"
#include "devices/hardware/aclint.h"
#include "devices/hardware/aplic.h"
#include "devices/hardware/goldfish_rtc.h"
#include "devices/hardware/imsic.h"
#include "devices/hardware/plic.h"
#include "devices/hardware/uart16550.h"
#include "devices/hardware/vmgenid.h"

namespace wirt::fuzz {

namespace {

using namespace devices::hardware;

constexpr unsigned harts = 2, guest_files = 3;

// The board's way from an APLIC to the interrupt files.
class Messages final : public MessageSink {
  public:
    Messages(Imsic& machine, Imsic& supervisor) : machine_(machine), supervisor_(supervisor) {}
    bool send_message(u64 address, u32 data) override {
        return supervisor_.send_message(address, data) || machine_.send_message(address, data);
    }

  private:
    Imsic& machine_;
    Imsic& supervisor_;
};

class PlatformBench final : public Bench {
  public:
    PlatformBench()
        : plic_("plic", lines(2 * harts)),
          imsic_m_("imsic-m", imsic_m_base, lines(harts)),
          imsic_s_("imsic-s", imsic_s_base, lines(harts), std::vector<InterruptLine>(harts * guest_files)),
          aplic_m_("aplic-m", Aplic::Level::machine, {wires(imsic_m_), &messages_, 0}),
          aplic_s_("aplic-s", Aplic::Level::supervisor, {wires(imsic_s_), &messages_, guest_files}),
          direct_("aplic", Aplic::Level::machine, {lines(harts), nullptr, 0}),
          aclint_("aclint", clock_, lines(harts)),
          uart_("uart0", console_, InterruptLine(plic_, 10)),
          rtc_("rtc", clock_, deadlines_, InterruptLine(plic_, 11)),
          vmgenid_("vmgenid", InterruptLine(plic_, 12), {}) {
        aplic_m_.adopt(aplic_s_);
        add_device(0x0200'0000, Aclint::region_size, aclint_);
        add_device(0x0c00'0000, Plic::region_size, plic_);
        add_device(0x0d00'0000, Aplic::region_size, direct_);
        add_device(0x0e00'0000, Aplic::region_size, aplic_m_);
        add_device(0x0f00'0000, Aplic::region_size, aplic_s_);
        add_device(0x1000'0000, Uart16550::region_size, uart_);
        add_device(0x0010'1000, GoldfishRtc::region_size, rtc_);
        add_device(imsic_m_base, imsic_m_.region_size(), imsic_m_);
        add_device(imsic_s_base, imsic_s_.region_size(), imsic_s_);
        add_device(0x0010'2000, VmGenId::region_size, vmgenid_);
    }

  protected:
    void visit_state(StateVisitor& v) override {
        for (memory::MmioDevice* device : devices()) device->visit_state(v);
        console_.visit_state(v);
    }

    void own_step(const Step& step) override {
        const unsigned source = step.offset % 128;
        const bool level = bit(step.value, 0);
        switch ((step.kind - Step::own) % 6) {
            case 0:
                plic_.set_level(source, level);
                direct_.set_level(source, level);
                aplic_m_.set_level(source, level);
                break;
            case 1: {
                u64 old;
                file(step).modify(step.count, step.width & 4 ? ~u64{0} : step.offset, step.value, old);
                break;
            }
            case 2:
                FUZZ_REQUIRE((file(step).top(level) & 0xffff) <= Imsic::identities);
                break;
            case 3:
                clock_.advance_to_ns(clock_.now_ns() + step.value % 1'000'000'000);
                deadlines_.poll(clock_.now_ns());
                break;
            case 4:
                console_.send(std::vector<u8>(step.count, 'x'));
                break;
            default:
                vmgenid_.set_generation({static_cast<u8>(step.value)});
                break;
        }
    }

    void check() override {
        for (memory::MmioDevice* device : devices()) device->reset();
        FUZZ_REQUIRE(imsic_s_.file(0).top(false) == 0);
    }

  private:
    static constexpr u64 imsic_m_base = 0x2400'0000, imsic_s_base = 0x2800'0000;

    std::vector<InterruptLine> lines(unsigned count) {
        std::vector<InterruptLine> all;
        for (unsigned i = 0; i < count; ++i) all.push_back(line(i));
        return all;
    }
    static std::vector<InterruptLine> wires(Imsic& imsic) {
        std::vector<InterruptLine> all;
        for (unsigned hart = 0; hart < harts; ++hart) all.emplace_back(imsic, hart);
        return all;
    }
    std::vector<memory::MmioDevice*> devices() {
        return {&plic_,    &direct_, &aplic_m_, &aplic_s_, &imsic_m_,
                &imsic_s_, &aclint_, &uart_,    &rtc_,     &vmgenid_};
    }
    InterruptFile& file(const Step& step) {
        const unsigned hart = step.window % harts;
        return step.window & 4 ? imsic_m_.file(hart)
                               : imsic_s_.file(hart, step.window / 8 % (guest_files + 1));
    }

    Clock clock_{Clock::Source::instructions};
    Deadlines deadlines_;
    devices::ConsolePort console_{"serial"};
    Plic plic_;
    Imsic imsic_m_, imsic_s_;
    Messages messages_{imsic_m_, imsic_s_};
    Aplic aplic_m_, aplic_s_, direct_;
    Aclint aclint_;
    Uart16550 uart_;
    GoldfishRtc rtc_;
    VmGenId vmgenid_;
};

}  // namespace

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<PlatformBench>();
}

}  // namespace wirt::fuzz

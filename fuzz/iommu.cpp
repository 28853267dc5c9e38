// Fuzzes the IOMMU: directories, page tables and MSI page tables in guest memory, its queues and registers.
// An `own` step is a request of device `window`, and the steps above are a device's DMA, a message, a page
// request, and the answer to what the IOMMU last asked of a device. Window 0 is the register page.
#include <optional>

#include "base/bits.h"
#include "base/clock.h"
#include "bench.h"
#include "devices/hardware/iommu/iommu.h"

namespace wirt::fuzz {

namespace {

using namespace devices::hardware;

class IommuBench final : public Bench, private AtsLink {
  public:
    IommuBench()
        : iommu_("iommu0", ram(), clock_, &messages(), {line(0), line(1), line(2), line(3)},
                 {.igs = IommuInterrupts::both}) {
        iommu_.set_ats_link(this);
        add_device(0x0301'0000, Iommu::region_size, iommu_);
    }

  protected:
    void visit_state(StateVisitor& v) override { iommu_.visit_state(v); }

    void own_step(const Step& step) override {
        switch ((step.kind - Step::own) % 5) {
            case 0:
                request(step);
                break;
            case 1:
                dma_request(step);
                break;
            case 2:
                iommu_.send_message(step.window, step.value & ~u64{3}, step.offset);
                break;
            case 3:
                iommu_.page_request({.code = AtsMessage::page_request,
                                     .tag = step.count,
                                     .rid = step.window,
                                     .pv = bit(step.width, 2),
                                     .pid = step.offset & 0xf'ffff,
                                     .privileged = bit(step.width, 3),
                                     .execute = bit(step.width, 4),
                                     .payload = step.value});
                break;
            default:
                answer(step);
                break;
        }
    }

    void check() override {
        iommu_.reset();
        // 6.5: the reset value says Bare, and then an address is its own translation.
        memory::DmaRemapper& remapper = iommu_;
        u64 contiguous = 4096;
        FUZZ_REQUIRE(remapper.translate(1, ram_base, memory::DmaDirection::to_device, contiguous) ==
                     ram_base);
    }

  private:
    void request(const Step& step) {
        IommuRequest request;
        request.device_id = step.window;
        if (bit(step.width, 2)) request.process_id = step.offset & 0xf'ffff;
        request.type = static_cast<IommuRequest::Address>(step.count % 3);
        request.write = bit(step.width, 3);
        request.execute = bit(step.width, 4);
        request.privileged = bit(step.width, 5);
        request.no_write = bit(step.width, 6);
        request.address = step.value;
        const IommuResponse response = iommu_.request(request);
        // What went wrong has a cause, and what did not has none to be reported.
        FUZZ_REQUIRE(response.status == IommuResponse::Status::success || response.cause != 0);
    }

    // What a device may rely on: a piece of memory that begins where it was asked for, and is not empty.
    void dma_request(const Step& step) {
        u64 contiguous = step.offset;
        const auto direction =
            bit(step.width, 2) ? memory::DmaDirection::from_device : memory::DmaDirection::to_device;
        memory::DmaRemapper& remapper = iommu_;
        const auto physical = remapper.translate(step.window, step.value, direction, contiguous);
        if (!physical) return;
        FUZZ_REQUIRE((*physical ^ step.value) % 4096 == 0 && contiguous <= step.offset);
        FUZZ_REQUIRE(contiguous != 0 || step.offset == 0);
    }

    // An invalidation is answered later, never at once, never, or by a device that was not asked.
    void answer(const Step& step) {
        AtsMessage message = asked_.value_or(AtsMessage{});
        message.code = AtsMessage::invalidation_completion;
        message.rid = static_cast<u16>(message.rid ^ step.offset);
        message.payload = step.value;
        iommu_.invalidation_completed(message);
        if (bit(step.width, 2)) iommu_.invalidation_timed_out(static_cast<u32>(step.value));
    }

    bool send(const AtsMessage& message) override {
        asked_ = message;
        return message.rid < 128;
    }

    Clock clock_{Clock::Source::instructions};
    Iommu iommu_;
    std::optional<AtsMessage> asked_;
};

}  // namespace

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<IommuBench>();
}

}  // namespace wirt::fuzz

// Fuzzes the displays and what stands beside them: virtio-gpu and a virtio tablet over virtio-mmio (windows 0
// and 1), the Bochs display (2 its registers, 3 video memory, 4 configuration space). An `own` step takes a
// picture of either display, and the next moves the tablet.
#include "bench.h"
#include "devices/hardware/bochs_display.h"
#include "devices/hardware/pcie_root.h"
#include "devices/virtio/gpu.h"
#include "devices/virtio/input.h"
#include "devices/virtio/virtio_mmio.h"

namespace wirt::fuzz {

namespace {

using namespace devices;
using devices::virtio::VirtioMmio;

constexpr u64 ecam = 0x3000'0000, config = ecam + 0x8000, bar0 = 0x4000'0000, bar2 = 0x4800'0000;

class DisplayBench final : public Bench {
  public:
    DisplayBench() : root_(bus(), ram(), intx(), &messages()) {
        auto gpu = std::make_unique<virtio::VirtioGpu>("virtio-gpu0", mode_, executor());
        gpu_ = gpu.get();
        gpu_slot_ = std::make_unique<VirtioMmio>("virtio-gpu0", std::move(gpu), dma(), line(0));
        input_slot_ = std::make_unique<VirtioMmio>(
            "virtio-input0",
            std::make_unique<virtio::VirtioInput>("virtio-input0", virtio::VirtioInput::Kind::tablet, tablet_,
                                                  executor()),
            dma(), line(1));
        add_device(0x1000'1000, VirtioMmio::region_size, *gpu_slot_);
        add_device(0x1000'2000, VirtioMmio::region_size, *input_slot_);
        bus().map(ecam, hardware::PcieRoot::region_size, root_);
        auto bochs = std::make_unique<hardware::BochsDisplay>("bochs0", mode_);
        bochs_ = bochs.get();
        add_window(bar2, 0x1000, bochs->registers());
        add_window(bar0, 0x1000);
        add_window(config, 0x100);
        root_.attach(1, std::move(bochs));
        place();
    }

  protected:
    // The displays' state is their pictures, too large to be copied after every script; tests look at it.
    void visit_state(StateVisitor& v) override { input_slot_->visit_state(v); }

    void own_step(const Step& step) override {
        if ((step.kind - Step::own) % 2 == 1) {
            const InputEvent report[] = {{3, static_cast<u16>(step.offset & 1), static_cast<u32>(step.value)},
                                         {1, 0x110, step.count & 1u}};
            tablet_->send(report);
            return;
        }
        Picture picture;
        Display* const display = step.count & 1 ? static_cast<Display*>(bochs_) : gpu_;
        display->capture(picture);
        FUZZ_REQUIRE(picture.pixels.size() == std::size_t{picture.width} * picture.height);
    }

    void check() override {
        gpu_slot_->reset();
        input_slot_->reset();
        FUZZ_REQUIRE(gpu_slot_->fault().empty() && input_slot_->fault().empty());
        root_.reset();
        place();
        Picture picture;
        bochs_->capture(picture);
    }

  private:
    void place() {
        bus().write(config + 0x10, 4, bar0);
        bus().write(config + 0x14, 4, 0);
        bus().write(config + 0x18, 4, bar2);
        bus().write(config + 0x04, 2, 0x0006);
    }

    const DisplayMode mode_{320, 200};
    const std::shared_ptr<InputPort> tablet_ = std::make_shared<InputPort>("tablet");
    std::unique_ptr<VirtioMmio> gpu_slot_, input_slot_;
    virtio::VirtioGpu* gpu_ = nullptr;
    hardware::BochsDisplay* bochs_ = nullptr;
    hardware::PcieRoot root_;
};

}  // namespace

std::unique_ptr<Bench> make_bench() {
    return std::make_unique<DisplayBench>();
}

}  // namespace wirt::fuzz

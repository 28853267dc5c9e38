// The virtio devices of a board on a bench, for virtqueue_*.cpp: block, net, console, entropy. All offer
// packed rings; which layout is used is the script's choice, as a driver's.
//
// Of the script, an `own` step sends a frame to the NIC (bytes from RAM at `offset`, of length value &
// 0xffff, with the offload request in the rest of value), the next types `count` characters at the console,
// and the one after says what the NIC's peer can take (bits of `count`).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bits.h"
#include "base/entropy.h"
#include "bench.h"
#include "devices/console_port.h"
#include "devices/hardware/pcie_root.h"
#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/virtio_mmio.h"
#include "devices/virtio/virtio_pci.h"
#include "peer.h"

namespace wirt::fuzz {

class VirtioBench : public Bench {
  public:
    enum class Transport : u8 { mmio, pci };

    explicit VirtioBench(Transport transport)
        : transport_(transport), root_(bus(), ram(), intx(), &messages()) {
        using namespace devices::virtio;
        entropy_.seed(1);
        root_.set_remapper(&remapper());
        bus().map(ecam, devices::hardware::PcieRoot::region_size, root_);
        VirtioBlock::Options disk_options;
        disk_options.queues = 2;
        disk_options.serial = "fuzz";
        VirtioNet::Options nic_options;
        nic_options.mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
        nic_options.queue_pairs = 2;
        add(std::make_unique<VirtioBlock>("virtio-blk0", disk(64 * KiB), executor(), disk_options));
        add(std::make_unique<VirtioNet>("virtio-net0", peer_.nic_port(), executor(), nic_options));
        add(std::make_unique<VirtioConsole>("virtio-console0", console_, executor()));
        add(std::make_unique<VirtioRng>("virtio-rng0", entropy_, executor()));
        if (transport_ == Transport::pci) place();
    }

  protected:
    void visit_state(StateVisitor& v) override {
        for (const auto& slot : slots_) slot->visit_state(v);
        root_.visit_state(v);
    }

    void own_step(const Step& step) override {
        switch ((step.kind - Step::own) % 3) {
            case 0:
                peer_.send(ram(), step);
                break;
            case 1:
                console_->send(std::vector<u8>(step.count, 'x'));
                break;
            default:
                peer_.set_abilities(step.count);
                break;
        }
    }

    // A reset heals: whatever came before, every device is back at its beginning.
    void check() override {
        for (const auto& slot : slots_) {
            slot->reset();
            FUZZ_REQUIRE(slot->read(0x70 /* Status */, 4) == 0 && slot->fault().empty());
        }
        root_.reset();
        for (devices::virtio::VirtioPci* function : functions_)
            FUZZ_REQUIRE(function->read(0x14 /* device_status */, 1) == 0 && function->fault().empty());
    }

  private:
    static constexpr u64 ecam = 0x3000'0000, bar0 = 0x4000'0000, bar1 = 0x4010'0000;

    // Over MMIO in a slot of its own, or as PCI function 1, 2, ..
    void add(std::unique_ptr<devices::virtio::VirtioDevice> device) {
        using namespace devices::virtio;
        const std::string name(device->name());
        const VirtioOptions options{.packed_rings = true};
        if (transport_ == Transport::pci) {
            auto function = std::make_unique<VirtioPci>(name, std::move(device), options);
            functions_.push_back(function.get());
            root_.attach(static_cast<unsigned>(functions_.size()), std::move(function));
            return;
        }
        const u64 base = 0x1000'1000 + slots_.size() * VirtioMmio::region_size;
        slots_.push_back(std::make_unique<VirtioMmio>(name, std::move(device), dma(), line(0), options));
        add_device(base, VirtioMmio::region_size, *slots_.back());
    }

    // What firmware does: every BAR has an address, memory and bus mastering are on.
    void place() {
        for (u64 i = 0; i < functions_.size(); ++i)
            add_window(bar0 + i * devices::virtio::VirtioPci::region_size,
                       devices::virtio::VirtioPci::region_size, functions_[i]->registers());
        for (u64 i = 0; i < functions_.size(); ++i) {
            const u64 config = ecam + (i + 1) * 0x8000;
            bus().write(config + 0x10, 4, bar0 + i * devices::virtio::VirtioPci::region_size);
            bus().write(config + 0x14, 4, bar1 + i * 0x1000);
            bus().write(config + 0x04, 2, 0x0006);
            add_window(config, 0x100);
        }
        for (u64 i = 0; i < functions_.size(); ++i) add_window(bar1 + i * 0x1000, 0x1000);
    }

    const Transport transport_;
    EntropySource entropy_;
    const std::shared_ptr<devices::ConsolePort> console_ = std::make_shared<devices::ConsolePort>("hvc0");
    Peer peer_;
    std::vector<std::unique_ptr<devices::virtio::VirtioMmio>> slots_;
    std::vector<devices::virtio::VirtioPci*> functions_;
    devices::hardware::PcieRoot root_;
};

}  // namespace wirt::fuzz

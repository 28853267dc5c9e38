// Devices that are plugged in and taken out while the machine exists: onto bus 0, where a guest has to look
// for them, or into a hot-plug port, which tells it.
//
// Untrusted: what the guest does with the slot. It is given its time, and then the device goes in any case.
#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "machine/parts.h"

namespace wirt::machine {

using namespace devices;

namespace {

std::string name_of(const hardware::PciDevice& device) {
    const auto* registers = dynamic_cast<const memory::MmioDevice*>(&device);
    return registers == nullptr ? "" : std::string(registers->name());
}

// Disks and NICs with a slot of their own.
constexpr const char* removable_kinds[] = {"ahci", "e1000e", "virtio-blk", "virtio-net"};

}  // namespace

// ---------------------------------------------------------------- the board's part

Board::Removable Board::place(std::optional<unsigned> slot) {
    std::lock_guard lock(pcie->mutex());
    for (unsigned i = 0; i < ports.size(); ++i) {
        const unsigned here = map::first_port_slot + i;
        if ((!slot || *slot == here) && ports[i]->device_behind(0) == nullptr)
            return {here, nullptr, ports[i]};
    }
    for (unsigned here = map::first_free_slot; here < map::first_port_slot; ++here) {
        if ((!slot || *slot == here) && pcie->device(here) == nullptr) return {here, nullptr, nullptr};
    }
    if (!slot) throw ConfigError("every slot and every hot-plug port has a device: detach one first");
    const bool exists = (*slot >= map::first_free_slot && *slot < map::first_port_slot) ||
                        (*slot >= map::first_port_slot && *slot < map::first_port_slot + ports.size());
    if (exists) throw ConfigError("slot " + std::to_string(*slot) + " has a device: detach it first");
    throw ConfigError("slot " + std::to_string(*slot) + ": devices are plugged into 4 to 23, or into " +
                      (ports.empty() ? "a hot-plug port, of which this machine has none (pcie_ports=)"
                                     : "the hot-plug ports, 24 to " +
                                           std::to_string(map::first_port_slot + ports.size() - 1)));
}

std::string Board::insert(const Removable& where, std::unique_ptr<hardware::PciDevice> device) {
    std::string name = name_of(*device);
    if (where.port == nullptr) {
        pcie->attach(where.slot, std::move(device));
    } else {
        std::lock_guard lock(pcie->mutex());
        where.port->attach_behind(0, std::move(device));
    }
    return name;
}

void Board::name_next(const std::string& name) {
    if (name.empty()) return;
    for (const std::string kind : removable_kinds) {
        const std::string number = name.starts_with(kind) ? name.substr(kind.size()) : "";
        if (number.empty() || number.size() > 9 || number.find_first_not_of("0123456789") != number.npos)
            continue;
        const auto ordinal = static_cast<unsigned>(std::stoul(number));
        if (ordinal < instances_[kind]) break;
        instances_[kind] = ordinal;
        return;
    }
    throw ConfigError("no device can be plugged in under the name " + name);
}

std::string Board::plug(const DiskConfig& disk, std::optional<unsigned> slot, const std::string& name) {
    const Removable where = place(slot);
    name_next(name);
    if (disk.bus == DiskBus::virtio_mmio) {
        throw ConfigError("a disk is plugged in on ahci or virtio-pci; virtio-mmio is wired to the board");
    }
    if (disk.bus == DiskBus::virtio_pci) return insert(where, on_pci(virtio_block(disk)));
    return insert(where, std::make_unique<hardware::Ahci>(
                             instance("ahci"), std::vector<hardware::Ahci::Disk>{{disk.backend, disk.serial}},
                             executors_));
}

std::string Board::plug(const NetConfig& net, std::optional<unsigned> slot, const std::string& name) {
    const Removable where = place(slot);
    name_next(name);
    if (net.model == NicModel::e1000e) return insert(where, e1000e(net));
    if (net.model != NicModel::virtio_pci) {
        throw ConfigError("a NIC is plugged in as e1000e or virtio-pci; virtio-mmio is wired to the board");
    }
    return insert(where, on_pci(virtio_net(net)));
}

Board::Removable Board::removable(const std::string& name) {
    const bool may_leave = std::any_of(std::begin(removable_kinds), std::end(removable_kinds),
                                       [&](const char* kind) { return name.starts_with(kind); });
    std::lock_guard lock(pcie->mutex());
    for (unsigned i = 0; may_leave && i < ports.size(); ++i) {
        hardware::PciDevice* const device = ports[i]->device_behind(0);
        if (device != nullptr && name_of(*device) == name)
            return {map::first_port_slot + i, device, ports[i]};
    }
    for (unsigned slot = map::first_free_slot; may_leave && slot < map::first_port_slot; ++slot) {
        hardware::PciDevice* const device = pcie->device(slot);
        if (device != nullptr && name_of(*device) == name) return {slot, device, nullptr};
    }
    throw ConfigError("no device " + name + " can be taken out: it is unknown, or part of the board");
}

std::unique_ptr<hardware::PciDevice> Board::pull(const Removable& what) {
    if (what.port == nullptr) return pcie->detach(what.slot);
    std::unique_ptr<hardware::PciDevice> device;
    {
        std::lock_guard lock(pcie->mutex());
        device = what.port->detach_behind(0);
    }
    pcie->unmap_bars(*device);
    return device;
}

// ---------------------------------------------------------------- the machine's part

void Machine::Parts::require_open() {
    settle_stop();
    require_free();
    if (state == MachineState::stopped || state == MachineState::closed)
        throw StateError("the machine has ended: devices come and go while it is created, running or paused");
}

std::string Machine::plug(const DiskConfig& disk, std::optional<unsigned> slot, const std::string& name) {
    std::lock_guard lock(parts_->control);
    parts_->require_open();
    parts_->require_no_recording("attach devices to");
    DiskConfig recordable = disk;
    parts_->record_disk(recordable);
    return parts_->board->plug(recordable, slot, name);
}

std::string Machine::plug(const NetConfig& net, std::optional<unsigned> slot, const std::string& name) {
    std::lock_guard lock(parts_->control);
    parts_->require_open();
    parts_->require_no_recording("attach devices to");
    NetConfig recordable = net;
    parts_->record_net(recordable);
    return parts_->board->plug(recordable, slot, name);
}

unsigned Machine::slot_of(const std::string& name) {
    std::lock_guard lock(parts_->control);
    return parts_->board->removable(name).slot;
}

bool Machine::unplug(const std::string& name, double timeout_s) {
    using clock = std::chrono::steady_clock;
    const auto deadline = clock::now() + std::chrono::duration_cast<clock::duration>(
                                             std::chrono::duration<double>(std::clamp(timeout_s, 0.0, 1e6)));
    Board& board = *parts_->board;
    {
        std::lock_guard lock(parts_->control);
        parts_->require_open();
        parts_->require_no_recording("detach devices from");
        const Board::Removable what = board.removable(name);
        std::lock_guard bus(board.pcie->mutex());
        if (what.port != nullptr && what.port->button_heard()) what.port->press_attention_button();
    }
    // The guest needs the life-cycle lock to be free: it may stop, or be paused, instead of answering.
    for (;;) {
        if (state() != MachineState::running || clock::now() >= deadline) break;
        const Board::Removable what = board.removable(name);
        std::unique_lock bus(board.pcie->mutex());
        if (what.port == nullptr || !what.port->button_heard() || !what.port->powered()) break;
        constexpr auto longest = std::chrono::milliseconds(50);
        what.port->controlled().wait_until(bus, std::min(deadline, clock::now() + longest));
    }
    std::lock_guard lock(parts_->control);
    parts_->require_open();
    const Board::Removable what = board.removable(name);
    const bool let_go = !what.device->masters_bus();
    auto device = board.pull(what);
    parts_->retire_executors(name, [&] { device.reset(); });
    return let_go;
}

}  // namespace wirt::machine

// Fuzzes the loading of state: bytes into a whole machine, as a snapshot or a migration brings them. What is
// accepted must save and load to the same again, and the machine must run on.
//
// The first byte chooses one of four machines, and whether the rest is a state by itself (the record format
// of csrc/state/stream.h) or a list of 16-byte patches to a state that such a machine has saved. Patches find
// what bytes by chance never do: values that the devices, not the parser, have to refuse.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "machine/machine.h"
#include "network/ethernet.h"
#include "require.h"
#include "state/stream.h"
#include "storage/block_backend.h"

namespace {

using namespace wirt;
using namespace wirt::machine;

constexpr unsigned kinds = 4;
constexpr u8 as_it_is = 0x80;

struct Patch {
    enum Kind : u8 { flip, set, cut, swap, rename, resize, kinds };
    u8 kind;
    u8 width;
    u16 record;
    u32 offset;
    u64 value;
};
static_assert(sizeof(Patch) == 16);

MachineConfig configuration(unsigned kind) {
    MachineConfig config;
    config.memory = 16 * MiB;
    config.deterministic = true;
    config.origin = Origin{std::nullopt, nullptr, {}};
    config.interrupts = static_cast<InterruptControllers>(kind % 3);
    config.virtio = kind % 2 == 0 ? VirtioTransport::mmio : VirtioTransport::pci;
    config.packed_rings = kind == 1;
    config.harts = kind == 3 ? 1 : 2;
    config.input = kind != 3;
    const auto lan = network::Switch::create();
    for (const DiskBus bus : {DiskBus::ahci, kind % 2 == 0 ? DiskBus::virtio_mmio : DiskBus::virtio_pci})
        config.disks.push_back({storage::make_memory_disk(64 * KiB), bus, "", 1});
    if (kind == 2) {
        config.guest_files = 2;
        config.iommu = IommuKind::pci;
        config.display = DisplayKind::virtio_gpu;
        config.pcie_ports = 1;
    }
    if (kind == 1) config.iommu = IommuKind::platform;
    for (const NicModel model :
         {NicModel::e1000e, kind % 2 == 0 ? NicModel::virtio_mmio : NicModel::virtio_pci})
        config.nets.push_back({lan->add_port("port"), {2, 0, 0, 0, 0, static_cast<u8>(model)}, 1, model});
    return config;
}

// State is saved by a machine that ran, a state is loaded into one that waits for it.
const std::vector<u8>& real_state(unsigned kind) {
    static std::array<std::vector<u8>, kinds> states;
    if (states[kind].empty()) {
        MachineConfig config = configuration(kind);
        config.origin.reset();
        // jal x0, 0; csrrw x0, mscratch, x1
        config.firmware = {"loop", {0x6f, 0, 0, 0, 0x73, 0x90, 0x00, 0x34}};
        Machine machine(std::move(config));
        machine.run_for(5000);
        states[kind] = machine.save_state();
        machine.close();
    }
    return states[kind];
}

std::vector<u8> patched(std::vector<u8> state, std::span<const u8> script) {
    // Where each record begins; patches that change lengths leave what follows where it is in this list.
    std::vector<std::pair<u64, u64>> places;
    state::RecordReader reader(state);
    for (u64 at = 0;;) {
        const state::Record record = reader.next();
        const u64 end = state.size() - reader.left();
        places.emplace_back(at, end - at);
        at = end;
        if (record.kind == state::Record::Kind::end) break;
    }
    for (; script.size() >= sizeof(Patch); script = script.subspan(sizeof(Patch))) {
        Patch patch;
        std::memcpy(&patch, script.data(), sizeof patch);
        auto& [at, size] = places[patch.record % places.size()];
        if (size == 0 || at + size > state.size()) continue;
        const u64 name = size > 2 ? std::min<u64>(2 + state[at + 1], size) : 1;
        switch (patch.kind % Patch::kinds) {
            case Patch::flip:
            case Patch::set:
                for (u64 i = 0; i < std::min<u64>(patch.width % 8 + 1, size - name); ++i) {
                    // From the value on, behind the width or length that stands before it.
                    u8& byte = state[at + name + (patch.offset + i) % (size - name)];
                    const u8 value = static_cast<u8>(patch.value >> 8 * i);
                    byte = patch.kind % Patch::kinds == Patch::set ? value : static_cast<u8>(byte ^ value);
                }
                break;
            case Patch::cut:
                state.erase(state.begin() + static_cast<i64>(at),
                            state.begin() + static_cast<i64>(at + size));
                for (auto& place : places) {
                    if (place.first > at) place.first -= size;
                }
                size = 0;
                break;
            case Patch::swap: {
                auto& other = places[patch.offset % places.size()];
                if (other.second != size || other.first + size > state.size()) break;
                std::swap_ranges(state.begin() + static_cast<i64>(at),
                                 state.begin() + static_cast<i64>(at + size),
                                 state.begin() + static_cast<i64>(other.first));
                break;
            }
            case Patch::rename:
                if (name > 2) state[at + 2 + patch.offset % (name - 2)] ^= static_cast<u8>(patch.value);
                break;
            default: {  // a longer or shorter blob: its length, and its bytes
                if (state[at] != static_cast<u8>(state::Record::Kind::blob) || size < name + 4) break;
                const u64 length = patch.value % 4096;
                std::vector<u8> blob(name + 4 + length, static_cast<u8>(patch.offset));
                std::memcpy(blob.data(), state.data() + at, std::min<u64>(size, blob.size()));
                const u32 stated = static_cast<u32>(length);
                std::memcpy(blob.data() + name, &stated, 4);
                state.erase(state.begin() + static_cast<i64>(at),
                            state.begin() + static_cast<i64>(at + size));
                state.insert(state.begin() + static_cast<i64>(at), blob.begin(), blob.end());
                for (auto& place : places) {
                    if (place.first > at) place.first += blob.size() - size;
                }
                size = blob.size();
            }
        }
    }
    return state;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0) return 0;
    const unsigned kind = data[0] % kinds;
    const std::span<const u8> rest(data + 1, size - 1);
    auto state = std::make_shared<const std::vector<u8>>(
        data[0] & as_it_is ? std::vector<u8>(rest.begin(), rest.end()) : patched(real_state(kind), rest));
    Machine machine(configuration(kind));
    try {
        machine.load_state(state);
    } catch (const SnapshotError&) {
        // Anything else would be a part that refuses in words of its own, and is not caught here.
        return 0;
    }
    const std::vector<u8> saved = machine.save_state();
    {
        Machine other(configuration(kind));
        other.load_state(std::make_shared<const std::vector<u8>>(saved));
        FUZZ_REQUIRE(other.save_state() == saved);
        other.close();
    }
    // Not run_for: a trap vector that traps retires nothing, for ever.
    for (unsigned i = 0; i < machine.hart_count(); ++i) {
        try {
            machine.step(i, 2000);
        } catch (const StateError&) {
            // The state is one in which this hart is stopped.
        }
    }
    static_cast<void>(machine.state_hash());
    machine.close();
    return 0;
}

// The machine: its configuration and life cycle.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include "bindings/console.h"
#include "bindings/gil.h"
#include "bindings/handle.h"
#include "bindings/harts.h"
#include "bindings/memory.h"
#include "bindings/register.h"

namespace wirt::bindings {

namespace {

using machine::DiskBus;
using machine::DiskConfig;
using machine::DisplayKind;
using machine::Image;
using machine::InterruptControllers;
using machine::IommuKind;
using machine::Machine;
using machine::MachineConfig;
using machine::MachineState;
using machine::NetConfig;
using machine::NicModel;
using machine::StopInfo;
using machine::StopReason;
using machine::VirtioTransport;

// Long enough that the slices cost nothing, short enough that Ctrl-C is heard at once.
constexpr u64 slice_instructions = 20'000'000;

Image make_image(std::string name, const py::buffer& content) {
    const py::buffer_info info = content.request();
    if (info.itemsize != 1 || PyBuffer_IsContiguous(info.view(), 'C') == 0) {
        throw py::value_error("an image is given as contiguous bytes");
    }
    const auto* from = static_cast<const u8*>(info.ptr);
    return {std::move(name), {from, from + info.size}};
}

// Runs the machine in slices without the GIL until `target` instructions were retired, it stops, or a signal
// handler raises.
template <typename Retired, typename Run>
void run_sliced(Handle& handle, u64 count, Retired retired, Run run) {
    const u64 begin = retired();
    for (;;) {
        const u64 done = retired() - begin;
        if (done >= count) break;
        handle.settle_exported_memory();
        {
            ReleaseGil release;
            run(std::min(count - done, slice_instructions));
        }
        handle.raise_host_error();
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (handle.machine.stop_info().reason != StopReason::step) break;
    }
}

void step(Handle& handle, unsigned hart, u64 count) {
    handle.require_outside_device();
    Machine& machine = handle.machine;
    if (hart >= machine.hart_count()) throw py::index_error("the machine has no such hart");
    // A trap is a step that retires nothing, so single steps are not counted by what was retired.
    if (count <= slice_instructions) {
        handle.settle_exported_memory();
        {
            ReleaseGil release;
            machine.step(hart, count);
        }
        handle.raise_host_error();
        return;
    }
    run_sliced(
        handle, count, [&] { return machine.hart(hart).instructions(); },
        [&](u64 n) { machine.step(hart, n); });
}

void run_for(Handle& handle, u64 count) {
    handle.require_outside_device();
    Machine& machine = handle.machine;
    run_sliced(
        handle, count, [&] { return machine.instructions(); }, [&](u64 n) { machine.run_for(n); });
}

// To the first moment at which so many instructions were retired.
void run_to(Handle& handle, u64 instructions) {
    handle.require_outside_device();
    {
        ReleaseGil release;
        handle.machine.rewind(instructions);
    }
    const u64 now = handle.machine.instructions();
    if (instructions > now) run_for(handle, instructions - now);
}

// To the end of the recording. Where that is past the last instruction, as when all harts waited then, the
// rest of the way is run without looking for signals.
void run_to_end(Handle& handle) {
    handle.require_outside_device();
    const auto recording = handle.machine.recording();
    if (recording && recording->replaying) run_to(handle, recording->end);
    ReleaseGil release;
    handle.machine.run_to_end();
}

bool wait(Handle& handle, double timeout_s) {
    handle.require_outside_device();
    const bool stopped =
        wait_interruptibly(timeout_s, [&](double slice_s) { return handle.machine.wait(slice_s); });
    if (stopped) handle.raise_host_error();
    return stopped;
}

void register_configuration(py::module_& module) {
    py::native_enum<DiskBus>(module, "DiskBus", "enum.Enum", "Which controller a disk hangs on.")
        .value("virtio_mmio", DiskBus::virtio_mmio)
        .value("virtio_pci", DiskBus::virtio_pci)
        .value("ahci", DiskBus::ahci)
        .finalize();
    py::native_enum<NicModel>(module, "NicModel", "enum.Enum", "What kind of NIC a machine has.")
        .value("virtio_mmio", NicModel::virtio_mmio)
        .value("virtio_pci", NicModel::virtio_pci)
        .value("e1000e", NicModel::e1000e)
        .finalize();
    py::native_enum<VirtioTransport>(module, "VirtioTransport", "enum.Enum", "The bus of virtio devices.")
        .value("mmio", VirtioTransport::mmio)
        .value("pci", VirtioTransport::pci)
        .finalize();
    py::native_enum<InterruptControllers>(module, "InterruptControllers", "enum.Enum",
                                          "Which interrupt controllers a board has.")
        .value("plic", InterruptControllers::plic)
        .value("aplic", InterruptControllers::aplic)
        .value("aia", InterruptControllers::aia)
        .finalize();
    py::native_enum<IommuKind>(module, "IommuKind", "enum.Enum", "Where the IOMMU is found.")
        .value("none", IommuKind::none)
        .value("platform", IommuKind::platform)
        .value("pci", IommuKind::pci)
        .finalize();
    py::native_enum<DisplayKind>(module, "DisplayKind", "enum.Enum", "Which display a machine has.")
        .value("none", DisplayKind::none)
        .value("bochs", DisplayKind::bochs)
        .value("virtio_gpu", DisplayKind::virtio_gpu)
        .finalize();

    py::class_<Image>(module, "Image", "The unpacked bytes of an image file, and what errors call it.")
        .def(py::init<>())
        .def(py::init(&make_image), py::arg("name"), py::arg("content"))
        .def_readonly("name", &Image::name)
        .def("__len__", [](const Image& image) { return image.bytes.size(); });

    py::class_<DiskConfig>(module, "DiskConfig")
        .def(py::init([](std::shared_ptr<storage::BlockBackend> backend, DiskBus bus, std::string serial,
                         unsigned queues) {
                 return DiskConfig{std::move(backend), bus, std::move(serial), queues};
             }),
             py::arg("backend"), py::arg("bus"), py::arg("serial"), py::arg("queues"));

    py::class_<NetConfig>(module, "NetConfig")
        .def(py::init([](std::shared_ptr<network::Port> port, const py::bytes& mac, unsigned queue_pairs,
                         NicModel model) {
                 const std::string_view view = mac;
                 NetConfig config{std::move(port), {}, queue_pairs, model};
                 if (view.size() != config.mac.size()) throw py::value_error("a MAC address has six bytes");
                 std::copy(view.begin(), view.end(), config.mac.begin());
                 return config;
             }),
             py::arg("port"), py::arg("mac"), py::arg("queue_pairs"), py::arg("model"));

    py::class_<MachineConfig>(module, "MachineConfig")
        .def(py::init<>())
        .def_readwrite("memory", &MachineConfig::memory)
        .def_readwrite("harts", &MachineConfig::harts)
        .def_readwrite("deterministic", &MachineConfig::deterministic)
        .def_readwrite("seed", &MachineConfig::seed)
        .def_readwrite("cmdline", &MachineConfig::cmdline)
        .def_readwrite("kernel", &MachineConfig::kernel)
        .def_readwrite("initrd", &MachineConfig::initrd)
        .def_readwrite("firmware", &MachineConfig::firmware)
        .def_readwrite("dtb", &MachineConfig::dtb)
        .def_readwrite("origin", &MachineConfig::origin)
        .def_readwrite("disks", &MachineConfig::disks)
        .def_readwrite("nets", &MachineConfig::nets)
        .def_readwrite("rng", &MachineConfig::rng)
        .def_readwrite("virtio_console", &MachineConfig::virtio_console)
        .def_readwrite("virtio", &MachineConfig::virtio)
        .def_readwrite("packed_rings", &MachineConfig::packed_rings)
        .def_property(
            "isa", [](const MachineConfig& config) { return config.isa.text(); },
            [](MachineConfig& config, const std::string& text) { config.isa = riscv::IsaConfig(text); })
        .def_readwrite("interrupts", &MachineConfig::interrupts)
        .def_readwrite("guest_files", &MachineConfig::guest_files)
        .def_readwrite("iommu", &MachineConfig::iommu)
        .def_readwrite("display", &MachineConfig::display)
        .def_readwrite("display_width", &MachineConfig::display_width)
        .def_readwrite("display_height", &MachineConfig::display_height)
        .def_readwrite("input", &MachineConfig::input)
        .def_readwrite("pcie_ports", &MachineConfig::pcie_ports);
}

void register_states(py::module_& module) {
    py::native_enum<MachineState>(module, "MachineState", "enum.Enum", "Where a machine is in its life.")
        .value("created", MachineState::created)
        .value("running", MachineState::running)
        .value("paused", MachineState::paused)
        .value("stopped", MachineState::stopped)
        .value("closed", MachineState::closed)
        .finalize();
    py::native_enum<StopReason>(module, "StopReason", "enum.Enum", "Why a machine does not run.")
        .value("none", StopReason::none)
        .value("poweroff", StopReason::poweroff)
        .value("reboot", StopReason::reboot)
        .value("failure", StopReason::failure)
        .value("halted", StopReason::halted)
        .value("breakpoint", StopReason::breakpoint)
        .value("step", StopReason::step)
        .value("no_progress", StopReason::no_progress)
        .value("host_error", StopReason::host_error)
        .finalize();
    using machine::RecordingInfo;
    py::class_<RecordingInfo>(module, "RecordingInfo", "What is known of a machine's past.")
        .def_readonly("begin", &RecordingInfo::begin, "Where it begins, in instructions retired.")
        .def_readonly("end", &RecordingInfo::end, "Where it ends.")
        .def_readonly("checkpoints", &RecordingInfo::checkpoints, "How many are kept.")
        .def_readonly("inputs", &RecordingInfo::inputs, "Entries of the journal.")
        .def_readonly("bytes", &RecordingInfo::bytes,
                      "Host memory, without that of the memory and the disks as they were at the beginning.")
        .def_readonly("replaying", &RecordingInfo::replaying, "Whether it is in the past.");
    py::class_<StopInfo>(module, "StopInfo")
        .def_readonly("reason", &StopInfo::reason)
        .def_readonly("code", &StopInfo::code, "With `failure`: the guest's code.")
        .def_readonly("hart", &StopInfo::hart, "With `breakpoint` and `step`: which hart.");
}

}  // namespace

void register_machine(py::module_& module) {
    register_configuration(module);
    register_states(module);

    py::class_<Handle, HandlePtr> type(module, "Machine", "A whole computer; see wirt.Machine.");
    type.def(py::init([](MachineConfig config) {
                 ReleaseGil release;
                 return std::make_shared<Handle>(std::move(config));
             }),
             py::arg("config"));

    type.def(
            "start",
            [](Handle& handle) {
                handle.settle_exported_memory();
                ReleaseGil release;
                handle.machine.start();
            },
            "created -> running.")
        .def(
            "pause",
            [](Handle& handle) {
                handle.require_outside_device();
                {
                    ReleaseGil release;
                    handle.machine.pause();
                }
                handle.raise_host_error();
            },
            "running -> paused.")
        .def(
            "resume",
            [](Handle& handle) {
                handle.require_outside_device();
                handle.settle_exported_memory();
                ReleaseGil release;
                handle.machine.resume();
            },
            "paused -> running.")
        .def(
            "close",
            [](Handle& handle) {
                handle.require_outside_device();
                handle.close();
            },
            "Ends everything; idempotent.")
        .def("wait", &wait, py::arg("timeout"),
             "Waits until it does not run; false on time-out (s; negative: for ever). Raises what a device "
             "raised.")
        .def("step", &step, py::arg("hart"), py::arg("count"))
        .def("run_for", &run_for, py::arg("instructions"))
        .def(
            "record",
            [](Handle& handle, u64 every, u64 keep, u64 journal) {
                handle.machine.record(every, keep, journal);
            },
            py::arg("checkpoint_every"), py::arg("keep"), py::arg("journal_bytes"), WithoutGil(),
            "Notes all that comes in.")
        .def(
            "end_recording", [](Handle& handle) { handle.machine.end_recording(); }, WithoutGil(),
            "Forgets the past.")
        .def(
            "recording", [](Handle& handle) { return handle.machine.recording(); }, WithoutGil(),
            "What is known of its past.")
        .def("run_to", &run_to, py::arg("instructions"))
        .def("run_to_end", &run_to_end, "To where the recording ends.")
        .def(
            "run_back", [](Handle& handle) { return handle.machine.run_back(); }, WithoutGil(),
            "To the last breakpoint before now; false when there was none.")
        .def("raise_host_error", &Handle::raise_host_error,
             "Raises what a Python device raised, if one did.");

    type.def(
        "new_generation", [](Handle& handle) { handle.machine.new_generation(); }, WithoutGil(),
        "Gives the guest a new VM generation ID, and tells it: it goes on from a copy.");
    type.def(
            "reseed", [](Handle& handle, u64 seed) { handle.machine.reseed(seed); }, py::arg("seed"),
            "Deterministic machines: the guest's entropy begins anew.")
        .def(
            "set_wall_clock", [](Handle& handle, u64 ns) { handle.machine.set_wall_clock(ns); },
            py::arg("ns_since_1970"), WithoutGil(), "The guest's wall clock jumps.");
    type.def("plug_disk", &Handle::plug<DiskConfig>, py::arg("disk"), py::arg("slot"), py::arg("name") = "",
             "Plugs a disk in and gives the device's name.")
        .def("plug_net", &Handle::plug<NetConfig>, py::arg("net"), py::arg("slot"), py::arg("name") = "",
             "Plugs a NIC in and gives the device's name.")
        .def(
            "slot_of", [](Handle& handle, const std::string& name) { return handle.machine.slot_of(name); },
            py::arg("name"), "Where a device is that was plugged in.")
        .def("unplug", &Handle::unplug, py::arg("name"), py::arg("timeout"),
             "Takes a device out; false when a driver still used it.");

    const auto machine_property = [&type](const char* name, auto getter, const char* doc = "") {
        type.def_property_readonly(
            name, [getter](Handle& handle) { return getter(handle.machine); }, doc);
    };
    machine_property("state", [](Machine& machine) { return machine.state(); });
    machine_property("stop_info", [](Machine& machine) { return machine.stop_info(); });
    machine_property(
        "instructions", [](Machine& machine) { return machine.instructions(); }, "Retired by all harts.");
    machine_property(
        "time_ns", [](Machine& machine) { return machine.time_ns(); }, "Guest time.");
    machine_property("breakpoints", [](Machine& machine) { return machine.breakpoints(); });
    machine_property("dtb", [](Machine& machine) {
        const auto blob = machine.dtb();
        return py::bytes(reinterpret_cast<const char*>(blob.data()), blob.size());
    });

    // These may wait for a device's mutex, which a hart may hold inside a Python device.
    const auto unlocked = [&type](const char* name, auto method, const char* doc = "") {
        type.def(
            name, [method](Handle& handle) { return (handle.machine.*method)(); }, WithoutGil(), doc);
    };
    unlocked("hart_stats", &Machine::hart_stats);
    unlocked("exits", &Machine::exits);
    unlocked("sbi_calls", &Machine::sbi_calls, "Calls by SBI extension.");
    unlocked("devices", &Machine::devices);
    unlocked("describe", &Machine::describe);
    unlocked("take_marks", &Machine::take_marks, "Sections measured since the last call.");
    // These ask Python devices for their state, and none of those can ask for all of it.
    const auto of_state = [&type](const char* name, auto method, const char* doc) {
        type.def(
            name,
            [method](Handle& handle) {
                handle.require_outside_device();
                ReleaseGil release;
                return (handle.machine.*method)();
            },
            doc);
    };
    of_state("state_hash", &Machine::state_hash, "Digest of all state.");
    of_state("inspect", &Machine::inspect, "(section.field, value) of all integer state.");

    type.def(
            "add_breakpoint", [](Handle& handle, u64 address) { handle.machine.add_breakpoint(address); },
            py::arg("address"))
        .def(
            "remove_breakpoint",
            [](Handle& handle, u64 address) { handle.machine.remove_breakpoint(address); },
            py::arg("address"));

    type.def_property_readonly("harts", [](const HandlePtr& handle) {
        std::vector<HartView> harts;
        for (unsigned i = 0; i < handle->machine.hart_count(); ++i) harts.push_back({handle, i});
        return harts;
    });
    type.def_property_readonly("memory", [](const HandlePtr& handle) { return Memory{handle}; });
    type.def_property_readonly("bus", [](const HandlePtr& handle) { return Bus{handle}; });
    type.def_property_readonly("serial", [](const HandlePtr& handle) {
        return Console{handle, &handle->machine.serial()};
    });
    type.def_property_readonly("hvc", [](const HandlePtr& handle) {
        return Console{handle, &handle->machine.hvc()};
    });
    type.def_property_readonly("console", [](const HandlePtr& handle) {
        return Console{handle, &handle->machine.console()};
    });
}

}  // namespace wirt::bindings

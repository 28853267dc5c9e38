// What a machine counts about itself.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include "bindings/register.h"
#include "machine/machine.h"

namespace wirt::bindings {

namespace py = pybind11;

void register_stats(py::module_& module) {
    using machine::DeviceInfo;
    using machine::HartStats;
    using machine::Mark;
    using machine::TrapCount;
    using memory::ExitCount;

    py::class_<ExitCount>(module, "ExitCount",
                          "How often the guest's accesses to one register left the hart.")
        .def_readonly("device", &ExitCount::device, "The device's name, e.g. ``virtio-blk0``.")
        .def_readonly("cause", &ExitCount::cause, "The register's name, or ``other``.")
        .def_readonly("reads", &ExitCount::reads)
        .def_readonly("writes", &ExitCount::writes)
        .def("__repr__", [](const ExitCount& count) {
            return "<" + count.device + "." + count.cause + ": " + std::to_string(count.reads) + " reads, " +
                   std::to_string(count.writes) + " writes>";
        });

    py::class_<TrapCount>(module, "TrapCount", "How often traps of one cause were taken into one mode.")
        .def_readonly("mode", &TrapCount::mode, "``M``, ``S`` (or HS) or ``VS``.")
        .def_readonly("cause", &TrapCount::cause, "As the privileged specification names it.")
        .def_readonly("count", &TrapCount::count);

    py::class_<HartStats>(module, "HartStats", "Counts of one hart since the machine was built.")
        .def_readonly("instructions", &HartStats::instructions, "Retired instructions.")
        .def_readonly("traps", &HartStats::traps, "Exceptions taken.")
        .def_readonly("interrupts", &HartStats::interrupts, "Interrupts taken.")
        .def_readonly("tlb_misses", &HartStats::tlb_misses, "Accesses that missed the inline TLB.")
        .def_readonly("page_walks", &HartStats::page_walks, "Walks of the guest's page tables.")
        .def_readonly("table_reads", &HartStats::table_reads, "Entries of page tables that the walks read.")
        .def_readonly("tlb_flushes", &HartStats::tlb_flushes)
        .def_readonly("blocks_built", &HartStats::blocks_built, "Basic blocks decoded.")
        .def_readonly("blocks_dropped", &HartStats::blocks_dropped,
                      "Blocks dropped since their code was overwritten.")
        .def_readonly("block_cache_bytes", &HartStats::block_cache_bytes,
                      "Host memory that decoded blocks take, bytes.")
        .def_readonly("block_lookups", &HartStats::block_lookups, "Jumps that no chain covered.")
        .def_readonly("mmio_accesses", &HartStats::mmio_accesses,
                      "Exits: loads and stores that reached a device.")
        .def_readonly("wfi", &HartStats::wfi, "Times that the hart waited for an interrupt.")
        .def_readonly("trap_causes", &HartStats::trap_causes, "Exceptions and interrupts by mode and cause.");

    py::class_<BarDescription>(module, "BarDescription", "A base address register of a PCI function.")
        .def_readonly("index", &BarDescription::index)
        .def_readonly("kind", &BarDescription::kind, "e.g. ``64-bit prefetchable``.")
        .def_readonly("size", &BarDescription::size, "Bytes.")
        .def_readonly("base", &BarDescription::base, "Physical address; None while it decodes nothing.");

    py::class_<QueueDescription>(module, "QueueDescription", "A queue between driver and device.")
        .def_readonly("name", &QueueDescription::name)
        .def_readonly("size", &QueueDescription::size, "Entries.")
        .def_readonly("enabled", &QueueDescription::enabled);

    py::class_<DeviceInfo>(module, "DeviceInfo", "A device of the machine and what it counted.")
        .def_readonly("name", &DeviceInfo::name)
        .def_readonly("kind", &DeviceInfo::kind, "``platform``, ``pci`` or ``virtio-mmio``.")
        .def_readonly("base", &DeviceInfo::base,
                      "Physical address of its registers; None while a BAR is unmapped.")
        .def_readonly("size", &DeviceInfo::size, "Bytes.")
        .def_readonly("interrupt", &DeviceInfo::interrupt, "e.g. ``plic 1``; empty when it has none.")
        .def_property_readonly(
            "address", [](const DeviceInfo& info) { return info.description.address; },
            "On its bus, e.g. ``0000:00:01.0``; empty for a platform device.")
        .def_property_readonly(
            "identity", [](const DeviceInfo& info) { return info.description.identity; },
            "By which drivers know it, e.g. ``8086:10d3`` or ``virtio 2``.")
        .def_property_readonly("bars", [](const DeviceInfo& info) { return info.description.bars; })
        .def_property_readonly("queues", [](const DeviceInfo& info) { return info.description.queues; })
        .def_property_readonly(
            "features", [](const DeviceInfo& info) { return info.description.features; },
            "What the driver has accepted.")
        .def_readonly("exits", &DeviceInfo::exits, "Guest accesses to its registers, all BARs together.")
        .def_property_readonly(
            "operations", [](const DeviceInfo& info) { return info.counters.operations; },
            "Requests, frames or console transfers completed.")
        .def_property_readonly(
            "bytes_moved", [](const DeviceInfo& info) { return info.counters.bytes_moved; },
            "Payload between the guest and what stands behind the device.")
        .def_property_readonly(
            "bytes_copied", [](const DeviceInfo& info) { return info.counters.bytes_copied; },
            "Of these, bytes the monitor itself copied, once a copy.")
        .def_property_readonly(
            "notifications", [](const DeviceInfo& info) { return info.counters.notifications_received; },
            "Doorbells that the guest rang.")
        .def_property_readonly(
            "interrupts", [](const DeviceInfo& info) { return info.counters.interrupts_raised; },
            "Times the device asked for the guest's attention.")
        .def("__repr__", [](const DeviceInfo& info) { return "<" + info.kind + " " + info.name + ">"; });

    py::class_<Mark>(module, "Mark", "A section that the guest measured: all counts are differences.")
        .def_readonly("name", &Mark::name)
        .def_readonly("operations", &Mark::operations, "As the guest counted them.")
        .def_readonly("bytes", &Mark::bytes, "As the guest counted them.")
        .def_readonly("instructions", &Mark::instructions, "Retired by all harts.")
        .def_readonly("host_ns", &Mark::host_ns, "Host time, ns.")
        .def_readonly("sbi_calls", &Mark::sbi_calls)
        .def_readonly("exits", &Mark::exits)
        .def_readonly("devices", &Mark::devices)
        .def_readonly("harts", &Mark::harts);
}

}  // namespace wirt::bindings

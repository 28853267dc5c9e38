#include "bindings/handle.h"
#include "bindings/gil.h"

#include "base/error.h"
#include "bindings/machine_disk.h"
#include "bindings/python_device.h"

namespace wirt::bindings {

namespace {

// Puts a MachineDisk in front of every backend of `config`.
std::vector<std::shared_ptr<MachineDisk>> own_disks(machine::MachineConfig& config) {
    std::vector<std::shared_ptr<MachineDisk>> disks;
    for (machine::DiskConfig& disk : config.disks) {
        disks.push_back(std::make_shared<MachineDisk>(std::move(disk.backend)));
        disk.backend = disks.back();
    }
    return disks;
}

}  // namespace

Handle::Handle(machine::MachineConfig config) : disks_(own_disks(config)), machine(std::move(config)) {}

void Handle::close() {
    {
        // A hart may be inside a Python device and need the GIL to leave it.
        ReleaseGil release;
        // A hart that waits for a page would never come to rest.
        if (arrivals) arrivals->give_up();
        machine.close();
    }
    for (const auto& disk : disks_) disk->release();
    for (const auto& [name, disk] : plugged_disks_) disk->release();
    // A device that refers to its machine would otherwise keep both for ever.
    for (PythonDevice* device : python_devices) device->release();
}

template <>
std::string Handle::plug(machine::DiskConfig config, std::optional<unsigned> slot,
                         const std::string& wanted) {
    require_outside_device();
    const auto disk = std::make_shared<MachineDisk>(std::move(config.backend));
    config.backend = disk;
    std::string name;
    {
        ReleaseGil release;
        name = machine.plug(config, slot, wanted);
    }
    plugged_disks_[name] = disk;
    return name;
}

template <>
std::string Handle::plug(machine::NetConfig config, std::optional<unsigned> slot, const std::string& wanted) {
    require_outside_device();
    ReleaseGil release;
    return machine.plug(config, slot, wanted);
}

void Handle::replace_disk(const std::string& which, std::shared_ptr<storage::BlockBackend> backend) {
    machine.require_still();
    MachineDisk* disk = nullptr;
    if (const auto plugged = plugged_disks_.find(which); plugged != plugged_disks_.end()) {
        disk = plugged->second.get();
    } else {
        for (std::size_t number = 0; number < disks_.size(); ++number) {
            if (std::to_string(number) == which) disk = disks_[number].get();
        }
    }
    if (disk == nullptr || disk->size() != backend->size())
        throw ConfigError("there is no disk " + which + " to replace, or it has another size");
    disk->replace(std::move(backend));
}

bool Handle::unplug(const std::string& name, double timeout_s) {
    require_outside_device();
    bool let_go;
    {
        ReleaseGil release;
        let_go = machine.unplug(name, timeout_s);
    }
    plugged_disks_.erase(name);
    return let_go;
}

void Handle::require_outside_device() const {
    if (PythonDevice::serving() != this) return;
    throw StateError(
        "a device cannot wait for the machine that called it: raise an exception to pause the machine, or do "
        "this from another thread");
}

void Handle::settle_exported_memory() {
    if (!memory_exported) return;
    auto& ram = machine.ram();
    ram.note_write(ram.base(), ram.size());
}

void Handle::raise_host_error() const {
    const machine::StopInfo info = machine.stop_info();
    if (info.reason != machine::StopReason::host_error || !info.error) return;
    try {
        std::rethrow_exception(info.error);
    } catch (py::error_already_set& error) {
        // error_already_set can be restored only once, its parts any number of times.
        PyErr_SetObject(error.type().ptr(), error.value().ptr());
        throw py::error_already_set();
    }
}

}  // namespace wirt::bindings

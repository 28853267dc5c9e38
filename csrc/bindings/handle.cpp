#include "bindings/handle.h"

#include "bindings/python_device.h"

namespace wirt::bindings {

void Handle::close() {
    {
        // A hart may be inside a Python device and need the GIL to leave it.
        py::gil_scoped_release release;
        machine.close();
    }
    // A device that refers to its machine would otherwise keep both for ever.
    for (PythonDevice* device : python_devices) device->release();
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

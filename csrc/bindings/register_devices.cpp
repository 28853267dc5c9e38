// Devices written in Python, and the interrupt lines they drive.
#include "bindings/gil.h"
#include "bindings/register.h"

#include "base/interrupt.h"
#include "bindings/handle.h"
#include "bindings/python_device.h"

namespace wirt::bindings {

namespace {

struct Line {
    HandlePtr handle;  // owns the interrupt controller
    InterruptLine line;
};

}  // namespace

void register_devices(py::module_& module) {
    py::class_<Line>(module, "InterruptLine", "A level-triggered input of the guest's interrupt controller.")
        .def_property_readonly(
            "source", [](const Line& line) { return line.line.source(); }, "Its number at the controller.")
        .def(
            "set",
            [](const Line& line, bool level) {
                ReleaseGil release;
                line.line.set(level);
            },
            py::arg("level"), "Raises (true) or lowers the line; it stays so.");

    module.def(
        "map_device",
        [](const HandlePtr& handle, u64 base, u64 size, const std::string& name, py::object device,
           bool saves) {
            auto owned = std::make_unique<PythonDevice>(name, std::move(device), saves, *handle);
            PythonDevice* const raw = owned.get();
            handle->machine.map_device(base, size, std::move(owned));
            handle->python_devices.push_back(raw);
        },
        py::arg("machine"), py::arg("base"), py::arg("size"), py::arg("name"), py::arg("device"),
        py::arg("saves"),
        "Maps an object with read(offset, size) and write(offset, size, value), and if it saves with save() "
        "and load(state), at a physical address.");
    module.def(
        "interrupt_line",
        [](const HandlePtr& handle, unsigned source) {
            return Line{handle, handle->machine.interrupt_line(source)};
        },
        py::arg("machine"), py::arg("source"), "An interrupt line for such a device; sources 40 to 95.");
}

}  // namespace wirt::bindings

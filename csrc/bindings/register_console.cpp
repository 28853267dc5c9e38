// The host's end of the guest's consoles.
#include "bindings/console.h"

#include <pybind11/stl.h>

#include "bindings/gil.h"
#include "bindings/register.h"

namespace wirt::bindings {

namespace {

std::pair<py::bytes, u64> read(const Console& console, u64 position, double timeout_s) {
    std::vector<u8> data;
    wait_interruptibly(timeout_s, [&](double slice_s) {
        data = console.port->read(position, slice_s);
        return !data.empty();
    });
    return {py::bytes(reinterpret_cast<const char*>(data.data()), data.size()), position};
}

void send(const Console& console, const py::bytes& data) {
    const std::string_view view = data;
    ReleaseGil release;
    console.port->send({reinterpret_cast<const u8*>(view.data()), view.size()});
}

}  // namespace

void register_console(py::module_& module) {
    py::class_<Console>(module, "Console", "Bytes to and from one console of the guest.")
        .def_property_readonly(
            "name", [](const Console& console) { return console.port->name(); }, "Which console it is.")
        .def("send", &send, py::arg("data"), "Gives the guest input; it waits until the guest takes it.")
        .def("read", &read, py::arg("position"), py::arg("timeout") = 0.0,
             "Output from an absolute position on, and the position behind it. Waits up to `timeout` seconds "
             "for at "
             "least one byte (negative: for ever). Output that is no longer kept is skipped.")
        .def_property_readonly(
            "written", [](const Console& console) { return console.port->written(); },
            "How many bytes the guest has written since the machine was built.")
        .def(
            "set_history_limit",
            [](const Console& console, std::size_t bytes) { console.port->set_history_limit(bytes); },
            py::arg("bytes"), "How much output is kept, at least.");
}

}  // namespace wirt::bindings

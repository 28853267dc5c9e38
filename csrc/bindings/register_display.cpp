// The host's end of the guest's display, keyboard and tablet.
#include "devices/display.h"

#include <pybind11/stl.h>

#include "bindings/gil.h"
#include "bindings/handle.h"
#include "bindings/register.h"
#include "devices/input_port.h"

namespace wirt::bindings {

namespace {

using devices::InputEvent;
using devices::Picture;

// Both are owned by the machine.
struct Display {
    HandlePtr handle;
    devices::Display* display;
};
struct Input {
    HandlePtr handle;
    devices::InputPort* port;
};

std::unique_ptr<Picture> capture(const Display& display) {
    auto picture = std::make_unique<Picture>();
    display.display->capture(*picture);
    return picture;
}

py::buffer_info export_pixels(Picture& picture) {
    const auto width = static_cast<py::ssize_t>(picture.width);
    const auto height = static_cast<py::ssize_t>(picture.height);
    using Extents = std::vector<py::ssize_t>;
    return py::buffer_info(picture.pixels.data(), 4, py::format_descriptor<u32>::format(), 2,
                           Extents{height, width}, Extents{width * 4, 4}, /*readonly=*/true);
}

bool send(const Input& input, const std::vector<std::tuple<u16, u16, i32>>& report) {
    std::vector<InputEvent> events;
    for (const auto& [type, code, value] : report) events.push_back({type, code, static_cast<u32>(value)});
    ReleaseGil release;
    return input.port->send(events);
}

}  // namespace

void register_display(py::module_& module) {
    py::class_<Picture>(module, "Picture", py::buffer_protocol(),
                        "What a display shows at one moment: a buffer of height x width 32-bit 0x00RRGGBB.")
        .def_buffer(&export_pixels)
        .def_readonly("width", &Picture::width, "Pixels.")
        .def_readonly("height", &Picture::height, "Pixels.");
    py::class_<Display>(module, "Display", "The guest's display.")
        .def("capture", &capture, WithoutGil(), "What is on the screen now.");
    py::class_<Input>(module, "Input", "The guest's keyboard or tablet.")
        .def("send", &send, py::arg("report"),
             "One report of evdev events (type, code, value); SYN_REPORT is added. False when the guest has "
             "taken nothing for so long that there is no room.")
        .def_property_readonly(
            "leds", [](const Input& input) { return input.port->leds(); },
            "The LEDs that the guest has switched on: bit n is LED n.");

    module.def(
        "display",
        [](const HandlePtr& handle) -> std::optional<Display> {
            auto* display = handle->machine.display();
            return display != nullptr ? std::optional(Display{handle, display}) : std::nullopt;
        },
        py::arg("machine"), "The display of a machine, if it has one.");
    const auto input = [&](const char* name, devices::InputPort* (machine::Machine::*port)(),
                           const char* doc) {
        module.def(
            name,
            [port](const HandlePtr& handle) -> std::optional<Input> {
                auto* found = (handle->machine.*port)();
                return found != nullptr ? std::optional(Input{handle, found}) : std::nullopt;
            },
            py::arg("machine"), doc);
    };
    input("keyboard", &machine::Machine::keyboard, "The keyboard of a machine, if it has one.");
    input("tablet", &machine::Machine::tablet, "The tablet of a machine, if it has one.");
}

}  // namespace wirt::bindings

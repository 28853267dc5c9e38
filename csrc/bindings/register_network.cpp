// The switch, its ports, and the host's own end points on it.
#include "bindings/end_point.h"
#include "bindings/handle.h"
#include "bindings/register.h"

namespace wirt::bindings {

namespace {

py::bytes to_bytes(const network::FramePtr& frame) {
    return py::bytes(reinterpret_cast<const char*>(frame->bytes.data()), frame->bytes.size());
}

py::object receive(EndPoint& end_point, double timeout_s) {
    network::FramePtr frame;
    wait_interruptibly(timeout_s, [&](double slice_s) {
        frame = end_point.receive(slice_s);
        return frame != nullptr;
    });
    return frame ? py::object(to_bytes(frame)) : py::none();
}

void send(EndPoint& end_point, const py::bytes& frame) {
    const std::string_view view = frame;
    std::vector<u8> bytes(view.begin(), view.end());
    py::gil_scoped_release release;
    end_point.send(std::move(bytes));
}

}  // namespace

void register_network(py::module_& module) {
    using network::Port;
    using network::Switch;
    using ReleaseGil = py::call_guard<py::gil_scoped_release>;

    py::class_<Port, std::shared_ptr<Port>>(module, "Port", "One end of a cable, for a machine's NIC.");

    py::class_<EndPoint>(module, "EndPoint", "A host that is Python: it sends and receives Ethernet frames.")
        .def(py::init<std::shared_ptr<Port>>(), py::arg("port"))
        .def("send", &send, py::arg("frame"),
             "Sends one frame: destination, source, type and payload, without FCS (14 to 1518 bytes).")
        .def("receive", &receive, py::arg("timeout") = 0.0,
             "The oldest frame that waits, or None when none arrives in `timeout` seconds (negative: wait "
             "for ever).")
        .def_property_readonly("dropped", &EndPoint::dropped, "Frames that arrived while 4096 were waiting.")
        .def("close", &EndPoint::close, ReleaseGil(), "Unplugs it.");

    py::class_<Switch, std::shared_ptr<Switch>>(module, "Switch",
                                                "A learning Ethernet switch in this process.")
        .def(py::init(&Switch::create))
        .def("add_port", &Switch::add_port, py::arg("name"),
             "A new port; dropping the last reference unplugs it.");
}

}  // namespace wirt::bindings

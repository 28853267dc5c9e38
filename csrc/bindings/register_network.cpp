// The switch, its ports, and the host's own end points on it.
#include <pybind11/stl.h>

#include "bindings/gil.h"
#include "bindings/handle.h"
#include "bindings/register.h"
#include "network/end_point.h"

namespace wirt::bindings {

namespace {

using network::EndPoint;
using network::Port;
using network::Switch;

std::optional<py::bytes> receive(EndPoint& end_point, double timeout_s) {
    std::optional<std::vector<u8>> frame;
    wait_interruptibly(timeout_s, [&](double slice_s) {
        frame = end_point.receive(slice_s);
        return frame.has_value() || end_point.closed();
    });
    if (!frame) return std::nullopt;
    return py::bytes(reinterpret_cast<const char*>(frame->data()), frame->size());
}

void send(EndPoint& end_point, const py::bytes& frame) {
    const std::string_view view = frame;
    ReleaseGil release;
    end_point.send({reinterpret_cast<const u8*>(view.data()), view.size()});
}

}  // namespace

void register_network(py::module_& module) {
    using network::PortStats;

    py::class_<Port, std::shared_ptr<Port>>(module, "Port", "One end of a cable, for a machine's NIC.")
        .def(
            "send",
            [](Port& port, const py::bytes& frame) {
                const std::string_view view = frame;
                if (view.size() < network::ethernet_header_length || view.size() > network::frame_limit)
                    throw py::value_error("a frame has 14 to 65553 bytes");
                auto sent = std::make_shared<network::Frame>();
                sent->bytes.assign(view.begin(), view.end());
                ReleaseGil release;
                port.send(std::move(sent));
            },
            py::arg("frame"), "Sends a frame in the NIC's name.")
        .def_property("link", &Port::link, py::cpp_function(&Port::set_link, WithoutGil()),
                      "Whether the cable is in.");

    py::class_<PortStats>(module, "PortStats", "What passed through a port.")
        .def_readonly("sent_frames", &PortStats::sent_frames)
        .def_readonly("sent_bytes", &PortStats::sent_bytes)
        .def_readonly("received_frames", &PortStats::received_frames)
        .def_readonly("received_bytes", &PortStats::received_bytes)
        .def_readonly("dropped_frames", &PortStats::dropped_frames);

    py::class_<EndPoint>(module, "EndPoint", "A host that is Python: it sends and receives Ethernet frames.")
        .def(py::init([](std::shared_ptr<Port> port, std::size_t queue_limit) {
                 return std::make_unique<EndPoint>(std::move(port), queue_limit);
             }),
             py::arg("port"), py::arg("queue_limit"))
        .def("send", &send, py::arg("frame"))
        .def("receive", &receive, py::arg("timeout"),
             "The oldest frame that waits, or None when none arrives in `timeout` seconds (negative: wait "
             "for ever), or when it is closed.")
        .def_property_readonly("waiting", &EndPoint::waiting, "Frames that wait to be received.")
        .def_property_readonly("stats", &EndPoint::stats)
        .def("close", &EndPoint::close, WithoutGil(), "Unplugs it.")
        .def_property_readonly("closed", &EndPoint::closed);

    py::class_<Switch, std::shared_ptr<Switch>>(module, "Switch",
                                                "A learning Ethernet switch in this process.")
        .def(py::init(&Switch::create))
        .def("add_port", &Switch::add_port, py::arg("name"),
             "A new port; dropping the last reference unplugs it.");
}

}  // namespace wirt::bindings

#include "bindings/python_device.h"

namespace wirt::bindings {

PythonDevice::PythonDevice(std::string name, py::object object)
    : name_(std::move(name)), object_(std::move(object)) {}

PythonDevice::~PythonDevice() {
    py::gil_scoped_acquire acquire;
    object_ = py::object();
}

u64 PythonDevice::read(u64 offset, unsigned size) {
    py::gil_scoped_acquire acquire;
    if (object_.is_none()) return 0;
    const py::object result = object_.attr("read")(offset, size);
    const py::int_ mask((size == 8) ? ~u64{0} : (u64{1} << (size * 8)) - 1);
    // `&` takes in negative numbers as two's complement and refuses what is no integer.
    PyObject* masked = PyNumber_And(result.ptr(), mask.ptr());
    if (masked == nullptr) {
        PyErr_Clear();
        throw py::type_error("device " + name_ + ": read() has to return an int, not " +
                             std::string(py::str(py::type::of(result).attr("__name__"))));
    }
    return py::cast<u64>(py::reinterpret_steal<py::object>(masked));
}

void PythonDevice::write(u64 offset, unsigned size, u64 value) {
    py::gil_scoped_acquire acquire;
    if (!object_.is_none()) object_.attr("write")(offset, size, value);
}

void PythonDevice::reset() {
    py::gil_scoped_acquire acquire;
    if (py::hasattr(object_, "reset")) object_.attr("reset")();
}

void PythonDevice::visit_state(StateVisitor& v) {
    v.section("python/" + name_, 1);
}

}  // namespace wirt::bindings

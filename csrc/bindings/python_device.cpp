#include "bindings/python_device.h"

#include <utility>

namespace wirt::bindings {

namespace {

thread_local const Handle* served = nullptr;

struct Serving {
    explicit Serving(const Handle& handle) : before(std::exchange(served, &handle)) {}
    ~Serving() { served = before; }
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;
    const Handle* const before;
};

}  // namespace

PythonDevice::PythonDevice(std::string name, py::object object, const Handle& owner)
    : name_(std::move(name)), object_(std::move(object)), owner_(owner) {}

const Handle* PythonDevice::serving() {
    return served;
}

PythonDevice::~PythonDevice() {
    py::gil_scoped_acquire acquire;
    object_ = py::object();
}

u64 PythonDevice::read(u64 offset, unsigned size) {
    py::gil_scoped_acquire acquire;
    if (object_.is_none()) return 0;
    const Serving serving(owner_);
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
    if (object_.is_none()) return;
    const Serving serving(owner_);
    object_.attr("write")(offset, size, value);
}

void PythonDevice::reset() {
    py::gil_scoped_acquire acquire;
    if (py::hasattr(object_, "reset")) object_.attr("reset")();
}

void PythonDevice::visit_state(StateVisitor& v) {
    v.section("python/" + name_, 1);
}

}  // namespace wirt::bindings

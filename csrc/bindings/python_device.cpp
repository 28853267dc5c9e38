#include "bindings/python_device.h"

#include <string_view>
#include <utility>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::bindings {

namespace {

thread_local const Handle* served = nullptr;

constexpr std::size_t most_state = 64 * MiB;

struct Serving {
    explicit Serving(const Handle& handle) : before(std::exchange(served, &handle)) {}
    ~Serving() { served = before; }
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;
    const Handle* const before;
};

}  // namespace

PythonDevice::PythonDevice(std::string name, py::object object, bool saves, const Handle& owner)
    : name_(std::move(name)), object_(std::move(object)), saves_(saves), owner_(owner) {}

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
    if (!saves_) return;
    std::vector<u8> state;
    if (!v.loading()) state = save();
    v.blob("state", state, most_state);
    if (v.loading()) load(state);
}

std::vector<u8> PythonDevice::save() const {
    py::gil_scoped_acquire acquire;
    if (object_.is_none()) return {};
    const Serving serving(owner_);
    const py::object result = object_.attr("save")();
    if (!py::isinstance<py::bytes>(result)) {
        throw py::type_error("device " + name_ + ": save() has to return bytes, not " +
                             std::string(py::str(py::type::of(result).attr("__name__"))));
    }
    const std::string_view bytes = result.cast<py::bytes>();
    if (bytes.size() > most_state)
        throw py::value_error("device " + name_ + ": save() returns more than 64 MiB");
    return {bytes.begin(), bytes.end()};
}

void PythonDevice::load(const std::vector<u8>& state) {
    py::gil_scoped_acquire acquire;
    if (object_.is_none()) return;
    const Serving serving(owner_);
    try {
        object_.attr("load")(py::bytes(reinterpret_cast<const char*>(state.data()), state.size()));
    } catch (const py::error_already_set& error) {
        // Whoever loads a state hears of all that is wrong with it in one way. Not Ctrl-C, though.
        if (!error.matches(PyExc_Exception)) throw;
        throw StateError("device " + name_ + ": load() refuses the state: " + error.what());
    }
}

}  // namespace wirt::bindings

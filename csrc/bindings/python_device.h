// A memory-mapped device whose registers are served by a Python object.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "memory/mmio.h"

namespace wirt::bindings {

namespace py = pybind11;

class Handle;

// Calls the object's read(offset, size) and write(offset, size, value) with the GIL held, on the thread of
// the hart that made the access. What they raise passes through the hart and pauses the machine. An object
// that can be copied has save() and load(state) as well: bytes that are its own secret, of any content when
// they come from a file or another host.
class PythonDevice final : public memory::MmioDevice {
  public:
    PythonDevice(std::string name, py::object object, bool saves, const Handle& owner);
    ~PythonDevice() override;

    std::string_view name() const override { return name_; }
    // Its registers are Python's secret: all accesses are counted as "other".
    std::span<const memory::Register> registers() const override { return {}; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

    // Whether its state can be saved.
    bool saves() const { return saves_; }

    // The machine whose device this thread is inside of; null when it is in none.
    static const Handle* serving();

    // Lets go of the object; reads give 0 from then on. With the GIL held.
    void release() { object_ = py::none(); }

  private:
    std::vector<u8> save() const;
    void load(const std::vector<u8>& state);

    const std::string name_;
    py::object object_;
    const bool saves_;
    const Handle& owner_;
};

}  // namespace wirt::bindings

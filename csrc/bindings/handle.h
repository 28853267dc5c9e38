// What the bound objects share: the machine, and who keeps it alive.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/gil.h"
#include "machine/machine.h"
#include "memory/page_arrivals.h"

namespace wirt::bindings {

namespace py = pybind11;

class MachineDisk;
class PythonDevice;

// Every Python object that reaches into a machine (a hart, its memory, an exported buffer) shares this, so
// that the machine outlives them all. It is dropped by Python only, hence with the GIL held.
class Handle {
  public:
    explicit Handle(machine::MachineConfig config);
    ~Handle() { close(); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

    // Ends the machine, closes its disks and lets go of what it holds of Python. Consoles, statistics and the
    // reason of the stop can still be read. With the GIL held.
    void close();
    // As Machine::plug and unplug. With the GIL held; let go of meanwhile.
    template <typename Config>
    std::string plug(Config config, std::optional<unsigned> slot, const std::string& name);
    bool unplug(const std::string& name, double timeout_s);
    // Puts another backend of the same size behind a disk: the number it has in the configuration, or the
    // name of the device that was plugged in. While the machine does not run; with the GIL held.
    void replace_disk(const std::string& which, std::shared_ptr<storage::BlockBackend> backend);
    // Called before harts run: what was written through an exported buffer may be code that was decoded.
    void settle_exported_memory();
    // Throws the exception that a Python device raised on a hart's thread, as often as it is asked to.
    // With the GIL held.
    void raise_host_error() const;
    // Throws StateError on a thread that is inside a Python device of this machine: a hart would wait for
    // itself.
    void require_outside_device() const;

  private:
    std::vector<std::shared_ptr<MachineDisk>> disks_;
    std::map<std::string, std::shared_ptr<MachineDisk>> plugged_disks_;  // by the name of their controller

  public:
    // What the machine's harts may be waiting for, which therefore goes after them.
    std::shared_ptr<memory::PageArrivals> arrivals;
    machine::Machine machine;
    bool memory_exported = false;
    std::vector<PythonDevice*> python_devices;  // owned by the machine
};

using HandlePtr = std::shared_ptr<Handle>;

// Runs `wait(seconds)`, which returns true when it is done, in slices without the GIL, so that Ctrl-C is
// heard. False on time-out. A negative `timeout_s` waits for ever.
template <typename Wait>
bool wait_interruptibly(double timeout_s, Wait wait) {
    using clock = std::chrono::steady_clock;
    constexpr double slice_s = 0.1;
    const auto begin = clock::now();
    for (;;) {
        double left = slice_s;
        if (timeout_s >= 0) {
            const std::chrono::duration<double> passed = clock::now() - begin;
            left = std::clamp(timeout_s - passed.count(), 0.0, slice_s);
        }
        bool done;
        {
            ReleaseGil release;
            done = wait(left);
        }
        if (done) return true;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (left == 0) return false;
    }
}

}  // namespace wirt::bindings

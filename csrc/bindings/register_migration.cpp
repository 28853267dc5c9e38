// What migration does to a machine: handing it over, slowing it down, its pages out and in, and the pages
// that arrive while it runs.
#include <pybind11/stl.h>

#include <mutex>

#include "base/error.h"
#include "bindings/gil.h"
#include "bindings/handle.h"
#include "bindings/register.h"
#include "bindings/state.h"
#include "memory/nonzero_pages.h"
#include "state/page_codec.h"

namespace wirt::bindings {

namespace {

using memory::PageArrivals;
using memory::PageSet;
using state::PageEncoder;

py::bytes to_bytes(std::span<const u8> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// An encoder keeps its machine, and several threads may have it.
struct Encoder {
    Encoder(HandlePtr machine, u64 cache_pages)
        : handle(std::move(machine)), encoder(handle->machine.ram(), cache_pages) {}
    HandlePtr handle;
    std::mutex mutex;
    PageEncoder encoder;
};

struct Arrivals {
    HandlePtr handle;
    std::shared_ptr<PageArrivals> arrivals;
};

void register_encoder(py::module_& module) {
    using Counts = PageEncoder::Counts;
    py::class_<Counts>(module, "PageCounts", "What became of the pages that an encoder looked at.")
        .def_readonly("looked_at", &Counts::looked_at)
        .def_readonly("zero", &Counts::zero, "Sent as a number, since the other side had something else.")
        .def_readonly("whole", &Counts::whole)
        .def_readonly("changed", &Counts::changed, "Sent as a difference.")
        .def_readonly("changed_bytes", &Counts::changed_bytes)
        .def_readonly("same", &Counts::same, "Not sent: they were as they had been sent before.");

    py::class_<Encoder>(module, "PageEncoder",
                        "Makes batches of pages for another host: csrc/state/page_codec.h.")
        .def(py::init<HandlePtr, u64>(), py::arg("machine"), py::arg("cache_pages"),
             "Remembers so many pages, to send differences.")
        .def(
            "encode",
            [](Encoder& self, PageSet& left, u64 most, bool remember) {
                std::vector<u8> batch;
                {
                    ReleaseGil release;
                    std::lock_guard lock(self.mutex);
                    batch = self.encoder.encode(left, most, remember);
                }
                return to_bytes(batch);
            },
            py::arg("left"), py::arg("most"), py::arg("remember"),
            "Takes pages out of `left`: a batch of about `most` bytes, which may be empty although pages "
            "were taken.")
        .def(
            "encode_all",
            [](Encoder& self, PageSet& left, u64 most) {
                std::vector<u8> batch;
                {
                    ReleaseGil release;
                    std::lock_guard lock(self.mutex);
                    batch = self.encoder.encode_all(left, most);
                }
                return to_bytes(batch);
            },
            py::arg("left"), py::arg("most"), "The same with every page, whatever the other side has.")
        .def_property_readonly("counts", [](Encoder& self) {
            std::lock_guard lock(self.mutex);
            return self.encoder.counts();
        });
}

void register_arrivals(py::module_& module) {
    py::class_<Arrivals>(module, "PageArrivals", "Pages that arrive while the guest runs already.")
        .def(py::init([](HandlePtr handle, const PageSet& missing) {
                 handle->require_outside_device();
                 handle->machine.require_still();
                 auto& ram = handle->machine.ram();
                 if (handle->arrivals) throw StateError("pages of this machine are arriving already");
                 if (missing.pages() != ram.pages())
                     throw SnapshotError("a set of pages is of another memory");
                 handle->arrivals = std::make_shared<PageArrivals>(ram, missing);
                 if (!missing.empty()) ram.set_source(handle->arrivals.get());
                 return Arrivals{handle, handle->arrivals};
             }),
             py::arg("machine"), py::arg("missing"),
             "While it does not run: who needs these pages waits for them.")
        .def_property_readonly("missing", [](const Arrivals& self) { return self.arrivals->missing(); })
        .def(
            "missing_pages", [](const Arrivals& self) { return self.arrivals->missing_pages(); },
            "Which they are; out of date at once while some arrive.")
        .def(
            "wanted",
            [](const Arrivals& self, u64 most, double timeout) {
                ReleaseGil release;
                return self.arrivals->wanted(most, timeout);
            },
            py::arg("most"), py::arg("timeout"),
            "Pages that somebody waits for, each once; waits `timeout` seconds for the first.")
        .def(
            "ask_again", [](const Arrivals& self) { self.arrivals->ask_again(); },
            "`wanted` gives out once more what has not come.")
        .def(
            "decode",
            [](const Arrivals& self, const py::buffer& batch) {
                const std::span<const u8> data = view_of(batch);
                ReleaseGil release;
                const u64 count = state::decode_pages(self.handle->machine.ram(), data, self.arrivals.get());
                if (self.arrivals->missing() == 0) self.handle->machine.ram().set_source(nullptr);
                return count;
            },
            py::arg("batch"), "Brings pages; those that are there already stay as they are.")
        .def(
            "give_up", [](const Arrivals& self) { self.arrivals->give_up(); },
            "Nobody waits any more; the machine is of no use then.")
        .def(
            "waits", [](const Arrivals& self) { return self.arrivals->waits(); },
            "How long each wait for pages took, ns.");
}

}  // namespace

void register_migration(py::module_& module) {
    register_encoder(module);
    register_arrivals(module);

    module.def(
        "decode_pages",
        [](Handle& handle, const py::buffer& batch) {
            if (handle.machine.state() != machine::MachineState::created)
                throw StateError("pages are put into a machine that never ran");
            const std::span<const u8> data = view_of(batch);
            ReleaseGil release;
            return state::decode_pages(handle.machine.ram(), data, nullptr);
        },
        py::arg("machine"), py::arg("batch"), "Puts a batch of pages into its memory; how many those were.");
    module.def(
        "used_pages",
        [](Handle& handle) {
            ReleaseGil release;
            return memory::used_pages(handle.machine.ram());
        },
        py::arg("machine"), "Its pages that hold anything but zeroes, each looked at at another moment.");
    module.def(
        "hold",
        [](Handle& handle) {
            handle.require_outside_device();
            bool ran;
            {
                ReleaseGil release;
                ran = handle.machine.hold();
            }
            // What was written through an exported buffer nobody has noted.
            handle.settle_exported_memory();
            return ran;
        },
        py::arg("machine"), "Pauses it, and has it stay so until `release`; whether it ran.");
    module.def(
        "release", [](Handle& handle) { handle.machine.release(); }, py::arg("machine"), WithoutGil(),
        "It may run again, and is still paused.");
    module.def(
        "set_brake", [](Handle& handle, bool on) { handle.machine.set_brake(on); }, py::arg("machine"),
        py::arg("on"), WithoutGil(), "Harts do nothing while it is on.");
}

}  // namespace wirt::bindings

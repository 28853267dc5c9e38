// State as an object: saved state, memory at one moment, sets of pages and dirty logs, for snapshots, clones
// and migration.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include "base/error.h"
#include "bindings/gil.h"
#include "bindings/handle.h"
#include "bindings/python_device.h"
#include "bindings/register.h"
#include "bindings/state.h"
#include "memory/nonzero_pages.h"
#include "memory/page_capture.h"
#include "memory/zero_page.h"
#include "state/stream.h"

namespace wirt::bindings {

namespace {

using memory::DirtyLog;
using memory::PageCapture;
using memory::PageDelta;
using memory::PageSet;
using memory::RamImage;
using memory::RamPoint;

py::bytes to_bytes(std::span<const u8> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// Page numbers travel as little-endian 64-bit numbers: numpy.frombuffer and array.array("Q") read them.
py::bytes page_numbers(const std::vector<u64>& pages) {
    return {reinterpret_cast<const char*>(pages.data()), pages.size() * sizeof(u64)};
}

std::vector<u64> page_numbers(const py::buffer& numbers, u64 limit) {
    const std::span<const u8> raw = view_of(numbers);
    if (raw.size() % sizeof(u64) != 0) throw py::value_error("page numbers have eight bytes each");
    std::vector<u64> pages(raw.size() / sizeof(u64));
    std::memcpy(pages.data(), raw.data(), raw.size());
    for (const u64 page : pages) {
        if (page >= limit) {
            throw SnapshotError("page " + std::to_string(page) + " is outside of the guest's memory of " +
                                std::to_string(limit) + " pages");
        }
    }
    return pages;
}

// A capture keeps its machine.
struct Capture {
    HandlePtr handle;
    std::unique_ptr<PageCapture> capture;
};

void check_same(const PageSet& a, const PageSet& b) {
    if (a.pages() != b.pages()) throw py::value_error("the sets are of memories of different sizes");
}

void register_page_sets(py::module_& module) {
    py::native_enum<DirtyLog>(module, "DirtyLog", "enum.Enum", "Who wants to know which pages were written.")
        .value("point", DirtyLog::point)
        .value("snapshot", DirtyLog::snapshot)
        .value("migration", DirtyLog::migration)
        .value("replay", DirtyLog::replay)
        .finalize();

    py::class_<PageSet>(module, "PageSet", "A set of pages of guest RAM, numbered from 0.")
        .def(py::init<u64>(), py::arg("pages"), "Empty; for a memory of so many pages.")
        .def_property_readonly("pages", &PageSet::pages, "How many pages the memory has.")
        .def("__len__", &PageSet::size)
        .def("__bool__", [](const PageSet& set) { return !set.empty(); })
        .def("__contains__", &PageSet::contains)
        .def(
            "equals", [](const PageSet& a, const PageSet& b) { return a == b; }, py::arg("other"))
        .def(
            "insert",
            [](PageSet& set, u64 page) {
                if (page >= set.pages()) throw py::index_error("there is no such page");
                set.insert(page);
            },
            py::arg("page"))
        .def("insert_all", &PageSet::insert_all)
        .def(
            "remove",
            [](PageSet& set, u64 page) {
                if (set.contains(page)) set.remove(page);
            },
            py::arg("page"))
        .def("runs", &PageSet::runs, "(first page, count) of every run, in order.")
        .def(
            "numbers",
            [](const PageSet& set) {
                std::vector<u64> pages;
                for (u64 page = set.next(0); page < set.pages(); page = set.next(page + 1))
                    pages.push_back(page);
                return page_numbers(pages);
            },
            "The pages in order, eight bytes each, little-endian.")
        .def(
            "insert_numbers",
            [](PageSet& set, const py::buffer& numbers) {
                for (const u64 page : page_numbers(numbers, set.pages())) set.insert(page);
            },
            py::arg("numbers"),
            "As numbers() gives them, in any order. Raises SnapshotError for pages that are not.")
        .def(
            "remove_numbers",
            [](PageSet& set, const py::buffer& numbers) {
                for (const u64 page : page_numbers(numbers, set.pages())) set.remove(page);
            },
            py::arg("numbers"))
        .def_static("of_file", &memory::nonzero_pages, py::arg("fd"), py::arg("size"), WithoutGil(),
                    "The pages of a file's first `size` bytes that hold anything but zeroes.")
        .def("copy", [](const PageSet& set) { return set; })
        .def(
            "bits",
            [](const PageSet& set) {
                std::vector<u64> words(set.words());
                for (u64 i = 0; i < set.words(); ++i) words[i] = set.word(i);
                return page_numbers(words);
            },
            "A bit a page, in little-endian words of 64 bits.")
        .def_static(
            "of_bits",
            [](u64 pages, const py::buffer& bits) {
                PageSet set(pages);
                const std::span<const u8> raw = view_of(bits);
                if (raw.size() != set.words() * sizeof(u64))
                    throw SnapshotError("a set of pages has not the size that the memory needs");
                for (u64 i = 0; i < set.words(); ++i)
                    std::memcpy(&set.word(i), &raw[i * sizeof(u64)], sizeof(u64));
                for (u64 page = pages; page < set.words() * 64; ++page) {
                    if ((set.word(page / 64) >> (page % 64) & 1) != 0)
                        throw SnapshotError("a set of pages has one that the memory has not");
                }
                return set;
            },
            py::arg("pages"), py::arg("bits"),
            "What `bits` gave; SnapshotError when it is of another memory.")
        .def(
            "take_from",
            [](PageSet& set, u64 first, u64 most) {
                PageSet out(set.pages());
                u64 page = set.next(first);
                if (page >= set.pages()) page = set.next(0);
                for (u64 count = 0; page < set.pages() && count < most; page = set.next(page + 1), ++count) {
                    set.remove(page);
                    out.insert(page);
                }
                return out;
            },
            py::arg("first"), py::arg("most"),
            "Takes at most so many pages out, those at `first` and after it, or else the first.")
        .def(
            "take_range",
            [](PageSet& set, u64 first, u64 count) {
                PageSet out(set.pages());
                for (u64 page = set.next(first); page < set.pages() && page - first < count;
                     page = set.next(page + 1)) {
                    set.remove(page);
                    out.insert(page);
                }
                return out;
            },
            py::arg("first"), py::arg("count"), "Takes those of so many pages out that are in it.")
        .def(
            "share",
            [](const PageSet& set, u64 index, u64 count) {
                if (index >= count) throw py::index_error("there is no such share");
                PageSet out(set.pages());
                for (u64 i = index; i < set.words(); i += count) out.word(i) = set.word(i);
                return out;
            },
            py::arg("index"), py::arg("count"),
            "One of `count` parts: the same pages are always in the same part.")
        .def("__ior__", [](PageSet& a, const PageSet& b) { return check_same(a, b), a |= b; })
        .def("__iand__", [](PageSet& a, const PageSet& b) { return check_same(a, b), a &= b; })
        .def("__isub__", [](PageSet& a, const PageSet& b) { return check_same(a, b), a -= b; })
        .def(
            "take",
            [](PageSet& set, u64 most) {
                std::vector<u64> pages;
                for (u64 page = set.next(0); page < set.pages() && pages.size() < most;
                     page = set.next(page + 1)) {
                    pages.push_back(page);
                    set.remove(page);
                }
                return page_numbers(pages);
            },
            py::arg("most"), "Takes at most so many pages out of the set: their numbers, eight bytes each.");
}

void register_points(py::module_& module) {
    py::class_<RamPoint>(module, "RamPoint", "The content of guest RAM at one moment, shared copy-on-write.")
        .def_static(
            "of_file",
            [](int fd, u64 size) {
                return RamPoint{RamImage::of_file(fd, size), nullptr};
            },
            py::arg("fd"), py::arg("size"),
            "A file's first `size` bytes. Nobody may write to it while it is in use.")
        .def_property_readonly(
            "size", [](const RamPoint& point) { return point.image->size(); }, "Bytes.")
        .def_property_readonly(
            "delta_pages", [](const RamPoint& point) { return point.delta ? point.delta->pages.size() : 0; },
            "Pages that each clone gets a copy of.")
        .def(
            "page",
            [](const RamPoint& point, u64 page) {
                if (page >= point.image->size() / page_size) throw py::index_error("there is no such page");
                return to_bytes({point.page(page), page_size});
            },
            py::arg("page"))
        .def(
            "with_pages",
            [](const RamPoint& point, const py::buffer& numbers, const py::buffer& content) {
                auto delta = std::make_shared<PageDelta>();
                delta->pages = page_numbers(numbers, point.image->size() / page_size);
                const std::span<const u8> data = view_of(content);
                delta->content.assign(data.begin(), data.end());
                if (point.delta || !std::is_sorted(delta->pages.begin(), delta->pages.end()) ||
                    std::adjacent_find(delta->pages.begin(), delta->pages.end()) != delta->pages.end() ||
                    delta->content.size() != delta->pages.size() * page_size) {
                    throw SnapshotError("the changed pages are not in order, or not all there");
                }
                return RamPoint{point.image, std::move(delta)};
            },
            py::arg("pages"), py::arg("content"), "The same, but for some pages; given in ascending order.");

    py::class_<SavedState>(module, "SavedState", "All state of a machine but its memory.")
        .def(py::init([](const py::buffer& data) {
                 const std::span<const u8> raw = view_of(data);
                 return SavedState{std::make_shared<const std::vector<u8>>(raw.begin(), raw.end())};
             }),
             py::arg("data"))
        .def("__bytes__", [](const SavedState& state) { return to_bytes(*state.bytes); })
        .def("__len__", [](const SavedState& state) { return state.bytes->size(); })
        .def("records", &records,
             "(kind, name, value) of everything: `section` with its version, `integer`, `bytes` and `blob`. "
             "Raises "
             "SnapshotError where it is broken.");

    module.def(
        "state_sections",
        [](const SavedState& saved) {
            std::vector<std::tuple<std::string, u64, u64, u64>> out;
            state::RecordReader reader(*saved.bytes);
            const u64 size = saved.bytes->size();
            for (u64 at = 0;; at = size - reader.left()) {
                const state::Record record = reader.next();
                const bool end = record.kind == state::Record::Kind::end;
                if (!out.empty() && (end || record.kind == state::Record::Kind::section))
                    std::get<3>(out.back()) = at - std::get<2>(out.back());
                if (end) return out;
                if (record.kind == state::Record::Kind::section)
                    out.emplace_back(record.name, record.value, at, 0);
            }
        },
        py::arg("state"),
        "(name, version, offset, size) of each section. Raises SnapshotError where it is broken.");

    py::class_<machine::Origin>(module, "Origin", "What a machine begins with in place of images.")
        .def(py::init([](std::optional<RamPoint> memory, const std::optional<SavedState>& state,
                         const py::bytes& dtb) {
                 const std::string_view tree = dtb;
                 return machine::Origin{
                     std::move(memory), state ? state->bytes : nullptr, {tree.begin(), tree.end()}};
             }),
             py::arg("memory"), py::arg("state"), py::arg("dtb"));

    py::class_<Capture>(module, "PageCapture",
                        "Pages as they were at one moment, read while the guest goes on writing them.")
        .def(
            "read",
            [](Capture& capture, u64 most) {
                if (!capture.capture) throw StateError("the capture is closed");
                PageCapture::Batch batch;
                {
                    ReleaseGil release;
                    batch = capture.capture->read(most);
                }
                return py::make_tuple(batch.visited, page_numbers(batch.pages), to_bytes(batch.content));
            },
            py::arg("most"),
            "The next pages: how many (0: all were read), and of those that are not all zeroes the numbers, "
            "eight "
            "bytes each and in no order, and the content.")
        .def_property_readonly("remaining",
                               [](const Capture& c) { return c.capture ? c.capture->remaining() : 0; })
        .def_property_readonly(
            "preserved", [](const Capture& c) { return c.capture ? c.capture->preserved() : 0; },
            "Pages that the guest wrote before they were read.")
        .def(
            "close", [](Capture& capture) { capture.capture.reset(); },
            "The guest's writes cost nothing any more; idempotent.");
}

}  // namespace

std::span<const u8> view_of(const py::buffer& buffer) {
    const py::buffer_info info = buffer.request();
    if (PyBuffer_IsContiguous(info.view(), 'C') == 0) throw py::value_error("the bytes must be contiguous");
    return {static_cast<const u8*>(info.ptr), static_cast<std::size_t>(info.size * info.itemsize)};
}

Records records(const SavedState& saved) {
    using state::Record;
    Records out;
    state::RecordReader reader(*saved.bytes);
    for (Record record = reader.next(); record.kind != Record::Kind::end; record = reader.next()) {
        static constexpr const char* kinds[] = {"end", "section", "integer", "bytes", "blob"};
        const bool number = record.kind == Record::Kind::section || record.kind == Record::Kind::integer;
        py::object value = number ? py::object(py::int_(record.value)) : py::object(to_bytes(record.data));
        out.append(py::make_tuple(kinds[static_cast<unsigned>(record.kind)],
                                  py::str(std::string(record.name)), std::move(value)));
    }
    return out;
}

void register_state_types(py::module_& module) {
    register_page_sets(module);
    register_points(module);
}

void register_state(py::module_& module) {
    const auto still = [](Handle& handle) {
        handle.require_outside_device();
        handle.machine.require_still();
    };
    module.def(
        "save_state",
        [](Handle& handle) {
            handle.require_outside_device();
            for (const PythonDevice* device : handle.python_devices) {
                if (device->saves()) continue;
                throw StateError(
                    std::string(device->name()) +
                    ": a device in Python whose class has no save() and load(): nobody knows its state");
            }
            ReleaseGil release;
            return SavedState{std::make_shared<const std::vector<u8>>(handle.machine.save_state())};
        },
        py::arg("machine"), "All but its memory; while it does not run.");
    module.def(
        "load_state",
        [](Handle& handle, const SavedState& state) {
            handle.require_outside_device();
            ReleaseGil release;
            handle.machine.load_state(state.bytes);
        },
        py::arg("machine"), py::arg("state"), "Into a machine that was made for it; it is paused then.");
    module.def(
        "freeze",
        [still](Handle& handle, u64 clones) {
            still(handle);
            ReleaseGil release;
            return handle.machine.ram().freeze(clones);
        },
        py::arg("machine"), py::arg("clones"), "Its memory as a point from which so many clones begin.");
    module.def(
        "reset",
        [](Handle& handle) {
            handle.require_outside_device();
            handle.settle_exported_memory();
            ReleaseGil release;
            return handle.machine.reset();
        },
        py::arg("machine"), "Back to what it began with; how many pages had to be put back.");
    module.def(
        "replace_disk",
        [](Handle& handle, const std::string& which, std::shared_ptr<storage::BlockBackend> backend) {
            handle.replace_disk(which, std::move(backend));
        },
        py::arg("machine"), py::arg("which"), py::arg("backend"),
        "Another content behind a disk, of the same size; while it does not run.");
    module.def(
        "begin_capture",
        [still](const HandlePtr& handle, const std::optional<PageSet>& pages) {
            still(*handle);
            auto& ram = handle->machine.ram();
            PageSet wanted(ram.pages());
            if (pages) {
                check_same(wanted, *pages);
                wanted = *pages;
            } else {
                wanted.insert_all();
            }
            ReleaseGil release;
            return std::make_unique<Capture>(handle, ram.begin_capture(std::move(wanted)));
        },
        py::arg("machine"), py::arg("pages"), "Its memory as it is now (None: all pages).");

    module.def(
        "save_recording", [](Handle& handle) { return to_bytes(handle.machine.save_recording()); },
        py::arg("machine"),
        "Its recording, which goes with the state that was saved last; empty when it has none.");
    module.def(
        "load_recording",
        [](Handle& handle, const py::buffer& saved) {
            const std::span<const u8> bytes = view_of(saved);
            ReleaseGil release;
            handle.machine.load_recording(bytes);
        },
        py::arg("machine"), py::arg("saved"),
        "What that was, into a machine that has just loaded that state.");

    const auto log = [&module](const char* name, auto call, const char* doc) {
        module.def(
            name, [call](Handle& handle, DirtyLog which) { return call(handle.machine.ram(), which); },
            py::arg("machine"), py::arg("log"), WithoutGil(), doc);
    };
    log(
        "start_log", [](memory::GuestRam& ram, DirtyLog which) { ram.start_log(which); },
        "Counts pages that are written from here on.");
    log(
        "stop_log", [](memory::GuestRam& ram, DirtyLog which) { ram.stop_log(which); }, "Counts no more.");
    log(
        "take_dirty", [](memory::GuestRam& ram, DirtyLog which) { return ram.take_dirty(which); },
        "The pages written since the last call; what is written later is counted again.");
    module.def(
        "settle_memory", [](Handle& handle) { handle.settle_exported_memory(); }, py::arg("machine"),
        "Where a buffer over its memory was given out, all pages count as written: nobody saw which were.");
    log(
        "dirty_count", [](memory::GuestRam& ram, DirtyLog which) { return ram.dirty_count(which); },
        "How many pages the log has.");
}

}  // namespace wirt::bindings

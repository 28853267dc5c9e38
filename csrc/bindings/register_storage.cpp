// What stands behind a guest's disk.
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bits.h"
#include "base/error.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "storage/block_backend.h"
#include "storage/copy.h"
#include "storage/overlay.h"
#include "storage/tracked_disk.h"
#include "storage/volatile_cache.h"

namespace wirt::bindings {

namespace py = pybind11;

namespace {

using storage::BlockBackend;

void check(const BlockBackend& backend, u64 offset, u64 length) {
    if (!range_inside(offset, length, 0, backend.size())) {
        throw StorageError(backend.describe() + ": bytes " + std::to_string(offset) + " to " +
                           std::to_string(offset + length) + " are not all inside its " +
                           std::to_string(backend.size()));
    }
}

void check(const BlockBackend& backend, int error) {
    if (error != 0) throw StorageError(backend.describe() + ": " + std::strerror(error));
}

py::bytes read(BlockBackend& backend, u64 offset, u64 length) {
    check(backend, offset, length);
    py::object result = py::reinterpret_steal<py::object>(
        PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(length)));
    if (!result) throw py::error_already_set();
    const iovec span{PyBytes_AS_STRING(result.ptr()), length};
    int error;
    {
        ReleaseGil release;
        error = backend.read(offset, {&span, 1});
    }
    check(backend, error);
    return py::reinterpret_borrow<py::bytes>(result);
}

void write(BlockBackend& backend, u64 offset, const py::bytes& data) {
    const std::string_view view = data;
    check(backend, offset, view.size());
    // The backend only reads from it.
    const iovec span{const_cast<char*>(view.data()), view.size()};
    int error;
    {
        ReleaseGil release;
        error = backend.write(offset, {&span, 1});
    }
    check(backend, error);
}

void flush(BlockBackend& backend) {
    int error;
    {
        ReleaseGil release;
        error = backend.flush();
    }
    check(backend, error);
}

void write_zeroes(BlockBackend& backend, u64 offset, u64 length, bool may_unmap) {
    check(backend, offset, length);
    if (length == 0) return;
    int error;
    {
        ReleaseGil release;
        error = backend.write_zeroes(offset, length, may_unmap);
    }
    check(backend, error);
}

void discard(BlockBackend& backend, u64 offset, u64 length) {
    check(backend, offset, length);
    if (length == 0) return;
    int error;
    {
        ReleaseGil release;
        error = backend.discard(offset, length);
    }
    check(backend, error);
}

using Runs = std::vector<std::pair<u64, u64>>;  // offset, length

Runs pairs(const std::vector<storage::Run>& runs) {
    Runs result;
    result.reserve(runs.size());
    for (const storage::Run& run : runs) result.emplace_back(run.offset, run.length);
    return result;
}

Runs data_runs(BlockBackend& backend, u64 offset, std::optional<u64> length) {
    const u64 count = length.value_or(backend.size() - std::min(offset, backend.size()));
    check(backend, offset, count);
    return pairs(storage::data_runs(backend, offset, count));
}

u64 copy_range(BlockBackend& backend, int fd, u64 offset, u64 length) {
    check(backend, offset, length);
    return storage::copy_range(backend, fd, offset, length);
}

void register_backend(py::module_& module) {
    using storage::FileIdentity;
    py::class_<FileIdentity>(
        module, "FileIdentity",
        "Tells whether a file is still what it was, by what its file system knows of it.")
        .def_readonly("path", &FileIdentity::path, "Canonical, as it was when the file was opened.")
        .def_readonly("size", &FileIdentity::size, "Bytes.")
        .def_readonly("device", &FileIdentity::device, "As os.stat's st_dev.")
        .def_readonly("inode", &FileIdentity::inode)
        .def_readonly(
            "mtime_ns", &FileIdentity::mtime_ns,
            "Last change, ns since 1970. Two changes within a tick of the file system's clock have one.");

    py::class_<BlockBackend, std::shared_ptr<BlockBackend>>(module, "BlockBackend",
                                                            "What stands behind a disk.")
        .def_property_readonly("size", &BlockBackend::size, "Bytes.")
        .def_property_readonly("read_only", &BlockBackend::read_only)
        .def("describe", &BlockBackend::describe)
        .def("read", &read, py::arg("offset"), py::arg("length"), "Bytes of the disk's content.")
        .def("write", &write, py::arg("offset"), py::arg("data"))
        .def("write_zeroes", &write_zeroes, py::arg("offset"), py::arg("length"), py::arg("may_unmap"),
             "The range reads as zero afterwards; may_unmap lets it become sparse.")
        .def("discard", &discard, py::arg("offset"), py::arg("length"),
             "The range reads as zero afterwards, or as it was.")
        .def("flush", &flush, "Returns when everything written is on stable storage.")
        .def("data_runs", &data_runs, py::arg("offset") = 0, py::arg("length") = py::none(), WithoutGil(),
             "(offset, length) of what may hold anything but zeroes, in order.")
        .def(
            "copy_range", &copy_range, py::arg("fd"), py::arg("offset"), py::arg("length"), WithoutGil(),
            "Writes the range to the file at the same offset, but for zeroes, which the file must hold there "
            "already; bytes written.")
        .def("identity", &BlockBackend::identity, WithoutGil(),
             "None where a snapshot must include the content: a disk in memory, a file without a name, a "
             "block "
             "device.")
        .def_property_readonly("can_hand_over", &BlockBackend::can_hand_over,
                               "Whether another host that sees it can take it over.")
        .def("expect_hand_over", &BlockBackend::expect_hand_over, "Somebody has it who could hand it over.")
        .def("hand_over", &BlockBackend::hand_over, WithoutGil(),
             "Flushes it, and lets the next one take it, and nobody else.")
        .def("take", &BlockBackend::take, WithoutGil(),
             "It is ours, or ours again, unless somebody else has it.")
        .def("let_go", &BlockBackend::let_go, "As if it had not been taken.");
}

void register_tracked_disk(py::module_& module) {
    using storage::DiskView;
    using storage::TrackedDisk;
    py::class_<DiskView, BlockBackend, std::shared_ptr<DiskView>>(
        module, "DiskView", "A disk as it was; read-only, and whole as long as it lives.")
        .def_property_readonly(
            "broken", &DiskView::broken,
            "Why reads fail: what was about to be overwritten could not be preserved. None when "
            "they do not.");

    py::class_<TrackedDisk, BlockBackend, std::shared_ptr<TrackedDisk>>(
        module, "TrackedDisk",
        "A disk that can be looked at as it was, and that knows what was written. All changes of its base "
        "must "
        "come through it.")
        .def(py::init<std::shared_ptr<BlockBackend>>(), py::arg("base"))
        .def("view", &TrackedDisk::view, WithoutGil(),
             "The disk as it is now, once changes that are under way have ended.")
        .def_property_readonly("preserved_bytes", &TrackedDisk::preserved_bytes,
                               "Host memory that holds what views show and the base no longer does.")
        .def("start_tracking", &TrackedDisk::start_tracking, py::arg("granularity"), WithoutGil(),
             "From now on notes what is written, by granules of so many bytes: a power of two from 512 to 1 "
             "GiB.")
        .def(
            "take_dirty",
            [](TrackedDisk& disk) {
                ReleaseGil release;
                return pairs(disk.take_dirty());
            },
            "(offset, length) of what was written since the last call, in order. What is read after the call "
            "shows "
            "every change that is not reported by the next.")
        .def("stop_tracking", &TrackedDisk::stop_tracking, WithoutGil());

    module.def("overlay", &storage::make_overlay, py::arg("base"),
               "A disk whose writes stay in host memory; the base, a view or a file, must not change.");
}

}  // namespace

void register_storage(py::module_& module) {
    register_backend(module);
    register_tracked_disk(module);

    py::class_<storage::VolatileCache, BlockBackend, std::shared_ptr<storage::VolatileCache>>(
        module, "VolatileCache", "A disk that holds what is written until it is flushed.")
        .def(py::init<std::shared_ptr<BlockBackend>>(), py::arg("base"))
        .def("lose_power", &storage::VolatileCache::lose_power, py::arg("seed"), WithoutGil(),
             "Drops what was not flushed, or some of it, and fails from then on; sectors lost.");

    module.def(
        "open_disk",
        [](const std::string& path, bool read_only, bool ephemeral, bool incoming) {
            return storage::open_raw(path,
                                     {.read_only = read_only, .ephemeral = ephemeral, .incoming = incoming});
        },
        py::arg("path"), py::arg("read_only"), py::arg("ephemeral"), py::arg("incoming") = false,
        "A raw file or block-device file.");
    module.def("memory_disk", &storage::make_memory_disk, py::arg("size"),
               "A zero-filled disk in host memory.");
}

}  // namespace wirt::bindings

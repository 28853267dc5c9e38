// What stands behind a guest's disk.
#include <cstring>
#include <memory>

#include "base/bits.h"
#include "base/error.h"
#include "bindings/register.h"
#include "storage/block_backend.h"
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
        py::gil_scoped_release release;
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
        py::gil_scoped_release release;
        error = backend.write(offset, {&span, 1});
    }
    check(backend, error);
}

void flush(BlockBackend& backend) {
    int error;
    {
        py::gil_scoped_release release;
        error = backend.flush();
    }
    check(backend, error);
}

}  // namespace

void register_storage(py::module_& module) {
    py::class_<BlockBackend, std::shared_ptr<BlockBackend>>(module, "BlockBackend",
                                                            "What stands behind a disk.")
        .def_property_readonly("size", &BlockBackend::size, "Bytes.")
        .def_property_readonly("read_only", &BlockBackend::read_only)
        .def("describe", &BlockBackend::describe)
        .def("read", &read, py::arg("offset"), py::arg("length"), "Bytes of the disk's content.")
        .def("write", &write, py::arg("offset"), py::arg("data"))
        .def("flush", &flush, "Returns when everything written is on stable storage.");

    py::class_<storage::VolatileCache, BlockBackend, std::shared_ptr<storage::VolatileCache>>(
        module, "VolatileCache", "A disk that holds what is written until it is flushed.")
        .def(py::init<std::shared_ptr<BlockBackend>>(), py::arg("base"))
        .def("lose_power", &storage::VolatileCache::lose_power, py::arg("seed"),
             py::call_guard<py::gil_scoped_release>(),
             "Drops what was not flushed, or some of it, and fails from then on; sectors lost.");

    module.def(
        "open_disk",
        [](const std::string& path, bool read_only, bool ephemeral) {
            return storage::open_raw(path, {.read_only = read_only, .ephemeral = ephemeral});
        },
        py::arg("path"), py::arg("read_only"), py::arg("ephemeral"), "A raw file or block-device file.");
    module.def("memory_disk", &storage::make_memory_disk, py::arg("size"),
               "A zero-filled disk in host memory.");
}

}  // namespace wirt::bindings

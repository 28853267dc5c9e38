// The core's exceptions become the Python classes of wirt.errors; nowhere else is an error translated.
#include "base/error.h"
#include "bindings/register.h"

namespace wirt::bindings {

namespace py = pybind11;

namespace {

struct ErrorClasses {
    py::object base, config, image, storage, network, state, address, snapshot, dma;
};

// Immortal: errors may be translated until the interpreter is gone.
const ErrorClasses* classes = nullptr;

void translate(std::exception_ptr pointer) {
    const auto raise = [](const py::object& type, const Error& error) {
        PyErr_SetString(type.ptr(), error.what());
    };
    try {
        if (pointer) std::rethrow_exception(pointer);
    } catch (const ConfigError& error) {
        raise(classes->config, error);
    } catch (const ImageError& error) {
        raise(classes->image, error);
    } catch (const StorageError& error) {
        raise(classes->storage, error);
    } catch (const NetworkError& error) {
        raise(classes->network, error);
    } catch (const StateError& error) {
        raise(classes->state, error);
    } catch (const AddressError& error) {
        raise(classes->address, error);
    } catch (const SnapshotError& error) {
        raise(classes->snapshot, error);
    } catch (const DmaError& error) {
        raise(classes->dma, error);
    } catch (const Error& error) {
        raise(classes->base, error);
    }
}

}  // namespace

void register_errors(py::module_&) {
    const py::module_ errors = py::module_::import("wirt.errors");
    classes =
        new ErrorClasses{errors.attr("WirtError"),    errors.attr("ConfigError"),   errors.attr("ImageError"),
                         errors.attr("StorageError"), errors.attr("NetworkError"),  errors.attr("StateError"),
                         errors.attr("AddressError"), errors.attr("SnapshotError"), errors.attr("DmaError")};
    py::register_local_exception_translator(translate);
}

}  // namespace wirt::bindings

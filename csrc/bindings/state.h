// Saved state as Python holds it: shared by all that begin from it.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <memory>
#include <span>
#include <vector>

#include "base/types.h"

namespace wirt::bindings {

namespace py = pybind11;

struct SavedState {
    std::shared_ptr<const std::vector<u8>> bytes;
};

// (kind, name, value) of every record.
using Records = py::typing::List<py::typing::Tuple<py::str, py::str, py::object>>;
Records records(const SavedState& saved);
// The bytes of any contiguous buffer, as long as it lives.
std::span<const u8> view_of(const py::buffer& buffer);

}  // namespace wirt::bindings

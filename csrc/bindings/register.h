// One function a subject; module.cpp calls them in this order.
#pragma once

#include <pybind11/pybind11.h>

namespace wirt::bindings {

void register_errors(pybind11::module_& module);
void register_isa(pybind11::module_& module);
void register_stats(pybind11::module_& module);
void register_storage(pybind11::module_& module);
void register_network(pybind11::module_& module);
void register_console(pybind11::module_& module);
void register_memory(pybind11::module_& module);
void register_harts(pybind11::module_& module);
void register_state_types(pybind11::module_& module);
void register_machine(pybind11::module_& module);
void register_state(pybind11::module_& module);
void register_migration(pybind11::module_& module);
void register_devices(pybind11::module_& module);
void register_iommu(pybind11::module_& module);
void register_display(pybind11::module_& module);

}  // namespace wirt::bindings

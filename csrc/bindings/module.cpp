// The extension module wirt._core.
#include "bindings/register.h"

PYBIND11_MODULE(_core, module) {
    using namespace wirt::bindings;
    module.doc() =
        "The machine itself. The public interface is the package wirt; this is what it is made of.";
    register_errors(module);
    register_isa(module);
    register_stats(module);
    register_storage(module);
    register_network(module);
    register_console(module);
    register_memory(module);
    register_harts(module);
    register_state_types(module);
    register_machine(module);
    register_state(module);
    register_migration(module);
    register_devices(module);
    register_iommu(module);
    register_display(module);
}

// The instruction tables, as data for tests, tools and the reference pages.
#include <pybind11/stl.h>

#include "bindings/register.h"
#include "riscv/isa.h"
#include "riscv/isa_config.h"

namespace wirt::bindings {

namespace py = pybind11;

void register_isa(py::module_& module) {
    using riscv::CsrInfo;
    using riscv::InstructionInfo;

    py::class_<InstructionInfo>(module, "InstructionInfo",
                                "One instruction of the tables that the hart executes.")
        .def_readonly("name", &InstructionInfo::name, "The mnemonic, as the specification has it.")
        .def_readonly("mask", &InstructionInfo::mask, "Which bits of the encoding are fixed.")
        .def_readonly("match", &InstructionInfo::match, "The value of the fixed bits.")
        .def_property_readonly(
            "format", [](const InstructionInfo& info) { return riscv::format_name(info.format); },
            "The operand format, e.g. ``R`` or ``FFF_RM``.")
        .def_property_readonly(
            "extension", [](const InstructionInfo& info) { return riscv::extension_name(info.extension); },
            "The extension that brings it, e.g. ``zba``.")
        .def_readonly("compressed", &InstructionInfo::compressed, "Whether it is 16 bits wide.")
        .def("__repr__", [](const InstructionInfo& info) {
            return std::string("<") + info.name + " (" + riscv::extension_name(info.extension) + ")>";
        });

    module.def(
        "instructions",
        [] {
            const auto all = riscv::instructions();
            return std::vector<InstructionInfo>(all.begin(), all.end());
        },
        "All instructions, the 32-bit ones first.");
    module.def("disassemble", &riscv::disassemble, py::arg("raw"), py::arg("pc") = 0,
               "One instruction of either width as assembly text; targets of jumps are shown as addresses.");
    module.def(
        "canonical_isa", [](const std::string& text) { return riscv::IsaConfig(text).text(); },
        py::arg("text") = std::string(riscv::IsaConfig::standard),
        "The ISA string that names every extension of ``text``, in canonical order. ConfigError: no such "
        "hart.");
    module.def(
        "csrs",
        [] {
            std::vector<std::pair<std::string, unsigned>> all;
            for (const CsrInfo& csr : riscv::csrs()) all.emplace_back(csr.name, csr.number);
            return all;
        },
        "(name, number) of the control and status registers that have a name.");
    module.def(
        "register_names",
        [] {
            std::vector<std::string> names;
            for (unsigned i = 0; i < 32; ++i) names.emplace_back(riscv::register_abi_name(i));
            return names;
        },
        "ABI names of x0 to x31.");
    module.def(
        "float_register_names",
        [] {
            std::vector<std::string> names;
            for (unsigned i = 0; i < 32; ++i) names.emplace_back(riscv::float_abi_name(i));
            return names;
        },
        "ABI names of f0 to f31.");
}

}  // namespace wirt::bindings

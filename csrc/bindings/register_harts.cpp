// A hart's registers, and the guest's code as it would execute it.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <span>

#include "base/bits.h"
#include "base/error.h"
#include "bindings/harts.h"
#include "bindings/register.h"
#include "riscv/isa.h"

namespace wirt::bindings {

namespace {

using riscv::Access;
using riscv::Privilege;

struct IntegerRegisters {
    HartView hart;
};

struct FloatRegisters {
    HartView hart;
};

struct VectorRegisters {
    HartView hart;
};

struct ControlRegisters {
    HartView hart;
};

struct Instruction {
    u64 address;
    u32 raw;
    std::string text;
};

using NameTable = std::map<std::string, unsigned, std::less<>>;

NameTable make_names(const char* (*abi_name)(unsigned), char letter) {
    NameTable names;
    for (unsigned i = 0; i < 32; ++i) {
        names[abi_name(i)] = i;
        names[letter + std::to_string(i)] = i;
    }
    return names;
}

const NameTable& integer_names() {
    static const NameTable names = [] {
        NameTable all = make_names(&riscv::register_abi_name, 'x');
        all["fp"] = 8;
        return all;
    }();
    return names;
}

const NameTable& float_names() {
    static const NameTable names = make_names(&riscv::float_abi_name, 'f');
    return names;
}

unsigned by_index(py::ssize_t index) {
    if (index < 0 || index > 31) throw py::index_error("a hart has registers 0 to 31");
    return static_cast<unsigned>(index);
}

unsigned by_name(const NameTable& names, const std::string& name) {
    const auto found = names.find(name);
    if (found == names.end()) throw py::key_error("no register is called " + name);
    return found->second;
}

std::span<u8> vector_register(const VectorRegisters& file, py::ssize_t index) {
    const std::span<u8> bytes = file.hart.still().v(by_index(index));
    if (bytes.empty()) throw py::index_error("this hart has no vector registers");
    return bytes;
}

void set_vector_register(const VectorRegisters& file, py::ssize_t index, const py::bytes& value) {
    const std::span<u8> bytes = vector_register(file, index);
    const std::string_view given = value;
    if (given.size() != bytes.size()) {
        throw py::value_error("a vector register of this hart has " + std::to_string(bytes.size()) +
                              " bytes");
    }
    std::copy(given.begin(), given.end(), bytes.begin());
}

u16 csr_number(const std::string& name) {
    for (const riscv::CsrInfo& csr : riscv::csrs()) {
        if (name == csr.name) return csr.number;
    }
    throw py::key_error("no control and status register is called " + name);
}

u16 csr_number(u64 number) {
    if (number > 0xFFF) throw py::key_error("a control and status register has a number up to 0xfff");
    return static_cast<u16>(number);
}

template <typename Key>
u64 get_csr(const ControlRegisters& csrs, const Key& key) {
    const auto value = csrs.hart.still().peek_csr(csr_number(key));
    if (!value) throw py::key_error("this hart has no such control and status register");
    return *value;
}

template <typename Key>
void set_csr(const ControlRegisters& csrs, const Key& key, u64 value) {
    if (!csrs.hart.still().poke_csr(csr_number(key), value)) {
        throw py::key_error("this hart has no such control and status register, or it is read-only");
    }
}

Access access_by_name(const std::string& name) {
    if (name == "load") return Access::load;
    if (name == "store") return Access::store;
    if (name == "fetch") return Access::fetch;
    throw py::value_error("an access is \"load\", \"store\" or \"fetch\"");
}

u64 translate(const HartView& view, u64 address, const std::string& access) {
    const auto physical = view.still().translate(address, access_by_name(access));
    if (!physical) {
        char text[64];
        std::snprintf(text, sizeof text, "a %s at 0x%llx would fault", access.c_str(),
                      static_cast<unsigned long long>(address));
        throw AddressError(text);
    }
    return *physical;
}

// Instructions from `address` (the pc when nullopt) on; ends early where no code can be read.
std::vector<Instruction> disassemble(const HartView& view, unsigned count, std::optional<u64> address) {
    riscv::Hart& hart = view.still();
    auto& ram = view.handle->machine.ram();
    const auto parcel = [&](u64 at) -> std::optional<u16> {
        const auto physical = hart.translate(at, Access::fetch);
        const u8* host = physical ? ram.host(*physical, 2) : nullptr;
        return host ? std::optional(load_le<u16>(host)) : std::nullopt;
    };
    std::vector<Instruction> found;
    u64 at = address.value_or(hart.pc()) & ~u64{1};
    while (found.size() < count) {
        const auto low = parcel(at);
        if (!low) break;
        u32 raw = *low;
        const bool wide = !riscv::is_compressed(raw);
        if (wide) {
            // The second half may lie on another page.
            const auto high = parcel(at + 2);
            if (!high) break;
            raw |= u32{*high} << 16;
        }
        found.push_back({at, raw, riscv::disassemble(raw, at)});
        at += wide ? 4 : 2;
    }
    return found;
}

std::string repr(const HartView& view) {
    return "<hart " + std::to_string(view.index) + ">";
}

template <typename Registers, typename Get, typename Set>
void register_file(py::class_<Registers>& type, Get get, Set set, const NameTable& (*names)()) {
    type.def("__len__", [](const Registers&) { return 32; })
        .def(
            "__getitem__",
            [get](const Registers& file, py::ssize_t index) {
                return get(file.hart.still(), by_index(index));
            },
            py::arg("index"))
        .def(
            "__getitem__",
            [get, names](const Registers& file, const std::string& name) {
                return get(file.hart.still(), by_name(names(), name));
            },
            py::arg("name"))
        .def(
            "__setitem__",
            [set](const Registers& file, py::ssize_t index, u64 value) {
                set(file.hart.still(), by_index(index), value);
            },
            py::arg("index"), py::arg("value"))
        .def(
            "__setitem__",
            [set, names](const Registers& file, const std::string& name, u64 value) {
                set(file.hart.still(), by_name(names(), name), value);
            },
            py::arg("name"), py::arg("value"));
}

}  // namespace

void register_harts(py::module_& module) {
    py::native_enum<Privilege>(module, "Privilege", "enum.IntEnum",
                               "Privilege modes, as the specification numbers them.")
        .value("user", Privilege::user)
        .value("supervisor", Privilege::supervisor)
        .value("machine", Privilege::machine)
        .finalize();

    py::class_<Instruction>(module, "Instruction", "One instruction in guest memory.")
        .def_readonly("address", &Instruction::address, "Virtual address.")
        .def_readonly("raw", &Instruction::raw, "Its encoding, 16 or 32 bits.")
        .def_readonly("text", &Instruction::text, "Assembly.")
        .def("__repr__", [](const Instruction& instruction) {
            char text[24];
            std::snprintf(text, sizeof text, "%llx: ", static_cast<unsigned long long>(instruction.address));
            return "<" + (text + instruction.text) + ">";
        });

    py::class_<IntegerRegisters> integer(module, "IntegerRegisters",
                                         "x0 to x31, by number, name or ABI name.");
    register_file(
        integer, [](riscv::Hart& hart, unsigned i) { return hart.x(i); },
        [](riscv::Hart& hart, unsigned i, u64 value) { hart.set_x(i, value); }, &integer_names);
    py::class_<FloatRegisters> floating(
        module, "FloatRegisters",
        "f0 to f31 as raw 64-bit patterns, by number, name or ABI name; a single is NaN-boxed.");
    register_file(
        floating, [](riscv::Hart& hart, unsigned i) { return hart.f(i); },
        [](riscv::Hart& hart, unsigned i, u64 value) { hart.set_f(i, value); }, &float_names);

    py::class_<VectorRegisters>(module, "VectorRegisters",
                                "v0 to v31 by number, as bytes: VLEN / 8 of them, element 0 first.")
        .def("__len__", [](const VectorRegisters& file) { return file.hart.still().v(0).empty() ? 0 : 32; })
        .def(
            "__getitem__",
            [](const VectorRegisters& file, py::ssize_t index) {
                const std::span<u8> bytes = vector_register(file, index);
                return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            },
            py::arg("index"))
        .def("__setitem__", &set_vector_register, py::arg("index"), py::arg("value"));

    py::class_<ControlRegisters>(
        module, "ControlRegisters",
        "Control and status registers by name or number, as M-mode reads them, without side "
        "effects; writes follow the register's WARL rules.")
        .def("__getitem__", &get_csr<std::string>, py::arg("name"))
        .def("__getitem__", &get_csr<u64>, py::arg("number"))
        .def("__setitem__", &set_csr<std::string>, py::arg("name"), py::arg("value"))
        .def("__setitem__", &set_csr<u64>, py::arg("number"), py::arg("value"));

    py::class_<HartView>(module, "Hart",
                         "One hart. Everything but `id` needs the machine not to be running (StateError).")
        .def_readonly("id", &HartView::index)
        .def_property(
            "pc", [](const HartView& view) { return view.still().pc(); },
            [](const HartView& view, u64 value) { view.still().set_pc(value); },
            "Virtual address of the next instruction.")
        .def_property_readonly(
            "x", [](const HartView& view) { return IntegerRegisters{view}; }, "Integer registers.")
        .def_property_readonly(
            "f", [](const HartView& view) { return FloatRegisters{view}; }, "Floating-point registers.")
        .def_property_readonly(
            "v", [](const HartView& view) { return VectorRegisters{view}; },
            "Vector registers; none where the machine's `isa` has no ``v``.")
        .def_property_readonly(
            "csr", [](const HartView& view) { return ControlRegisters{view}; },
            "Control and status registers.")
        .def_property(
            "privilege", [](const HartView& view) { return view.still().privilege(); },
            [](const HartView& view, Privilege value) { view.still().set_privilege(value); },
            "The present mode, of which VS is `supervisor` and VU `user`. Setting it leaves a guest.")
        .def_property_readonly(
            "virtualized", [](const HartView& view) { return view.still().virtualized(); },
            "Whether the present mode is VS or VU (V = 1): the hypervisor extension runs a guest.")
        .def_property_readonly(
            "instructions", [](const HartView& view) { return view.still().instructions(); },
            "Retired so far.")
        .def("translate", &translate, py::arg("address"), py::arg("access") = "load",
             "The physical address that an access (load, store or fetch) in the present mode would reach. "
             "Changes "
             "nothing, not even A and D bits. AddressError where it would fault.")
        .def("disassemble", &disassemble, py::arg("count") = 8, py::arg("address") = py::none(),
             "Instructions from a virtual address (the pc unless given) on; fewer where no code can be read.")
        .def("__repr__", &repr);
}

}  // namespace wirt::bindings

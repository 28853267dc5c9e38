// Guest RAM as a Python buffer and by physical address, and the bus with its devices.
#include "bindings/gil.h"
#include "bindings/memory.h"

#include <pybind11/stl.h>

#include <cstdio>

#include "base/error.h"
#include "bindings/register.h"

namespace wirt::bindings {

namespace {

std::string hex(u64 value) {
    char text[19];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

struct Range {
    u64 start;
    u64 length;
};

u64 address_of(const py::object& number) {
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(number.ptr()));
    if (!index) throw py::error_already_set();
    const u64 address = PyLong_AsUnsignedLongLong(index.ptr());
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw AddressError("guest memory is sliced by physical addresses, which " +
                           std::string(py::str(index)) + " is not");
    }
    return address;
}

// A slice by physical address. Unlike a sequence's, it must lie in RAM as it is written.
Range range_of(const Memory& memory, const py::slice& slice) {
    const auto& ram = memory.handle->machine.ram();
    const py::object step = slice.attr("step");
    if (!step.is_none() && py::cast<i64>(step) != 1)
        throw py::value_error("guest memory has no slices with a step");
    const py::object first = slice.attr("start");
    const py::object last = slice.attr("stop");
    const u64 start = first.is_none() ? ram.base() : address_of(first);
    const u64 stop = last.is_none() ? ram.base() + ram.size() : address_of(last);
    if (stop < start || !ram.contains(start, stop - start)) {
        throw AddressError("physical memory " + hex(start) + " to " + hex(stop) + " is not all RAM: it is " +
                           hex(ram.base()) + " to " + hex(ram.base() + ram.size()));
    }
    return {start, stop - start};
}

// Of a range that is RAM. May wait for pages that a migration has yet to bring.
u8* host_of(memory::GuestRam& ram, u64 address, u64 length) {
    u8* host;
    {
        ReleaseGil release;
        host = ram.host(address, length);
    }
    if (host == nullptr && length != 0) {
        throw StateError("the machine's memory has not arrived, and never will: its migration failed");
    }
    return host;
}

py::bytes get_slice(const Memory& memory, const py::slice& slice) {
    const Range range = range_of(memory, slice);
    const u8* from = host_of(memory.handle->machine.ram(), range.start, range.length);
    return py::bytes(reinterpret_cast<const char*>(from), range.length);
}

void set_slice(const Memory& memory, const py::slice& slice, const py::buffer& value) {
    const Range range = range_of(memory, slice);
    const py::buffer_info info = value.request();
    const u64 size = static_cast<u64>(info.size) * static_cast<u64>(info.itemsize);
    if (size != range.length) {
        throw py::value_error("guest memory cannot be resized: " + std::to_string(size) +
                              " bytes do not fit a slice of " + std::to_string(range.length));
    }
    if (PyBuffer_IsContiguous(info.view(), 'C') == 0) throw py::value_error("the value must be contiguous");
    auto& ram = memory.handle->machine.ram();
    u8* const to = host_of(ram, range.start, range.length);
    ram.will_write(range.start, range.length);
    std::memcpy(to, info.ptr, size);
    ram.note_write(range.start, range.length);
}

u8& byte_at(const Memory& memory, u64 address) {
    auto& ram = memory.handle->machine.ram();
    u8* byte = ram.contains(address, 1) ? host_of(ram, address, 1) : nullptr;
    if (byte == nullptr) {
        throw AddressError("physical address " + hex(address) + " is not RAM: it is " + hex(ram.base()) +
                           " to " + hex(ram.base() + ram.size()));
    }
    return *byte;
}

void set_byte(const Memory& memory, u64 address, u8 value) {
    u8& byte = byte_at(memory, address);
    auto& ram = memory.handle->machine.ram();
    ram.will_write(address, 1);
    byte = value;
    ram.note_write(address, 1);
}

py::buffer_info export_buffer(Memory& memory) {
    auto& ram = memory.handle->machine.ram();
    host_of(ram, ram.base(), ram.size());
    memory.handle->memory_exported = true;
    return {ram.data(), static_cast<py::ssize_t>(ram.size()), /*readonly=*/false};
}

void check_access(u64 address, unsigned size) {
    if (size != 1 && size != 2 && size != 4 && size != 8)
        throw py::value_error("an access is 1, 2, 4 or 8 bytes wide");
    if (address % size != 0)
        throw AddressError(hex(address) + " is not aligned to the " + std::to_string(size) +
                           " bytes of the access");
}

u64 bus_read(const Bus& bus, u64 address, unsigned size) {
    check_access(address, size);
    const std::optional<u64> value = bus.handle->machine.bus().read(address, size);
    if (!value) throw AddressError("nothing answers at physical address " + hex(address));
    return *value;
}

void bus_write(const Bus& bus, u64 address, unsigned size, u64 value) {
    check_access(address, size);
    if (!bus.handle->machine.bus().write(address, size, value)) {
        throw AddressError("nothing answers at physical address " + hex(address));
    }
}

// A copy, since a device may be unplugged while it is looked at.
struct RegisterInfo {
    std::string name;
    u64 offset;
    u64 width;
    const char* access;
    u64 reset;
    std::string cite;
};

struct RegionInfo {
    std::string device;
    std::optional<u64> base;
    u64 size;
    std::vector<RegisterInfo> registers;
};

const char* access_name(memory::RegisterAccess access) {
    using enum memory::RegisterAccess;
    switch (access) {
        case ro:
            return "ro";
        case rw:
            return "rw";
        case wo:
            return "wo";
        case rc:
            return "rc";
        case w1c:
            return "w1c";
    }
    return "";
}

std::vector<RegionInfo> regions(const Bus& bus) {
    memory::AddressSpace& space = bus.handle->machine.bus();
    std::vector<RegionInfo> all;
    for (const memory::MmioDevice* device : space.devices()) {
        const auto [base, size] = space.region_of(*device);
        RegionInfo region{std::string(device->name()), base, size, {}};
        for (const memory::Register& r : device->registers())
            region.registers.push_back({r.name, r.offset, r.width, access_name(r.access), r.reset, r.cite});
        all.push_back(std::move(region));
    }
    return all;
}

}  // namespace

void register_memory(py::module_& module) {
    py::class_<Memory>(
        module, "Memory", py::buffer_protocol(),
        "Guest RAM: a writable buffer without a copy (index 0 is the byte at `base`), and slices by "
        "physical address. Code written through the buffer is seen when harts start or resume; code "
        "written through slices at once.")
        .def_buffer(&export_buffer)
        .def_property_readonly(
            "base", [](const Memory& memory) { return memory.handle->machine.ram().base(); },
            "Physical address of the first byte.")
        .def("__len__", [](const Memory& memory) { return memory.handle->machine.ram().size(); })
        .def("__getitem__", &get_slice, py::arg("addresses"))
        .def(
            "__getitem__", [](const Memory& memory, u64 address) { return byte_at(memory, address); },
            py::arg("address"))
        .def("__setitem__", &set_slice, py::arg("addresses"), py::arg("value"))
        .def("__setitem__", &set_byte, py::arg("address"), py::arg("value"));

    py::class_<RegisterInfo>(module, "Register",
                             "A register of a device, from the table that the device works by.")
        .def_readonly("name", &RegisterInfo::name, "As its specification calls it.")
        .def_readonly("offset", &RegisterInfo::offset, "Bytes from the start of the region.")
        .def_readonly("width", &RegisterInfo::width, "Bytes; more than 8 for an array of registers.")
        .def_readonly("access", &RegisterInfo::access,
                      "``ro``, ``rw``, ``wo``, ``rc`` (read clears) or ``w1c`` (write one clears).")
        .def_readonly("reset", &RegisterInfo::reset, "Value at power-on.")
        .def_readonly("cite", &RegisterInfo::cite, "Specification and section.");

    py::class_<RegionInfo>(module, "Region", "A range of physical addresses at which a device answers.")
        .def_readonly("device", &RegionInfo::device, "The device's name.")
        .def_readonly("base", &RegionInfo::base, "Physical address; None while a BAR is unmapped.")
        .def_readonly("size", &RegionInfo::size, "Bytes.")
        .def_readonly("registers", &RegionInfo::registers, "By offset.");

    py::class_<Bus>(module, "Bus", "The physical address space as a hart sees it: RAM and device registers.")
        .def("read", &bus_read, py::arg("address"), py::arg("size"), WithoutGil(),
             "An aligned access of 1, 2, 4 or 8 bytes, with the side effects that it has for a device.")
        .def("write", &bus_write, py::arg("address"), py::arg("size"), py::arg("value"), WithoutGil(),
             "The same for a store.")
        .def("regions", &regions, WithoutGil(),
             "All devices' regions, with their registers; not while one is being detached.");
}

}  // namespace wirt::bindings

// The IOMMU's requests, the memory as a bus master sees it, and an IOMMU on a bench of its own for tests.
#include <algorithm>
#include <map>
#include <mutex>

#include "base/error.h"
#include "bindings/gil.h"
#include "bindings/handle.h"
#include "bindings/register.h"
#include "devices/hardware/iommu/iommu.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

namespace wirt::bindings {

namespace {

using devices::hardware::AtsMessage;
using devices::hardware::Iommu;
using devices::hardware::IommuInterrupts;
using devices::hardware::IommuMode;
using devices::hardware::IommuOptions;
using devices::hardware::IommuRequest;
using devices::hardware::IommuResponse;

using Fields = py::typing::Dict<py::str, py::object>;

std::string hex(u64 value) {
    char text[19];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

// --- a bus master ---

// Memory as the device `device_id` reaches it.
class Dma {
  public:
    Dma(HandlePtr handle, u32 device_id) : handle_(std::move(handle)), device_id_(device_id) {
        if (Iommu* iommu = handle_->machine.iommu()) bus_.emplace(*iommu, device_id);
    }

    u32 device_id() const { return device_id_; }

    py::bytes read(u64 address, u64 length) {
        auto& ram = handle_->machine.ram();
        // More than there is cannot succeed; it need not be allocated first.
        std::string data(std::min(length, ram.size()), '\0');
        bool ok;
        {
            ReleaseGil release;
            ok = length <= ram.size() && view().read(address, data.data(), length);
        }
        if (!ok) refuse("read", address, length);
        return py::bytes(data);
    }

    void write(u64 address, const py::buffer& value) {
        const py::buffer_info info = value.request();
        if (PyBuffer_IsContiguous(info.view(), 'C') == 0)
            throw py::value_error("the data must be contiguous");
        const u64 length = static_cast<u64>(info.size) * static_cast<u64>(info.itemsize);
        bool ok;
        {
            ReleaseGil release;
            ok = view().write(address, info.ptr, length);
        }
        if (!ok) refuse("written", address, length);
    }

    void send_message(u64 address, u32 data) {
        ReleaseGil release;
        Iommu* iommu = handle_->machine.iommu();
        if (iommu == nullptr || !iommu->send_message(device_id_, address, data)) {
            throw DmaError("the message to " + hex(address) + " of device " + hex(device_id_) +
                           " reached no interrupt file");
        }
    }

  private:
    memory::DmaView view() { return memory::DmaView(handle_->machine.ram(), bus_ ? &*bus_ : nullptr); }
    [[noreturn]] void refuse(const char* what, u64 address, u64 length) const {
        throw DmaError(std::to_string(length) + " bytes at " + hex(address) + " cannot be " + what +
                       " by device " + hex(device_id_) +
                       (bus_ ? ": the IOMMU maps no memory there" : ": there is no memory"));
    }

    const HandlePtr handle_;
    const u32 device_id_;
    std::optional<memory::RemappedBus> bus_;
};

// --- requests ---

// Somebody's IOMMU.
struct IommuHandle {
    virtual ~IommuHandle() = default;
    virtual Iommu& iommu() = 0;
};

struct MachineIommu final : IommuHandle {
    explicit MachineIommu(HandlePtr owner) : handle(std::move(owner)) {}
    Iommu& iommu() override { return *handle->machine.iommu(); }
    HandlePtr handle;
};

// An IOMMU with memory and nothing else; messages and wires are recorded.
class IommuBench final : public IommuHandle,
                         private MessageSink,
                         private InterruptSink,
                         private devices::hardware::AtsLink {
  public:
    IommuBench(u64 memory_bytes, const IommuOptions& options)
        : ram(0x8000'0000, memory_bytes),
          clock_(Clock::Source::instructions),
          iommu_("iommu0", ram, clock_, this, lines(), options) {
        iommu_.set_ats_link(this);
    }

    Iommu& iommu() override { return iommu_; }

    std::vector<bool> wires() {
        std::lock_guard lock(mutex_);
        return std::vector<bool>(wires_.begin(), wires_.end());
    }
    std::vector<std::pair<u64, u32>> take_interrupts() {
        std::lock_guard lock(mutex_);
        return std::exchange(interrupts_, {});
    }
    std::vector<AtsMessage> take_messages() {
        std::lock_guard lock(mutex_);
        return std::exchange(messages_, {});
    }
    void advance(u64 ns) { clock_.advance_to_ns(clock_.now_ns() + ns); }

    memory::GuestRam ram;
    bool accept_messages = true;                                 // of ATS
    u64 message_base = 0x2400'0000, message_size = 0x1000'0000;  // where interrupt messages arrive

  private:
    static constexpr std::size_t most = 4096;  // of each kind are kept

    std::array<InterruptLine, Iommu::vectors> lines() {
        std::array<InterruptLine, Iommu::vectors> result;
        for (unsigned n = 0; n < result.size(); ++n) result[n] = InterruptLine(*this, n);
        return result;
    }
    bool send_message(u64 address, u32 data) override {
        if (!range_inside(address, 4, message_base, message_size)) return false;
        std::lock_guard lock(mutex_);
        if (interrupts_.size() < most) interrupts_.emplace_back(address, data);
        return true;
    }
    void set_level(unsigned source, bool level) override {
        std::lock_guard lock(mutex_);
        wires_[source] = level;
    }
    bool send(const AtsMessage& message) override {
        if (!accept_messages) return false;
        std::lock_guard lock(mutex_);
        if (messages_.size() < most) messages_.push_back(message);
        return true;
    }

    Clock clock_;
    std::mutex mutex_;
    std::array<bool, Iommu::vectors> wires_{};
    std::vector<std::pair<u64, u32>> interrupts_;
    std::vector<AtsMessage> messages_;
    Iommu iommu_;
};

Fields request(IommuHandle& handle, u32 device_id, u64 address, std::optional<u32> process_id,
               const std::string& kind, bool write, bool execute, bool privileged, bool no_write, bool cxl) {
    static const std::map<std::string, IommuRequest::Address> kinds = {
        {"untranslated", IommuRequest::Address::untranslated},
        {"ats", IommuRequest::Address::ats_translation},
        {"translated", IommuRequest::Address::translated}};
    const auto type = kinds.find(kind);
    if (type == kinds.end()) {
        throw ConfigError("kind \"" + kind + "\": choose \"untranslated\", \"translated\" or \"ats\"");
    }
    if (device_id >> 24 != 0 || process_id.value_or(0) >> 20 != 0) {
        throw ConfigError("a device_id has 24 bits and a process_id 20");
    }
    IommuResponse response;
    {
        ReleaseGil release;
        response = handle.iommu().request({.device_id = device_id,
                                           .process_id = process_id,
                                           .type = type->second,
                                           .write = write,
                                           .execute = execute,
                                           .privileged = privileged,
                                           .no_write = no_write,
                                           .cxl = cxl,
                                           .address = address});
    }
    Fields out;
    out["status"] = static_cast<unsigned>(response.status);
    out["cause"] = response.cause;
    out["iotval2"] = response.iotval2;
    out["address"] = response.address;
    out["size"] = response.size;
    out["pbmt"] = response.pbmt;
    out["msi"] = response.msi;
    out["mrif"] = response.mrif;
    out["mrif_address"] = response.mrif_address;
    out["mrif_notice_id"] = response.mrif_notice_id;
    out["r"] = response.r;
    out["w"] = response.w;
    out["x"] = response.x;
    out["u"] = response.u;
    out["global"] = response.global;
    out["priv"] = response.priv;
    out["cxl_io"] = response.cxl_io;
    return out;
}

AtsMessage message_of(u8 code, u16 rid, u64 payload, std::optional<u8> dseg) {
    AtsMessage message;
    message.code = code;
    message.rid = rid;
    message.payload = payload;
    message.dsv = dseg.has_value();
    message.dseg = dseg.value_or(0);
    return message;
}

Fields describe(const AtsMessage& message) {
    Fields out;
    out["code"] = message.code;
    out["tag"] = message.tag;
    out["rid"] = message.rid;
    out["dseg"] = message.dsv ? py::cast(message.dseg) : py::none();
    out["pid"] = message.pv ? py::cast(message.pid) : py::none();
    out["payload"] = message.payload;
    return out;
}

IommuOptions options_of(const py::KWArgs<int>& given) {
    IommuOptions options;
    const std::map<std::string, bool*> flags = {{"sv32", &options.sv32},
                                                {"sv39", &options.sv39},
                                                {"sv48", &options.sv48},
                                                {"sv57", &options.sv57},
                                                {"sv32x4", &options.sv32x4},
                                                {"sv39x4", &options.sv39x4},
                                                {"sv48x4", &options.sv48x4},
                                                {"sv57x4", &options.sv57x4},
                                                {"svrsw60t59b", &options.svrsw60t59b},
                                                {"svpbmt", &options.svpbmt},
                                                {"msi_flat", &options.msi_flat},
                                                {"msi_mrif", &options.msi_mrif},
                                                {"amo_mrif", &options.amo_mrif},
                                                {"amo_hwad", &options.amo_hwad},
                                                {"ats", &options.ats},
                                                {"t2gpa", &options.t2gpa},
                                                {"end", &options.end},
                                                {"hpm", &options.hpm},
                                                {"dbg", &options.dbg},
                                                {"pd8", &options.pd8},
                                                {"pd17", &options.pd17},
                                                {"pd20", &options.pd20},
                                                {"nl", &options.nl},
                                                {"s", &options.s},
                                                {"gxl_writable", &options.gxl_writable}};
    for (const auto& [key, value] : given) {
        const std::string name = py::cast<std::string>(key);
        if (const auto flag = flags.find(name); flag != flags.end()) {
            *flag->second = py::cast<bool>(value);
        } else if (name == "pas") {
            options.pas = py::cast<u8>(value);
        } else if (name == "igs") {
            options.igs = static_cast<IommuInterrupts>(py::cast<u8>(value) & 3);
        } else if (name == "reset_mode") {
            options.reset_mode = static_cast<IommuMode>(py::cast<u8>(value) & 15);
        } else {
            throw ConfigError("an IOMMU has no option \"" + name + "\"");
        }
    }
    return options;
}

void register_bench(py::module_& module) {
    py::class_<IommuBench, IommuHandle>(
        module, "IommuBench",
        "An IOMMU with RAM of its own at 0x8000_0000 and nothing else, for tests. Options are the fields of "
        "`capabilities` in lower case, `reset_mode`, `gxl_writable`; `igs` is 0 (MSI), 1 (WSI) or 2 (both).")
        .def(py::init([](u64 memory_bytes, const py::KWArgs<int>& options) {
                 return std::make_unique<IommuBench>(memory_bytes, options_of(options));
             }),
             py::arg("memory_bytes"))
        .def(
            "read",
            [](IommuBench& bench, u32 offset, unsigned size) {
                std::lock_guard lock(bench.iommu().mutex());
                return bench.iommu().read(offset, size);
            },
            py::arg("offset"), py::arg("size"), "A register, as a hart reads it.")
        .def(
            "write",
            [](IommuBench& bench, u32 offset, unsigned size, u64 value) {
                std::lock_guard lock(bench.iommu().mutex());
                bench.iommu().write(offset, size, value);
            },
            py::arg("offset"), py::arg("size"), py::arg("value"))
        .def("reset", [](IommuBench& bench) { bench.iommu().reset(); })
        .def(
            "memory_read",
            [](IommuBench& bench, u64 address, u64 length) {
                const u8* from = bench.ram.host(address, length);
                if (from == nullptr) throw AddressError(hex(address) + " is not RAM");
                return py::bytes(reinterpret_cast<const char*>(from), length);
            },
            py::arg("address"), py::arg("length"))
        .def(
            "memory_write",
            [](IommuBench& bench, u64 address, const py::bytes& bytes) {
                const std::string_view data(bytes);
                u8* to = bench.ram.host(address, data.size());
                if (to == nullptr) throw AddressError(hex(address) + " is not RAM");
                std::memcpy(to, data.data(), data.size());
            },
            py::arg("address"), py::arg("data"))
        .def(
            "dma_translate",
            [](IommuBench& bench, u32 device_id, u64 address,
               bool write) -> std::optional<std::pair<u64, u64>> {
                u64 contiguous = ~u64{0};
                const auto direction =
                    write ? memory::DmaDirection::from_device : memory::DmaDirection::to_device;
                const auto physical = bench.iommu().translate(device_id, address, direction, contiguous);
                if (!physical) return std::nullopt;
                return std::pair(*physical, contiguous);
            },
            py::arg("device_id"), py::arg("address"), py::arg("write") = false,
            "(physical address, bytes it is good for) of a device's own access, or None.")
        .def(
            "send_message",
            [](IommuBench& bench, u32 device_id, u64 address, u32 data) {
                return bench.iommu().send_message(device_id, address, data);
            },
            py::arg("device_id"), py::arg("address"), py::arg("data"))
        .def("advance", &IommuBench::advance, py::arg("ns"), "Lets guest time pass.")
        .def_property_readonly("wires", &IommuBench::wires)
        .def("take_interrupts", &IommuBench::take_interrupts,
             "(address, data) of messages since the last call.")
        .def(
            "take_messages",
            [](IommuBench& bench) {
                std::vector<Fields> out;
                for (const AtsMessage& message : bench.take_messages()) out.push_back(describe(message));
                return out;
            },
            "ATS messages to devices since the last call.")
        .def_readwrite("accept_messages", &IommuBench::accept_messages,
                       "Whether some device takes ATS messages; without one an invalidation times out.");
}

}  // namespace

void register_iommu(py::module_& module) {
    py::class_<Dma>(module, "Dma", "Memory as a bus master with a device_id of its own reaches it.")
        .def_property_readonly("device_id", &Dma::device_id)
        .def("read", &Dma::read, py::arg("address"), py::arg("length"),
             "`length` bytes; DmaError when the IOMMU refuses one of them or it is no RAM.")
        .def("write", &Dma::write, py::arg("address"), py::arg("data"),
             "The same for a write; what comes before the first refused page is written.")
        .def("send_message", &Dma::send_message, py::arg("address"), py::arg("data"),
             "A message-signalled interrupt: a write of 4 bytes, translated as one.");
    module.def(
        "dma",
        [](const HandlePtr& handle, u32 device_id) { return std::make_unique<Dma>(handle, device_id); },
        py::arg("machine"), py::arg("device_id"));

    py::class_<IommuHandle>(module, "Iommu", "The whole request interface of an IOMMU.")
        .def("request", &request, py::arg("device_id"), py::arg("address"), py::kw_only(),
             py::arg("process_id") = py::none(), py::arg("kind") = "untranslated", py::arg("write") = false,
             py::arg("execute") = false, py::arg("privileged") = false, py::arg("no_write") = false,
             py::arg("cxl") = false,
             "One request: kind \"untranslated\", \"translated\" or \"ats\" (an ATS translation request). "
             "Status "
             "0 is success, 1 unsupported request, 4 completer abort.")
        .def(
            "page_request",
            [](IommuHandle& handle, u16 rid, u64 payload, std::optional<u32> pid, bool privileged,
               bool execute, std::optional<u8> dseg) {
                AtsMessage message = message_of(AtsMessage::page_request, rid, payload, dseg);
                message.pv = pid.has_value();
                message.pid = pid.value_or(0);
                message.privileged = privileged;
                message.execute = execute;
                handle.iommu().page_request(message);
            },
            py::arg("rid"), py::arg("payload"), py::kw_only(), py::arg("pid") = py::none(),
            py::arg("privileged") = false, py::arg("execute") = false, py::arg("dseg") = py::none(),
            "A PCIe \"Page Request\" or \"Stop Marker\" message.")
        .def(
            "invalidation_completed",
            [](IommuHandle& handle, u16 rid, u64 payload, std::optional<u8> dseg) {
                return handle.iommu().invalidation_completed(
                    message_of(AtsMessage::invalidation_completion, rid, payload, dseg));
            },
            py::arg("rid"), py::arg("payload"), py::kw_only(), py::arg("dseg") = py::none(),
            "An \"Invalidation Completion\"; False when none was expected.")
        .def(
            "invalidation_timed_out",
            [](IommuHandle& handle, u32 itags) { handle.iommu().invalidation_timed_out(itags); },
            py::arg("itags"));
    py::class_<MachineIommu, IommuHandle>(module, "MachineIommu", "That of a machine.");
    module.def(
        "iommu",
        [](const HandlePtr& handle) -> std::unique_ptr<MachineIommu> {
            return handle->machine.iommu() != nullptr ? std::make_unique<MachineIommu>(handle) : nullptr;
        },
        py::arg("machine"));
    register_bench(module);
}

}  // namespace wirt::bindings

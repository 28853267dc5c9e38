#include "devices/hardware/iommu/iommu.h"

#include "base/error.h"
#include "devices/hardware/iommu/csr_bits.h"

namespace wirt::devices::hardware {

using namespace iommu;

namespace {

// 6.3: which capabilities imply which.
void check(const IommuOptions& o) {
    const auto require = [](bool condition, const char* what) {
        if (!condition) throw ConfigError(std::string("an IOMMU cannot have ") + what);
    };
    require(!o.sv57 || o.sv48, "Sv57 without Sv48");
    require(!o.sv48 || o.sv39, "Sv48 without Sv39");
    require(o.pas >= 32 && o.pas <= 56, "physical addresses of fewer than 32 or more than 56 bits");
    require(!o.t2gpa || o.ats, "T2GPA without ATS");
    require(!o.msi_mrif || o.msi_flat, "MRIF mode without MSI page tables");
    require(o.reset_mode <= IommuMode::bare, "a reset mode other than Off or Bare");
}

}  // namespace

Iommu::Iommu(std::string name, memory::GuestRam& ram, Clock& clock, MessageSink* messages,
             std::array<InterruptLine, vectors> wires, const IommuOptions& options)
    : name_(std::move(name)),
      options_(options),
      memory_(ram, options.pas),
      messages_(messages),
      wires_(wires),
      monitor_(clock) {
    check(options);
    std::lock_guard lock(lock_);
    reset_registers();
}

void Iommu::reset() {
    std::lock_guard lock(lock_);
    reset_registers();
    update_wires();
}

void Iommu::reset_registers() {
    // Without a choice the interrupt kind is what IGS says.
    fctl_ = options_.igs == IommuInterrupts::wsi ? 2 : 0;
    ddtp_ = static_cast<u64>(options_.reset_mode);
    quick_mode_.store(options_.reset_mode, std::memory_order_release);
    command_ = {};
    fault_ = {};
    page_ = {};
    ipsr_ = 0;
    icvec_ = 0;
    tr_req_iova_ = tr_req_ctl_ = tr_response_ = 0;
    message_.fill({});
    waiting_ = 0;
    invalidations_.fill({});
    invalidation_timed_out_ = false;
    monitor_.reset();
    ioatc_.clear();
}

void Iommu::describe(DeviceDescription& out) {
    static constexpr const char* modes[] = {"Off", "Bare", "1LVL", "2LVL", "3LVL"};
    std::lock_guard lock(lock_);
    out.features.push_back(modes[static_cast<unsigned>(mode())]);
    const auto add = [&](const char* name, const Queue& queue) {
        out.queues.push_back({name, queue.on() ? queue.mask() + 1 : 0, queue.on()});
    };
    add("command", command_);
    add("fault", fault_);
    if (options_.ats) add("page request", page_);
}

void Iommu::visit_state(StateVisitor& v) {
    std::lock_guard lock(lock_);
    v.section(name_, 1);
    v.field("fctl", fctl_);
    v.field("ddtp", ddtp_);
    const auto visit_queue = [&](const char* letter, Queue& queue) {
        const std::string prefix = letter;
        v.field(prefix + "b", queue.base);
        v.field(prefix + "h", queue.head);
        v.field(prefix + "t", queue.tail);
        v.field(prefix + "csr", queue.csr);
    };
    visit_queue("cq", command_);
    visit_queue("fq", fault_);
    visit_queue("pq", page_);
    v.field("ipsr", ipsr_);
    v.field("icvec", icvec_);
    v.field("tr_req_iova", tr_req_iova_);
    v.field("tr_req_ctl", tr_req_ctl_);
    v.field("tr_response", tr_response_);
    for (unsigned i = 0; i < vectors; ++i) {
        const std::string suffix = "_" + std::to_string(i);
        v.field("msi_addr" + suffix, message_[i].address);
        v.field("msi_data" + suffix, message_[i].data);
        v.field("msi_vec_ctl" + suffix, message_[i].control);
    }
    v.field("messages waiting", waiting_);
    for (unsigned i = 0; i < invalidations_.size(); ++i) {
        const std::string prefix = "itag" + std::to_string(i) + ".";
        v.field(prefix + "waiting", invalidations_[i].waiting);
        v.field(prefix + "dsv", invalidations_[i].dsv);
        v.field(prefix + "dseg", invalidations_[i].dseg);
        v.field(prefix + "responses", invalidations_[i].responses);
        v.field(prefix + "rid", invalidations_[i].rid);
    }
    v.field("invalidation timed out", invalidation_timed_out_);
    monitor_.visit_fields(v);
    if (v.loading()) adopt_loaded_state();
}

// What no sequence of register writes could have left is not taken from a snapshot either.
void Iommu::adopt_loaded_state() {
    fctl_ &= 7;
    if (mode() > IommuMode::three_level) ddtp_ = static_cast<u64>(IommuMode::off);
    for (Queue* queue : {&command_, &fault_, &page_}) {
        queue->base &= queue_base_bits;
        if (bits<u64>(queue->base, 0, 5) > largest_queue) queue->base = 0;
        queue->head &= queue->mask();
        queue->tail &= queue->mask();
        queue->csr &= csr_enable | csr_interrupt_enable | command_errors | csr_on;
    }
    ipsr_ &= 0xf;
    icvec_ &= 0x3333;
    waiting_ &= (u32{1} << vectors) - 1;
    quick_mode_.store(mode(), std::memory_order_release);
    // The caches are in no snapshot: an entry may be dropped at any time (3.8).
    ioatc_.clear();
    update_wires();
}

}  // namespace wirt::devices::hardware

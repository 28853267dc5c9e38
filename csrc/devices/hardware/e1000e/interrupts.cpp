#include "devices/hardware/e1000e/interrupts.h"

#include <algorithm>
#include <string>
#include <utility>

namespace wirt::devices::hardware::e1000e {

namespace {

constexpr u64 delay_unit_ns = 1024;    // RDTR, RADV, TIDV, TADV
constexpr u64 interval_unit_ns = 256;  // ITR, EITR

// IVAR: four bits a cause, in this order.
constexpr std::array<u32, vector_count> vector_allocation = {icr_rxq0, icr_rxq0 << 1, icr_txq0, icr_txq0 << 1,
                                                             icr_other};

}  // namespace

void Interrupts::Delay::start(unsigned queue, u64 now, u32 packet, u32 absolute) {
    queues |= 1u << queue;
    packet_due = now + packet * delay_unit_ns;
    if (absolute != 0 && absolute_due == never) absolute_due = now + absolute * delay_unit_ns;
}

u32 Interrupts::Delay::stop() {
    packet_due = absolute_due = never;
    return std::exchange(queues, 0);
}

void Interrupts::Delay::visit_state(StateVisitor& v, const char* name) {
    v.field(std::string(name) + "_packet_due", packet_due);
    v.field(std::string(name) + "_absolute_due", absolute_due);
    v.field(std::string(name) + "_queues", queues);
    if (v.loading()) queues &= (1u << queue_count) - 1;
}

void Interrupts::reset() {
    announced_ = 0;
    open_.fill(0);
    receive_ = {};
    transmit_ = {};
    update();
}

// 10.2.4: a read clears ICR when nothing is enabled or an interrupt is asserted. In the second case IAM
// masks, if CTRL_EXT.IAME says so. Otherwise a read has no effect.
u32 Interrupts::read_causes() {
    const u32 value = registers_[ICR];
    const bool asserted = (value & icr_int_asserted) != 0;
    if (registers_[IMS] == 0 || asserted) registers_[ICR] = 0;
    if (asserted && (registers_[CTRL_EXT] & ctrl_ext_iame) != 0) registers_[IMS] &= ~registers_[IAM];
    update();
    return value;
}

void Interrupts::clear_causes(u32 causes) {
    registers_[ICR] &= ~causes;
    update();
}

void Interrupts::raise(u32 causes) {
    causes &= icr_causes;
    if ((causes & icr_other_causes) != 0 && pins_.vectors_enabled()) causes |= icr_other;
    registers_[ICR] |= causes;
    update();
}

void Interrupts::set_mask(u32 causes) {
    registers_[IMS] |= causes & icr_causes;
    update();
}

void Interrupts::clear_mask(u32 causes) {
    registers_[IMS] &= ~causes;
    update();
}

void Interrupts::interval_changed(unsigned timer) {
    const u32 interval = timer == itr_timer ? registers_[ITR] : registers_[EITR + 4 * timer];
    open_[timer] = std::min(open_[timer], clock_.now_ns() + interval * interval_unit_ns);
    update();
}

u32 Interrupts::queue_causes(u32 queues, u32 single, u32 first_of_queues) {
    // 10.2.4: the causes of the queues are used with MSI-X only, that of all queues without it.
    return queues == 0 ? 0 : pins_.vectors_enabled() ? queues * first_of_queues : single;
}

void Interrupts::received(unsigned queue) {
    if (registers_[RDTR] == 0) {
        raise(queue_causes(receive_.stop() | 1u << queue, icr_rxt0, icr_rxq0));
        return;
    }
    receive_.start(queue, clock_.now_ns(), registers_[RDTR], registers_[RADV]);
    publish_timer();
}

void Interrupts::transmitted(unsigned queue, bool delay) {
    if (!delay || registers_[TIDV] == 0 || (registers_[IVAR] & ivar_on_every_write_back) != 0) {
        raise(queue_causes(transmit_.stop() | 1u << queue, icr_txdw, icr_txq0));
        return;
    }
    transmit_.start(queue, clock_.now_ns(), registers_[TIDV], registers_[TADV]);
    publish_timer();
}

void Interrupts::flush_received() {
    raise(queue_causes(receive_.stop(), icr_rxt0, icr_rxq0));
}

void Interrupts::flush_transmitted() {
    raise(queue_causes(transmit_.stop(), icr_txdw, icr_txq0));
}

void Interrupts::run_timers() {
    const u64 now = clock_.now_ns();
    const auto expired = [&](const Delay& delay, u32 packet_count, u32 absolute_count) {
        const bool packet = delay.packet_due <= now;
        const bool absolute = delay.absolute_due <= now;
        if (packet || absolute) registers_.count(packet ? packet_count : absolute_count);
        return packet || absolute;
    };
    if (expired(receive_, ICRXPTC, ICRXATC)) flush_received();
    if (expired(transmit_, ICTXPTC, ICTXATC)) flush_transmitted();
    update();
}

u32 Interrupts::vector_causes(unsigned vector) const {
    u32 causes = 0;
    for (unsigned i = 0; i < vector_allocation.size(); ++i) {
        const u32 entry = registers_[IVAR] >> (4 * i);
        if ((entry & ivar_valid) != 0 && (entry & ivar_vector) == vector) causes |= vector_allocation[i];
    }
    return causes;
}

// Brings the line and the messages up to date after causes, masks or intervals changed.
void Interrupts::update() {
    throttled_until_ = never;
    if (pins_.vectors_enabled()) {
        for (unsigned vector = 0; vector < vector_count; ++vector) deliver(vector, vector_causes(vector));
    } else {
        deliver(itr_timer, icr_causes);
    }
    const bool active = (registers_[ICR] & registers_[IMS] & icr_causes) != 0;
    registers_[ICR] = (registers_[ICR] & ~icr_int_asserted) | (active ? icr_int_asserted : 0);
    pins_.set_line(announced_ != 0);
    publish_timer();
}

void Interrupts::deliver(unsigned timer, u32 causes) {
    u32 active = registers_[ICR] & registers_[IMS] & causes;
    announced_ &= ~causes | active;
    if ((active & ~announced_) == 0) return;
    const u64 now = clock_.now_ns();
    if (now < open_[timer]) {
        throttled_until_ = std::min(throttled_until_, open_[timer]);
        return;
    }
    const bool by_vector = timer != itr_timer;
    const u32 interval = by_vector ? registers_[EITR + 4 * timer] : registers_[ITR];
    open_[timer] = now + interval * interval_unit_ns;
    announced_ |= active;
    registers_.count(IAC);
    DeviceCounters::add(counters_.interrupts_raised);
    pins_.send_message(by_vector ? timer : 0);
    if (!by_vector) return;
    // 7.4.5: a message clears the causes that EIAC names, and masks those that IAM names.
    if ((registers_[CTRL_EXT] & ctrl_ext_eiame) != 0) registers_[IMS] &= ~(registers_[IAM] & active);
    registers_[ICR] &= ~(registers_[EIAC] & active);
    announced_ &= registers_[ICR] & registers_[IMS];
}

void Interrupts::publish_timer() {
    pins_.set_timer(std::min({throttled_until_, receive_.packet_due, receive_.absolute_due,
                              transmit_.packet_due, transmit_.absolute_due}));
}

void Interrupts::visit_state(StateVisitor& v) {
    v.field("announced", announced_);
    for (unsigned i = 0; i < open_.size(); ++i) v.field("open" + std::to_string(i), open_[i]);
    receive_.visit_state(v, "receive");
    transmit_.visit_state(v, "transmit");
    if (v.loading()) update();
}

}  // namespace wirt::devices::hardware::e1000e

#include "firmware/board_tree.h"

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "firmware/fdt.h"

namespace wirt::firmware {

namespace {

// RISC-V privileged specification, "mip": the causes that the cpu interrupt controller's cell names.
constexpr u32 irq_machine_software = 3, irq_machine_timer = 7;
constexpr u32 irq_supervisor_external = 9, irq_machine_external = 11;

// Interrupt flags of the two-cell binding (Linux, interrupt-controller/interrupts.txt).
constexpr u32 edge_rising = 1, level_high = 4;

// What the finisher takes (sifive,test0).
constexpr u32 test_poweroff = 0x5555, test_reboot = 0x7777;

// SBI PMU event numbers (SBI 2.0, 11.1).
constexpr u32 SBI_PMU_HW_CPU_CYCLES = 1, SBI_PMU_HW_INSTRUCTIONS = 2;

u32 high(u64 value) {
    return static_cast<u32>(value >> 32);
}
u32 low(u64 value) {
    return static_cast<u32>(value);
}

std::string unit_name(const char* name, u64 address) {
    char text[64];
    std::snprintf(text, sizeof text, "%s@%llx", name, static_cast<unsigned long long>(address));
    return text;
}

bool contains(const std::vector<std::string>& list, const char* item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

class BoardTree {
  public:
    explicit BoardTree(const BoardDescription& board) : board_(board) {
        for (unsigned hart = 0; hart < board.harts; ++hart) hart_interrupts_.push_back(tree_.new_phandle());
        controller_ = tree_.new_phandle();
    }

    std::vector<u8> build() {
        tree_.begin_node("");
        tree_.property("#address-cells", u32{2});
        tree_.property("#size-cells", u32{2});
        tree_.property("compatible", "riscv-virtio");
        tree_.property("model", "riscv-virtio,wirt");
        chosen();
        if (board_.uart) {
            tree_.begin_node("aliases");
            tree_.property("serial0", uart_path());
            tree_.end_node();
        }
        memory();
        cpus();
        if (board_.pmu_counters) pmu();
        soc();
        if (board_.test) {
            syscon("poweroff", "syscon-poweroff", test_poweroff);
            syscon("reboot", "syscon-reboot", test_reboot);
        }
        tree_.end_node();
        return tree_.finish();
    }

  private:
    std::string uart_path() const { return "/soc/" + unit_name("serial", board_.uart->reg.base); }

    void reg(const AddressRange& range) {
        tree_.property("reg", {high(range.base), low(range.base), high(range.size), low(range.size)});
    }

    void interrupt(u32 source, u32 trigger = level_high) {
        tree_.property("interrupt-parent", controller_);
        tree_.property("interrupts", specifier(source, trigger));
    }

    // A wire at the controller, as its #interrupt-cells asks for it.
    std::vector<u32> specifier(u32 source, u32 trigger = level_high) const {
        return board_.aplic ? std::vector<u32>{source, trigger} : std::vector<u32>{source};
    }

    void chosen() {
        tree_.begin_node("chosen");
        if (!board_.bootargs.empty()) tree_.property("bootargs", board_.bootargs);
        if (board_.uart) tree_.property("stdout-path", uart_path());
        if (board_.initrd) {
            tree_.property("linux,initrd-start", board_.initrd->base);
            tree_.property("linux,initrd-end", board_.initrd->base + board_.initrd->size);
        }
        if (!board_.rng_seed.empty()) tree_.property_bytes("rng-seed", board_.rng_seed);
        tree_.end_node();
    }

    void memory() {
        tree_.begin_node(unit_name("memory", board_.memory.base));
        tree_.property("device_type", "memory");
        reg(board_.memory);
        tree_.end_node();
    }

    void cpus() {
        tree_.begin_node("cpus");
        tree_.property("#address-cells", u32{1});
        tree_.property("#size-cells", u32{0});
        tree_.property("timebase-frequency", board_.timebase_hz);
        std::vector<u32> cpu_phandles;
        for (unsigned hart = 0; hart < board_.harts; ++hart) {
            cpu_phandles.push_back(tree_.new_phandle());
            cpu(hart, cpu_phandles.back());
        }
        tree_.begin_node("cpu-map");
        tree_.begin_node("cluster0");
        for (unsigned hart = 0; hart < board_.harts; ++hart) {
            tree_.begin_node("core" + std::to_string(hart));
            tree_.property("cpu", cpu_phandles[hart]);
            tree_.end_node();
        }
        tree_.end_node();
        tree_.end_node();
        tree_.end_node();
    }

    void cpu(unsigned hart, u32 phandle) {
        tree_.begin_node(unit_name("cpu", hart));
        tree_.phandle_property(phandle);
        tree_.property("device_type", "cpu");
        tree_.property("reg", u32{hart});
        tree_.property("status", "okay");
        tree_.property("compatible", "riscv");
        tree_.property("riscv,isa", legacy_isa_string(board_.isa_extensions));
        tree_.property("riscv,isa-base", "rv64i");
        tree_.property("riscv,isa-extensions", board_.isa_extensions);
        tree_.property("mmu-type", board_.mmu_type);
        for (const char* kind : {"cbom", "cbop", "cboz"}) {
            if (!contains(board_.isa_extensions, (std::string("zi") + kind).c_str())) continue;
            tree_.property("riscv," + std::string(kind) + "-block-size", board_.cache_block_size);
        }
        tree_.begin_node("interrupt-controller");
        tree_.phandle_property(hart_interrupts_[hart]);
        tree_.property("compatible", "riscv,cpu-intc");
        tree_.property("interrupt-controller");
        tree_.property("#interrupt-cells", u32{1});
        tree_.property("#address-cells", u32{0});
        tree_.end_node();
        tree_.end_node();
    }

    // For M-mode firmware, which serves the SBI's PMU extension from it.
    void pmu() {
        constexpr u32 cycle = 1u << 0, instret = 1u << 2;
        const u32 programmable = *board_.pmu_counters;
        tree_.begin_node("pmu");
        tree_.property("compatible", "riscv,pmu");
        std::vector<u32> counters = {SBI_PMU_HW_CPU_CYCLES,   SBI_PMU_HW_CPU_CYCLES,
                                     programmable | cycle,    SBI_PMU_HW_INSTRUCTIONS,
                                     SBI_PMU_HW_INSTRUCTIONS, programmable | instret};
        std::vector<u32> selectors;
        for (const u32 event : board_.pmu_events) {
            selectors.insert(selectors.end(), {event, 0, event});
            if (event != SBI_PMU_HW_CPU_CYCLES && event != SBI_PMU_HW_INSTRUCTIONS)
                counters.insert(counters.end(), {event, event, programmable});
        }
        if (!selectors.empty()) tree_.property("riscv,event-to-mhpmevent", selectors);
        tree_.property("riscv,event-to-mhpmcounters", counters);
        tree_.end_node();
    }

    void syscon(const char* node, const char* compatible, u32 value) {
        tree_.begin_node(node);
        tree_.property("compatible", compatible);
        tree_.property("regmap", test_);
        tree_.property("offset", u32{0});
        tree_.property("value", value);
        tree_.end_node();
    }

    void soc() {
        tree_.begin_node("soc");
        tree_.property("#address-cells", u32{2});
        tree_.property("#size-cells", u32{2});
        tree_.property("compatible", "simple-bus");
        tree_.property("ranges");
        if (board_.test) test();
        if (board_.rtc) device("rtc", "google,goldfish-rtc", *board_.rtc);
        // Linux, Documentation/devicetree/bindings/rng/microsoft,vmgenid.yaml.
        if (board_.vmgenid) device("rng", "microsoft,vmgenid", *board_.vmgenid, edge_rising);
        if (board_.aclint) aclint();
        if (board_.imsic) imsic(*board_.imsic);
        if (board_.aplic) {
            aplic(*board_.aplic);
        } else {
            plic();
        }
        if (board_.uart) uart();
        if (board_.iommu) {
            iommu_ = tree_.new_phandle();
            if (board_.iommu->reg) iommu();
        }
        for (unsigned slot = 0; slot < board_.virtio_mmio_slots; ++slot) {
            virtio_mmio(slot);
        }
        if (board_.pcie) pcie(*board_.pcie);
        tree_.end_node();
    }

    void device(const char* node, const char* compatible, const DeviceNode& description,
                u32 trigger = level_high) {
        tree_.begin_node(unit_name(node, description.reg.base));
        tree_.property("compatible", compatible);
        reg(description.reg);
        interrupt(description.interrupt, trigger);
        tree_.end_node();
    }

    void virtio_mmio(unsigned slot) {
        const AddressRange range{board_.virtio_mmio_base + slot * u64{0x1000}, 0x1000};
        tree_.begin_node(unit_name("virtio_mmio", range.base));
        tree_.property("compatible", "virtio,mmio");
        reg(range);
        interrupt(1 + slot);
        if (board_.iommu) tree_.property("iommus", {iommu_, virtio_mmio_device_id + slot});
        tree_.end_node();
    }

    // Linux, Documentation/devicetree/bindings/iommu/riscv,iommu.yaml.
    void iommu() {
        tree_.begin_node(unit_name("iommu", board_.iommu->reg->base));
        tree_.phandle_property(iommu_);
        tree_.property("compatible", "riscv,iommu");
        reg(*board_.iommu->reg);
        tree_.property("#iommu-cells", u32{1});
        tree_.property("interrupt-parent", controller_);
        if (board_.imsic) tree_.property("msi-parent", msi_parent_);
        std::vector<u32> cells;
        for (u32 n = 0; n < 4; ++n) {
            for (const u32 cell : specifier(board_.iommu->first_interrupt + n)) cells.push_back(cell);
        }
        tree_.property("interrupts", cells);
        tree_.end_node();
    }

    // The same as a child of the bus it is on. Its own requests are not translated.
    void iommu_function() {
        const u32 function = board_.iommu->slot << 3;
        tree_.begin_node("iommu@" + std::to_string(board_.iommu->slot) + ",0");
        tree_.phandle_property(iommu_);
        tree_.property("compatible", std::vector<std::string>{"pci1b36,14", "riscv,pci-iommu"});
        tree_.property("reg", {function << 8, 0, 0, 0, 0});
        tree_.property("#iommu-cells", u32{1});
        tree_.end_node();
    }

    // PCI IOMMU bindings: requester ids and the device_ids they become, which are the same numbers.
    std::vector<u32> iommu_map() const {
        constexpr u32 requesters = 0x1'0000;
        if (board_.iommu->reg) return {0, iommu_, 0, requesters};
        const u32 own = board_.iommu->slot << 3;
        return {0, iommu_, 0, own, own + 1, iommu_, own + 1, requesters - own - 1};
    }

    void test() {
        test_ = tree_.new_phandle();
        tree_.begin_node(unit_name("test", board_.test->base));
        tree_.phandle_property(test_);
        tree_.property("compatible", std::vector<std::string>{"sifive,test1", "sifive,test0", "syscon"});
        reg(*board_.test);
        tree_.end_node();
    }

    void uart() {
        tree_.begin_node(unit_name("serial", board_.uart->reg.base));
        tree_.property("compatible", "ns16550a");
        reg(board_.uart->reg);
        interrupt(board_.uart->interrupt);
        tree_.property("clock-frequency", board_.uart_clock_hz);
        tree_.end_node();
    }

    void interrupts_extended(std::initializer_list<u32> causes) {
        std::vector<u32> cells;
        for (const u32 hart : hart_interrupts_) {
            for (const u32 cause : causes) cells.insert(cells.end(), {hart, cause});
        }
        tree_.property("interrupts-extended", cells);
    }

    void aclint() {
        tree_.begin_node(unit_name("clint", board_.aclint->base));
        tree_.property("compatible", std::vector<std::string>{"sifive,clint0", "riscv,clint0"});
        reg(*board_.aclint);
        interrupts_extended({irq_machine_software, irq_machine_timer});
        tree_.end_node();
    }

    void plic() {
        tree_.begin_node(unit_name("plic", board_.plic.base));
        tree_.phandle_property(controller_);
        tree_.property("compatible", std::vector<std::string>{"sifive,plic-1.0.0", "riscv,plic0"});
        reg(board_.plic);
        tree_.property("interrupt-controller");
        tree_.property("#interrupt-cells", u32{1});
        tree_.property("#address-cells", u32{0});
        tree_.property("riscv,ndev", board_.plic_sources);
        // The order of the pairs numbers the contexts.
        interrupts_extended({irq_machine_external, irq_supervisor_external});
        tree_.end_node();
    }

    void imsic(const ImsicNodes& nodes) {
        if (nodes.machine) {
            msi_parent_machine_ = tree_.new_phandle();
            imsic_level(*nodes.machine, msi_parent_machine_, nodes.identities, irq_machine_external);
            tree_.end_node();
        }
        msi_parent_ = tree_.new_phandle();
        imsic_level(nodes.supervisor, msi_parent_, nodes.identities, irq_supervisor_external);
        if (nodes.guest_index_bits != 0) tree_.property("riscv,guest-index-bits", nodes.guest_index_bits);
        tree_.end_node();
    }

    void imsic_level(const AddressRange& range, u32 phandle, u32 identities, u32 cause) {
        tree_.begin_node(unit_name("interrupt-controller", range.base));
        tree_.phandle_property(phandle);
        tree_.property("compatible", "riscv,imsics");
        reg(range);
        tree_.property("interrupt-controller");
        tree_.property("#interrupt-cells", u32{0});
        tree_.property("msi-controller");
        tree_.property("#msi-cells", u32{0});
        tree_.property("riscv,num-ids", identities);
        interrupts_extended({cause});
    }

    // Devices are wired to the supervisor domain, to which firmware delegates all sources.
    void aplic(const AplicNodes& nodes) {
        if (nodes.machine) {
            aplic_domain(*nodes.machine, nodes.sources, irq_machine_external, msi_parent_machine_);
            tree_.property("riscv,children", controller_);
            tree_.property("riscv,delegation", {controller_, 1, nodes.sources});
            // The same by the name that older OpenSBI looks for.
            tree_.property("riscv,delegate", {controller_, 1, nodes.sources});
            tree_.end_node();
        }
        aplic_domain(nodes.supervisor, nodes.sources, irq_supervisor_external, msi_parent_);
        tree_.phandle_property(controller_);
        tree_.end_node();
    }

    void aplic_domain(const AddressRange& range, u32 sources, u32 cause, u32 msi_parent) {
        tree_.begin_node(unit_name("interrupt-controller", range.base));
        tree_.property("compatible", "riscv,aplic");
        reg(range);
        tree_.property("interrupt-controller");
        tree_.property("#interrupt-cells", u32{2});
        tree_.property("#address-cells", u32{0});
        tree_.property("riscv,num-sources", sources);
        if (board_.imsic) {
            tree_.property("msi-parent", msi_parent);
        } else {
            interrupts_extended({cause});
        }
    }

    // PCI Bus Binding to IEEE 1275-1994, 2.2.1.1 (phys.hi) and 12 ("ranges").
    void pcie(const PcieNode& node) {
        constexpr u32 space_io = 0x0100'0000, space_mmio32 = 0x0200'0000, space_mmio64 = 0x0300'0000;
        // A window above 4 GiB is only good behind bridges for prefetchable BARs; Linux warns about others.
        constexpr u32 prefetchable = 0x4000'0000;
        const u32 buses = static_cast<u32>(node.ecam.size >> 20);  // 1 MiB of ECAM a bus
        tree_.begin_node(unit_name("pci", node.ecam.base));
        tree_.property("compatible", "pci-host-ecam-generic");
        tree_.property("device_type", "pci");
        tree_.property("linux,pci-domain", u32{0});
        tree_.property("bus-range", {0, buses - 1});
        tree_.property("dma-coherent");
        if (board_.imsic) tree_.property("msi-parent", msi_parent_);
        reg(node.ecam);
        tree_.property("#address-cells", u32{3});
        tree_.property("#size-cells", u32{2});
        tree_.property("#interrupt-cells", u32{1});

        std::vector<u32> ranges;
        auto range = [&](u32 space, u64 bus_address, const AddressRange& cpu) {
            if (cpu.size == 0) return;
            ranges.insert(ranges.end(), {space, high(bus_address), low(bus_address), high(cpu.base),
                                         low(cpu.base), high(cpu.size), low(cpu.size)});
        };
        range(space_io, 0, node.io);
        range(space_mmio32, node.mmio32.base, node.mmio32);
        range(prefetchable | space_mmio64, node.mmio64.base, node.mmio64);
        tree_.property("ranges", ranges);

        // INTx of device d, pin p arrives at input (d + p - 1) mod 4.
        std::vector<u32> map;
        for (u32 device = 0; device < 4; ++device) {
            for (u32 pin = 1; pin <= 4; ++pin) {
                const u32 source = node.first_interrupt + (device + pin - 1) % 4;
                map.insert(map.end(), {device << 11, 0, 0, pin, controller_});
                for (const u32 cell : specifier(source)) map.push_back(cell);
            }
        }
        tree_.property("interrupt-map", map);
        tree_.property("interrupt-map-mask", {0x1800, 0, 0, 7});
        if (board_.iommu) {
            tree_.property("iommu-map", iommu_map());
            if (!board_.iommu->reg) iommu_function();
        }
        tree_.end_node();
    }

    const BoardDescription& board_;
    FdtWriter tree_;
    std::vector<u32> hart_interrupts_;
    u32 controller_ = 0;  // where the wires of devices end
    u32 msi_parent_ = 0, msi_parent_machine_ = 0;
    u32 test_ = 0;
    u32 iommu_ = 0;
};

}  // namespace

std::vector<u8> build_board_tree(const BoardDescription& board) {
    if (board.harts == 0) throw ConfigError("a board needs at least one hart");
    if (board.memory.size == 0) throw ConfigError("a board needs memory");
    return BoardTree(board).build();
}

std::string legacy_isa_string(const std::vector<std::string>& extensions) {
    std::string isa = "rv64";
    for (const char letter : std::string_view("imafdqlcbkjtpvnh")) {
        if (contains(extensions, std::string(1, letter).c_str())) isa += letter;
    }
    for (const std::string& extension : extensions) {
        if (extension.size() > 1) isa += "_" + extension;
    }
    return isa;
}

}  // namespace wirt::firmware

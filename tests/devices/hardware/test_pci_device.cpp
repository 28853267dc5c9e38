// Checks what no machine reaches yet from Python: messages (MSI and MSI-X), 64-bit and I/O BARs, shared
// interrupt lines, a function's state taken from one machine to another, and BARs moved under a reader's
// feet.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. From the repository's root:
//   c++ -std=c++20 -g -Wall -Wextra -Werror -Icsrc -Itests tests/devices/hardware/test_pci_device.cpp
//       csrc/devices/hardware/{pci*,ahci*,ata}.cpp csrc/memory/*.cpp
//       csrc/storage/*.cpp csrc/base/executor.cpp -pthread -o test_pci_device
//   ./test_pci_device
// It is meant to run under ThreadSanitizer and AddressSanitizer as well.
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "devices/hardware/ahci.h"
#include "devices/hardware/ahci_registers.h"
#include "pci_machine.h"
#include "support/state_copy.h"
#include "support/check.h"

namespace {

void test_bars() {
    Machine m;
    m.plug<Function>(1);
    for (u32 bar = 0; bar < 6; ++bar) m.configure(1, bar0 + 4 * bar, 4, ~u32{0});
    CHECK(m.configuration(1, bar0, 4) == 0xffff'f000);
    CHECK(m.configuration(1, bar0 + 4, 4) == 0xffff'ffe1);
    CHECK(m.configuration(1, bar0 + 8, 8) == 0xffff'ffff'fff0'000c);
    CHECK(m.configuration(1, bar0 + 16, 4) == 0xffff'f000);
    CHECK(m.configuration(1, bar0 + 20, 4) == 0);

    m.configure(1, bar0, 4, window);
    m.configure(1, bar0 + 4, 4, 0x1000);
    m.configure(1, bar0 + 8, 8, high_window + 0x10'0000);
    // Nothing claims these: reads give ones, writes are lost.
    CHECK(m.bus.read(window, 4) == 0xffff'ffff);
    CHECK(m.bus.write(window, 4, 7));
    m.configure(1, command, 2, 0x1);
    CHECK(m.bus.read(window, 4) == 0xffff'ffff);
    CHECK(m.bus.read(io_window + 0x1000, 4) == 0);
    m.configure(1, command, 2, 0x3);
    CHECK(m.bus.write(window, 4, 11));
    CHECK(m.bus.write(high_window + 0x10'0000, 4, 22));
    CHECK(m.bus.read(window, 4) == 11);
    CHECK(m.bus.read(high_window + 0x10'0000, 4) == 22);
    // Across the end of the window, and where no window is.
    m.configure(1, bar0 + 8, 8, high_window + 0x4'0000'0000);
    CHECK(!m.bus.read(high_window + 0x4'0000'0000, 4));
    m.configure(1, bar0 + 4, 4, 0x1'0000);
    CHECK(!m.bus.read(io_window + 0x1'0000, 4));
    CHECK(m.bus.read(io_window + 0xfffe, 2) == 0xffff);
}

void test_shared_lines() {
    Machine m;
    Function& first = m.plug<Function>(1, 1);   // INTA of slot 1
    Function& second = m.plug<Function>(4, 2);  // INTB of slot 4: the same line
    first.set_intx(true);
    CHECK(m.lines.levels[1]);
    second.set_intx(true);
    first.set_intx(false);
    CHECK(m.lines.levels[1]);
    second.set_intx(false);
    CHECK(!m.lines.levels[1]);
    first.set_intx(true);
    m.configure(1, command, 2, 0x400);
    CHECK(!m.lines.levels[1]);
    CHECK(m.configuration(1, 0x06, 2) & 0x8);
    m.configure(1, command, 2, 0);
    CHECK(m.lines.levels[1]);
    m.root.reset();
    CHECK(!m.lines.levels[1]);
}

void test_msi() {
    Machine m;
    Function& function = m.plug<Function>(1);
    CHECK(!function.notify(0));
    m.configure(1, 0x54, 8, 0x1'2800'0007);
    m.configure(1, 0x5c, 2, 0x1234);
    m.configure(1, 0x52, 2, 1);
    CHECK(function.notify(0));
    CHECK(m.messages.sent.empty());  // not a bus master
    m.configure(1, command, 2, 0x4);
    function.set_intx(true);
    CHECK(!m.lines.levels[1]);
    CHECK(function.notify(0));
    CHECK((m.messages.sent == std::vector<std::pair<u64, u32>>{{0x1'2800'0004, 0x1234}}));
}

void test_msix() {
    Machine m;
    Function& function = m.plug<Function>(1);
    m.configure(1, bar0 + 16, 4, window);
    m.configure(1, command, 2, 0x6);
    CHECK(m.configuration(1, 0x72, 2) == 4);  // five vectors
    CHECK(m.configuration(1, 0x74, 4) == 4);  // the table is in BAR 4
    CHECK(m.configuration(1, 0x78, 4) == 0x804);
    for (u64 vector = 0; vector < 5; ++vector) {
        CHECK(m.bus.read(window + vector * 16 + 12, 4) == 1);
        m.bus.write(window + vector * 16, 8, 0x2800'0000 + vector * 0x1000);
        m.bus.write(window + vector * 16 + 8, 4, vector + 100);
    }
    m.configure(1, 0x72, 2, 0x8000);
    CHECK(function.notify(3));
    CHECK(m.messages.sent.empty());
    CHECK(m.bus.read(window + 0x800, 8) == 8);
    m.bus.write(window + 3 * 16 + 12, 4, 0);
    CHECK((m.messages.sent == std::vector<std::pair<u64, u32>>{{0x2800'3000, 103}}));
    CHECK(m.bus.read(window + 0x800, 8) == 0);
    m.configure(1, 0x72, 2, 0xc000);  // function mask
    CHECK(function.notify(3));
    CHECK(m.messages.sent.size() == 1);
    m.configure(1, 0x72, 2, 0x8000);
    CHECK(m.messages.sent.size() == 2);
    CHECK(!function.notify(5));
    // Outside the table, and in widths that are undefined.
    CHECK(m.bus.read(window + 0x50, 8) == 0);
    CHECK(m.bus.read(window + 0x810, 8) == 0);
    m.bus.write(window + 0x800, 8, ~u64{0});
    m.bus.write(window, 1, 0xff);
    CHECK(m.bus.read(window + 0x800, 8) == 0);
    CHECK(m.bus.read(window, 4) == 0x2800'0000);
}

// Keeps what a save visited by section and name, and gives it back in a load.
class Store final : public StateVisitor {
  public:
    explicit Store(std::map<std::string, std::vector<u8>>& content, bool load)
        : content_(content), load_(load) {}
    void section(std::string_view name, u32) override { section_ = name; }
    bool loading() const override { return load_; }
    void blob(std::string_view name, std::vector<u8>& data, std::size_t limit) override {
        if (load_) data = content_[key(name)];
        if (data.size() > limit) data.resize(limit);
        content_[key(name)] = data;
    }

  protected:
    void integer(std::string_view name, u64& value, unsigned) override { bytes(name, &value, sizeof value); }
    void bytes(std::string_view name, void* data, std::size_t size) override {
        std::vector<u8>& stored = content_[key(name)];
        if (load_ && stored.size() == size) std::memcpy(data, stored.data(), size);
        if (!load_) stored.assign(static_cast<u8*>(data), static_cast<u8*>(data) + size);
    }

  private:
    std::string key(std::string_view name) const { return section_ + '/' + std::string(name); }
    std::map<std::string, std::vector<u8>>& content_;
    const bool load_;
    std::string section_;
};

struct SataMachine : Machine {
    SataMachine() {
        disk = storage::make_memory_disk(1 * MiB);
        hba = &plug<Ahci>(1, "ahci0", std::vector<Ahci::Disk>{{disk, "serial"}},
                          [this](const std::string&) -> Executor& { return executor; });
    }
    u32 port(u32 offset) { return static_cast<u32>(bus.read(window + 0x100 + offset, 4).value_or(~u64{0})); }
    void set_port(u32 offset, u32 value) { bus.write(window + 0x100 + offset, 4, value); }
    void start() {
        configure(1, 0x24, 4, window);
        configure(1, command, 2, 0x6);
        set_port(ahci::PxCLB, ram_base + 0x1000);
        set_port(ahci::PxFB, ram_base + 0x2000);
        set_port(ahci::PxSERR, ~u32{0});
        set_port(ahci::PxCMD, ahci::pxcmd_fre);
        set_port(ahci::PxCMD, ahci::pxcmd_fre | ahci::pxcmd_st);
        set_port(ahci::PxIE, ~u32{0});
        bus.write(window + ahci::GHC, 4, ahci::ghc_ie);
    }
    void identify() {
        u8* memory = ram.data();
        std::memset(memory + 0x3000, 0, 0x100);
        const u8 fis[] = {0x27, 0x80, 0xec};
        std::memcpy(memory + 0x3000, fis, sizeof fis);
        const u32 header[] = {5 | 1 << 16, 0, ram_base + 0x3000, 0};
        std::memcpy(memory + 0x1000, header, sizeof header);
        const u32 entry[] = {ram_base + 0x4000, 0, 0, 511};
        std::memcpy(memory + 0x3080, entry, sizeof entry);
        set_port(ahci::PxCI, 1);
        executor.drain();
    }

    std::shared_ptr<storage::BlockBackend> disk;
    DeferredExecutor executor{[] {}};
    Ahci* hba = nullptr;
};

void test_ahci_messages() {
    SataMachine m;
    m.start();
    m.configure(1, 0x84, 8, 0x2800'0000);
    m.configure(1, 0x82, 2, 1);
    m.identify();
    CHECK(m.port(ahci::PxCI) == 0);
    CHECK(m.messages.sent.size() == 1);
    m.identify();  // its event is already announced
    CHECK(m.messages.sent.size() == 1);
    // AHCI 1.3.1, 10.6: IS cleared while the port's event is still there makes a new message.
    m.bus.write(window + ahci::IS, 4, 1);
    CHECK(m.messages.sent.size() == 2);
    m.set_port(ahci::PxIS, ~u32{0});
    m.bus.write(window + ahci::IS, 4, 1);
    CHECK(m.messages.sent.size() == 2);
    CHECK(!m.lines.levels[1]);
}

void test_state() {
    SataMachine from;
    from.start();
    from.identify();
    std::map<std::string, std::vector<u8>> saved;
    Store save(saved, false);
    from.root.visit_state(save);

    SataMachine to;
    Store load(saved, true);
    to.root.visit_state(load);
    std::map<std::string, std::vector<u8>> again;
    Store save_again(again, false);
    to.root.visit_state(save_again);
    CHECK(saved == again);
    CHECK(to.lines.levels[1]);
    CHECK(to.port(ahci::PxIS) == from.port(ahci::PxIS));
    to.identify();
    CHECK(to.port(ahci::PxCI) == 0);
    CHECK(to.ram.data()[0x4000] == 0x40);

    // Whatever a snapshot says, the result is a controller that a reset brings back.
    for (auto& [key, bytes] : saved) {
        for (u8& byte : bytes) byte = 0xff;
    }
    SataMachine broken;
    Store load_broken(saved, true);
    broken.root.visit_state(load_broken);
    CHECK(broken.configuration(1, 0, 4) == 0x2922'8086);
    broken.root.reset();
    broken.start();
    broken.identify();
    CHECK(broken.port(ahci::PxCI) == 0);
    CHECK(broken.ram.data()[0x4000] == 0x40);
}

// A pause comes between the doorbell and the executor: the command is in the saved state, and is carried out
// by whoever goes on.
void test_a_command_waits_for_a_paused_controller() {
    SataMachine from, to;
    from.start();
    from.hba->pause_function();
    from.identify();
    CHECK(from.port(ahci::PxCI) == 1);
    CHECK(from.ram.data()[0x4000] == 0);

    StateCopy saved = StateCopy::of(from.root);
    to.root.pause();
    saved.load_into(to.root);
    std::memcpy(to.ram.data(), from.ram.data(), from.ram.size());
    CHECK(StateCopy::of(to.root) == saved);
    for (SataMachine* m : {&from, &to}) {
        m->executor.drain();
        CHECK(m->port(ahci::PxCI) == 1);
        m->root.resume();
        m->executor.drain();
        CHECK(m->port(ahci::PxCI) == 0);
        CHECK(m->ram.data()[0x4000] == 0x40);
        CHECK(m->lines.levels[1]);
    }
}

// One hart moves a BAR, another reads through it: nothing, or the device at an offset inside its region.
void test_moving_bars() {
    Machine m;
    m.plug<Function>(1);
    m.configure(1, bar0, 4, window);
    m.configure(1, command, 2, 0x2);
    std::atomic<bool> stop{false};
    std::thread mover([&] {
        for (u64 i = 0; i < 20'000; ++i) m.configure(1, bar0, 4, window + (i % 16) * 0x1000);
        stop = true;
    });
    bool inside = true;
    while (!stop) {
        for (u64 i = 0; i < 16; ++i) {
            const auto value = m.bus.read(window + i * 0x1000 + 0xff8, 8);
            inside = inside && (value == ~u64{0} || value == 0);
        }
    }
    mover.join();
    CHECK(inside);
}

}  // namespace

int main() {
    test_bars();
    test_shared_lines();
    test_msi();
    test_msix();
    test_ahci_messages();
    test_state();
    test_a_command_waits_for_a_paused_controller();
    test_moving_bars();
    return checks.close();
}

// Messages from several threads to an interrupt file while its hart claims: none is lost, and the line to the
// hart says at every rest whether something is there to claim. An APLIC in MSI mode is among the senders.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. From the repository's root:
//   c++ -std=c++20 -g -Wall -Wextra -Werror -Icsrc tests/devices/hardware/test_imsic.cpp
//       csrc/devices/hardware/{aplic,imsic}.cpp -pthread -o test_imsic
//   ./test_imsic
// It is meant to run under ThreadSanitizer and AddressSanitizer as well.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "devices/hardware/aplic.h"
#include "devices/hardware/imsic.h"
#include "support/check.h"

namespace {

using namespace wirt;
using namespace wirt::devices::hardware;

constexpr u64 base = 0x2800'0000;
constexpr u32 eidelivery = 0x70, eie0 = 0xc0;

struct Lines final : InterruptSink {
    void set_level(unsigned source, bool level) override { levels[source] = level; }
    std::array<std::atomic<bool>, 4> levels{};
};

void open(InterruptFile& file) {
    u64 old;
    file.modify(eidelivery, ~u64{0}, 1, old);
    for (u32 word = 0; word < 4; ++word) file.modify(eie0 + 2 * word, ~u64{0}, ~u64{0}, old);
}

// Each sender has an identity of its own, and sends again once the last was claimed: then none may be
// missing.
void test_no_message_is_lost() {
    constexpr unsigned senders = 3, rounds = 5000;
    Lines lines;
    Imsic imsic("imsic-s", base, {InterruptLine(lines, 0)});
    Aplic aplic("aplic-m", Aplic::Level::machine, {{}, &imsic, 0});
    InterruptFile& file = imsic.file(0);
    open(file);
    // Source 9 sends identity senders + 1 to hart 0: base address, IE and DM, Edge1, target, enable.
    constexpr unsigned source = 9;
    const std::pair<u64, u32> registers[] = {{0x1bc0, base >> page_shift},
                                             {0x0000, 1u << 8 | 1u << 2},
                                             {4 * source, 4},
                                             {0x3000 + 4 * source, senders + 1},
                                             {0x1edc, source}};
    for (const auto& [offset, value] : registers) aplic.write(offset, 4, value);

    std::array<std::atomic<unsigned>, senders + 2> claimed{};
    std::vector<std::thread> threads;
    for (u32 identity = 1; identity <= senders + 1; ++identity) {
        threads.emplace_back([&, identity] {
            for (unsigned round = 0; round < rounds; ++round) {
                if (identity <= senders) {
                    imsic.send_message(base, identity);
                } else {
                    aplic.set_level(source, true);
                    aplic.set_level(source, false);
                }
                while (claimed[identity].load() <= round) std::this_thread::yield();
            }
        });
    }
    unsigned total = 0;
    bool spurious = false;
    while (total < (senders + 1) * rounds) {
        if (!lines.levels[0].load()) {
            std::this_thread::yield();
            continue;
        }
        const u32 identity = file.top(true) >> 16;
        // Only this thread claims: where the line is up, something is pending.
        spurious = spurious || identity == 0;
        if (identity != 0) ++total;
        claimed[identity].fetch_add(1);
        if (spurious) break;
    }
    if (spurious) std::abort();
    for (std::thread& thread : threads) thread.join();
    CHECK(!lines.levels[0].load());
    CHECK(file.top(false) == 0);
    for (u32 identity = 1; identity <= senders + 1; ++identity) CHECK(claimed[identity] == rounds);
}

// What leaves one board as state arrives on another as it was; what no board can have written is put right.
struct Copy final : StateVisitor {
    explicit Copy(std::vector<std::vector<u8>>* from) : from(from) {}
    void section(std::string_view, u32) override {}
    bool loading() const override { return from != nullptr; }
    void blob(std::string_view, std::vector<u8>&, std::size_t) override {}
    void integer(std::string_view, u64& value, unsigned) override { bytes("", &value, sizeof value); }
    void bytes(std::string_view, void* data, std::size_t size) override {
        u8* const at = static_cast<u8*>(data);
        if (from == nullptr) {
            saved.emplace_back(at, at + size);
        } else {
            std::copy((*from)[next].begin(), (*from)[next].end(), at);
            ++next;
        }
    }
    std::vector<std::vector<u8>>* from;
    std::vector<std::vector<u8>> saved;
    std::size_t next = 0;
};

struct Board {
    Board()
        : imsic("imsic-s", base, {InterruptLine(wires, 0), InterruptLine(wires, 1)},
                {InterruptLine(), InterruptLine()}),
          root("aplic-m", Aplic::Level::machine,
               {{InterruptLine(imsic, 0), InterruptLine(imsic, 1)}, &imsic, 0}),
          child("aplic-s", Aplic::Level::supervisor,
                {{InterruptLine(wires, 2), InterruptLine(wires, 3)}, nullptr, 1}) {
        root.adopt(child);
    }
    void visit(StateVisitor& v) {
        imsic.visit_state(v);
        root.visit_state(v);
        child.visit_state(v);
    }
    Lines wires;
    Imsic imsic;
    Aplic root, child;
};

void test_state() {
    Board from;
    open(from.imsic.file(1));
    from.imsic.send_message(base + 2 * page_size, 200);
    from.root.write(4 * 40, 4, 1u << 10);  // delegated
    from.child.write(4 * 40, 4, 6);        // Level1
    from.child.write(0x3000 + 4 * 40, 4, 1u << 18 | 3);
    from.child.write(0x1edc, 4, 40);
    from.child.write(0x4020, 4, 1);  // idelivery of hart 1
    from.child.write(0, 4, 1u << 8);
    from.root.set_level(40, true);
    CHECK(from.wires.levels[1] && from.wires.levels[3] && !from.wires.levels[2]);

    Copy saved(nullptr);
    from.visit(saved);
    Board to;
    Copy loaded(&saved.saved);
    to.visit(loaded);
    CHECK(to.imsic.file(1).top(false) == (200u << 16 | 200));
    CHECK(to.wires.levels[1] && to.wires.levels[3] && !to.wires.levels[0] && !to.wires.levels[2]);
    CHECK(to.child.read(0x4038, 4) == (40u << 16 | 3));
    to.root.set_level(40, false);
    CHECK(!to.wires.levels[3]);
    Copy again(nullptr);
    from.root.set_level(40, false);
    from.visit(again);
    Copy back(nullptr);
    to.visit(back);
    CHECK(again.saved == back.saved);

    // Every byte of a forged state is ones.
    for (auto& field : saved.saved) std::fill(field.begin(), field.end(), u8{0xff});
    Board forged;
    Copy hostile(&saved.saved);
    forged.visit(hostile);
    for (u32 offset = 0; offset < Aplic::region_size; offset += 4) {
        forged.root.read(offset, 4);
        forged.child.read(offset, 4);
    }
    CHECK(forged.child.read(4 * 40, 4) <= 7);
    CHECK(forged.child.read(4 * 97, 4) == 0);
    CHECK(forged.root.read(4 * 40, 4) == 1u << 10);
    for (unsigned source = 0; source < 200; ++source) {
        forged.root.set_level(source, false);
        forged.root.set_level(source, true);
    }
    CHECK(forged.imsic.file(0).top(true) != 0);
}

}  // namespace

int main() {
    test_no_message_is_lost();
    test_state();
    return checks.close();
}

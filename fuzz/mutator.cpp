// libFuzzer's entry points for targets that play a script of steps, and the mutator that knows what a step
// is.
#include <algorithm>
#include <cstring>
#include <random>

#include "bench.h"

extern "C" std::size_t LLVMFuzzerMutate(wirt::u8* data, std::size_t size, std::size_t max_size);

namespace {

using namespace wirt;
using namespace wirt::fuzz;

using Random = std::minstd_rand;

u64 below(Random& random, u64 limit) {
    return limit == 0 ? 0 : random() % limit;
}

// Numbers that mean something to a device: memory, registers (its own among them), bits, edges.
u64 telling_value(Random& random, const std::vector<Step>& script) {
    static const std::vector<u64> bases = make_bench()->window_bases();
    switch (below(random, 8)) {
        case 0:
            return Bench::ram_base + below(random, Bench::ram_size / 4096) * 4096;
        case 1:
            return Bench::ram_base + below(random, Bench::ram_size / 16) * 16;
        case 2:
            return Bench::ram_base + Bench::ram_size - below(random, 64);
        case 3:
            return bases.empty() ? 0 : bases[below(random, bases.size())] + below(random, 64) * 4;
        case 4:
            return u64{1} << below(random, 64);
        case 5:
            return ~u64{0} >> below(random, 64);
        case 6:
            return script.empty() ? 0 : script[below(random, script.size())].value;
        default:
            return below(random, 300);
    }
}

void aim(Step& step, Random& random) {
    static const std::vector<Bench::Landmark> landmarks = make_bench()->landmarks();
    if (landmarks.empty() || below(random, 8) == 0) {
        step.offset = static_cast<u32>(random());
        return;
    }
    const Bench::Landmark& landmark = landmarks[below(random, landmarks.size())];
    step.window = landmark.window;
    step.offset = landmark.offset;
    step.width = static_cast<u8>((step.width & Step::later) |
                                 (below(random, 8) == 0 ? below(random, 4) : landmark.width));
}

Step fresh_step(Random& random, const std::vector<Step>& script) {
    Step step{};
    step.kind = static_cast<u8>(below(random, Step::own + 2));
    step.width = static_cast<u8>(below(random, 4) | (below(random, 4) == 0 ? Step::later : 0));
    step.count = static_cast<u8>(below(random, 24));
    step.value = telling_value(random, script);
    step.offset = static_cast<u32>(random());
    if (step.kind == Step::write || step.kind == Step::read) aim(step, random);
    return step;
}

void change(Step& step, Random& random, const std::vector<Step>& script) {
    switch (below(random, 8)) {
        case 0:
            step.value ^= u64{1} << below(random, 64);
            break;
        case 1:
            step.value = telling_value(random, script);
            break;
        case 2:
            step.value += below(random, 9) - 4;
            break;
        case 3:
            step.offset += static_cast<u32>(below(random, 65) - 32);
            break;
        case 4:
            if (step.kind == Step::write || step.kind == Step::read)
                aim(step, random);
            else
                step.offset = script[below(random, script.size())].offset;
            break;
        case 5:
            step.count = static_cast<u8>(random());
            break;
        case 6:
            step.width ^= static_cast<u8>(below(random, 2) ? u64{Step::later} : below(random, 4));
            break;
        default:
            LLVMFuzzerMutate(reinterpret_cast<u8*>(&step.value), sizeof step.value, sizeof step.value);
            break;
    }
}

std::vector<Step> steps_of(const u8* data, std::size_t size) {
    std::vector<Step> script(size / sizeof(Step));
    if (!script.empty()) std::memcpy(script.data(), data, script.size() * sizeof(Step));
    return script;
}

std::size_t store(const std::vector<Step>& script, u8* data, std::size_t max_size) {
    const std::size_t bytes = std::min(script.size(), max_size / sizeof(Step)) * sizeof(Step);
    if (bytes != 0) std::memcpy(data, script.data(), bytes);
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    make_bench()->play({data, size});
    return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(u8* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    Random random(seed);
    std::vector<Step> script = steps_of(data, size);
    for (u64 changes = 1 + below(random, 4); changes > 0; --changes) {
        const auto at = [&] {
            return script.begin() + static_cast<std::ptrdiff_t>(below(random, script.size()));
        };
        switch (script.empty() ? 0 : below(random, 8)) {
            case 0:
                script.insert(script.empty() ? script.begin() : at(), fresh_step(random, script));
                break;
            case 1:
                script.erase(at());
                break;
            case 2: {
                const Step copy = *at();
                script.insert(at(), copy);
                break;
            }
            case 3:
                std::iter_swap(at(), at());
                break;
            default:
                change(*at(), random, script);
                break;
        }
    }
    return store(script, data, max_size);
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const u8* data1, std::size_t size1, const u8* data2,
                                                 std::size_t size2, u8* out, std::size_t max_size,
                                                 unsigned seed) {
    Random random(seed);
    std::vector<Step> script = steps_of(data1, size1);
    const std::vector<Step> other = steps_of(data2, size2);
    script.resize(below(random, script.size() + 1));
    script.insert(script.end(), other.begin() + static_cast<std::ptrdiff_t>(below(random, other.size() + 1)),
                  other.end());
    return store(script, out, max_size);
}

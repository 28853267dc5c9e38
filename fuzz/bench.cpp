#include "bench.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::fuzz {

namespace {

constexpr unsigned tasks_after_write = 8;
constexpr unsigned tasks_at_end = 64;
// A reset that waits for a buffer in flight waits for good where one thread is all there is: a few suffice.
constexpr unsigned most_interleaved = 4;

// Takes the state out of the devices, or puts it back with one field changed.
class StateCopy final : public StateVisitor {
  public:
    void section(std::string_view, u32) override {}
    bool loading() const override { return loading_; }
    void blob(std::string_view, std::vector<u8>& data, std::size_t limit) override {
        if (!loading_) return entries_.emplace_back(data), void();
        data = next();
        if (data.size() > limit) data.resize(limit);
    }

    bool same_as(const StateCopy& other) const { return entries_ == other.entries_; }
    void load_with(std::size_t field, u64 change) {
        if (!entries_.empty()) {
            std::vector<u8>& entry = entries_[field % entries_.size()];
            const std::size_t at = entry.size() <= 8 ? 0 : field / entries_.size() % (entry.size() - 7);
            for (std::size_t i = 0; i < std::min<std::size_t>(8, entry.size()); ++i)
                entry[at + i] ^= static_cast<u8>(change >> (8 * i));
        }
        loading_ = true;
    }

  private:
    void integer(std::string_view, u64& value, unsigned width_bytes) override {
        bytes({}, &value, width_bytes);
    }
    void bytes(std::string_view, void* data, std::size_t size) override {
        u8* const host = static_cast<u8*>(data);
        if (!loading_) return entries_.emplace_back(host, host + size), void();
        const std::vector<u8>& entry = next();
        std::copy_n(entry.begin(), std::min(size, entry.size()), host);
    }
    // A tampered count may ask for more fields than were saved.
    const std::vector<u8>& next() {
        static const std::vector<u8> nothing;
        return next_ < entries_.size() ? entries_[next_++] : nothing;
    }

    std::vector<std::vector<u8>> entries_;
    std::size_t next_ = 0;
    bool loading_ = false;
};

}  // namespace

void StepExecutor::run(unsigned tasks) {
    for (; tasks > 0 && !tasks_.empty(); --tasks) {
        Task task = std::move(tasks_.front());
        tasks_.pop_front();
        task();
    }
}

class Bench::ScriptedDisk final : public storage::BlockBackend {
  public:
    ScriptedDisk(Bench& bench, u64 size) : bench_(bench), disk_(storage::make_memory_disk(size)) {}
    u64 size() const override { return disk_->size(); }
    bool read_only() const override { return false; }
    std::string describe() const override { return "scripted"; }
    int read(u64 offset, std::span<const iovec> spans) override {
        require_inside(offset, spans);
        const int error = bench_.during_transfer();
        return error != 0 ? error : disk_->read(offset, spans);
    }
    int write(u64 offset, std::span<const iovec> spans) override {
        require_inside(offset, spans);
        const int error = bench_.during_transfer();
        return error != 0 ? error : disk_->write(offset, spans);
    }
    int flush() override { return bench_.during_transfer(); }
    int discard(u64 offset, u64 length) override {
        FUZZ_REQUIRE(range_inside(offset, length, 0, size()));
        return disk_->discard(offset, length);
    }
    int write_zeroes(u64 offset, u64 length, bool may_unmap) override {
        FUZZ_REQUIRE(range_inside(offset, length, 0, size()));
        return disk_->write_zeroes(offset, length, may_unmap);
    }

  private:
    // What a backend may rely on: the range lies in the disk, and guest memory that a span begins in holds
    // all of it (where RAM ends no sanitizer looks).
    void require_inside(u64 offset, std::span<const iovec> spans) const {
        u64 length = 0;
        for (const iovec& span : spans) {
            const u64 at = static_cast<u64>(static_cast<u8*>(span.iov_base) - bench_.ram_.data());
            FUZZ_REQUIRE(at >= ram_size || span.iov_len <= ram_size - at);
            length += span.iov_len;
        }
        FUZZ_REQUIRE(range_inside(offset, length, 0, size()));
    }

    Bench& bench_;
    const std::shared_ptr<storage::BlockBackend> disk_;
};

Bench::Bench() : ram_(ram_base, ram_size), bus_(ram_) {}

std::shared_ptr<storage::BlockBackend> Bench::disk(u64 size) {
    return std::make_shared<ScriptedDisk>(*this, size);
}

void Bench::add_window(u64 base, u64 size, std::span<const memory::Register> registers) {
    const u8 index = static_cast<u8>(windows_.size());
    windows_.push_back({base, size});
    for (const memory::Register& r : registers) {
        const u32 width = std::bit_floor(std::clamp(r.width, u32{1}, u32{8}));
        landmarks_.push_back({index, r.offset, static_cast<u8>(std::countr_zero(width))});
    }
}

void Bench::add_device(u64 base, u64 size, memory::MmioDevice& device) {
    bus_.map(base, size, device);
    add_window(base, size, device.registers());
}

std::vector<u64> Bench::window_bases() const {
    std::vector<u64> bases;
    for (const Window& window : windows_) bases.push_back(window.base);
    return bases;
}

// --- the script ---

void Bench::play(std::span<const u8> script) {
    script_ = script;
    Step next;
    while (!broken_ && take(next)) execute(next);
    if (broken_) return;
    interleaved_ = 0;
    executor_.run(tasks_at_end);
    require_stable_state();
    check();
}

bool Bench::take(Step& next) {
    if (script_.size() < sizeof next) return false;
    std::memcpy(&next, script_.data(), sizeof next);
    script_ = script_.subspan(sizeof next);
    return true;
}

void Bench::execute(const Step& step) {
    const u64 room = ram_size - step.offset % ram_size;
    switch (step.kind) {
        case Step::poke: {
            const u64 length = std::min(room, u64{1} << (step.width & 3));
            std::memcpy(ram_.data() + step.offset % ram_size, &step.value, length);
            break;
        }
        case Step::fill:
            std::memset(ram_.data() + step.offset % ram_size, static_cast<u8>(step.value),
                        std::min(room, u64{step.count} * 16));
            break;
        case Step::write:
        case Step::read:
            access(step);
            break;
        case Step::run:
            executor_.run(step.count + 1u);
            break;
        case Step::meddle:
            meddlings_.push_back({step.count, step.offset % ram_size & ~u64{7}, step.value});
            break;
        case Step::interleave:
            interleaved_ = std::min<unsigned>(step.count, most_interleaved);
            break;
        case Step::fail:
            until_failure_ = step.count + 1u;
            break;
        case Step::tamper:
            tamper(step);
            break;
        default:
            own_step(step);
            break;
    }
}

void Bench::access(const Step& step) {
    if (windows_.empty()) return;
    const unsigned size = 1u << (step.width & 3);
    const Window& window = windows_[step.window % windows_.size()];
    const u64 address = align_down(window.base + step.offset % window.size, size);
    if (step.kind == Step::read) {
        const auto value = bus_.read(address, size);
        // A hart takes the value as it comes.
        FUZZ_REQUIRE(!value || size == 8 || *value >> (8 * size) == 0);
        return;
    }
    const u64 mask = size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1;
    bus_.write(address, size, step.value & mask);
    if (!(step.width & Step::later)) executor_.run(tasks_after_write);
}

// A snapshot is untrusted: loading one that was tampered with is refused, or leaves a device that works on.
void Bench::tamper(const Step& step) {
    executor_.run(tasks_at_end);
    if (!executor_.idle()) return;
    StateCopy copy;
    visit_state(copy);
    copy.load_with(step.offset, step.value);
    try {
        visit_state(copy);
    } catch (const Error&) {
        broken_ = true;
    }
}

// Saving must not change what is saved.
void Bench::require_stable_state() {
    StateCopy first;
    StateCopy second;
    visit_state(first);
    visit_state(second);
    FUZZ_REQUIRE(first.same_as(second));
}

// --- what happens while a device works ---

std::optional<u64> Bench::translate(u64 address, memory::DmaDirection, u64&) {
    for (std::size_t i = 0; i < meddlings_.size();) {
        Meddling& meddling = meddlings_[i];
        if (meddling.countdown-- > 0) {
            ++i;
            continue;
        }
        std::memcpy(ram_.data() + meddling.offset, &meddling.value, sizeof meddling.value);
        meddlings_.erase(meddlings_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return address;
}

std::optional<u64> Bench::translate(u32, u64 address, memory::DmaDirection direction, u64& contiguous) {
    return translate(address, direction, contiguous);
}

int Bench::during_transfer() {
    const unsigned steps = std::exchange(interleaved_, 0);
    Step next;
    for (unsigned i = 0; i < steps && take(next); ++i) {
        // One executor runs one task at a time, and a snapshot is taken at rest.
        if (next.kind == Step::run || next.kind == Step::tamper || next.kind >= Step::own) continue;
        next.width |= Step::later;
        execute(next);
    }
    return until_failure_ > 0 && --until_failure_ == 0 ? EIO : 0;
}

}  // namespace wirt::fuzz

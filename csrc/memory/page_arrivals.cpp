#include "memory/page_arrivals.h"

#include <algorithm>

namespace wirt::memory {

namespace {

constexpr std::size_t most_waits = 100'000;

}  // namespace

PageArrivals::PageArrivals(GuestRam& ram, const PageSet& missing)
    : ram_(ram), there_(ram.pages()), claimed_(ram.pages()), missing_(missing.size()), asked_(ram.pages()) {
    for (u64 word = 0; word < missing.words(); ++word) {
        there_.set_word(word, ~missing.word(word));
        claimed_.set_word(word, ~missing.word(word));
    }
}

bool PageArrivals::require(u64 first, u64 count) {
    u64 page = first;
    while (page < first + count && there_.test(page)) ++page;
    if (page == first + count) return true;
    const auto begin = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    // All that is missing is asked for at once.
    for (u64 other = page; other < first + count; ++other) {
        if (there_.test(other) || asked_.contains(other)) continue;
        asked_.insert(other);
        wanted_.push_back(other);
    }
    wanted_changed_.notify_all();
    for (; page < first + count; ++page) arrived_.wait(lock, [&] { return over_ || there_.test(page); });
    const bool all = !over_;
    if (all && waits_.size() < most_waits) {
        const std::chrono::nanoseconds passed = std::chrono::steady_clock::now() - begin;
        waits_.push_back(static_cast<u64>(passed.count()));
    }
    return all;
}

void PageArrivals::arrived(u64 page) {
    // To decoders and dirty logs it is a write like any other.
    ram_.note_write(ram_.base() + page * page_size, page_size);
    std::lock_guard lock(mutex_);
    there_.set(page);
    if (asked_.contains(page)) {
        asked_.remove(page);
        arrived_.notify_all();
    }
    if (--missing_ == 0) wanted_changed_.notify_all();
}

std::vector<u64> PageArrivals::wanted(u64 most, double timeout_s) {
    std::unique_lock lock(mutex_);
    wanted_changed_.wait_for(lock, std::chrono::duration<double>(timeout_s),
                             [this] { return over_ || !wanted_.empty() || missing_ == 0; });
    std::vector<u64> out;
    if (over_) return out;
    while (!wanted_.empty() && out.size() < most) {
        if (!there_.test(wanted_.front())) out.push_back(wanted_.front());
        wanted_.pop_front();
    }
    return out;
}

void PageArrivals::ask_again() {
    std::lock_guard lock(mutex_);
    wanted_.clear();
    for (u64 page = asked_.next(0); page < asked_.pages(); page = asked_.next(page + 1))
        wanted_.push_back(page);
    wanted_changed_.notify_all();
}

PageSet PageArrivals::missing_pages() const {
    PageSet out(ram_.pages());
    for (u64 word = 0; word < out.words(); ++word) out.word(word) = ~there_.load(word);
    // Bits behind the last page stand for nothing.
    for (u64 page = out.pages(); page < out.words() * 64; ++page) out.remove(page);
    return out;
}

void PageArrivals::give_up() {
    std::lock_guard lock(mutex_);
    over_ = true;
    arrived_.notify_all();
    wanted_changed_.notify_all();
}

std::vector<u64> PageArrivals::waits() const {
    std::lock_guard lock(mutex_);
    return waits_;
}

}  // namespace wirt::memory

#include "memory/guest_ram.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "memory/page_capture.h"
#include "memory/zero_page.h"

namespace wirt::memory {

namespace {

[[noreturn]] void refuse_reservation(u64 size) {
    throw ConfigError("the host cannot reserve " + std::to_string(size / MiB) +
                      " MiB of guest memory: " + std::strerror(errno));
}

}  // namespace

GuestRam::GuestRam(u64 base, u64 size) : base_(base), size_(size), code_(size / page_size * sizeof(u32)) {
    if (size == 0 || (size & page_mask) != 0) {
        throw ConfigError("guest memory must be a positive multiple of 4 KiB, not " + std::to_string(size) +
                          " bytes");
    }
    void* mapping =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED || !code_) refuse_reservation(size);
    data_ = static_cast<u8*>(mapping);
    // Fewer host TLB misses for the guest's working set; a refusal costs only speed.
    madvise(data_, size_, MADV_HUGEPAGE);
}

GuestRam::GuestRam(u64 base, u64 size, RamPoint point)
    : base_(base),
      size_(size),
      code_(size / page_size * sizeof(u32)),
      origin_(std::move(point)),
      point_(origin_),
      shared_(true) {
    if (point_->image->size() != size) {
        throw ConfigError("a memory image of " + std::to_string(point_->image->size()) +
                          " bytes does not fit guest memory of " + std::to_string(size));
    }
    data_ = code_ ? point_->image->map(nullptr) : nullptr;
    if (data_ == nullptr) refuse_reservation(size);
    if (const PageDelta* delta = point_->delta.get()) {
        for (u64 i = 0; i < delta->pages.size(); ++i)
            std::memcpy(page_data(delta->pages[i]), delta->content.data() + i * page_size, page_size);
    }
    start_log(DirtyLog::point);
}

GuestRam::~GuestRam() {
    if (data_ != nullptr) munmap(data_, size_);
}

// ---------------------------------------------------------------- writing

void GuestRam::invalidate_code(u64 page_index) {
    std::atomic<u32>& word = code(page_index);
    u32 old = word.load(std::memory_order_relaxed);
    // Generation up by one, the mark off: the next decode sets it again.
    while (!word.compare_exchange_weak(old, (old & ~u32{1}) + 2, std::memory_order_seq_cst)) {
    }
    code_epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (code_listener_) code_listener_();
}

void GuestRam::note_write(u64 address, u64 length) {
    if (length == 0 || !contains(address, length)) return;
    const u64 first = (address - base_) >> page_shift;
    const u64 last = (address + length - 1 - base_) >> page_shift;
    const u32 watches = watches_.load(std::memory_order_seq_cst);
    for (u64 page = first; page <= last; ++page) {
        if (code(page).load(std::memory_order_seq_cst) & 1) invalidate_code(page);
        for (unsigned log = 0; log < dirty_logs; ++log) {
            if ((watches >> log & 1) != 0) logs_[log]->set(page);
        }
    }
}

bool GuestRam::seen_by_all(u64 page) const {
    const u32 watches = watches_.load(std::memory_order_seq_cst);
    for (unsigned log = 0; log < dirty_logs; ++log) {
        if ((watches >> log & 1) != 0 && !logs_[log]->test(page)) return false;
    }
    return (watches & capture_watch) == 0 || preserved_->test(page);
}

void GuestRam::watch(u32 bits) {
    watches_.fetch_or(bits, std::memory_order_seq_cst);
    if (watch_listener_) watch_listener_();
}

// ---------------------------------------------------------------- dirty logs

void GuestRam::start_log(DirtyLog log) {
    auto& bitmap = logs_[static_cast<unsigned>(log)];
    if (bitmap) {
        bitmap->clear();
    } else {
        bitmap = std::make_unique<PageBitmap>(pages());
    }
    watch(1u << static_cast<unsigned>(log));
}

void GuestRam::stop_log(DirtyLog log) {
    watches_.fetch_and(~(1u << static_cast<unsigned>(log)), std::memory_order_seq_cst);
}

u64 GuestRam::dirty_count(DirtyLog log) const {
    return log_active(log) ? log_of(log).count() : 0;
}

PageSet GuestRam::dirty(DirtyLog log) const {
    PageSet out(pages());
    if (!log_active(log)) return out;
    const PageBitmap& bitmap = log_of(log);
    for (u64 word = 0; word < bitmap.words(); ++word) out.word(word) = bitmap.load(word);
    return out;
}

PageSet GuestRam::take_dirty(DirtyLog log) {
    PageSet out(pages());
    if (!log_active(log)) return out;
    PageBitmap& bitmap = log_of(log);
    u64 any = 0;
    for (u64 word = 0; word < bitmap.words(); ++word) any |= out.word(word) = bitmap.take_word(word);
    // Until then a hart may write through a TLB entry that it got while the page was dirty.
    if (any != 0 && watch_listener_) watch_listener_();
    return out;
}

// ---------------------------------------------------------------- content at one moment

std::unique_ptr<PageCapture> GuestRam::begin_capture(PageSet wanted) {
    std::unique_ptr<PageCapture> capture;
    {
        std::lock_guard lock(capture_mutex_);
        if (capture_ != nullptr) {
            throw StateError("a snapshot of this machine is being written already: wait for its end");
        }
        if (!preserved_) preserved_ = std::make_unique<PageBitmap>(pages());
        preserved_->clear();
        for (u64 word = 0; word < wanted.words(); ++word) preserved_->set_word(word, ~wanted.word(word));
        capture.reset(new PageCapture(*this, std::move(wanted)));
        capture_ = capture.get();
    }
    watch(capture_watch);
    return capture;
}

void GuestRam::preserve(u64 address, u64 length) {
    if (length == 0 || !contains(address, length)) return;
    const u64 first = (address - base_) >> page_shift;
    const u64 last = (address + length - 1 - base_) >> page_shift;
    for (u64 page = first; page <= last; ++page) {
        if (preserved_->test(page)) continue;
        std::lock_guard lock(capture_mutex_);
        if (capture_ != nullptr) capture_->preserve(page);
    }
}

void GuestRam::end_capture() {
    std::lock_guard lock(capture_mutex_);
    watches_.fetch_and(~capture_watch, std::memory_order_seq_cst);
    capture_ = nullptr;
}

RamPoint GuestRam::freeze(u64 clones) {
    if (point_) {
        const PageSet changed = dirty(DirtyLog::point);
        const u64 count = changed.size() + (point_->delta ? point_->delta->pages.size() : 0);
        // Copying what differs for each clone, or all of it once.
        constexpr u64 few_pages = 16;
        if (count <= few_pages || count * clones <= pages() / 16) {
            if (changed.empty()) return *point_;
            PageSet all = changed;
            if (point_->delta) {
                for (const u64 page : point_->delta->pages) all.insert(page);
            }
            auto delta = std::make_shared<PageDelta>();
            delta->content.reserve(all.size() * page_size);
            for (u64 page = all.next(0); page < pages(); page = all.next(page + 1)) {
                delta->pages.push_back(page);
                delta->content.insert(delta->content.end(), page_data(page), page_data(page) + page_size);
            }
            return {point_->image, std::move(delta)};
        }
    }
    // From here on this machine shares its memory with its clones, too.
    RamPoint point{RamImage::copy_of(bytes()), nullptr};
    shared_.store(true, std::memory_order_seq_cst);
    if (point.image->map(data_) == nullptr) {
        throw ConfigError(std::string("the host cannot share guest memory: ") + std::strerror(errno));
    }
    if (origin_) {
        if (since_origin_.pages() == 0) since_origin_ = PageSet(pages());
        since_origin_ |= dirty(DirtyLog::point);
    }
    point_ = point;
    start_log(DirtyLog::point);
    return point;
}

u64 GuestRam::reset() {
    if (!origin_) throw StateError("guest memory did not begin with a content to go back to");
    PageSet changed = take_dirty(DirtyLog::point);
    if (since_origin_.pages() != 0) changed |= since_origin_;
    u64 count = 0;
    for (u64 page = changed.next(0); page < pages(); page = changed.next(page + 1), ++count) {
        const u64 address = base_ + page * page_size;
        will_write(address, page_size);
        std::memcpy(page_data(page), origin_->page(page), page_size);
        note_write(address, page_size);
    }
    // The other logs have heard of it; to the point these pages are what they were.
    PageBitmap& log = log_of(DirtyLog::point);
    for (u64 page = changed.next(0); page < pages(); page = changed.next(page + 1)) {
        if (!since_origin_.contains(page)) log.unset(page);
    }
    return count;
}

bool GuestRam::require(u64 address, u64 length) const {
    PageSource* source = source_.load(std::memory_order_acquire);
    if (source == nullptr || length == 0) return true;
    const u64 first = (address - base_) >> page_shift;
    const u64 last = (address + length - 1 - base_) >> page_shift;
    return source->require(first, last - first + 1);
}

void GuestRam::visit_state(StateVisitor& v) {
    v.section("ram", 1);
    u64 base = base_;
    u64 size = size_;
    v.field("base", base);
    v.field("size", size);
    require_all();
    // Pages that were never touched, or hold zeroes, are not visited: (index, content) of the others is.
    std::vector<u8> page;
    for (u64 index = 0; index < pages(); ++index) {
        const u8* from = page_data(index);
        if (is_zero_page(from)) continue;
        v.field("page", index);
        page.assign(from, from + page_size);
        v.blob("content", page, page_size);
    }
}

}  // namespace wirt::memory

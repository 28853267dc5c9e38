#include "memory/page_capture.h"

#include <algorithm>
#include <thread>

#include "memory/zero_page.h"

namespace wirt::memory {

PageCapture::PageCapture(GuestRam& ram, PageSet pages)
    : ram_(ram), wanted_(std::move(pages)), claimed_(ram.pages()), remaining_(wanted_.size()) {}

PageCapture::~PageCapture() {
    ram_.end_capture();
}

void PageCapture::preserve(u64 page) {
    if (!claimed_.set(page)) {
        // The reader copies these 4 KiB at this moment, or just did.
        while (!ram_.preserved_->test(page)) std::this_thread::yield();
        return;
    }
    auto content = std::make_unique_for_overwrite<u8[]>(page_size);
    std::memcpy(content.get(), ram_.page_data(page), page_size);
    {
        std::lock_guard lock(mutex_);
        kept_.push_back({page, std::move(content)});
    }
    preserved_count_.fetch_add(1, std::memory_order_relaxed);
    ram_.preserved_->set(page);
}

PageCapture::Batch PageCapture::read(u64 most) {
    Batch batch;
    const auto add = [&](u64 page, const u8* content) {
        ++batch.visited;
        if (is_zero_page(content)) return;
        batch.pages.push_back(page);
        batch.content.insert(batch.content.end(), content, content + page_size);
    };
    // What was preserved first: it takes memory.
    for (;;) {
        Preserved next;
        {
            std::lock_guard lock(mutex_);
            if (kept_.empty() || batch.visited >= most) break;
            next = std::move(kept_.front());
            kept_.pop_front();
        }
        add(next.page, next.content.get());
    }
    while (batch.visited < most && (next_ = wanted_.next(next_)) < wanted_.pages()) {
        const u64 page = next_++;
        if (!claimed_.set(page)) continue;
        add(page, ram_.page_data(page));
        ram_.preserved_->set(page);
    }
    // A page that a writer has claimed is still on its way into `kept_`.
    if (batch.visited == 0 && remaining_.load() > 0) {
        std::this_thread::yield();
        return read(most);
    }
    remaining_ -= batch.visited;
    return batch;
}

}  // namespace wirt::memory

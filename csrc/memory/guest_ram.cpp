#include "memory/guest_ram.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

namespace wirt::memory {

GuestRam::GuestRam(u64 base, u64 size) : base_(base), size_(size) {
    if (size == 0 || (size & page_mask) != 0) {
        throw ConfigError("guest memory must be a positive multiple of 4 KiB, not " + std::to_string(size) +
                          " bytes");
    }
    void* mapping =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        throw ConfigError("the host cannot reserve " + std::to_string(size / MiB) +
                          " MiB of guest memory: " + std::strerror(errno));
    }
    data_ = static_cast<u8*>(mapping);
    // Fewer host TLB misses for the guest's working set; a refusal costs only speed.
    madvise(data_, size_, MADV_HUGEPAGE);
    code_ = std::make_unique<std::atomic<u32>[]>(size / page_size);
}

GuestRam::~GuestRam() {
    if (data_ != nullptr) munmap(data_, size_);
}

void GuestRam::invalidate_code(u64 page_index) {
    std::atomic<u32>& word = code_[page_index];
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
    for (u64 page = first; page <= last; ++page) {
        if (code_[page].load(std::memory_order_seq_cst) & 1) invalidate_code(page);
    }
}

namespace {
bool is_zero(const u8* page) {
    return page[0] == 0 && std::memcmp(page, page + 1, page_size - 1) == 0;
}
}  // namespace

void GuestRam::visit_state(StateVisitor& v) {
    v.section("ram", 1);
    u64 base = base_;
    u64 size = size_;
    v.field("base", base);
    v.field("size", size);
    // Pages that were never touched, or hold zeroes, are not visited: (index, content) of the others is.
    std::vector<u8> page;
    for (u64 index = 0; index < size_ / page_size; ++index) {
        const u8* from = data_ + index * page_size;
        if (is_zero(from)) continue;
        v.field("page", index);
        page.assign(from, from + page_size);
        v.blob("content", page, page_size);
    }
}

}  // namespace wirt::memory

#include "memory/dma.h"

#include <algorithm>
#include <cstring>

namespace wirt::memory {

u8* DmaView::piece(u64 address, u64 length, DmaDirection direction) const {
    if (translator_ == nullptr) return ram_->host(address, length);
    u64 contiguous = length;
    const auto physical = translator_->translate(address, direction, contiguous);
    return physical && contiguous >= length ? ram_->host(*physical, length) : nullptr;
}

template <typename Fn>
bool DmaView::for_each(u64 address, u64 length, DmaDirection direction, Fn&& fn) const {
    if (length == 0) return true;
    if (address + length < address) return false;
    if (translator_ == nullptr) {
        u8* host = ram_->host(address, length);
        if (host == nullptr) return false;
        fn(host, length);
        return true;
    }
    while (length > 0) {
        u64 contiguous = length;
        const auto physical = translator_->translate(address, direction, contiguous);
        const u64 step = std::min(contiguous, length);
        u8* host = physical && step > 0 ? ram_->host(*physical, step) : nullptr;
        if (host == nullptr) return false;
        fn(host, step);
        address += step;
        length -= step;
    }
    return true;
}

bool DmaView::read(u64 address, void* to, u64 length) const {
    u8* out = static_cast<u8*>(to);
    return for_each(address, length, DmaDirection::to_device, [&](const u8* host, u64 n) {
        std::memcpy(out, host, n);
        out += n;
    });
}

bool DmaView::write(u64 address, const void* from, u64 length) const {
    const u8* in = static_cast<const u8*>(from);
    return for_each(address, length, DmaDirection::from_device, [&](u8* host, u64 n) {
        announce(host, n);
        std::memcpy(host, in, n);
        note(host, n);
        in += n;
    });
}

bool DmaView::fill(u64 address, u8 value, u64 length) const {
    return for_each(address, length, DmaDirection::from_device, [&](u8* host, u64 n) {
        announce(host, n);
        std::memset(host, value, n);
        note(host, n);
    });
}

bool DmaView::map(u64 address, u64 length, DmaDirection direction, std::vector<iovec>& out) const {
    const std::size_t before = out.size();
    const bool ok = for_each(address, length, direction, [&](u8* host, u64 n) {
        if (direction == DmaDirection::from_device) announce(host, n);
        // Guest buffers that happen to be adjacent become one span.
        if (out.size() > before && static_cast<u8*>(out.back().iov_base) + out.back().iov_len == host) {
            out.back().iov_len += n;
        } else {
            out.push_back({host, n});
        }
    });
    if (!ok) out.resize(before);
    return ok;
}

void DmaView::finish(std::span<const iovec> written) const {
    for (const iovec& v : written) note(static_cast<const u8*>(v.iov_base), v.iov_len);
}

}  // namespace wirt::memory

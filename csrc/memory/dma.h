// How a device reaches guest memory: RAM only, bounds-checked, dirty and code pages noted. A DMA that hits
// anything else fails, which closes the class of bugs where a device's DMA re-enters a device.
//
// Untrusted input: every address and length (they come from descriptors the guest wrote).
#pragma once

#include <sys/uio.h>

#include <optional>
#include <span>
#include <vector>

#include "memory/guest_ram.h"

namespace wirt::memory {

enum class DmaDirection : u8 {
    to_device /* the device reads RAM */,
    from_device /* the device writes RAM */
};

// Where an IOMMU will stand: gives the physical address and the length that is contiguous from there.
class DmaTranslator {
  public:
    virtual ~DmaTranslator() = default;
    virtual std::optional<u64> translate(u64 address, DmaDirection direction, u64& contiguous) = 0;
};

// An IOMMU as the buses see it: every request is looked up by who made it (RISC-V IOMMU 1.0, device_id: for a
// PCIe function its requester id). Called from harts and from devices' own threads, with the device's mutex
// held or not: an implementation's lock comes after devices' and before interrupt controllers'.
class DmaRemapper {
  public:
    virtual ~DmaRemapper() = default;
    // As DmaTranslator::translate. A refusal has been reported to the guest when this returns.
    virtual std::optional<u64> translate(u32 device_id, u64 address, DmaDirection direction,
                                         u64& contiguous) = 0;
    // A message-signalled interrupt is a memory write of the device's, and is translated as one. False: it
    // went nowhere.
    virtual bool send_message(u32 device_id, u64 address, u32 data) = 0;
};

// The bus as one device has it: a translator with the device's name filled in.
class RemappedBus final : public DmaTranslator {
  public:
    RemappedBus(DmaRemapper& remapper, u32 device_id) : remapper_(remapper), device_id_(device_id) {}
    std::optional<u64> translate(u64 address, DmaDirection direction, u64& contiguous) override {
        return remapper_.translate(device_id_, address, direction, contiguous);
    }

  private:
    DmaRemapper& remapper_;
    const u32 device_id_;
};

class DmaView {
  public:
    explicit DmaView(GuestRam& ram, DmaTranslator* translator = nullptr)
        : ram_(&ram), translator_(translator) {}

    // All or nothing is not promised: false means that some byte of the range is not RAM, and a prefix may
    // have been transferred, as on a bus that aborts half way.
    [[nodiscard]] bool read(u64 address, void* to, u64 length) const;
    [[nodiscard]] bool write(u64 address, const void* from, u64 length) const;
    [[nodiscard]] bool fill(u64 address, u8 value, u64 length) const;

    // A naturally aligned 1, 2, 4 or 8 byte value in one access with acquire / release order; nullopt or
    // false when it is misaligned or not in RAM. This is how ring indices and descriptors are read: once.
    template <typename T>
    [[nodiscard]] std::optional<T> load(u64 address) const {
        const u8* from =
            (address & (sizeof(T) - 1)) == 0 ? piece(address, sizeof(T), DmaDirection::to_device) : nullptr;
        if (from == nullptr) return std::nullopt;
        return __atomic_load_n(reinterpret_cast<const T*>(from), __ATOMIC_ACQUIRE);
    }
    template <typename T>
    [[nodiscard]] bool store(u64 address, std::type_identity_t<T> value) const {
        u8* to =
            (address & (sizeof(T) - 1)) == 0 ? piece(address, sizeof(T), DmaDirection::from_device) : nullptr;
        if (to == nullptr) return false;
        announce(to, sizeof(T));
        __atomic_store_n(reinterpret_cast<T*>(to), value, __ATOMIC_RELEASE);
        note(to, sizeof(T));
        return true;
    }

    // Read-modify-write in one access, sequentially consistent; nullopt as for load(). True: `expected` was
    // there and is replaced.
    template <typename T>
    [[nodiscard]] std::optional<bool> compare_exchange(u64 address, std::type_identity_t<T> expected,
                                                       std::type_identity_t<T> desired) const {
        u8* at =
            (address & (sizeof(T) - 1)) == 0 ? piece(address, sizeof(T), DmaDirection::from_device) : nullptr;
        if (at == nullptr) return std::nullopt;
        announce(at, sizeof(T));
        const bool swapped = __atomic_compare_exchange_n(reinterpret_cast<T*>(at), &expected, desired, false,
                                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        if (swapped) note(at, sizeof(T));
        return swapped;
    }
    // The value before.
    template <typename T>
    [[nodiscard]] std::optional<T> fetch_or(u64 address, std::type_identity_t<T> value) const {
        u8* at =
            (address & (sizeof(T) - 1)) == 0 ? piece(address, sizeof(T), DmaDirection::from_device) : nullptr;
        if (at == nullptr) return std::nullopt;
        announce(at, sizeof(T));
        const T before = __atomic_fetch_or(reinterpret_cast<T*>(at), value, __ATOMIC_SEQ_CST);
        note(at, sizeof(T));
        return before;
    }

    // Appends host spans that cover the guest range, for preadv/pwritev without a copy. False when some byte
    // is not RAM (`out` is then as before). For from_device ranges call `finish` after the last write.
    [[nodiscard]] bool map(u64 address, u64 length, DmaDirection direction, std::vector<iovec>& out) const;
    void finish(std::span<const iovec> written) const;

  private:
    u8* piece(u64 address, u64 length, DmaDirection direction) const;
    u64 physical(const u8* host) const { return ram_->base() + static_cast<u64>(host - ram_->data()); }
    // Before and after a write.
    void announce(const u8* host, u64 length) const { ram_->will_write(physical(host), length); }
    void note(const u8* host, u64 length) const { ram_->note_write(physical(host), length); }
    template <typename Fn>
    bool for_each(u64 address, u64 length, DmaDirection direction, Fn&& fn) const;

    GuestRam* ram_;
    DmaTranslator* translator_;
};

}  // namespace wirt::memory

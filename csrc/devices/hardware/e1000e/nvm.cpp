#include "devices/hardware/e1000e/nvm.h"

#include <numeric>

#include "devices/hardware/e1000e/registers.h"

namespace wirt::devices::hardware::e1000e {

namespace {

// Words of the map (6.1).
constexpr unsigned compatibility = 0x03, led_default = 0x04, image_version = 0x05, pba_number = 0x08,
                   init_control_1 = 0x0a, subsystem_id = 0x0b, subsystem_vendor = 0x0c, device_id = 0x0d,
                   vendor_id = 0x0e, init_control_2 = 0x0f, init_control_3 = 0x24, checksum_word = 0x3f;
// 6.1.2: words 0 to 3Fh add up to this.
constexpr u16 checksum_total = 0xbaba;

unsigned address_of(u32 command) {
    return command >> eerd_addr_shift & 0x3fff;
}

}  // namespace

Nvm::Nvm(const network::MacAddress& address) {
    words_.fill(0xffff);
    for (unsigned i = 0; i < 3; ++i) words_[i] = static_cast<u16>(address[2 * i] | address[2 * i + 1] << 8);
    words_[compatibility] = 0x0420;
    words_[led_default] = 0xf746;
    words_[image_version] = 0x2010;
    // A part number of the old form, in which the first word is no pointer.
    words_[pba_number] = 0x0000;
    words_[pba_number + 1] = 0x0000;
    words_[init_control_1] = 0x026b;
    words_[subsystem_id] = 0xa01f;
    words_[subsystem_vendor] = 0x8086;
    words_[device_id] = 0x10d3;
    words_[vendor_id] = 0x8086;
    // No manageability: bits 14:13 are clear.
    words_[init_control_2] = 0x8058;
    // Wake-up by a magic packet, APME.
    words_[init_control_3] = 0x0400;
    words_[checksum_word] = 0;
    const u16 sum = std::accumulate(words_.begin(), words_.begin() + checksum_word, u16{0},
                                    [](u16 total, u16 word) { return static_cast<u16>(total + word); });
    words_[checksum_word] = static_cast<u16>(checksum_total - sum);
}

u32 Nvm::read(u32 command) const {
    const unsigned at = address_of(command);
    if ((command & eerd_start) == 0) return (command & (0x3fff << eerd_addr_shift)) | eerd_done;
    const u16 word = at < words_.size() ? words_[at] : u16{0xffff};
    return u32{word} << eerd_data_shift | at << eerd_addr_shift | eerd_done;
}

u32 Nvm::write(u32 command) {
    const unsigned at = address_of(command);
    if ((command & eerd_start) != 0 && at < words_.size()) {
        words_[at] = static_cast<u16>(command >> eerd_data_shift);
    }
    return (command & ~eerd_start) | eerd_done;
}

network::MacAddress Nvm::address() const {
    network::MacAddress address;
    for (unsigned i = 0; i < address.size(); ++i)
        address[i] = static_cast<u8>(words_[i / 2] >> (8 * (i % 2)));
    return address;
}

}  // namespace wirt::devices::hardware::e1000e

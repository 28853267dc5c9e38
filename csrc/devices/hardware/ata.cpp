#include "devices/hardware/ata.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::devices::hardware {

using ata::Action;
using ata::CommandFis;
using ata::Outcome;
using ata::Protocol;
using ata::Request;

namespace {

constexpr u64 max_sectors_28 = u64{1} << 28;
constexpr u64 max_sectors_48 = u64{1} << 48;
constexpr u8 device_lba = 0x40;                 // the LBA bit of the Device field
constexpr u8 queued_fua = 0x80;                 // the FUA bit of a queued command's Device field
constexpr unsigned most_multiple_sectors = 16;  // IDENTIFY DEVICE word 47
constexpr unsigned most_trim_blocks = 8;        // word 105
constexpr u8 dsm_trim = 0x01;                   // the TRIM bit of DATA SET MANAGEMENT's Features field

constexpr u8 udma_6 = 0x46, mwdma_2 = 0x22, pio_4 = 0x0c;

constexpr u8 log_directory_address = 0x00, log_queued_error = 0x10;

// A command that ends well and returns the fields it came with.
Request settled(const CommandFis& fis) {
    Request request;
    request.outcome.lba = fis.lba;
    request.outcome.count = fis.count;
    return request;
}

Request refused(const CommandFis& fis, u8 error = ata::error_abrt) {
    Request request = settled(fis);
    request.outcome.status = ata::status_ready | ata::status_err;
    request.outcome.error = error;
    return request;
}

Request flushing(const CommandFis& fis) {
    Request request = settled(fis);
    request.action = Action::flush;
    return request;
}

Request replying(const CommandFis& fis, Protocol protocol, std::vector<u8> payload) {
    Request request = settled(fis);
    request.protocol = protocol;
    request.action = Action::reply;
    request.length = payload.size();
    request.payload = std::move(payload);
    return request;
}

// Two characters a word, the first in the high byte, padded with spaces (ACS-2, ATA string convention).
void put_string(std::vector<u8>& data, unsigned word, unsigned words, const std::string& text) {
    for (unsigned i = 0; i < words * 2; ++i) {
        data[word * 2 + (i ^ 1)] = static_cast<u8>(i < text.size() ? text[i] : ' ');
    }
}

// Makes the sum of all bytes zero.
void put_checksum(std::vector<u8>& data) {
    u8 sum = 0;
    for (std::size_t i = 0; i + 1 < data.size(); ++i) sum = static_cast<u8>(sum + data[i]);
    data.back() = static_cast<u8>(-sum);
}

}  // namespace

CommandFis::CommandFis(std::span<const u8> fis)
    : is_command((fis[1] & 0x80) != 0),
      command(fis[2]),
      features(static_cast<u16>(fis[3] | fis[11] << 8)),
      lba(fis[4] | fis[5] << 8 | fis[6] << 16 | u64{fis[8]} << 24 | u64{fis[9]} << 32 | u64{fis[10]} << 40),
      count(static_cast<u16>(fis[12] | fis[13] << 8)),
      device(fis[7]),
      control(fis[15]) {}

struct AtaDisk::Command {
    enum Flags : u8 {
        ext = 1 << 0,       // 48-bit LBA and 16-bit Count
        fua = 1 << 1,       // the data is on stable storage when the command ends
        multiple = 1 << 2,  // valid only after SET MULTIPLE MODE
        special = 1 << 3,   // handled by opcode
    };
    u8 opcode;
    Protocol protocol;
    Action action;
    u8 flags;
    const char* name;  // the title of its clause in ACS-2, 7
};

// Every command this disk knows; all others are aborted.
const AtaDisk::Command* AtaDisk::find(u8 opcode) {
    using enum Protocol;
    using C = Command;
    static constexpr Command table[] = {
        {0x06, dma_out, Action::trim, C::ext | C::special, "DATA SET MANAGEMENT"},
        {0x20, pio_in, Action::read, 0, "READ SECTOR(S)"},
        {0x21, pio_in, Action::read, 0, "READ SECTOR(S), no retry"},
        {0x24, pio_in, Action::read, C::ext, "READ SECTOR(S) EXT"},
        {0x25, dma_in, Action::read, C::ext, "READ DMA EXT"},
        {0x29, pio_in, Action::read, C::ext | C::multiple, "READ MULTIPLE EXT"},
        {0x2f, pio_in, Action::reply, C::ext | C::special, "READ LOG EXT"},
        {0x30, pio_out, Action::write, 0, "WRITE SECTOR(S)"},
        {0x31, pio_out, Action::write, 0, "WRITE SECTOR(S), no retry"},
        {0x34, pio_out, Action::write, C::ext, "WRITE SECTOR(S) EXT"},
        {0x35, dma_out, Action::write, C::ext, "WRITE DMA EXT"},
        {0x39, pio_out, Action::write, C::ext | C::multiple, "WRITE MULTIPLE EXT"},
        {0x3d, dma_out, Action::write, C::ext | C::fua, "WRITE DMA FUA EXT"},
        {0x40, non_data, Action::verify, 0, "READ VERIFY SECTOR(S)"},
        {0x41, non_data, Action::verify, 0, "READ VERIFY SECTOR(S), no retry"},
        {0x42, non_data, Action::verify, C::ext, "READ VERIFY SECTOR(S) EXT"},
        {0x47, dma_in, Action::reply, C::ext | C::special, "READ LOG DMA EXT"},
        {0x60, queued_in, Action::read, C::ext, "READ FPDMA QUEUED"},
        {0x61, queued_out, Action::write, C::ext, "WRITE FPDMA QUEUED"},
        {0x90, non_data, Action::none, C::special, "EXECUTE DEVICE DIAGNOSTIC"},
        {0xc4, pio_in, Action::read, C::multiple, "READ MULTIPLE"},
        {0xc5, pio_out, Action::write, C::multiple, "WRITE MULTIPLE"},
        {0xc6, non_data, Action::none, C::special, "SET MULTIPLE MODE"},
        {0xc8, dma_in, Action::read, 0, "READ DMA"},
        {0xc9, dma_in, Action::read, 0, "READ DMA, no retry"},
        {0xca, dma_out, Action::write, 0, "WRITE DMA"},
        {0xcb, dma_out, Action::write, 0, "WRITE DMA, no retry"},
        {0xce, pio_out, Action::write, C::ext | C::multiple | C::fua, "WRITE MULTIPLE FUA EXT"},
        {0xe0, non_data, Action::none, C::special, "STANDBY IMMEDIATE"},
        {0xe1, non_data, Action::none, C::special, "IDLE IMMEDIATE"},
        {0xe2, non_data, Action::none, C::special, "STANDBY"},
        {0xe3, non_data, Action::none, C::special, "IDLE"},
        {0xe5, non_data, Action::none, C::special, "CHECK POWER MODE"},
        {0xe6, non_data, Action::none, C::special, "SLEEP"},
        {0xe7, non_data, Action::flush, 0, "FLUSH CACHE"},
        {0xea, non_data, Action::flush, C::ext, "FLUSH CACHE EXT"},
        {0xec, pio_in, Action::reply, C::special, "IDENTIFY DEVICE"},
        {0xef, non_data, Action::none, C::special, "SET FEATURES"},
    };
    const auto at = std::lower_bound(std::begin(table), std::end(table), opcode,
                                     [](const Command& c, u8 value) { return c.opcode < value; });
    return at != std::end(table) && at->opcode == opcode ? at : nullptr;
}

AtaDisk::AtaDisk(std::shared_ptr<storage::BlockBackend> backend, std::string serial)
    : backend_(std::move(backend)), serial_(std::move(serial)) {
    if (serial_.size() > 20) {
        throw ConfigError("the serial number of a SATA disk has at most 20 characters: " + serial_);
    }
    for (const char c : serial_) {
        if (c < 0x20 || c > 0x7e) {
            throw ConfigError("the serial number of a SATA disk is printable ASCII");
        }
    }
    reset(false);
}

void AtaDisk::reset(bool software) {
    queued_error_ = false;
    standby_ = false;
    if (software) return;
    write_cache_ = true;
    look_ahead_ = true;
    transfer_mode_ = udma_6;
    multiple_sectors_ = 0;
}

Request AtaDisk::accept(const CommandFis& fis, unsigned slot) {
    const Command* command = find(fis.command);
    if (queued_error_) {
        // Serial ATA 3.1, 13.6: after the error of a queued command the host reads why, or resets.
        const bool reads_log = command != nullptr && (fis.command == 0x2f || fis.command == 0x47);
        return reads_log && (fis.lba & 0xff) == log_queued_error ? accept_read_log(fis, *command)
                                                                 : refused(fis);
    }
    if (command == nullptr) return refused(fis);
    if ((command->flags & Command::special) != 0) return accept_special(fis, *command);
    if (command->action == Action::flush) return flushing(fis);
    return accept_transfer(fis, *command, slot);
}

Request AtaDisk::accept_special(const CommandFis& fis, const Command& command) {
    switch (fis.command) {
        case 0x06: {  // DATA SET MANAGEMENT
            if (fis.features != dsm_trim || fis.count == 0 || fis.count > most_trim_blocks ||
                backend_->read_only()) {
                return refused(fis);
            }
            Request request = settled(fis);
            request.protocol = command.protocol;
            request.action = command.action;
            request.length = u64{fis.count} * ata::sector_bytes;
            request.flush_after = !write_cache_;
            return request;
        }
        case 0x2f:
        case 0x47:
            return accept_read_log(fis, command);
        case 0x90: {  // EXECUTE DEVICE DIAGNOSTIC
            Request request = settled(fis);
            request.outcome = signature();
            return request;
        }
        case 0xc6:  // SET MULTIPLE MODE
            if (fis.count > most_multiple_sectors || (fis.count != 0 && !is_power_of_two(fis.count))) {
                return refused(fis);
            }
            multiple_sectors_ = static_cast<u8>(fis.count);
            return settled(fis);
        case 0xe0:
        case 0xe2:
        case 0xe6:  // STANDBY (IMMEDIATE), SLEEP: the cache is written before the medium stops
            standby_ = true;
            return flushing(fis);
        case 0xe1:
        case 0xe3:  // IDLE (IMMEDIATE)
            standby_ = false;
            return settled(fis);
        case 0xe5: {  // CHECK POWER MODE
            Request request = settled(fis);
            request.outcome.count = standby_ ? 0x00 : 0xff;
            return request;
        }
        case 0xec:
            return replying(fis, command.protocol, identify());
        case 0xef:
            return accept_set_features(fis);
        default:
            return refused(fis);
    }
}

Request AtaDisk::accept_transfer(const CommandFis& fis, const Command& command, unsigned slot) {
    const bool queued = is_queued(command.protocol);
    const bool ext = (command.flags & Command::ext) != 0;
    u64 lba = fis.lba;
    u64 count = queued ? fis.features : fis.count;
    if (!ext) {
        lba = (fis.lba & 0xff'ffff) | u64{fis.device & 0x0fu} << 24;
        count &= 0xff;
    }
    if (count == 0) count = ext ? 65536 : 256;

    // The protocol and tag are set on a refusal too: they say how it is reported.
    auto begin = [&](Request request) {
        request.protocol = command.protocol;
        request.tag = slot;
        request.outcome.lba = lba;
        return request;
    };
    // Serial ATA 3.1, 13.6: bits 7:3 of Count are the tag; AHCI 1.3.1, 5.5: it is the slot's number.
    if (queued && static_cast<unsigned>(fis.count >> 3 & 31) != slot) return begin(refused(fis));
    // CHS addressing ended with ATA-6.
    if ((fis.device & device_lba) == 0) return begin(refused(fis));
    if ((command.flags & Command::multiple) != 0 && multiple_sectors_ == 0) return begin(refused(fis));
    if (!range_inside(lba, count, 0, sectors())) return begin(refused(fis, ata::error_idnf));
    if (command.action == Action::write && backend_->read_only()) return begin(refused(fis));

    Request request = begin(settled(fis));
    request.action = command.action;
    request.offset = lba * ata::sector_bytes;
    request.length = count * ata::sector_bytes;
    if (command.action == Action::write) {
        const bool fua = (command.flags & Command::fua) != 0 || (queued && (fis.device & queued_fua) != 0);
        request.flush_after = fua || !write_cache_;
    }
    standby_ = false;
    return request;
}

Request AtaDisk::accept_set_features(const CommandFis& fis) {
    switch (fis.features & 0xff) {
        case 0x02:
            write_cache_ = true;
            return settled(fis);
        case 0x82:
            write_cache_ = false;
            return flushing(fis);  // what is in it is written
        case 0x03: {
            const u8 mode = static_cast<u8>(fis.count);
            const bool known = mode <= 0x01 || (mode >= 0x08 && mode <= pio_4) ||
                               (mode >= 0x20 && mode <= mwdma_2) || (mode >= 0x40 && mode <= udma_6);
            if (!known) return refused(fis);
            // PIO and DMA modes are chosen independently; IDENTIFY DEVICE shows the DMA mode.
            if (mode >= 0x20) transfer_mode_ = mode;
            return settled(fis);
        }
        case 0x55:
            look_ahead_ = false;
            return settled(fis);
        case 0xaa:
            look_ahead_ = true;
            return settled(fis);
        default:
            return refused(fis);
    }
}

Request AtaDisk::accept_read_log(const CommandFis& fis, const Command& command) {
    // READ LOG EXT: the log address is LBA(7:0), the page number LBA(15:8) and LBA(39:32).
    const u8 address = static_cast<u8>(fis.lba);
    const u32 page = static_cast<u32>((fis.lba >> 8 & 0xff) | (fis.lba >> 32 & 0xff) << 8);
    if (page != 0 || fis.count != 1) return refused(fis);
    if (address == log_directory_address) return replying(fis, command.protocol, log_directory());
    if (address != log_queued_error) return refused(fis);
    std::vector<u8> log = error_log();
    queued_error_ = false;
    return replying(fis, command.protocol, std::move(log));
}

// What a disk says after a reset and a diagnostic (ACS-2, Device Signatures): passed, and an ATA device.
Outcome AtaDisk::signature() {
    Outcome outcome;
    outcome.error = 0x01;
    outcome.lba = 0x01;
    outcome.count = 0x01;
    return outcome;
}

// ACS-2, annex A, General Purpose Log Directory: how many pages each log has.
std::vector<u8> AtaDisk::log_directory() const {
    std::vector<u8> data(ata::sector_bytes);
    store_le<u16>(&data[0], 0x0001);
    store_le<u16>(&data[log_queued_error * 2], 1);
    return data;
}

// ACS-2, annex A, NCQ Command Error.
std::vector<u8> AtaDisk::error_log() const {
    std::vector<u8> data(ata::sector_bytes);
    if (queued_error_) {
        data[0] = queued_tag_;
        data[2] = queued_status_;
        data[3] = queued_error_code_;
        for (unsigned i = 0; i < 3; ++i) {
            data[4 + i] = static_cast<u8>(queued_lba_ >> (8 * i));
            data[8 + i] = static_cast<u8>(queued_lba_ >> (24 + 8 * i));
        }
        data[7] = device_lba;
        data[12] = static_cast<u8>(queued_count_);
        data[13] = static_cast<u8>(queued_count_ >> 8);
    } else {
        data[0] = 0x80;  // NQ: no queued command failed
    }
    put_checksum(data);
    return data;
}

// IDENTIFY DEVICE data (ACS-2, 7). Words that are not set are zero: not supported.
std::vector<u8> AtaDisk::identify() const {
    std::vector<u8> data(ata::sector_bytes);
    auto word = [&data](unsigned index, u64 value) {
        store_le<u16>(&data[index * 2], static_cast<u16>(value));
    };

    const u64 count = std::min(sectors(), max_sectors_48);
    const u64 count_28 = std::min(count, max_sectors_28 - 1);
    const u64 heads = 16, sectors_per_track = 63;
    const u64 cylinders = std::min<u64>(count / (heads * sectors_per_track), 16383);
    const u64 chs_count = cylinders * heads * sectors_per_track;

    word(0, 0x0040);
    word(1, cylinders);
    word(2, 0xc837);  // needs no SET FEATURES to spin up; IDENTIFY DEVICE is complete
    word(3, heads);
    word(6, sectors_per_track);
    put_string(data, 10, 10, serial_);
    put_string(data, 23, 4, "1.0");
    put_string(data, 27, 20, "Wirt SATA disk");
    word(47, 0x8000 | most_multiple_sectors);
    word(49, 0x2f00);  // standby timer, IORDY, LBA, DMA
    word(50, 0x4000);
    word(53, 0x0007);  // words 54-58, 64-70 and 88 are valid
    word(54, cylinders);
    word(55, heads);
    word(56, sectors_per_track);
    word(57, chs_count);
    word(58, chs_count >> 16);
    word(59, multiple_sectors_ != 0 ? 0x0100 | multiple_sectors_ : 0);
    word(60, count_28);
    word(61, count_28 >> 16);
    const bool udma = transfer_mode_ >= 0x40;
    word(63, 0x0007 | (udma ? 0 : 0x100u << (transfer_mode_ & 7)));
    word(64, 0x0003);                                  // PIO modes 3 and 4
    for (unsigned i = 65; i <= 68; ++i) word(i, 120);  // ns a cycle
    word(69, 0x4000);                                  // DRAT: what was trimmed reads the same each time
    word(75, 31);                                      // queue depth less one
    word(76, 0x010e);                                  // NCQ; 1.5, 3 and 6 Gb/s
    word(77, 3 << 1);                                  // runs at 6 Gb/s
    word(80, 0x03f0);                                  // ATA-4 .. ACS-2
    // Command sets: supported, and enabled. 82: NOP, look-ahead, write cache, power management. 83: FLUSH
    // CACHE EXT, FLUSH CACHE, 48-bit. 84: FUA, general purpose logging.
    word(82, 0x4068);
    word(83, 0x7400);
    word(84, 0x4060);
    word(85, 0x4008 | (write_cache_ ? 0x20 : 0) | (look_ahead_ ? 0x40 : 0));
    word(86, 0xb400);  // and: words 119 and 120 are valid
    word(87, 0x4060);
    word(88, 0x007f | (udma ? 0x100u << (transfer_mode_ & 7) : 0));
    for (unsigned i = 0; i < 4; ++i) word(100 + i, count >> (16 * i));
    word(105, most_trim_blocks);
    word(106, 0x4000);  // logical sectors are physical ones
    word(119, 0x4008);  // READ LOG DMA EXT
    word(120, 0x4008);
    word(169, dsm_trim);
    word(217, 0x0001);  // does not rotate
    word(222, 0x103f);  // serial; up to SATA 3.0
    data[510] = 0xa5;
    put_checksum(data);
    return data;
}

int AtaDisk::verify(const Request& request, u64 done, u64 length) {
    std::vector<u8> scratch(length);
    const iovec span{scratch.data(), scratch.size()};
    return backend_->read(request.offset + done, {&span, 1});
}

bool AtaDisk::trim(std::span<const u8> ranges, int& error) {
    error = 0;
    // LBA Range Entries: LBA(47:0) and a 16-bit length; length 0 says nothing.
    auto each = [&](auto&& fn) {
        for (std::size_t at = 0; at + 8 <= ranges.size(); at += 8) {
            const u64 entry = load_le<u64>(&ranges[at]);
            const u64 lba = bits(entry, 0, 48), count = bits(entry, 48, 16);
            if (count != 0 && !fn(lba, count)) return false;
        }
        return true;
    };
    if (!each([&](u64 lba, u64 count) { return range_inside(lba, count, 0, sectors()); })) return false;
    each([&](u64 lba, u64 count) {
        error = backend_->discard(lba * ata::sector_bytes, count * ata::sector_bytes);
        return error == 0;
    });
    return true;
}

Outcome AtaDisk::failure(const Request& request, int host_errno) {
    Outcome outcome;
    outcome.lba = request.offset / ata::sector_bytes;
    if (request.action == Action::read || request.action == Action::verify) {
        outcome.status = ata::status_ready | ata::status_err;
        outcome.error = ata::error_unc;
    } else if (host_errno == EROFS) {
        outcome.status = ata::status_ready | ata::status_err;
        outcome.error = ata::error_abrt;
    } else {
        // Device Fault: a failure that repeating the command will not mend, such as a full host.
        outcome.status = ata::status_drdy | ata::status_df | ata::status_err;
        outcome.error = ata::error_abrt;
    }
    return outcome;
}

void AtaDisk::settle(const Request& request, const Outcome& outcome) {
    if (!outcome.failed() || !is_queued(request.protocol)) return;
    queued_error_ = true;
    queued_tag_ = static_cast<u8>(request.tag);
    queued_status_ = outcome.status;
    queued_error_code_ = outcome.error;
    queued_lba_ = outcome.lba;
    queued_count_ = outcome.count;
}

void AtaDisk::visit_state(StateVisitor& v) {
    v.field("write cache", write_cache_);
    v.field("look-ahead", look_ahead_);
    v.field("standby", standby_);
    v.field("transfer mode", transfer_mode_);
    v.field("multiple sectors", multiple_sectors_);
    v.field("queued error", queued_error_);
    v.field("queued error tag", queued_tag_);
    v.field("queued error status", queued_status_);
    v.field("queued error code", queued_error_code_);
    v.field("queued error lba", queued_lba_);
    v.field("queued error count", queued_count_);
    if (v.loading() && multiple_sectors_ > most_multiple_sectors) multiple_sectors_ = 0;
}

}  // namespace wirt::devices::hardware

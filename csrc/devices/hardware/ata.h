// A SATA disk: what an ATA command means, apart from how AHCI carries it.
//
// Implements: ATA/ATAPI Command Set - 2 (ACS-2), the general feature set without SMART, security and HPA;
// native command queuing and its error log; Serial ATA 3.1, 10.5 (the Register Host to Device FIS) and
// 13.6 (NCQ). One table of commands says what each is; IDENTIFY DEVICE says no more than it.
//
// Untrusted input: the command FIS and the payload of DATA SET MANAGEMENT. Every range is checked against the
// disk before the backend sees it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/state_visitor.h"
#include "storage/block_backend.h"

namespace wirt::devices::hardware {

namespace ata {

inline constexpr unsigned sector_bytes = 512;

// The Status and Error fields (ACS-2, 6).
inline constexpr u8 status_bsy = 0x80, status_drdy = 0x40, status_df = 0x20, status_seek = 0x10,
                    status_drq = 0x08, status_err = 0x01;
inline constexpr u8 status_ready = status_drdy | status_seek;
inline constexpr u8 error_unc = 0x40, error_idnf = 0x10, error_abrt = 0x04;

enum class Protocol : u8 { non_data, pio_in, pio_out, dma_in, dma_out, queued_in, queued_out };

constexpr bool is_queued(Protocol p) {
    return p == Protocol::queued_in || p == Protocol::queued_out;
}
constexpr bool is_in(Protocol p) {
    return p == Protocol::pio_in || p == Protocol::dma_in || p == Protocol::queued_in;
}

// What has to be done outside the device's mutex, because it may wait for the host.
enum class Action : u8 {
    none,    // settled at once; `outcome` holds the result
    reply,   // to the host: `payload`
    read,    // the medium to the host
    write,   // the host to the medium
    verify,  // the medium to nowhere
    flush,
    trim,  // the host's ranges (DATA SET MANAGEMENT)
};

// What the disk reports when a command ends (the Register Device to Host FIS).
struct Outcome {
    u8 status = status_ready;
    u8 error = 0;
    u64 lba = 0;
    u16 count = 0;
    bool failed() const { return (status & status_err) != 0; }
};

// A Register Host to Device FIS, copied out of guest memory.
struct CommandFis {
    static constexpr u8 type = 0x27;
    static constexpr unsigned bytes = 20;

    bool is_command = false;  // the C bit; otherwise the Control field was written
    u8 command = 0;
    u16 features = 0;
    u64 lba = 0;  // 48 bits
    u16 count = 0;
    u8 device = 0;
    u8 control = 0;

    // `fis` holds at least `bytes` bytes of type `type`.
    explicit CommandFis(std::span<const u8> fis);
};

// A command that was accepted, complete in itself: it is carried out with no reference to the guest's FIS.
struct Request {
    Protocol protocol = Protocol::non_data;
    Action action = Action::none;
    unsigned tag = 0;  // queued commands
    u64 offset = 0;    // bytes, on the medium
    u64 length = 0;    // bytes, of the transfer to or from the host (verify: on the medium)
    bool flush_after = false;
    std::vector<u8> payload;
    Outcome outcome;  // for Action::none; otherwise what is reported on success
};

}  // namespace ata

class AtaDisk {
  public:
    // ConfigError when `serial` is longer than 20 characters or not printable ASCII.
    AtaDisk(std::shared_ptr<storage::BlockBackend> backend, std::string serial);

    // Takes a command; the caller holds the device's mutex. `slot` is the command list slot it came in.
    ata::Request accept(const ata::CommandFis& fis, unsigned slot);
    // Notes how a command ended (power mode, NCQ error log); the caller holds the device's mutex.
    void settle(const ata::Request& request, const ata::Outcome& outcome);

    // The slow half, on the port's executor and without the device's mutex; these touch no state of the disk.
    // `done` bytes of the request have been transferred before; each gives 0 or a positive errno.
    int read(const ata::Request& request, u64 done, std::span<const iovec> spans) {
        return backend_->read(request.offset + done, spans);
    }
    int write(const ata::Request& request, u64 done, std::span<const iovec> spans) {
        return backend_->write(request.offset + done, spans);
    }
    int verify(const ata::Request& request, u64 done, u64 length);
    int flush() { return backend_->flush(); }
    // `ranges` is the payload of DATA SET MANAGEMENT. False when one lies outside the disk; nothing is then
    // trimmed. `error` is 0 or a positive errno.
    bool trim(std::span<const u8> ranges, int& error);

    // The device signature, in the register FIS that follows a reset.
    static ata::Outcome signature();
    // What the disk reports for a host errno.
    static ata::Outcome failure(const ata::Request& request, int host_errno);

    // Power-on or COMRESET; `software` (SRST) keeps what SET FEATURES chose.
    void reset(bool software);
    void visit_state(StateVisitor& v);

  private:
    struct Command;
    static const Command* find(u8 opcode);

    ata::Request accept_special(const ata::CommandFis& fis, const Command& command);
    ata::Request accept_transfer(const ata::CommandFis& fis, const Command& command, unsigned slot);
    ata::Request accept_set_features(const ata::CommandFis& fis);
    ata::Request accept_read_log(const ata::CommandFis& fis, const Command& command);
    std::vector<u8> identify() const;
    std::vector<u8> error_log() const;
    std::vector<u8> log_directory() const;
    u64 sectors() const { return backend_->size() / ata::sector_bytes; }

    const std::shared_ptr<storage::BlockBackend> backend_;
    const std::string serial_;

    bool write_cache_ = true;
    bool look_ahead_ = true;
    bool standby_ = false;
    u8 transfer_mode_ = 0;     // as SET FEATURES 03h encodes it
    u8 multiple_sectors_ = 0;  // SET MULTIPLE MODE
    // The queued error log, valid until it is read (Serial ATA 3.1, 13.7).
    bool queued_error_ = false;
    u8 queued_tag_ = 0;
    u8 queued_status_ = 0;
    u8 queued_error_code_ = 0;
    u64 queued_lba_ = 0;
    u16 queued_count_ = 0;
};

}  // namespace wirt::devices::hardware

// One port of the AHCI HBA: its registers, the command list engine and the received-FIS area.
//
// Implements: Serial ATA AHCI 1.3.1: port registers (3.3), system memory structures (4), the port state
// machine (5.3) and error handling (6), with a disk or nothing on the other end of the cable.
//
// Untrusted input: every register write, and all that DMA fetches: command headers, command FISes, PRDTs.
// Each is read once and copied. A command costs at most its 65,535 PRDT entries and its 65,536 sectors.
//
// Commands run one after the other on the port's executor. Header, FIS and registers are handled with the
// HBA's mutex held, the transfer without it. A command belongs to an *incarnation* of the command list
// engine; what ends one (PxCMD.ST cleared, COMRESET, HBA reset) makes the command in flight stop at its next
// chunk and leave no trace, and PxCMD.CR (or GHC.HR) stays set until it has.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "base/executor.h"
#include "devices/hardware/ata.h"
#include "memory/dma.h"

namespace wirt::devices::hardware {

class Ahci;

class AhciPort {
  public:
    static constexpr unsigned slot_count = 32;
    static constexpr u32 register_bytes = 0x80;

    AhciPort(Ahci& hba, unsigned index, std::optional<AtaDisk> disk, Executor& executor);

    // All with the HBA's mutex held. `offset` is that of a 32-bit register.
    u32 read(u32 offset) const;
    void write(u32 offset, u32 value);
    bool interrupt_pending() const { return (interrupt_status() & interrupt_enable_) != 0; }
    bool in_flight() const { return in_flight_; }
    // Ends the incarnation; the command in flight may go on until in_flight() is false.
    void stop();
    // HBA reset; `power_on` also clears the addresses, which an HBA reset keeps (10.4.3).
    void reset(bool power_on);
    // From here on no command begins; what was issued waits in PxCI for resume(). The command in flight ends
    // before the executor is drained.
    void pause() { paused_ = true; }
    void resume();
    void visit_state(StateVisitor& v);

  private:
    struct CommandHeader;
    struct Transfer;

    u32 interrupt_status() const;
    u32 command_and_status() const;
    u32 sata_status() const;
    void write_command(u32 value);
    void write_sata_control(u32 value);
    void establish_link();
    void kick();
    void run();
    std::optional<unsigned> next_slot() const;
    void execute(unsigned slot, std::unique_lock<std::mutex>& lock);
    void control_fis(unsigned slot, const CommandHeader& header, const ata::CommandFis& fis);
    Transfer transfer(const CommandHeader& header, ata::Request& request, u32 mine);
    int move(ata::Request& request, u64 done, std::span<const iovec> spans);
    void complete(unsigned slot, const CommandHeader& header, const ata::Request& request, Transfer result);
    void fatal(u32 interrupt_bit);

    // Received FISes (4.2.1). Each updates PxTFD and, when PxCMD.FRE is set, memory.
    void receive_register_fis(const ata::Outcome& outcome, bool interrupt);
    void receive_pio_setup_fis(const ata::Outcome& outcome, bool to_host);
    void receive_set_device_bits(const ata::Outcome& outcome, u32 completed);
    void post(u32 offset, std::span<const u8> fis);
    void post_signature();

    Ahci& hba_;
    const unsigned index_;
    std::optional<AtaDisk> disk_;
    Executor& executor_;

    u64 command_list_base_ = 0;
    u64 fis_base_ = 0;
    u32 interrupt_latched_ = 0;  // the bits of PxIS that software clears; PCS, PRCS and UFS follow PxSERR
    u32 interrupt_enable_ = 0;
    u32 command_ = 0;  // the bits of PxCMD that software owns
    u8 current_slot_ = 0;
    u8 status_ = 0x7f;
    u8 error_ = 0;
    u32 signature_ = 0xffff'ffff;
    u32 sata_control_ = 0;
    u32 sata_error_ = 0;
    u32 sata_active_ = 0;
    u32 command_issue_ = 0;
    bool halted_ = false;              // ERR:WaitForClear (5.3): until software clears PxCMD.ST
    bool signature_unposted_ = false;  // the first register FIS after a reset waits for PxCMD.FRE
    bool software_reset_ = false;      // SRST of the Control field

    std::atomic<u32> incarnation_{0};
    bool scheduled_ = false;  // a task of ours is on the executor
    bool in_flight_ = false;
    bool paused_ = false;
    std::vector<iovec> spans_;  // the executor's
};

}  // namespace wirt::devices::hardware

// The 82574's non-volatile memory: an EEPROM of 256 words with the station address and a valid checksum.
//
// Implements: Intel 82574 GbE Controller Family Datasheet, 6 (NVM map) and 10.2.2 (EERD, EEWR). What software
// writes lasts for as long as the machine does.
//
// Untrusted input: addresses and data; a word that does not exist reads as erased and cannot be written.
#pragma once

#include <array>

#include "base/state_visitor.h"
#include "network/ethernet.h"

namespace wirt::devices::hardware::e1000e {

class Nvm {
  public:
    explicit Nvm(const network::MacAddress& address);

    // EERD and EEWR: a command word in, the word that is read back out.
    u32 read(u32 command) const;
    u32 write(u32 command);
    // What a reset loads from it.
    network::MacAddress address() const;
    void visit_state(StateVisitor& v) { v.field("nvm", words_); }

  private:
    std::array<u16, 256> words_;
};

}  // namespace wirt::devices::hardware::e1000e

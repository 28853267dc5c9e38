// Where input from outside asks whether it may come in now: what records a machine decides.
#pragma once

#include <span>
#include <string_view>

#include "base/types.h"

namespace wirt {

class InputGate {
  public:
    enum class Admission : u8 {
        now,      // the port takes it in itself
        later,    // kept: the port is given it at an instant that a replay finds again
        refused,  // the machine replays what came in before
    };

    virtual ~InputGate() = default;
    // Any thread, no lock held that taking input in needs.
    virtual Admission admit(std::string_view port, std::span<const u8> input) = 0;
};

}  // namespace wirt

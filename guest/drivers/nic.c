/* The network cards that were found, in the order in which they were. */
#include "drivers/nic.h"

#include "kernel/bootargs.h"

struct nic* nics[MAX_NICS];
unsigned nic_count;

void nic_register(struct nic* nic) {
    if (nic_count < MAX_NICS) nics[nic_count++] = nic;
}

bool nic_large_sends_wanted(void) {
    return bootargs_has("net.large");
}

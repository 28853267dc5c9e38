/* Finding the devices and starting their drivers. */
#ifndef GUEST_DRIVERS_DEVICES_H
#define GUEST_DRIVERS_DEVICES_H

void devices_start(void);

#endif

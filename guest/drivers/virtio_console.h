/* The virtio console device; what it finds is registered with drivers/console.h. */
#ifndef GUEST_DRIVERS_VIRTIO_CONSOLE_H
#define GUEST_DRIVERS_VIRTIO_CONSOLE_H

#include "drivers/virtio.h"

void virtio_console_start(const struct virtio_device* found);

#endif

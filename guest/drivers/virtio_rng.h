/* The virtio entropy device. */
#ifndef GUEST_DRIVERS_VIRTIO_RNG_H
#define GUEST_DRIVERS_VIRTIO_RNG_H

#include <stdbool.h>
#include <stddef.h>

#include "drivers/virtio.h"

void virtio_rng_start(const struct virtio_device* found);
bool virtio_rng_present(void);
const struct virtio_device* virtio_rng_device(void);

/* Fills the buffer; false if the device did not deliver within seconds. */
bool virtio_rng_read(void* buffer, size_t length);

#endif

/* The virtio network device: Ethernet frames in and out. There is one at most; further ones are ignored. */
#ifndef GUEST_DRIVERS_VIRTIO_NET_H
#define GUEST_DRIVERS_VIRTIO_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "drivers/virtio_mmio.h"

void virtio_net_start(const struct virtio_device* found);
bool virtio_net_present(void);
const struct virtio_device* virtio_net_device(void);
const uint8_t* virtio_net_address(void);
/* The largest payload of a frame, without the Ethernet header. */
unsigned virtio_net_mtu(void);

/*
 * Room for a frame of up to mtu + 14 bytes, or NULL while all of it is under way. virtio_net_send queues
 * what was written there; the device hears of it at the next virtio_net_flush, or sleeps on.
 */
uint8_t* virtio_net_transmit_buffer(void);
void virtio_net_send(size_t length);
void virtio_net_flush(void);

/* The next frame that has arrived, or NULL. It must be given back with virtio_net_release. */
uint8_t* virtio_net_receive(size_t* length);
void virtio_net_release(uint8_t* frame);
bool virtio_net_receivable(void);

#endif

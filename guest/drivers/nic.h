/*
 * What every network card can do, whichever way it is reached. Frames are written and read where the card
 * finds them: the driver hands out its buffers. Sending has two halves, as with disks: `send` writes a frame
 * where the card will find it, `flush` tells the card, so that many frames can share a doorbell.
 */
#ifndef GUEST_DRIVERS_NIC_H
#define GUEST_DRIVERS_NIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MAX_NICS = 4,
    ETHERNET_HEADER = 14,
    DEFAULT_MTU = 1500,
    /* Ethernet, IPv4 and TCP, all without options: what stands before the data of a segment. */
    TCP_HEADERS = 14 + 20 + 20,
    /* The largest IPv4 packet, behind its Ethernet header: what a card that segments TCP is given at most. */
    LARGEST_SEND = ETHERNET_HEADER + 65535,
};

struct nic {
    const char* interface; /* "virtio-net", "virtio-net-pci", "e1000e" */
    uint64_t address;
    uint32_t interrupt;
    uint8_t mac[6];
    unsigned mtu;
    bool segments_tcp; /* it cuts up TCP over IPv4 itself */

    /* Room for the next frame, or NULL while all buffers are under way; the same until `send`. */
    uint8_t* (*transmit_buffer)(struct nic* nic);
    /*
     * With `segment` not 0 the frame is IPv4 and TCP without options, up to LARGEST_SEND, and goes out in
     * pieces of so many bytes of TCP data; the card fills in their checksums.
     */
    void (*send)(struct nic* nic, size_t length, uint16_t segment);
    void (*flush)(struct nic* nic);
    /* The next frame that arrived, or NULL; it is the caller's until `release`. */
    uint8_t* (*receive)(struct nic* nic, size_t* length);
    void (*release)(struct nic* nic, uint8_t* frame);
    /* Is there one? Otherwise the card will interrupt when there is. With interrupts off. */
    bool (*receivable)(struct nic* nic);
};

extern struct nic* nics[MAX_NICS];
extern unsigned nic_count;

void nic_register(struct nic* nic);

/* Is a program going to send more at once than a frame holds? Then drivers make their buffers so large. */
bool nic_large_sends_wanted(void);

#endif

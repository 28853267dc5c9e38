/* A small IPv4 host on one network card: it answers ARP and pings, and sends and receives UDP. */
#ifndef GUEST_NETWORK_STACK_H
#define GUEST_NETWORK_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drivers/nic.h"

/* Where a packet goes or came from. `ip` is in network order, as it is kept everywhere here. */
struct peer {
    uint32_t ip;
    uint8_t mac[6];
};

typedef void udp_receiver(const struct peer* from, const uint8_t* payload, size_t length);

void stack_start(struct nic* nic, uint32_t ip);

/* Handles every frame that has arrived; gives how many. */
unsigned stack_poll(void);

/* Sleeps until a frame is there to be polled, or a tenth of a second and a bit has passed. */
bool stack_wait(void);

/* Asks for the peer's Ethernet address until it answers, for up to `seconds`. */
bool stack_resolve(struct peer* peer, unsigned seconds);

/* One echo request and the wait for its reply; gives the round trip in timer ticks, or false. */
bool stack_ping(const struct peer* peer, uint16_t sequence, unsigned seconds, uint64_t* ticks);

/* Datagrams and segments to `port` go to `receiver`. */
void stack_listen(uint16_t port, udp_receiver* receiver);

/* Room for a datagram's payload (NULL while no buffer is free), and sending what was put there. */
uint8_t* stack_udp_buffer(void);
size_t stack_udp_capacity(void);
void stack_udp_send(const struct peer* peer, uint16_t port, size_t length);
/*
 * The same for a TCP segment of up to 65 KB, on a card that segments TCP: it stands for no connection, and
 * its data arrives in pieces or whole, as the card at the other end has it.
 */
enum { LARGEST_SEGMENT = 65535 - 20 - 20 };
uint8_t* stack_segment_buffer(void);
void stack_segment_send(const struct peer* peer, uint16_t port, uint32_t sequence, size_t length);

/* Frames leave at the latest now. */
void stack_flush(void);

/* "10.0.0.1"; 0 for what is not an address. */
uint32_t ip_from_text(const char* text);

#endif

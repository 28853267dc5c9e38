/*
 * A reliable stream over UDP, for moving a lot of data and knowing that it arrived.
 *
 * Each datagram (port 7700 at both ends) begins with a header of 24 bytes, little-endian:
 *
 *     0  u32  magic 0x31535457 ("WTS1")
 *     4  u32  type: 1 DATA, 2 ACK, 3 END, 4 DONE
 *     8  u64  sequence
 *    16  u64  value
 *
 *   DATA  packet number `sequence`, counted from 0, and behind the header its data, a multiple of 8 bytes and
 *         the same in every packet but the last
 *   ACK   everything before packet `sequence` has arrived
 *   END   there are `sequence` packets, and `value` is the checksum of their data
 *   DONE  the answer to END: `value` is the checksum of what arrived
 *
 * At most STREAM_WINDOW packets are under way; the receiver takes them in order and drops all others, and the
 * sender goes back to the first that was not acknowledged (go-back-N) when an ACK repeats or time runs out.
 *
 * The data is made on the fly: 64-bit word number k is w ^ w >> 29 with w = (k + 1) * 0x9e3779b97f4a7c15. The
 * checksum is FNV-1a, 64 bits, taking a word where the original takes a byte.
 */
#ifndef GUEST_NETWORK_STREAM_H
#define GUEST_NETWORK_STREAM_H

#include "network/stack.h"

enum { STREAM_PORT = 7700, STREAM_WINDOW = 128, STREAM_ACK_EVERY = 32 };

struct stream_result {
    uint64_t bytes, packets, repeated;
    uint64_t checksum;      /* of what we sent or received */
    uint64_t peer_checksum; /* what the other side says */
    uint64_t time;          /* timer ticks from the first to the last byte */
};

/* `bytes` is rounded up to a multiple of 8. False if the other side stopped answering. */
bool stream_send(const struct peer* to, uint64_t bytes, struct stream_result* result);

/* Takes one stream; false if none came, or it broke off, for `seconds`. */
bool stream_receive(unsigned seconds, struct stream_result* result);

#endif

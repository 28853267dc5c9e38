/* A reliable stream over UDP: the protocol stands in stream.h. */
#include "network/stream.h"

#include "kernel/clock.h"
#include "kernel/riscv.h"
#include "kernel/string.h"

enum { TYPE_DATA = 1, TYPE_ACK = 2, TYPE_END = 3, TYPE_DONE = 4 };
enum { MAGIC = 0x31535457, FLUSH_EVERY = 32, PATIENCE_SECONDS = 30, LINGER_TICKS = 10, REPEAT_TICKS = 3 };

/* RISC-V is little-endian, as the protocol is. A datagram's payload is only aligned to four, hence `packed`.
 */
struct stream_header {
    uint32_t magic;
    uint32_t type;
    uint64_t sequence;
    uint64_t value;
};

static const uint64_t FNV_OFFSET = 0xcbf29ce484222325ul, FNV_PRIME = 0x100000001b3ul;
static const uint64_t WORD_STEP = 0x9e3779b97f4a7c15ul;

static struct {
    size_t data_size; /* in every packet but the last */
    /* sending */
    uint64_t acknowledged;
    bool repeat;
    bool done;
    /* receiving */
    struct peer sender;
    uint64_t expected;
    bool started, ended;
    uint64_t unacknowledged;
    bool out_of_order;
    uint64_t start_time, end_time;
    struct stream_result* result;
} stream;

static bool send_message(const struct peer* to, uint32_t type, uint64_t sequence, uint64_t value) {
    uint8_t* buffer = stack_udp_buffer();
    if (buffer == NULL) return false;
    *(struct stream_header*)buffer = (struct stream_header){MAGIC, type, sequence, value};
    stack_udp_send(to, STREAM_PORT, sizeof(struct stream_header));
    return true;
}

/* Makes packet `sequence`; gives the checksum continued over it. */
static uint64_t fill_data(uint8_t* at, uint64_t sequence, size_t length, uint64_t checksum) {
    uint64_t raw = sequence * (stream.data_size / 8) * WORD_STEP;
    uint64_t* words = (uint64_t*)at;
    for (size_t i = 0; i < length / 8; i++) {
        raw += WORD_STEP;
        uint64_t word = raw ^ raw >> 29;
        words[i] = word;
        checksum = (checksum ^ word) * FNV_PRIME;
    }
    return checksum;
}

static void sender_receives(const struct peer* from, const uint8_t* payload, size_t length) {
    (void)from;
    const struct stream_header* header = (const struct stream_header*)payload;
    if (length < sizeof *header || header->magic != MAGIC) return;
    if (header->type == TYPE_ACK) {
        if (header->sequence > stream.acknowledged)
            stream.acknowledged = header->sequence;
        else if (header->sequence == stream.acknowledged)
            stream.repeat = true;
    } else if (header->type == TYPE_DONE) {
        stream.result->peer_checksum = header->value;
        stream.done = true;
    }
}

bool stream_send(const struct peer* to, uint64_t bytes, struct stream_result* result) {
    memset(&stream, 0, sizeof stream);
    stream.result = result;
    stream.data_size = (stack_udp_capacity() - sizeof(struct stream_header)) & ~7ul;
    bytes = (bytes + 7) & ~7ul;
    uint64_t packets = (bytes + stream.data_size - 1) / stream.data_size;
    *result = (struct stream_result){.bytes = bytes, .packets = packets, .checksum = FNV_OFFSET};
    stack_listen(STREAM_PORT, sender_receives);

    uint64_t start = read_time();
    uint64_t next = 0, fresh = 0; /* the next packet to send; the first that was never sent */
    uint64_t last_progress = clock_ticks, repeated_from = ~0ul;
    while (stream.acknowledged < packets) {
        uint64_t before = stream.acknowledged;
        if (next < before) next = before; /* an ACK of what was sent before going back */
        while (next < packets && next < before + STREAM_WINDOW) {
            uint8_t* buffer = stack_udp_buffer();
            if (buffer == NULL) break;
            size_t length = next + 1 < packets ? stream.data_size : bytes - next * stream.data_size;
            *(struct stream_header*)buffer = (struct stream_header){MAGIC, TYPE_DATA, next, 0};
            uint64_t checksum =
                fill_data(buffer + sizeof(struct stream_header), next, length, result->checksum);
            if (next == fresh) {
                result->checksum = checksum;
                fresh++;
            } else {
                result->repeated++;
            }
            stack_udp_send(to, STREAM_PORT, sizeof(struct stream_header) + length);
            next++;
            if (next % FLUSH_EVERY == 0) stack_flush();
        }
        stack_flush();
        if (stack_poll() == 0) {
            stack_wait();
            stack_poll();
        }
        if (stream.acknowledged != before) {
            last_progress = clock_ticks;
            stream.repeat = false;
        } else if ((stream.repeat && repeated_from != before) || clock_ticks > last_progress + REPEAT_TICKS) {
            repeated_from = before; /* one repetition for all the ACKs that one loss causes */
            stream.repeat = false;
            next = before;
            if (clock_ticks > last_progress + PATIENCE_SECONDS * CLOCK_TICKS_PER_SECOND) return false;
        }
    }
    result->time = read_time() - start;

    uint64_t end = clock_ticks + PATIENCE_SECONDS * CLOCK_TICKS_PER_SECOND;
    while (!stream.done && clock_ticks < end) {
        send_message(to, TYPE_END, packets, result->checksum);
        stack_flush();
        for (uint64_t again = clock_ticks + REPEAT_TICKS; !stream.done && clock_ticks < again; stack_poll())
            stack_wait();
    }
    return stream.done;
}

static void take_data(const uint8_t* data, size_t length) {
    uint64_t checksum = stream.result->checksum;
    const uint64_t* words = (const uint64_t*)data;
    for (size_t i = 0; i < length / 8; i++) checksum = (checksum ^ words[i]) * FNV_PRIME;
    stream.result->checksum = checksum;
    stream.result->bytes += length & ~7ul;
    stream.result->packets++;
}

static void receiver_receives(const struct peer* from, const uint8_t* payload, size_t length) {
    const struct stream_header* header = (const struct stream_header*)payload;
    if (length < sizeof *header || header->magic != MAGIC) return;
    if (!stream.started && header->type == TYPE_DATA) {
        stream.started = true;
        stream.sender = *from;
        stream.start_time = read_time();
    }
    if (!stream.started || from->ip != stream.sender.ip) return;
    if (header->type == TYPE_DATA && !stream.ended) {
        stream.unacknowledged++;
        if (header->sequence != stream.expected) {
            stream.out_of_order = true;
            stream.result->repeated++;
            return;
        }
        take_data(payload + sizeof *header, length - sizeof *header);
        stream.expected++;
        stream.end_time = read_time();
    } else if (header->type == TYPE_END && header->sequence == stream.expected) {
        stream.ended = true;
        stream.result->peer_checksum = header->value;
        send_message(from, TYPE_DONE, stream.expected, stream.result->checksum);
    }
}

/* The ACKs that are due. Nothing more to read means that the sender may be waiting for one. */
static void acknowledge(bool idle) {
    if (stream.unacknowledged == 0) return;
    if (!idle && !stream.out_of_order && stream.unacknowledged < STREAM_ACK_EVERY) return;
    if (!send_message(&stream.sender, TYPE_ACK, stream.expected, 0)) return;
    stream.unacknowledged = 0;
    stream.out_of_order = false;
    stack_flush();
}

bool stream_receive(unsigned seconds, struct stream_result* result) {
    memset(&stream, 0, sizeof stream);
    stream.result = result;
    *result = (struct stream_result){.checksum = FNV_OFFSET};
    stack_listen(STREAM_PORT, receiver_receives);
    uint64_t last_frame = clock_ticks, ended_at = 0;
    for (;;) {
        if (stack_poll() != 0) {
            last_frame = clock_ticks;
            acknowledge(false);
        } else {
            acknowledge(true);
            stack_wait();
        }
        /* After the end we stay a moment: if our DONE was lost, END comes again. */
        if (stream.ended && ended_at == 0) ended_at = clock_ticks;
        if (stream.ended && clock_ticks > ended_at + LINGER_TICKS) break;
        if (clock_ticks > last_frame + seconds * CLOCK_TICKS_PER_SECOND) return false;
    }
    result->time = stream.end_time - stream.start_time;
    return true;
}

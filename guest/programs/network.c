/*
 * `net`: a host on the network. With only `net ip=10.0.0.1` it answers ARP and pings until it has been quiet
 * for net.seconds=60. Otherwise it does what is asked, in this order, and stays for net.linger=3 quiet
 * seconds so that the other side can finish too.
 *
 *   ping=10.0.0.2 count=5          pings
 *   netrecv=BYTES                  takes a stream of so many bytes (network/stream.h)
 *   netsend=BYTES to=10.0.0.2      sends one
 *
 * Each prints one line, `WIRT-NET {json}`.
 */
#include "drivers/nic.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "network/stack.h"
#include "network/stream.h"
#include "programs/programs.h"

enum { RESOLVE_SECONDS = 60, PING_SECONDS = 5 };

static bool find_peer(const char* word, struct peer* peer) {
    const char* text = bootargs_text(word, "");
    *peer = (struct peer){.ip = ip_from_text(text)};
    if (peer->ip == 0) {
        print_failure("net: %s=%s is not an IPv4 address\n", word, text);
        return false;
    }
    if (stack_resolve(peer, RESOLVE_SECONDS)) return true;
    print_failure("net: nobody answers for %s\n", text);
    return false;
}

static void ping(void) {
    struct peer peer;
    if (!find_peer("ping", &peer)) return;
    uint64_t count = bootargs_number("count", 5), received = 0, least = ~0ul, most = 0, sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t ticks;
        if (!stack_ping(&peer, (uint16_t)i, PING_SECONDS, &ticks)) continue;
        uint64_t microseconds = clock_microseconds(ticks);
        received++;
        sum += microseconds;
        if (microseconds < least) least = microseconds;
        if (microseconds > most) most = microseconds;
    }
    bool good = received == count;
    print(
        "WIRT-NET "
        "{\"name\":\"ping\",\"peer\":\"%s\",\"sent\":%lu,\"received\":%lu,\"min_us\":%lu,\"avg_us\":%lu,"
        "\"max_us\":%lu,\"ok\":%s}\n",
        bootargs_text("ping", ""), count, received, received != 0 ? least : 0,
        received != 0 ? sum / received : 0, most, good ? "true" : "false");
    if (!good) print_failure("net: %lu of %lu pings came back\n", received, count);
}

static void report_stream(const char* name, const struct stream_result* result, bool good) {
    print(
        "WIRT-NET {\"name\":\"%s\",\"bytes\":%lu,\"packets\":%lu,\"repeated\":%lu,\"checksum\":\"0x%016lx\","
        "\"peer_checksum\":\"0x%016lx\",\"time\":%lu,\"timebase\":%lu,\"ok\":%s}\n",
        name, result->bytes, result->packets, result->repeated, result->checksum, result->peer_checksum,
        result->time, platform.timebase_frequency, good ? "true" : "false");
    if (!good) print_failure("net: the %s went wrong\n", name);
}

static void receive(void) {
    struct stream_result result;
    uint64_t bytes = (bootargs_number("netrecv", 0) + 7) & ~7ul;
    bool good = stream_receive(RESOLVE_SECONDS, &result);
    report_stream("receive", &result,
                  good && result.bytes == bytes && result.checksum == result.peer_checksum);
}

static void transmit(void) {
    struct peer peer;
    if (!find_peer("to", &peer)) return;
    struct stream_result result;
    bool good = stream_send(&peer, bootargs_number("netsend", 0), &result);
    report_stream("send", &result, good && result.checksum == result.peer_checksum);
}

static void serve_until_quiet(uint64_t seconds) {
    for (uint64_t last = clock_ticks; clock_ticks < last + seconds * CLOCK_TICKS_PER_SECOND;) {
        if (stack_poll() != 0) last = clock_ticks;
        stack_wait();
    }
}

void program_net(void) {
    if (nic_count == 0) {
        print_failure("net: there is no network card\n");
        return;
    }
    uint32_t ip = ip_from_text(bootargs_text("ip", ""));
    if (ip == 0) {
        print_failure("net: needs ip=, an IPv4 address such as 10.0.0.1\n");
        return;
    }
    stack_start(nics[0], ip);
    print("net: I am %s\n", bootargs_text("ip", ""));
    bool busy = bootargs_has("ping") || bootargs_has("netsend") || bootargs_has("netrecv");
    if (bootargs_has("ping")) ping();
    if (bootargs_has("netrecv")) receive();
    if (bootargs_has("netsend")) transmit();
    serve_until_quiet(busy ? bootargs_number("net.linger", 3) : bootargs_number("net.seconds", 60));
}

// What the inner guest of nested.py does all the while: a pseudo-random stream goes onto its disks, comes
// back from there, goes through a TCP connection that echoes it, and into a sum. Each round is a line, which
// says its number and the sum: the host makes the same stream and knows what it has to read. Another answer
// than the right one ends it.
//
//     nested_load ADDRESS PORT DISK...
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { words = 2048, block = words * 8, blocks = 256, most_disks = 4 };

static int fail(unsigned long round, const char* what) {
    printf("load: round %lu: %s: %s\n", round, what, strerror(errno));
    return 1;
}

int main(int argc, char** argv) {
    static uint64_t sent[words] __attribute__((aligned(4096))), got[words] __attribute__((aligned(4096)));
    struct sockaddr_in to = {.sin_family = AF_INET};
    uint64_t x = 88172645463325252u, sum = 0;
    int disks[most_disks];
    // The initramfs starts its shell with it ignored.
    signal(SIGINT, SIG_DFL);
    if (argc < 3 || argc > 3 + most_disks || !inet_aton(argv[1], &to.sin_addr)) return 2;
    to.sin_port = htons((uint16_t)atoi(argv[2]));
    for (int d = 3; d < argc; ++d) {
        disks[d - 3] = open(argv[d], O_RDWR | O_DIRECT);
        if (disks[d - 3] < 0) return fail(0, argv[d]);
    }
    const int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(peer, (struct sockaddr*)&to, sizeof to) < 0) return fail(0, "connect");
    for (unsigned long round = 1;; ++round) {
        const off_t at = (off_t)(round % blocks) * block;
        for (int i = 0; i < words; ++i) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            sent[i] = x;
            sum = sum * 31 + x;
        }
        for (int d = 3; d < argc; ++d) {
            const int disk = disks[d - 3];
            if (pwrite(disk, sent, block, at) != block || fdatasync(disk) < 0)
                return fail(round, "write to a disk");
            if (pread(disk, got, block, at) != block) return fail(round, "read of a disk");
            if (memcmp(sent, got, block) != 0) return fail(round, "a disk holds something else");
        }
        if (send(peer, sent, block, 0) != block) return fail(round, "send");
        memset(got, 0, block);
        if (recv(peer, got, block, MSG_WAITALL) != block) return fail(round, "receive");
        if (memcmp(sent, got, block) != 0) return fail(round, "something else came back");
        printf("round %lu %016llx\n", round, (unsigned long long)sum);
        fflush(stdout);
        usleep(50000);
    }
}

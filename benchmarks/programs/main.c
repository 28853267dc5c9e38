/*
 * Process 1 of a guest that measures its machine. The kernel's command line says what to run, `classes=mixed,sieve` (which the kernel
 * hands to process 1 as an environment variable); each class is announced before it begins, so that the host can take its own
 * times, and answered by one line of JSON.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "classes.h"

static const struct {
    const char* name;
    uint64_t (*run)(void);
    uint64_t expected; /* what a build of these files for the host gives */
} classes[] = {
#define CLASS(name, expected) {#name, class_##name, expected},
#include "expected.h"
#undef CLASS
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static bool listed(const char* list, const char* name) {
    size_t length = strlen(name);
    for (const char* at = list; (at = strstr(at, name)) != NULL; at += length) {
        if ((at == list || at[-1] == ',') && (at[length] == '\0' || at[length] == ',')) return true;
    }
    return false;
}

/* The kernel goes on with its own affairs while process 1 runs: a class begins when they have ended. */
static void settle(void) {
    const struct sched_param idle = {0}, normal = {0};
    sched_setscheduler(0, SCHED_IDLE, &idle);
    for (unsigned turn = 0; turn < 100; turn++) {
        struct timespec begin, end;
        uint64_t until = now() + 50000000;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
        while (now() < until) {
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        int64_t used = (end.tv_sec - begin.tv_sec) * 1000000000 + (end.tv_nsec - begin.tv_nsec);
        if (used > 48000000) break;
    }
    sched_setscheduler(0, SCHED_OTHER, &normal);
}

int main(int argc, char** argv) {
    if (argc > 1 && strcmp(argv[1], "true") == 0) return 0;
    const char* wanted = getenv("classes");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("WIRT-BOOT\n");
    for (unsigned i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (wanted != NULL && !listed(wanted, classes[i].name)) continue;
        settle();
        printf("WIRT-BEGIN %s\n", classes[i].name);
        /* The host takes its time when it sees the line, and may be late. */
        usleep(300000);
        uint64_t begin = now(), result = classes[i].run(), end = now();
        printf("WIRT-CLASS {\"name\":\"%s\",\"ns\":%llu,\"result\":\"%016llx\",\"ok\":%s}\n", classes[i].name,
               (unsigned long long)(end - begin), (unsigned long long)result,
               result == classes[i].expected ? "true" : "false");
        usleep(300000);
    }
    printf("WIRT-END\n");
    /* What is still on its way to the console is lost when the power goes. */
    tcdrain(STDOUT_FILENO);
    usleep(200000);
    if (getpid() == 1) reboot(RB_POWER_OFF);
    return 0;
}

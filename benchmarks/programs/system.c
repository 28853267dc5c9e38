/* What a kernel is asked for: system calls, page faults, processes, pipes. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "classes.h"

uint64_t class_getppid(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < 1000000; i++) sum += (uint64_t)syscall(SYS_getppid);
    return sum; /* of process 1: no parent */
}

/* Every page of a fresh mapping is touched once. */
uint64_t class_faults(void) {
    enum { PAGE = 4096, SIZE = 32 << 20 };
    for (unsigned round = 0; round < 12; round++) {
        volatile char* memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return 1;
        madvise((void*)memory, SIZE, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < SIZE; at += PAGE) memory[at] = 1;
        munmap((void*)memory, SIZE);
    }
    return 0;
}

/* The same binary again, which ends at once (see main.c). */
uint64_t class_forkexec(void) {
    for (unsigned i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl("/init", "/init", "true", (char*)NULL);
            _exit(127);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return 1;
    }
    return 0;
}

/* One byte back and forth between two processes. */
uint64_t class_pipes(void) {
    int there[2], back[2];
    if (pipe(there) != 0 || pipe(back) != 0) return 1;
    pid_t child = fork();
    if (child < 0) return 2;
    char byte = 0;
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte++;
            if (write(back[1], &byte, 1) != 1) _exit(1);
        }
        _exit(0);
    }
    close(there[0]);
    for (unsigned i = 0; i < 30000; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 3;
    }
    close(there[1]);
    close(back[0]);
    close(back[1]);
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? (uint64_t)(uint8_t)byte - 30000 % 256 : 4;
}

/* Two processes of the same CPU-bound work at a time: on two harts as fast as one of them alone. */
uint64_t class_pair(void) {
    pid_t child = fork();
    if (child < 0) return 1;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 6; i++) sum += class_fibonacci();
    uint64_t expected = 6 * 9227465; /* the 35th Fibonacci number */
    if (child == 0) _exit(sum == expected ? 0 : 1);
    if (sum != expected) return 2;
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 3;
}

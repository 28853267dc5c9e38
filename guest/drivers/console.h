/* What every character device can do, whichever way it is reached. */
#ifndef GUEST_DRIVERS_CONSOLE_H
#define GUEST_DRIVERS_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_CONSOLES = 4 };

struct console {
    const char* interface; /* "16550", "virtio-console" */
    uint64_t address;
    uint32_t interrupt;
    /* Gives the bytes to the device and sleeps until it has taken them all; false if it does not. */
    bool (*write)(struct console* console, const char* bytes, size_t length);
    /* The same without interrupts, asking the device over and over; NULL where there is no such way. */
    bool (*write_polled)(struct console* console, const char* bytes, size_t length);
    /* What has arrived, without waiting; 0 when nothing has. */
    size_t (*read)(struct console* console, char* buffer, size_t size);
    /* Would read give something? */
    bool (*readable)(struct console* console);
};

extern struct console* consoles[MAX_CONSOLES];
extern unsigned console_count;

void console_register(struct console* console);

#endif

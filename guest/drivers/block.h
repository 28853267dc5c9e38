/*
 * What every disk can do, whichever way it is reached. Two halves: `submit` writes a request where the
 * device will find it, `kick` tells the device. Between them lies the batching: a queue of 32 requests can
 * go out with one kick.
 */
#ifndef GUEST_DRIVERS_BLOCK_H
#define GUEST_DRIVERS_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECTOR_SIZE = 512, MAX_BLOCK_DEVICES = 8 };

enum block_operation { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH };
enum block_state { BLOCK_IDLE, BLOCK_PENDING, BLOCK_DONE, BLOCK_FAILED };

struct block_request {
    enum block_operation operation;
    uint64_t sector;
    uint32_t sector_count;
    void* data; /* physically contiguous, even address (AHCI 1.3.1, 4.2.3.3) */
    volatile enum block_state state;
    struct block_request** done_list; /* where to put the request when it is over; NULL for nowhere */
    struct block_request* next_done;
    uint64_t driver_area[4]; /* what a driver wants to keep with the request; the device may access it */
};

struct block_device {
    const char* interface; /* "virtio-blk", "ahci" */
    char description[64];
    uint64_t address;
    uint32_t interrupt;
    uint64_t sector_count;
    uint32_t max_request_sectors;
    unsigned queue_depth;
    bool read_only;
    bool can_flush;
    volatile unsigned in_flight;
    /* With interrupts off. submit is false when the device can take no more for now. */
    bool (*submit)(struct block_device* device, struct block_request* request);
    void (*kick)(struct block_device* device);
};

extern struct block_device* block_devices[MAX_BLOCK_DEVICES];
extern unsigned block_device_count;

void block_register(struct block_device* device);

bool block_submit(struct block_device* device, struct block_request* request);
void block_kick(struct block_device* device);

/* For drivers: the request is over. */
void block_complete(struct block_device* device, struct block_request* request, bool good);

/* One request, waited for. False if it failed or took longer than 30 seconds. */
bool block_transfer(struct block_device* device, enum block_operation operation, uint64_t sector,
                    uint32_t sector_count, void* data);

#endif

/* The part of a disk driver that does not depend on the disk. */
#include "drivers/block.h"

#include "kernel/clock.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

struct block_device* block_devices[MAX_BLOCK_DEVICES];
unsigned block_device_count;

void block_register(struct block_device* device) {
    if (block_device_count < MAX_BLOCK_DEVICES) block_devices[block_device_count++] = device;
}

bool block_submit(struct block_device* device, struct block_request* request) {
    if (request->sector_count > device->max_request_sectors)
        panic("%s: %u sectors in one request\n", device->description, request->sector_count);
    interrupts_disable(); /* completions come from the interrupt handler and touch the same lists */
    request->state = BLOCK_PENDING;
    bool taken = device->in_flight < device->queue_depth && device->submit(device, request);
    if (taken)
        device->in_flight++;
    else
        request->state = BLOCK_IDLE;
    interrupts_enable();
    return taken;
}

void block_kick(struct block_device* device) {
    interrupts_disable();
    device->kick(device);
    interrupts_enable();
}

void block_complete(struct block_device* device, struct block_request* request, bool good) {
    device->in_flight--;
    request->state = good ? BLOCK_DONE : BLOCK_FAILED;
    if (request->done_list != NULL) {
        request->next_done = *request->done_list;
        *request->done_list = request;
    }
}

bool block_transfer(struct block_device* device, enum block_operation operation, uint64_t sector,
                    uint32_t sector_count, void* data) {
    struct block_request request = {
        .operation = operation, .sector = sector, .sector_count = sector_count, .data = data};
    if (!block_submit(device, &request)) return false;
    block_kick(device);
    /* The device may write to the request, which lies on our stack: without an answer there is no way on. */
    if (!clock_wait(request.state != BLOCK_PENDING, 30)) panic("%s does not answer\n", device->description);
    return request.state == BLOCK_DONE;
}

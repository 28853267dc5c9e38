/*
 * The virtio console device: virtio 1.2, section 5.3, its first port only (no VIRTIO_CONSOLE_F_MULTIPORT).
 * Queue 0 receives, queue 1 transmits; a buffer is plain bytes. Transmission is from the caller's memory.
 */
#include "drivers/virtio_console.h"

#include "drivers/console.h"
#include "kernel/clock.h"
#include "kernel/memory.h"
#include "kernel/print.h"
#include "kernel/string.h"

enum { RECEIVE_QUEUE = 0, TRANSMIT_QUEUE = 1 };
enum { RECEIVE_BUFFERS = 8, RECEIVE_BUFFER_SIZE = 512 };

struct receive_buffer {
    char bytes[RECEIVE_BUFFER_SIZE];
};

struct virtio_console {
    struct console console;
    struct virtio_device device;
    struct virtqueue receive, transmit;
    volatile unsigned transmitting;
    struct receive_buffer* current; /* half read; further full ones wait in the used ring */
    size_t current_at, current_length;
};

static void queues_changed(void* driver) {
    struct virtio_console* port = driver;
    do {
        while (virtqueue_take(&port->transmit, NULL) != NULL) port->transmitting--;
    } while (!virtqueue_interrupt_next(&port->transmit));
    /* The interrupt for received bytes only ends the WFI; read() takes them from the ring. */
}

static bool write_bytes(struct console* console, const char* bytes, size_t length) {
    struct virtio_console* port = (struct virtio_console*)console;
    if (length == 0) return true;
    struct virtqueue_segment segment = {bytes, (uint32_t)length, false};
    interrupts_disable();
    bool added = virtqueue_add(&port->transmit, &segment, 1, port);
    if (added) {
        port->transmitting++;
        virtqueue_kick(&port->transmit);
    }
    interrupts_enable();
    return added && clock_wait(port->transmitting == 0, 30);
}

static void give_receive_buffer(struct virtio_console* port, struct receive_buffer* buffer) {
    struct virtqueue_segment segment = {buffer, RECEIVE_BUFFER_SIZE, true};
    virtqueue_add(&port->receive, &segment, 1, buffer);
}

static bool readable(struct console* console) {
    struct virtio_console* port = (struct virtio_console*)console;
    return port->current != NULL || !virtqueue_interrupt_next(&port->receive);
}

static size_t read_bytes(struct console* console, char* buffer, size_t size) {
    struct virtio_console* port = (struct virtio_console*)console;
    if (port->current == NULL) {
        uint32_t written;
        port->current = virtqueue_take(&port->receive, &written);
        if (port->current == NULL) return 0;
        port->current_at = 0;
        port->current_length = written <= RECEIVE_BUFFER_SIZE ? written : 0;
    }
    size_t count = port->current_length - port->current_at;
    if (count > size) count = size;
    memcpy(buffer, port->current->bytes + port->current_at, count);
    port->current_at += count;
    if (port->current_at == port->current_length) {
        give_receive_buffer(port, port->current);
        virtqueue_kick(&port->receive);
        port->current = NULL;
    }
    return count;
}

void virtio_console_start(const struct virtio_device* found) {
    struct virtio_console* port = memory_allocate(sizeof *port, 64);
    port->device = *found;
    if (!virtio_negotiate(&port->device, 0)) return;
    if (!virtio_start_queue(&port->device, &port->receive, RECEIVE_QUEUE, 2 * RECEIVE_BUFFERS) ||
        !virtio_start_queue(&port->device, &port->transmit, TRANSMIT_QUEUE, 64)) {
        print_failure("virtio-console at 0x%lx lacks a queue\n", found->base);
        return;
    }
    port->console = (struct console){
        .interface = found->on_pci ? "virtio-console-pci" : "virtio-console",
        .address = found->base,
        .interrupt = found->interrupt,
        .write = write_bytes,
        .read = read_bytes,
        .readable = readable,
    };
    virtio_ready(&port->device, queues_changed, port);
    struct receive_buffer* buffers = memory_allocate(RECEIVE_BUFFERS * sizeof *buffers, 64);
    for (unsigned i = 0; i < RECEIVE_BUFFERS; i++) give_receive_buffer(port, &buffers[i]);
    virtqueue_kick(&port->receive);
    console_register(&port->console);
}

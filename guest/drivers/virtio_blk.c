/*
 * The virtio block device: virtio 1.2, section 5.2. One queue; a request is a 16-byte header, the data, and
 * a status byte that the device writes last (5.2.6).
 */
#include "drivers/virtio_blk.h"

#include "drivers/block.h"
#include "kernel/memory.h"
#include "kernel/print.h"

/* 5.2.3 feature bits */
#define VIRTIO_BLK_F_SIZE_MAX (1ul << 1)
#define VIRTIO_BLK_F_RO (1ul << 5)
#define VIRTIO_BLK_F_FLUSH (1ul << 9)

/* 5.2.4 configuration */
enum { CONFIG_CAPACITY = 0, CONFIG_SIZE_MAX = 8 };

/* 5.2.6 request types and status */
enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4 };
enum { STATUS_OK = 0, STATUS_NONE = 0xff };

enum { QUEUE_SIZE = 128 };

struct virtio_blk {
    struct block_device block;
    struct virtio_device device;
    struct virtqueue queue;
};

/* What lies in the request's driver_area. */
struct request_frame {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
    volatile uint8_t status;
};
_Static_assert(sizeof(struct request_frame) <= sizeof(((struct block_request*)0)->driver_area),
               "it lies there");

enum { HEADER_SIZE = 16 };

static bool submit(struct block_device* block, struct block_request* request) {
    struct virtio_blk* disk = (struct virtio_blk*)block;
    struct request_frame* frame = (struct request_frame*)request->driver_area;
    *frame = (struct request_frame){.sector = request->sector, .status = STATUS_NONE};
    struct virtqueue_segment segments[3] = {{frame, HEADER_SIZE, false}};
    unsigned count = 1;
    if (request->operation == BLOCK_FLUSH) {
        frame->type = TYPE_FLUSH;
        frame->sector = 0; /* 5.2.6.1 */
    } else {
        frame->type = request->operation == BLOCK_READ ? TYPE_IN : TYPE_OUT;
        segments[count++] = (struct virtqueue_segment){request->data, request->sector_count * SECTOR_SIZE,
                                                       request->operation == BLOCK_READ};
    }
    segments[count++] = (struct virtqueue_segment){(const void*)&frame->status, 1, true};
    return virtqueue_add(&disk->queue, segments, count, request);
}

static void kick(struct block_device* block) {
    virtqueue_kick(&((struct virtio_blk*)block)->queue);
}

static void queue_changed(void* driver) {
    struct virtio_blk* disk = driver;
    do {
        struct block_request* request;
        while ((request = virtqueue_take(&disk->queue, NULL)) != NULL) {
            const struct request_frame* frame = (const struct request_frame*)request->driver_area;
            block_complete(&disk->block, request, frame->status == STATUS_OK);
        }
    } while (!virtqueue_interrupt_next(&disk->queue));
}

void virtio_blk_start(const struct virtio_device* found) {
    struct virtio_blk* disk = memory_allocate(sizeof *disk, 64);
    disk->device = *found;
    if (!virtio_negotiate(&disk->device, VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_RO | VIRTIO_BLK_F_FLUSH))
        return;
    if (!virtio_start_queue(&disk->device, &disk->queue, 0, QUEUE_SIZE)) {
        print_failure("virtio-blk at 0x%lx has no queue\n", found->base);
        return;
    }
    uint64_t features = disk->device.features;
    uint32_t size_max =
        (features & VIRTIO_BLK_F_SIZE_MAX) ? virtio_config32(&disk->device, CONFIG_SIZE_MAX) : 0;
    disk->block = (struct block_device){
        .interface = found->on_pci ? "virtio-blk-pci" : "virtio-blk",
        .address = found->base,
        .interrupt = found->interrupt,
        .sector_count = virtio_config64(&disk->device, CONFIG_CAPACITY),
        .max_request_sectors = size_max >= SECTOR_SIZE ? size_max / SECTOR_SIZE : 1u << 16,
        /* Without indirect descriptors a request takes three of the queue's own. */
        .queue_depth = disk->queue.has_indirect ? disk->queue.size : disk->queue.size / 3u,
        .read_only = (features & VIRTIO_BLK_F_RO) != 0,
        .can_flush = (features & VIRTIO_BLK_F_FLUSH) != 0,
        .submit = submit,
        .kick = kick,
    };
    format_text(disk->block.description, sizeof disk->block.description, "virtio-blk, queue of %u%s%s",
                disk->queue.size, disk->queue.has_indirect ? ", indirect" : "",
                disk->queue.has_event_index ? ", event index" : "");
    virtio_ready(&disk->device, queue_changed, disk);
    block_register(&disk->block);
}

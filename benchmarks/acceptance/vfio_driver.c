/*
 * A driver of the 82574L that is a process: it finds the card through VFIO, gives it memory through IOMMUFD, and echoes
 * the frames that come in. Then it takes the memory away and shows that the card can reach it no longer.
 *
 *     vfio_driver DEVICE FRAMES      DEVICE as in /dev/vfio/devices/DEVICE
 *
 * Linux' uAPI: Documentation/driver-api/vfio.rst and userspace-api/iommufd.rst. The card: 82574 GbE Controller Family
 * Datasheet; section numbers are its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* 10.2 */
enum {
    CTRL = 0x0000, ICR = 0x00c0, IMS = 0x00d0, IMC = 0x00d8, RCTL = 0x0100, TCTL = 0x0400,
    RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818,
    TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818,
};
#define CTRL_LINK_UP (1u << 6)
#define CTRL_RESET (1u << 26)
#define INTERRUPT_RECEIVE (1u << 7)
#define RCTL_ENABLE (1u << 1)
#define RCTL_ALL_UNICAST (1u << 3)
#define RCTL_BROADCAST (1u << 15)
#define RCTL_STRIP_CRC (1u << 26)
#define TCTL_ENABLE (1u << 1)

/* 7.1.4 and 7.2.1: the legacy forms */
struct receive_descriptor {
    uint64_t address;
    uint16_t length, checksum;
    uint8_t status, errors;
    uint16_t vlan;
};
struct transmit_descriptor {
    uint64_t address;
    uint16_t length;
    uint8_t checksum_offset, command, status, checksum_start;
    uint16_t vlan;
};
enum { DONE = 1, END_OF_PACKET = 1, INSERT_FCS = 2, REPORT_STATUS = 8 };

enum { RING = 64, BUFFER = 2048, ADDRESS_BYTES = 6 };

/* All that the card sees, in this order from IOVA on: nothing that is anywhere in the guest's physical memory. */
struct shared {
    struct receive_descriptor receive[RING];
    struct transmit_descriptor transmit[RING];
    uint8_t padding[4096 - 2 * RING * 16];
    uint8_t received[RING][BUFFER];
    uint8_t lent[4096]; /* mapped by itself, and taken back at the end */
};
#define IOVA 0x123400000000ull
#define IOVA_OF(member) (IOVA + offsetof(struct shared, member))

static volatile uint8_t* registers;
static struct shared* shared;

static void check(bool good, const char* what) {
    if (good) return;
    printf("vfio_driver: %s: %s\n", what, strerror(errno));
    exit(1);
}
static uint32_t get(unsigned number) {
    return *(volatile uint32_t*)(registers + number);
}
static void set(unsigned number, uint32_t value) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* what is in memory is there before the card is told */
    *(volatile uint32_t*)(registers + number) = value;
}
static void sleep_ms(unsigned ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000l}, NULL);
}

static void map(int iommu, uint32_t space, const void* memory, uint64_t length, uint64_t iova) {
    struct iommu_ioas_map request = {
        .size = sizeof request,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = space,
        .user_va = (uintptr_t)memory,
        .length = length,
        .iova = iova,
    };
    check(ioctl(iommu, IOMMU_IOAS_MAP, &request) == 0, "IOMMU_IOAS_MAP");
}

/* Opens the card and the address space that its DMA is in from now on. */
static int open_device(const char* name, int iommu, uint32_t* space) {
    char path[64];
    snprintf(path, sizeof path, "/dev/vfio/devices/%s", name);
    const int device = open(path, O_RDWR);
    check(device >= 0, path);
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommu};
    check(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0, "VFIO_DEVICE_BIND_IOMMUFD");
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    check(ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc) == 0, "IOMMU_IOAS_ALLOC");
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = alloc.out_ioas_id};
    check(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    *space = alloc.out_ioas_id;

    struct vfio_device_info info = {.argsz = sizeof info};
    check(ioctl(device, VFIO_DEVICE_GET_INFO, &info) == 0, "VFIO_DEVICE_GET_INFO");
    check(info.flags & VFIO_DEVICE_FLAGS_PCI, "not a PCI function");
    check(ioctl(device, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET"); /* a function-level reset */

    struct vfio_region_info bar = {.argsz = sizeof bar, .index = VFIO_PCI_BAR0_REGION_INDEX};
    check(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) == 0, "VFIO_DEVICE_GET_REGION_INFO, BAR 0");
    registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
    check(registers != MAP_FAILED, "mmap of BAR 0");

    struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
    check(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0, "VFIO_DEVICE_GET_REGION_INFO, configuration");
    uint16_t ids[2], command;
    check(pread(device, ids, 4, config.offset) == 4, "reading the ids");
    check(pread(device, &command, 2, config.offset + 4) == 2, "reading the command register");
    command |= 6; /* memory space, bus master */
    check(pwrite(device, &command, 2, config.offset + 4) == 2, "writing the command register");
    printf("driving %04x:%04x, %llu KiB of registers\n", ids[0], ids[1], (unsigned long long)bar.size >> 10);
    return device;
}

/* INTx as a file descriptor; VFIO masks the line with each interrupt until it is told that it was served. */
static int open_interrupt(int device) {
    const int event = eventfd(0, 0);
    uint8_t buffer[sizeof(struct vfio_irq_set) + sizeof event];
    struct vfio_irq_set* request = (struct vfio_irq_set*)buffer;
    *request = (struct vfio_irq_set){
        .argsz = sizeof buffer,
        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        .index = VFIO_PCI_INTX_IRQ_INDEX,
        .count = 1,
    };
    memcpy(request->data, &event, sizeof event);
    check(event >= 0 && ioctl(device, VFIO_DEVICE_SET_IRQS, request) == 0, "VFIO_DEVICE_SET_IRQS");
    return event;
}
static void unmask(int device) {
    struct vfio_irq_set request = {
        .argsz = sizeof request,
        .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
        .index = VFIO_PCI_INTX_IRQ_INDEX,
        .count = 1,
    };
    check(ioctl(device, VFIO_DEVICE_SET_IRQS, &request) == 0, "unmasking the interrupt");
}

static void start_card(void) {
    set(IMC, ~0u);
    set(CTRL, get(CTRL) | CTRL_RESET);
    sleep_ms(5);
    set(IMC, ~0u);
    set(CTRL, get(CTRL) | CTRL_LINK_UP);
    for (unsigned i = 0; i < RING; ++i) shared->receive[i].address = IOVA_OF(received) + i * BUFFER;
    set(RDBAL, (uint32_t)IOVA_OF(receive));
    set(RDBAH, IOVA_OF(receive) >> 32);
    set(RDLEN, sizeof shared->receive);
    set(TDBAL, (uint32_t)IOVA_OF(transmit));
    set(TDBAH, IOVA_OF(transmit) >> 32);
    set(TDLEN, sizeof shared->transmit);
    set(TCTL, TCTL_ENABLE);
    set(RCTL, RCTL_ENABLE | RCTL_ALL_UNICAST | RCTL_BROADCAST | RCTL_STRIP_CRC);
    set(RDT, RING - 1);
    set(IMS, INTERRUPT_RECEIVE);
}

/* One frame out; false when the card has not taken it within a second. */
static bool send(unsigned* next, uint64_t address, uint16_t length) {
    struct transmit_descriptor* descriptor = &shared->transmit[*next];
    *descriptor = (struct transmit_descriptor){
        .address = address, .length = length, .command = END_OF_PACKET | INSERT_FCS | REPORT_STATUS};
    *next = (*next + 1) % RING;
    set(TDT, *next);
    for (unsigned i = 0; i < 1000; ++i) {
        if (*(volatile uint8_t*)&descriptor->status & DONE) return true;
        if (i > 10) sleep_ms(1);
    }
    return false;
}

int main(int argc, char** argv) {
    check(argc == 3, "usage: vfio_driver DEVICE FRAMES");
    const unsigned frames = strtoul(argv[2], NULL, 0);
    const int iommu = open("/dev/iommu", O_RDWR);
    check(iommu >= 0, "/dev/iommu");
    uint32_t space;
    const int device = open_device(argv[1], iommu, &space);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(shared != MAP_FAILED, "mmap");
    map(iommu, space, shared, offsetof(struct shared, lent), IOVA);
    map(iommu, space, shared->lent, sizeof shared->lent, IOVA_OF(lent));
    const int event = open_interrupt(device);
    start_card();
    puts("ready");
    fflush(stdout);

    unsigned echoed = 0, interrupts = 0, receive_next = 0, transmit_next = 0;
    while (echoed < frames) {
        uint64_t count;
        check(read(event, &count, sizeof count) == sizeof count, "waiting for an interrupt");
        ++interrupts;
        get(ICR); /* reading acknowledges all causes (10.2.4.1) */
        for (struct receive_descriptor* full; (full = &shared->receive[receive_next])->status & DONE;) {
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            uint8_t* frame = shared->received[receive_next];
            uint8_t destination[ADDRESS_BYTES];
            memcpy(destination, frame, ADDRESS_BYTES);
            memcpy(frame, frame + ADDRESS_BYTES, ADDRESS_BYTES);
            memcpy(frame + ADDRESS_BYTES, destination, ADDRESS_BYTES);
            check(send(&transmit_next, IOVA_OF(received) + receive_next * BUFFER, full->length), "sending");
            full->status = 0;
            set(RDT, receive_next);
            receive_next = (receive_next + 1) % RING;
            ++echoed;
        }
        unmask(device);
    }
    printf("%u frames echoed, %u interrupts\n", echoed, interrupts);

    /* A frame from memory that is lent; then the memory is taken back, and the very same descriptor leads nowhere. */
    memset(shared->lent, 0xff, ADDRESS_BYTES);
    memcpy(shared->lent + 12, "\x88\xb5lent", 6);
    check(send(&transmit_next, IOVA_OF(lent), 60), "sending from lent memory");
    struct iommu_ioas_unmap unmap = {
        .size = sizeof unmap, .ioas_id = space, .iova = IOVA_OF(lent), .length = sizeof shared->lent};
    check(ioctl(iommu, IOMMU_IOAS_UNMAP, &unmap) == 0, "IOMMU_IOAS_UNMAP");
    memcpy(shared->lent + 14, "gone", 4);
    send(&transmit_next, IOVA_OF(lent), 60);
    /* And where the buffer really is, to the card, is nowhere either: an address of the guest's RAM. */
    send(&transmit_next, 0x80200000, 60);
    puts("done");
    return 0;
}

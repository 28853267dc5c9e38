/*
 * AHCI: Serial ATA Advanced Host Controller Interface, revision 1.3.1. Registers are chapter 3, the
 * structures in memory chapter 4, the software's part chapter 10; section numbers stand where they matter.
 *
 * The disk's way of working: a command goes into one of 32 slots in memory, then a bit in PxCI starts it.
 * With native queueing (NCQ) a bit in PxSACT stands for it until a Set Device Bits FIS clears it. Both
 * registers take many bits in one write, so a batch of commands costs two stores whatever its size.
 */
#include "drivers/ahci.h"

#include "drivers/ata.h"
#include "drivers/block.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/controller.h"
#include "kernel/iommu.h"
#include "kernel/memory.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"

/* 3.1, generic host control */
enum { CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0c, CAP2 = 0x24, BOHC = 0x28 };
#define CAP_SNCQ (1u << 30)
#define CAP_NCS(cap) (((cap) >> 8 & 31) + 1)
#define GHC_RESET (1u << 0)
#define GHC_INTERRUPTS (1u << 1)
#define GHC_AHCI_ENABLE (1u << 31)
#define CAP2_HANDOFF (1u << 0)
#define BOHC_BIOS_OWNED (1u << 0)
#define BOHC_OS_OWNED (1u << 1)

/* 3.3, port registers: 0x100 + 0x80 * port */
enum {
    PORT_REGISTERS = 0x100,
    PORT_STRIDE = 0x80,
    PxCLB = 0x00,
    PxCLBU = 0x04,
    PxFB = 0x08,
    PxFBU = 0x0c,
    PxIS = 0x10,
    PxIE = 0x14,
    PxCMD = 0x18,
    PxTFD = 0x20,
    PxSIG = 0x24,
    PxSSTS = 0x28,
    PxSERR = 0x30,
    PxSACT = 0x34,
    PxCI = 0x38,
};
#define PxCMD_START (1u << 0)
#define PxCMD_SPIN_UP (1u << 1)
#define PxCMD_POWER_ON (1u << 2)
#define PxCMD_FIS_RECEIVE (1u << 4)
#define PxCMD_FIS_RUNNING (1u << 14)
#define PxCMD_LIST_RUNNING (1u << 15)
#define PxIS_REGISTER_FIS (1u << 0)    /* DHRS: a command without queueing ended */
#define PxIS_SET_DEVICE_BITS (1u << 3) /* SDBS: queued commands ended */
/* IFS, HBDS, HBFS, TFES: the four after which the port stands still (6.2.2) */
#define PxIS_FATAL (1u << 27 | 1u << 28 | 1u << 29 | 1u << 30)
#define SIGNATURE_ATA 0x00000101u

enum { MAX_PORTS = 32, MAX_SLOTS = 32, MAX_PRD_BYTES = 4 << 20 };

/* 4.2.2 */
struct command_header {
    uint16_t flags; /* 4:0 length of the command FIS in double words, 6 write */
    uint16_t prd_count;
    volatile uint32_t bytes_transferred;
    uint64_t table;
    uint32_t reserved[4];
};
enum { HEADER_FIS_LENGTH = sizeof(struct ata_command_fis) / 4, HEADER_WRITE = 1 << 6 };

/* 4.2.3 */
struct command_table {
    struct ata_command_fis fis;
    uint8_t fis_rest[44];
    uint8_t atapi[16];
    uint8_t reserved[48];
    struct {
        uint64_t address;
        uint32_t reserved;
        uint32_t last_byte; /* 21:0 byte count minus one, 31 interrupt on completion */
    } prd[8];
};
_Static_assert(sizeof(struct command_header) == 32 && sizeof(struct command_table) == 256, "4.2.2, 4.2.3");

enum {
    COMMAND_LIST_SIZE = 1024,
    COMMAND_LIST_ALIGNMENT = 1024,
    RECEIVED_FIS_SIZE = 256,
    TABLE_ALIGNMENT = 128
};

struct ahci_port {
    struct block_device block;
    struct ahci* controller;
    uintptr_t registers;
    struct command_header* headers;
    struct command_table* tables;
    struct block_request* requests[MAX_SLOTS];
    uint32_t slot_mask;   /* the slots there are */
    uint32_t outstanding; /* the slots that hold a command */
    uint32_t unstarted;   /* those of them that PxCI has not been told of */
    bool uses_ncq;
    bool queued; /* are the outstanding commands NCQ commands? The two kinds must not mix (5.6.4) */
};

struct ahci {
    uintptr_t registers;
    struct dma_space* dma;
    struct ahci_port* ports[MAX_PORTS];
    unsigned slot_count;
    bool has_ncq;
};

static uint32_t port_read(const struct ahci_port* port, unsigned number) {
    return mmio_read32(port->registers + number);
}
static void port_write(const struct ahci_port* port, unsigned number, uint32_t value) {
    mmio_write32(port->registers + number, value);
}

/* Polls until the bits in `mask` read as `value`. */
static bool settle(uintptr_t address, uint32_t mask, uint32_t value, uint64_t milliseconds) {
    uint64_t end = read_time() + milliseconds * platform.timebase_frequency / 1000;
    while ((mmio_read32(address) & mask) != value)
        if (read_time() > end) return false;
    return true;
}

/* 10.3.1: ST off, and wait for CR; 10.1.2 gives it 500 ms. */
static bool stop_commands(const struct ahci_port* port) {
    port_write(port, PxCMD, port_read(port, PxCMD) & ~PxCMD_START);
    return settle(port->registers + PxCMD, PxCMD_LIST_RUNNING, 0, 500);
}

/* 10.3.1: only with the FIS receive on and the device neither busy nor wanting data. */
static bool start_commands(const struct ahci_port* port) {
    if (!settle(port->registers + PxTFD, ATA_STATUS_BUSY | ATA_STATUS_DATA_REQUEST, 0, 5000)) return false;
    port_write(port, PxCMD, port_read(port, PxCMD) | PxCMD_START);
    return true;
}

static void fill_slot(struct ahci_port* port, unsigned slot, bool write, void* data, uint32_t length) {
    struct command_table* table = &port->tables[slot];
    uint16_t count = 0;
    for (uint32_t at = 0; at < length; at += MAX_PRD_BYTES, count++) {
        uint32_t piece = length - at < MAX_PRD_BYTES ? length - at : MAX_PRD_BYTES;
        table->prd[count].address = dma_map(port->controller->dma, (const char*)data + at, piece, !write);
        table->prd[count].last_byte = piece - 1;
    }
    struct command_header* header = &port->headers[slot];
    header->flags = HEADER_FIS_LENGTH | (write ? HEADER_WRITE : 0);
    header->prd_count = count;
    header->bytes_transferred = 0;
}

/* The disk is done with the slot's data. */
static void release_slot(const struct ahci_port* port, unsigned slot) {
    const struct command_table* table = &port->tables[slot];
    for (unsigned i = 0; i < port->headers[slot].prd_count; i++)
        dma_unmap(port->controller->dma, table->prd[i].address, table->prd[i].last_byte + 1ul);
}

/* A command without queueing in slot 0 of an idle port, polled: before interrupts are on, and in recovery. */
static bool run_polled(struct ahci_port* port, void* data, uint32_t length) {
    fill_slot(port, 0, false, data, length);
    fence_before_doorbell();
    port_write(port, PxCI, 1);
    uint64_t end = read_time() + 5 * platform.timebase_frequency;
    while ((port_read(port, PxCI) & 1) != 0)
        if ((port_read(port, PxIS) & PxIS_FATAL) != 0 || read_time() > end) return false;
    fence_after_status();
    bool good = (port_read(port, PxTFD) & ATA_STATUS_ERROR) == 0;
    release_slot(port, 0);
    dma_finish_unmapping(port->controller->dma);
    port_write(port, PxIS, port_read(port, PxIS));
    return good;
}

static bool submit(struct block_device* block, struct block_request* request) {
    struct ahci_port* port = (struct ahci_port*)block;
    bool queued = port->uses_ncq && request->operation != BLOCK_FLUSH;
    if (port->outstanding != 0 && queued != port->queued) return false;
    uint32_t available = port->slot_mask & ~port->outstanding;
    if (available == 0) return false;
    unsigned slot = 0;
    while ((available >> slot & 1) == 0) slot++;

    struct ata_command_fis* fis = &port->tables[slot].fis;
    bool write = request->operation == BLOCK_WRITE;
    uint32_t length = request->sector_count * SECTOR_SIZE;
    if (request->operation == BLOCK_FLUSH) {
        ata_fill_command(fis, ATA_FLUSH_CACHE_EXT, 0, 0);
        length = 0;
    } else if (queued) {
        ata_fill_queued(fis, write ? ATA_WRITE_FPDMA_QUEUED : ATA_READ_FPDMA_QUEUED, request->sector,
                        request->sector_count, slot);
    } else {
        ata_fill_command(fis, write ? ATA_WRITE_DMA_EXT : ATA_READ_DMA_EXT, request->sector,
                         request->sector_count);
    }
    fill_slot(port, slot, write, request->data, length);
    port->requests[slot] = request;
    port->queued = queued;
    port->outstanding |= 1u << slot;
    port->unstarted |= 1u << slot;
    return true;
}

/* 5.6.4: for queued commands the tag bits in PxSACT come before the slots' bits in PxCI. */
static void kick(struct block_device* block) {
    struct ahci_port* port = (struct ahci_port*)block;
    uint32_t slots = port->unstarted;
    if (slots == 0) return;
    port->unstarted = 0;
    fence_before_doorbell();
    if (port->queued) port_write(port, PxSACT, slots);
    port_write(port, PxCI, slots);
}

static void complete(struct ahci_port* port, uint32_t slots, bool good) {
    port->outstanding &= ~slots;
    for (unsigned slot = 0; slot < MAX_SLOTS; slot++)
        if ((slots >> slot & 1) != 0) release_slot(port, slot);
    dma_finish_unmapping(port->controller->dma);
    for (unsigned slot = 0; slots != 0; slot++, slots >>= 1)
        if ((slots & 1) != 0) block_complete(&port->block, port->requests[slot], good);
}

/* 6.2.2.1: what brings a port that stopped at an error back to life. */
static void restart(struct ahci_port* port) {
    stop_commands(port); /* which also clears PxCI and PxSACT */
    port_write(port, PxSERR, port_read(port, PxSERR));
    port_write(port, PxIS, 0xffffffff);
    if (!start_commands(port)) panic("%s does not recover from an error\n", port->block.description);
}

/*
 * 6.2.2: after a fatal error the port stands still until software restarts it. A disk that failed a queued
 * command also refuses everything until its NCQ error log has been read (ACS-4, NCQ Command Error log).
 * The requests that were under way are given back as failed.
 */
static void recover(struct ahci_port* port) {
    uint32_t lost = port->outstanding & ~port->unstarted;
    restart(port);
    if (port->queued) {
        static uint8_t log[SECTOR_SIZE] __attribute__((aligned(2)));
        /* Slot 0 may hold a command that was not started yet: it is put back afterwards. */
        struct command_header header = port->headers[0];
        struct command_table table = port->tables[0];
        ata_fill_command(&port->tables[0].fis, ATA_READ_LOG_EXT, ATA_LOG_NCQ_ERROR, 1);
        if (!run_polled(port, log, sizeof log)) restart(port); /* a disk without the log refuses it */
        port->headers[0] = header;
        port->tables[0] = table;
    }
    complete(port, lost, false);
}

/* 5.5.3 and 10.7: the port's status is cleared before the controller's, and completions are read after it. */
static void handle_interrupt(void* context) {
    struct ahci* controller = context;
    uint32_t pending = mmio_read32(controller->registers + IS);
    if (pending == 0) return;
    for (unsigned i = 0; i < MAX_PORTS; i++) {
        struct ahci_port* port = controller->ports[i];
        if ((pending >> i & 1) == 0 || port == NULL) continue;
        uint32_t status = port_read(port, PxIS);
        if (status == 0) continue; /* a recovery saw to it already */
        port_write(port, PxIS, status);
        if ((status & PxIS_FATAL) != 0) {
            recover(port);
            continue;
        }
        uint32_t active = port_read(port, port->queued ? PxSACT : PxCI);
        fence_after_status();
        uint32_t finished = port->outstanding & ~port->unstarted & ~active;
        /* Some controllers tell of a failed queued command in its FIS alone, without the fatal bits. */
        if (finished == 0 && (port_read(port, PxTFD) & ATA_STATUS_ERROR) != 0)
            recover(port);
        else
            complete(port, finished, true);
    }
    mmio_write32(controller->registers + IS, pending);
}

/* 10.1.2 steps for one port with an ATA disk behind it. */
static struct ahci_port* start_port(struct ahci* controller, unsigned number) {
    uintptr_t registers = controller->registers + PORT_REGISTERS + PORT_STRIDE * number;
    /* 3.3.10: DET 3 is "device present and communication established"; it may take a moment after a reset. */
    mmio_write32(registers + PxCMD, mmio_read32(registers + PxCMD) | PxCMD_SPIN_UP | PxCMD_POWER_ON);
    if (!settle(registers + PxSSTS, 0xf, 3, 20)) return NULL;

    struct ahci_port* port = memory_allocate(sizeof *port, 64);
    port->controller = controller;
    port->registers = registers;
    if (!stop_commands(port)) return NULL;
    port_write(port, PxCMD, port_read(port, PxCMD) & ~PxCMD_FIS_RECEIVE);
    settle(registers + PxCMD, PxCMD_FIS_RUNNING, 0, 500);

    port->headers = memory_allocate(COMMAND_LIST_SIZE, COMMAND_LIST_ALIGNMENT);
    void* received = memory_allocate(RECEIVED_FIS_SIZE, RECEIVED_FIS_SIZE);
    port->tables = memory_allocate(MAX_SLOTS * sizeof *port->tables, TABLE_ALIGNMENT);
    uint64_t list_address = dma_share(controller->dma, port->headers, COMMAND_LIST_SIZE);
    uint64_t received_address = dma_share(controller->dma, received, RECEIVED_FIS_SIZE);
    uint64_t tables_address = dma_share(controller->dma, port->tables, MAX_SLOTS * sizeof *port->tables);
    for (unsigned i = 0; i < MAX_SLOTS; i++)
        port->headers[i].table = tables_address + i * sizeof *port->tables;
    port_write(port, PxCLB, (uint32_t)list_address);
    port_write(port, PxCLBU, (uint32_t)(list_address >> 32));
    port_write(port, PxFB, (uint32_t)received_address);
    port_write(port, PxFBU, (uint32_t)(received_address >> 32));
    port_write(port, PxSERR, 0xffffffff);
    port_write(port, PxIS, 0xffffffff);
    port_write(port, PxCMD, port_read(port, PxCMD) | PxCMD_FIS_RECEIVE);
    if (!start_commands(port)) return NULL;
    if (port_read(port, PxSIG) != SIGNATURE_ATA) return NULL; /* an optical drive, a port multiplier */
    return port;
}

static bool identify(struct ahci_port* port, unsigned number, const struct pci_function* function) {
    static uint16_t words[256];
    ata_fill_command(&port->tables[0].fis, ATA_IDENTIFY_DEVICE, 0, 0);
    if (!run_polled(port, words, sizeof words)) return false;
    struct ata_identity identity;
    ata_read_identity(&identity, words);
    port->uses_ncq = port->controller->has_ncq && identity.has_ncq && bootargs_number("ahci.ncq", 1) != 0;
    unsigned depth = port->controller->slot_count;
    if (port->uses_ncq && identity.queue_depth < depth) depth = identity.queue_depth;
    port->slot_mask = depth == 32 ? 0xffffffff : (1u << depth) - 1;
    port->block = (struct block_device){
        .interface = "ahci",
        .address = port->registers,
        .interrupt = function->interrupt,
        .sector_count = identity.sector_count,
        .max_request_sectors = 8 * (MAX_PRD_BYTES / SECTOR_SIZE) - 1, /* the PRDs of a command table */
        .queue_depth = depth,
        .can_flush = identity.has_flush_ext,
        .submit = submit,
        .kick = kick,
    };
    format_text(port->block.description, sizeof port->block.description, "ahci port %u: %s, %s%u", number,
                identity.model, port->uses_ncq ? "NCQ " : "slots ", depth);
    return true;
}

/* 10.6.3: firmware that still holds the controller is asked to let go; then 10.4.3, the controller's reset.
 */
static bool reset(uintptr_t registers) {
    if ((mmio_read32(registers + CAP2) & CAP2_HANDOFF) != 0) {
        mmio_write32(registers + BOHC, mmio_read32(registers + BOHC) | BOHC_OS_OWNED);
        settle(registers + BOHC, BOHC_BIOS_OWNED, 0, 2000);
    }
    mmio_write32(registers + GHC, mmio_read32(registers + GHC) | GHC_AHCI_ENABLE);
    mmio_write32(registers + GHC, mmio_read32(registers + GHC) | GHC_RESET);
    if (!settle(registers + GHC, GHC_RESET, 0, 1000)) return false;
    mmio_write32(registers + GHC, mmio_read32(registers + GHC) | GHC_AHCI_ENABLE);
    return true;
}

void ahci_start(const struct pci_function* function) {
    if (function->bar[5] == 0) return; /* 2.1.11: ABAR */
    pci_enable(function);
    struct ahci* controller = memory_allocate(sizeof *controller, 64);
    if (function->behind_iommu) controller->dma = iommu_space(function->requester_id);
    controller->registers = page_table_map_device(function->bar[5], function->bar_size[5]);
    if (!reset(controller->registers)) {
        print_failure("ahci: the controller does not come out of its reset\n");
        return;
    }
    uint32_t capabilities = mmio_read32(controller->registers + CAP);
    controller->slot_count = CAP_NCS(capabilities);
    controller->has_ncq = (capabilities & CAP_SNCQ) != 0;
    uint32_t implemented = mmio_read32(controller->registers + PI);
    for (unsigned i = 0; i < MAX_PORTS; i++) {
        if ((implemented >> i & 1) == 0) continue;
        struct ahci_port* port = start_port(controller, i);
        if (port == NULL) continue;
        if (!identify(port, i, function)) {
            print_failure("ahci: the disk at port %u does not identify itself\n", i);
            continue;
        }
        controller->ports[i] = port;
        port_write(port, PxIE, PxIS_REGISTER_FIS | PxIS_SET_DEVICE_BITS | PxIS_FATAL);
        block_register(&port->block);
    }
    controller_connect(function->interrupt, handle_interrupt, controller);
    mmio_write32(controller->registers + IS, 0xffffffff);
    mmio_write32(controller->registers + GHC, mmio_read32(controller->registers + GHC) | GHC_INTERRUPTS);
}

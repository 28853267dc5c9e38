/* ATA commands and how a host sends them: ATA/ATAPI Command Set 4 (ACS-4) and Serial ATA 3.3. */
#ifndef GUEST_DRIVERS_ATA_H
#define GUEST_DRIVERS_ATA_H

#include <stdbool.h>
#include <stdint.h>

#include "drivers/block.h"

/* ACS-4, clause 7 */
enum ata_command {
    ATA_READ_DMA_EXT = 0x25,
    ATA_READ_LOG_EXT = 0x2f,
    ATA_WRITE_DMA_EXT = 0x35,
    ATA_READ_FPDMA_QUEUED = 0x60,
    ATA_WRITE_FPDMA_QUEUED = 0x61,
    ATA_FLUSH_CACHE_EXT = 0xea,
    ATA_IDENTIFY_DEVICE = 0xec,
};

enum { ATA_STATUS_ERROR = 0x01, ATA_STATUS_DATA_REQUEST = 0x08, ATA_STATUS_BUSY = 0x80 };
enum { ATA_LOG_NCQ_ERROR = 0x10 };

/* Serial ATA 3.3, 10.5.5: Register Host to Device FIS, how a command travels. */
struct ata_command_fis {
    uint8_t type; /* 0x27 */
    uint8_t flags;
    uint8_t command;
    uint8_t features_low;
    uint8_t lba_low[3];
    uint8_t device;
    uint8_t lba_high[3];
    uint8_t features_high;
    uint8_t count_low;
    uint8_t count_high;
    uint8_t reserved[6];
};
_Static_assert(sizeof(struct ata_command_fis) == 20, "five double words");

/* A command without queueing (ACS-4, READ DMA EXT and its like). */
void ata_fill_command(struct ata_command_fis* fis, enum ata_command command, uint64_t lba, uint32_t count);

/* A native queued command (ACS-4, READ FPDMA QUEUED): the count moves to the features, the tag in its
 * place. */
void ata_fill_queued(struct ata_command_fis* fis, enum ata_command command, uint64_t lba, uint32_t count,
                     unsigned tag);

/* What the kernel wants to know from IDENTIFY DEVICE (ACS-4, 7.12.7). */
struct ata_identity {
    char model[41];
    uint64_t sector_count;
    bool has_ncq;
    unsigned queue_depth;
    bool has_flush_ext;
};
void ata_read_identity(struct ata_identity* identity, const uint16_t words[256]);

#endif

/* ATA/ATAPI Command Set 4 (ACS-4): how commands and the IDENTIFY data are encoded. */
#include "drivers/ata.h"

enum { FIS_REGISTER_HOST_TO_DEVICE = 0x27, FIS_IS_COMMAND = 0x80, DEVICE_LBA = 0x40 };

static void fill(struct ata_command_fis* fis, enum ata_command command, uint64_t lba) {
    *fis = (struct ata_command_fis){
        .type = FIS_REGISTER_HOST_TO_DEVICE,
        .flags = FIS_IS_COMMAND,
        .command = (uint8_t)command,
        .device = DEVICE_LBA,
        .lba_low = {(uint8_t)lba, (uint8_t)(lba >> 8), (uint8_t)(lba >> 16)},
        .lba_high = {(uint8_t)(lba >> 24), (uint8_t)(lba >> 32), (uint8_t)(lba >> 40)},
    };
}

void ata_fill_command(struct ata_command_fis* fis, enum ata_command command, uint64_t lba, uint32_t count) {
    fill(fis, command, lba);
    fis->count_low = (uint8_t)count; /* 65536 is written as 0 */
    fis->count_high = (uint8_t)(count >> 8);
}

void ata_fill_queued(struct ata_command_fis* fis, enum ata_command command, uint64_t lba, uint32_t count,
                     unsigned tag) {
    fill(fis, command, lba);
    fis->features_low = (uint8_t)count;
    fis->features_high = (uint8_t)(count >> 8);
    fis->count_low = (uint8_t)(tag << 3);
}

void ata_read_identity(struct ata_identity* identity, const uint16_t words[256]) {
    /* ACS-4, 3.4.9: in ATA strings the first character is the upper half of a word. */
    for (unsigned i = 0; i < 20; i++) {
        identity->model[2 * i] = (char)(words[27 + i] >> 8);
        identity->model[2 * i + 1] = (char)words[27 + i];
    }
    unsigned end = 40;
    while (end > 0 && (identity->model[end - 1] == ' ' || identity->model[end - 1] == '\0')) end--;
    identity->model[end] = '\0';
    /* Words 100-103 for 48-bit addressing (word 83 bit 10), words 60-61 without. */
    bool has_48_bit = (words[83] & 1 << 10) != 0;
    identity->sector_count = has_48_bit ? words[100] | (uint64_t)words[101] << 16 |
                                              (uint64_t)words[102] << 32 | (uint64_t)words[103] << 48
                                        : words[60] | (uint64_t)words[61] << 16;
    identity->has_ncq = words[76] != 0xffff && (words[76] & 1 << 8) != 0;
    identity->queue_depth = (words[75] & 31u) + 1;
    identity->has_flush_ext = (words[83] & 1 << 13) != 0;
}

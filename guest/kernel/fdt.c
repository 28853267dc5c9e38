/*
 * Devicetree Specification v0.4, chapter 5 "Flattened Devicetree Format".
 * The blob comes from the firmware; its offsets and lengths are checked all the same, because a broken
 * one would otherwise show up as a fault far from its cause.
 */
#include "kernel/fdt.h"

#include "kernel/string.h"

enum {
    FDT_MAGIC = 0xd00dfeed,
    FDT_BEGIN_NODE = 1,
    FDT_END_NODE = 2,
    FDT_PROP = 3,
    FDT_NOP = 4,
    FDT_END = 9,
};

/* 5.2, header: ten 32-bit fields. */
enum {
    HEADER_MAGIC = 0,
    HEADER_TOTALSIZE = 4,
    HEADER_OFF_DT_STRUCT = 8,
    HEADER_OFF_DT_STRINGS = 12,
    HEADER_OFF_MEM_RSVMAP = 16,
    HEADER_SIZE_DT_STRINGS = 32,
    HEADER_SIZE_DT_STRUCT = 36,
    HEADER_SIZE = 40,
};

uint64_t fdt_cells(const void* from, unsigned cells) {
    const uint8_t* byte = from;
    uint64_t value = 0;
    for (unsigned i = 0; i < cells * 4; i++) value = value << 8 | byte[i];
    return value;
}

static uint32_t blob_u32(const struct fdt* fdt, uint32_t offset) {
    return (uint32_t)fdt_cells(fdt->blob + offset, 1);
}

bool fdt_open(struct fdt* fdt, const void* blob) {
    fdt->blob = blob;
    if (blob == NULL || ((uintptr_t)blob & 7) != 0 || blob_u32(fdt, HEADER_MAGIC) != FDT_MAGIC) return false;
    fdt->total_size = blob_u32(fdt, HEADER_TOTALSIZE);
    fdt->structure = blob_u32(fdt, HEADER_OFF_DT_STRUCT);
    fdt->strings = blob_u32(fdt, HEADER_OFF_DT_STRINGS);
    fdt->reservations = blob_u32(fdt, HEADER_OFF_MEM_RSVMAP);
    uint64_t structure_end = (uint64_t)fdt->structure + blob_u32(fdt, HEADER_SIZE_DT_STRUCT);
    uint64_t strings_end = (uint64_t)fdt->strings + blob_u32(fdt, HEADER_SIZE_DT_STRINGS);
    if (fdt->structure < HEADER_SIZE || structure_end > fdt->total_size || strings_end > fdt->total_size ||
        (fdt->structure & 3) != 0)
        return false;
    fdt->structure_end = (uint32_t)structure_end;
    fdt->strings_end = (uint32_t)strings_end;
    return true;
}

/* 5.4.1: tokens are 32 bits wide, and what follows one is padded to four bytes. */
static uint32_t aligned(uint64_t offset) {
    return (uint32_t)((offset + 3) & ~3ul);
}

/* The offset behind the property at `offset`, or 0 where it does not fit. */
static uint32_t behind_property(const struct fdt* fdt, uint32_t offset) {
    if (fdt->structure_end - offset < 12) return 0;
    uint64_t end = (uint64_t)offset + 12 + blob_u32(fdt, offset + 4);
    return end > fdt->structure_end ? 0 : aligned(end);
}

bool fdt_next(const struct fdt* fdt, struct fdt_node* node) {
    uint32_t at = node->name == NULL ? fdt->structure : node->next;
    while (at != 0 && at + 4 <= fdt->structure_end) {
        switch (blob_u32(fdt, at)) {
            case FDT_NOP:
                at += 4;
                break;
            case FDT_END_NODE:
                node->depth--;
                at += 4;
                break;
            case FDT_PROP:
                at = behind_property(fdt, at);
                break;
            case FDT_BEGIN_NODE: {
                uint32_t end = at + 4;
                while (end < fdt->structure_end && fdt->blob[end] != '\0') end++;
                if (end == fdt->structure_end) return false;
                node->name = (const char*)fdt->blob + at + 4;
                node->depth++;
                node->properties = node->next = aligned(end + 1u);
                return true;
            }
            default: /* FDT_END, or not a token */
                return false;
        }
    }
    return false;
}

const void* fdt_property(const struct fdt* fdt, const struct fdt_node* node, const char* name,
                         uint32_t* length) {
    uint32_t at = node->properties;
    while (at != 0 && at + 4 <= fdt->structure_end) {
        uint32_t token = blob_u32(fdt, at);
        if (token == FDT_NOP) {
            at += 4;
            continue;
        }
        if (token != FDT_PROP) return NULL; /* 5.4.2: a node's properties come before its children */
        uint32_t next = behind_property(fdt, at);
        if (next == 0) return NULL;
        uint64_t name_at = (uint64_t)fdt->strings + blob_u32(fdt, at + 8);
        if (name_at < fdt->strings_end && text_equal((const char*)fdt->blob + name_at, name)) {
            if (length != NULL) *length = blob_u32(fdt, at + 4);
            return fdt->blob + at + 12;
        }
        at = next;
    }
    return NULL;
}

uint32_t fdt_u32(const struct fdt* fdt, const struct fdt_node* node, const char* name, uint32_t absent) {
    uint32_t length;
    const void* value = fdt_property(fdt, node, name, &length);
    return value != NULL && length >= 4 ? (uint32_t)fdt_cells(value, 1) : absent;
}

uint64_t fdt_number(const struct fdt* fdt, const struct fdt_node* node, const char* name, uint64_t absent) {
    uint32_t length;
    const void* value = fdt_property(fdt, node, name, &length);
    return value != NULL && (length == 4 || length == 8) ? fdt_cells(value, length / 4) : absent;
}

const char* fdt_string(const struct fdt* fdt, const struct fdt_node* node, const char* name) {
    uint32_t length;
    const char* value = fdt_property(fdt, node, name, &length);
    return value != NULL && length > 0 && value[length - 1] == '\0' ? value : NULL;
}

bool fdt_string_list_has(const struct fdt* fdt, const struct fdt_node* node, const char* name,
                         const char* text) {
    uint32_t length;
    const char* value = fdt_property(fdt, node, name, &length);
    if (value == NULL || length == 0 || value[length - 1] != '\0') return false;
    for (const char* end = value + length; value < end; value += strlen(value) + 1)
        if (text_equal(value, text)) return true;
    return false;
}

bool fdt_reservation(const struct fdt* fdt, unsigned index, uint64_t* base, uint64_t* size) {
    uint64_t at = fdt->reservations + (uint64_t)index * 16;
    if (at + 16 > fdt->total_size) return false;
    *base = fdt_cells(fdt->blob + at, 2);
    *size = fdt_cells(fdt->blob + at + 8, 2);
    return *base != 0 || *size != 0;
}

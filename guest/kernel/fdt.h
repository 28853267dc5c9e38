/* Reading a flattened device tree: Devicetree Specification v0.4, chapter 5 "Flattened Devicetree Format". */
#ifndef GUEST_KERNEL_FDT_H
#define GUEST_KERNEL_FDT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fdt {
    const uint8_t* blob;
    uint32_t total_size;
    uint32_t structure, structure_end;
    uint32_t strings, strings_end;
    uint32_t reservations;
};

/* One node of the tree; start with a zeroed one and walk with fdt_next. */
struct fdt_node {
    const char* name; /* "serial@10000000" */
    int depth;        /* 1 for the root */
    uint32_t properties;
    uint32_t next;
};

bool fdt_open(struct fdt* fdt, const void* blob);

/* The next node in the order of the file: a parent before its children. False at the end. */
bool fdt_next(const struct fdt* fdt, struct fdt_node* node);

/* A property's value in its big-endian cells, or NULL. */
const void* fdt_property(const struct fdt* fdt, const struct fdt_node* node, const char* name,
                         uint32_t* length);

uint32_t fdt_u32(const struct fdt* fdt, const struct fdt_node* node, const char* name, uint32_t absent);
/* A number of one or two cells, as linux,initrd-start is written. */
uint64_t fdt_number(const struct fdt* fdt, const struct fdt_node* node, const char* name, uint64_t absent);
const char* fdt_string(const struct fdt* fdt, const struct fdt_node* node, const char* name);
/* Is `text` one of the strings in the property? */
bool fdt_string_list_has(const struct fdt* fdt, const struct fdt_node* node, const char* name,
                         const char* text);

/* The number in `cells` big-endian 32-bit cells (0, 1 or 2). */
uint64_t fdt_cells(const void* from, unsigned cells);

/* The memory reservation block (5.3); false behind the last entry. */
bool fdt_reservation(const struct fdt* fdt, unsigned index, uint64_t* base, uint64_t* size);

#endif

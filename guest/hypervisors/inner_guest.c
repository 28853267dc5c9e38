/*
 * The guest's memory and what is in it to begin with: an ELF file (System V ABI, chapter 4, "Object Files")
 * that came as the initial RAM disk (Devicetree Specification, chosen node, and Linux's linux,initrd-start
 * and -end).
 */
#include "hypervisors/hypervisor.h"
#include "kernel/fdt.h"
#include "kernel/print.h"
#include "kernel/sbi.h"
#include "kernel/string.h"

static uint8_t memory[GUEST_MEMORY_SIZE] __attribute__((aligned(4096)));

void* guest_memory(uint64_t guest_physical, uint64_t length) {
    uint64_t offset = guest_physical - GUEST_MEMORY_BASE;
    if (offset >= sizeof memory || length > sizeof memory - offset) return NULL;
    return memory + offset;
}

uint64_t physical_of(const void* pointer) {
    return (uintptr_t)pointer - VIRTUAL_OFFSET;
}

struct elf_header {
    uint8_t identification[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_headers, section_headers;
    uint32_t flags;
    uint16_t header_size, program_header_size, program_header_count;
};
struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, virtual_address, physical_address, file_size, memory_size, alignment;
};
enum { SEGMENT_LOAD = 1 };

static uint64_t load_elf(const uint8_t* file, uint64_t size) {
    const struct elf_header* header = (const struct elf_header*)file;
    static const uint8_t magic[] = {0x7f, 'E', 'L', 'F', 2}; /* of 64 bits */
    if (size < sizeof *header || memcmp(file, magic, sizeof magic) != 0)
        panic("the initial RAM disk is no ELF file\n");
    for (unsigned i = 0; i < header->program_header_count; i++) {
        uint64_t at = header->program_headers + i * sizeof(struct elf_segment);
        if (at > size || size - at < sizeof(struct elf_segment)) panic("the guest's image is cut off\n");
        const struct elf_segment* segment = (const struct elf_segment*)(file + at);
        if (segment->type != SEGMENT_LOAD) continue;
        void* to = guest_memory(segment->physical_address, segment->memory_size);
        if (to == NULL || segment->file_size > segment->memory_size || segment->offset > size ||
            size - segment->offset < segment->file_size)
            panic("the guest's image does not fit\n");
        memcpy(to, file + segment->offset, segment->file_size);
    }
    return header->entry;
}

void guest_load(struct vcpu* vcpu, const void* device_tree) {
    struct fdt fdt;
    if (!fdt_open(&fdt, device_tree)) panic("there is no device tree\n");
    uint64_t start = 0, end = 0;
    struct fdt_node node = {0};
    while (fdt_next(&fdt, &node)) {
        if (!text_equal(node.name, "chosen")) continue;
        start = fdt_number(&fdt, &node, "linux,initrd-start", 0);
        end = fdt_number(&fdt, &node, "linux,initrd-end", 0);
    }
    if (end <= start) panic("there is no guest: it comes as the initial RAM disk\n");
    memset(vcpu, 0, sizeof *vcpu);
    /* a0, the hart's id, is 0; and a1, the device tree, too: the guest gets none. */
    vcpu->x[0] = load_elf((const uint8_t*)(start + VIRTUAL_OFFSET), end - start);
    vcpu->host_stack = (uintptr_t)host_stack_top;
}

void hypervisor_fault(uint64_t cause, uint64_t pc, uint64_t value) __attribute__((noreturn));

void hypervisor_fault(uint64_t cause, uint64_t pc, uint64_t value) {
    panic("the hypervisor trapped: scause %lx, sepc %lx, stval %lx\n", cause, pc, value);
}

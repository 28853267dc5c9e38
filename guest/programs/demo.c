/* `demo`: introduces the machine to whoever is watching. */
#include "drivers/block.h"
#include "drivers/console.h"
#include "drivers/nic.h"
#include "drivers/pci.h"
#include "drivers/virtio_rng.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/controller.h"
#include "kernel/hart.h"
#include "kernel/iommu.h"
#include "kernel/memory.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/sbi.h"
#include "kernel/string.h"
#include "programs/programs.h"

static volatile unsigned greeted;

static void greet(unsigned index) {
    (void)index;
    __atomic_fetch_add(&greeted, 1, __ATOMIC_RELAXED);
}

static void introduce_harts(void) {
    greeted = 0;
    unsigned started = hart_run_on_all(greet);
    print("  harts     %u of %u started by the firmware and back again\n", greeted, platform.hart_count);
    if (greeted != platform.hart_count || started != greeted) print_failure("not every hart came up\n");
    print("            isa %s\n", platform.harts[0].isa != NULL ? platform.harts[0].isa : "(not named)");
    print("            timer %lu Hz, %s\n", platform.timebase_frequency,
          platform.has_sstc ? "stimecmp (Sstc)" : "set through the SBI");
}

/* SBI v2.0, 4.9: the registered numbers; Wirt has none and uses its name. */
static const char* sbi_implementation_name(long id) {
    enum { WIRT = 0x57495254 };
    if (id == WIRT) return "Wirt itself";
    static const char* const names[] = {"BBL", "OpenSBI", "Xvisor", "KVM", "RustSBI", "Diosix", "Coffer"};
    return id >= 0 && (size_t)id < sizeof names / sizeof names[0] ? names[id] : "another implementation";
}

static void introduce_memory(void) {
    unsigned leaves[3];
    page_table_counts(leaves);
    print(
        "  memory    %lu MiB at 0x%lx, %lu MiB free; Sv39 with %u pages of 4 KiB, %u of 2 MiB, %u of 1 GiB\n",
        platform.memory.size >> 20, platform.memory.base, memory_available() >> 20, leaves[0], leaves[1],
        leaves[2]);
    if (platform.initrd.size != 0)
        print("  initrd    %lu bytes at 0x%lx\n", platform.initrd.size, platform.initrd.base);
}

static void introduce_disk(struct block_device* disk) {
    static uint8_t sector[SECTOR_SIZE] __attribute__((aligned(64)));
    print("  disk      %s: %lu sectors, %lu MiB%s, irq %u\n", disk->description, disk->sector_count,
          disk->sector_count * SECTOR_SIZE >> 20, disk->read_only ? ", read-only" : "", disk->interrupt);
    if (disk->sector_count > 0 && !block_transfer(disk, BLOCK_READ, 0, 1, sector))
        print_failure("%s does not read its first sector\n", disk->description);
}

static void introduce_entropy(void) {
    if (!virtio_rng_present()) return;
    uint8_t sample[16] = {0};
    char text[2 * sizeof sample + 1];
    if (!virtio_rng_read(sample, sizeof sample)) print_failure("the entropy device delivers nothing\n");
    for (unsigned i = 0; i < sizeof sample; i++) format_text(text + 2 * i, 3, "%02x", sample[i]);
    const struct virtio_device* device = virtio_rng_device();
    print("  entropy   virtio-rng at 0x%lx, irq %u: %s\n", device->base, device->interrupt, text);
}

static void introduce_network(const struct nic* nic) {
    const uint8_t* mac = nic->mac;
    print("  network   %s at 0x%lx, irq %u: %02x:%02x:%02x:%02x:%02x:%02x, MTU %u\n", nic->interface,
          nic->address, nic->interrupt, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], nic->mtu);
}

void program_demo(void) {
    long version = sbi_specification_version();
    print("\nThis is the guest inside Wirt, on \"%s\".\n", platform.model);
    print("  firmware  SBI v%ld.%ld, %s; I am in S-mode, hart %lu booted me\n", version >> 24 & 0x7f,
          version & 0xffffff, sbi_implementation_name(sbi_implementation_id()), harts[0].id);
    introduce_harts();
    introduce_memory();
    const struct controller* controller = controller_present();
    if (controller != NULL)
        print("  %-9s at 0x%lx, %u sources%s\n", controller->name,
              platform.plic.size != 0 ? platform.plic.base : platform.aplic.base, platform.source_count,
              platform.has_imsic ? ", to IMSICs" : "");
    if (platform.iommu.size != 0)
        print("  iommu     at 0x%lx, %s\n", platform.iommu.base,
              iommu_translates() ? "translating (iommu=strict)" : "passing all through");
    for (unsigned i = 0; i < console_count; i++)
        print("  console   %s at 0x%lx, irq %u\n", consoles[i]->interface, consoles[i]->address,
              consoles[i]->interrupt);
    for (unsigned i = 0; i < pci_function_count; i++) {
        const struct pci_function* function = &pci_functions[i];
        print("  pci       00:%02x.%u %04x:%04x class %06x irq %u\n", function->device, function->function,
              function->vendor_id, function->device_id, function->class_code, function->interrupt);
    }
    for (unsigned i = 0; i < block_device_count; i++) introduce_disk(block_devices[i]);
    for (unsigned i = 0; i < nic_count; i++) introduce_network(nics[i]);
    introduce_entropy();
    print("  bootargs  %s\n", bootargs_empty() ? "(none)" : platform.bootargs);
    print("ready\n\n");
}

/* PCI Express functions on the root bus. */
#ifndef GUEST_DRIVERS_PCI_H
#define GUEST_DRIVERS_PCI_H

#include <stdbool.h>
#include <stdint.h>

enum { PCI_BAR_COUNT = 6, MAX_PCI_FUNCTIONS = 32 };

struct pci_function {
    uint8_t device, function;
    uint16_t vendor_id, device_id;
    uint32_t class_code; /* base class, subclass, programming interface */
    uint64_t bar[PCI_BAR_COUNT];
    uint64_t bar_size[PCI_BAR_COUNT];
    uint32_t interrupt; /* the controller's source of its INTx line; 0 for none */
    bool behind_iommu;
    uint32_t requester_id; /* by which the IOMMU knows it */
};

extern struct pci_function pci_functions[MAX_PCI_FUNCTIONS];
extern unsigned pci_function_count;

/* Finds every function of the root bus, gives its BARs addresses and looks up its interrupt. */
void pci_start(void);

/* Configuration registers. */
uint8_t pci_read8(const struct pci_function* function, unsigned offset);
uint32_t pci_read32(const struct pci_function* function, unsigned offset);

/* Where the next capability of this kind is: behind `after`, or the first with 0. 0 when there is none. */
unsigned pci_capability(const struct pci_function* function, uint8_t id, unsigned after);

/* Lets the function answer at its BARs and reach memory by itself (Command: Memory Space, Bus Master). */
void pci_enable(const struct pci_function* function);

#endif

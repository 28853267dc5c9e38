/* The kernel's main line: find out where we are, set up, run what the bootargs ask for, switch off. */
#include "drivers/devices.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/controller.h"
#include "kernel/hart.h"
#include "kernel/iommu.h"
#include "kernel/memory.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"
#include "programs/programs.h"

void kernel_main(uint64_t hart_id, const void* device_tree) __attribute__((noreturn));

void kernel_main(uint64_t hart_id, const void* device_tree) {
    hart_start_traps(); /* first, so that whatever goes wrong from here on is reported */
    sbi_console_start();
    platform_discover(device_tree);
    bootargs_start(platform.bootargs);
    hart_start_boot(hart_id);
    memory_start();
    page_table_start();
    controller_start();
    clock_start();
    interrupts_enable();
    devices_start();

    programs_run();

    unsigned faults = iommu_count_faults();
    if (faults != 0) print_failure("the IOMMU refused %u request(s)\n", faults);

    int failures = print_failure_count();
    if (failures != 0)
        print("wirt guest: %d check(s) failed, switching off\n", failures);
    else
        print("wirt guest: all is well, switching off\n");
    sbi_shutdown(failures != 0);
}

/* Harts: SBI v2.0 chapter 9 "Hart State Management Extension". */
#include "kernel/hart.h"

#include <stddef.h>

#include "kernel/clock.h"
#include "kernel/hart_offsets.h"
#include "kernel/page_table.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"
#include "kernel/trap.h"

struct hart harts[MAX_HARTS];
struct hart_stacks hart_stacks[MAX_HARTS] __attribute__((aligned(4096)));

_Static_assert(offsetof(struct hart, stack_top) == HART_STACK_TOP, "boot/start.S reads it there");
_Static_assert(offsetof(struct hart, satp) == HART_SATP, "boot/start.S reads it there");
_Static_assert(sizeof(struct hart_stacks) % 4096 == 0, "guard pages must be pages");

extern void secondary_start(void);
void hart_secondary_main(struct hart* hart);

static char* trap_stack_top(unsigned index) {
    return hart_stacks[index].trap_stack + TRAP_STACK_SIZE;
}

void hart_start_traps(void) {
    trap_start(trap_stack_top(this_hart()->index));
}

void hart_start_boot(uint64_t boot_id) {
    /* boot/start.S made this hart harts[0] before anyone knew the ids: the platform's list is put in that
     * order. */
    for (unsigned i = 1; i < platform.hart_count; i++) {
        if (platform.harts[i].id != boot_id) continue;
        struct platform_hart first = platform.harts[0];
        platform.harts[0] = platform.harts[i];
        platform.harts[i] = first;
        break;
    }
    if (platform.harts[0].id != boot_id) panic("hart %lu booted but is not in the device tree\n", boot_id);
    for (unsigned i = 0; i < platform.hart_count; i++) {
        harts[i].index = i;
        harts[i].id = platform.harts[i].id;
    }
}

void hart_secondary_main(struct hart* hart) {
    hart_start_traps();
    hart->function(hart->index);
    sbi_hart_stop();
}

unsigned hart_run_on_all(hart_function* function) {
    bool started[MAX_HARTS] = {[0] = true};
    unsigned count = 1;
    for (unsigned i = 1; i < platform.hart_count; i++) {
        struct hart* hart = &harts[i];
        hart->stack_top = (uintptr_t)hart_stacks[i].trap_guard; /* a stack ends where the next guard begins */
        hart->satp = page_table_satp();
        hart->function = function;
        fence_full();
        long error = sbi_hart_start(hart->id, (uintptr_t)secondary_start, (uintptr_t)hart);
        if (error != SBI_SUCCESS) {
            print_failure("hart %lu does not start: SBI error %ld\n", hart->id, error);
            continue;
        }
        started[i] = true;
        count++;
    }
    function(0);
    for (unsigned i = 1; i < platform.hart_count; i++) {
        uint64_t deadline = read_time() + 60 * platform.timebase_frequency;
        while (started[i] && sbi_hart_status(harts[i].id) != SBI_HART_STOPPED)
            if (read_time() > deadline) panic("hart %lu did not come back\n", harts[i].id);
    }
    fence_full();
    return count;
}

/* The inner kernel's main line, its own traps, and its timer. */
#include "inner/inner.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"

bool has_stimecmp;
volatile uint64_t timer_ticks;

static volatile bool trap_expected;
static volatile uint64_t trap_cause;

static uint64_t timer_wanted, timer_interval;
static bool timer_through_sbi;

static void set_timer(uint64_t time) {
    if (timer_through_sbi)
        sbi_set_timer(time);
    else
        csr_write(CSR_STIMECMP, time);
}

/* From trap_entry, for traps that the kernel itself takes; returns where to go on. */
uint64_t kernel_trap(uint64_t pc, uint64_t called_from) {
    uint64_t cause = csr_read("scause");
    if (cause == (SCAUSE_INTERRUPT | INTERRUPT_TIMER)) {
        timer_ticks++;
        set_timer(timer_ticks < timer_wanted ? read_time() + timer_interval : ~0ul);
        return pc;
    }
    if (!trap_expected) panic("inner: unexpected trap %lx at %lx, stval %lx\n", cause, pc, csr_read("stval"));
    trap_expected = false;
    trap_cause = cause;
    return called_from;
}

uint64_t probe(uint64_t (*function)(uint64_t), uint64_t argument) {
    trap_cause = 0;
    trap_expected = true;
    function(argument);
    trap_expected = false;
    return trap_cause;
}

uint64_t timer_count(uint64_t count, uint64_t interval, bool through_sbi) {
    timer_ticks = 0;
    timer_wanted = count;
    timer_interval = interval;
    timer_through_sbi = through_sbi;
    interrupts_disable();
    set_timer(read_time() + interval);
    csr_set("sie", 1ul << INTERRUPT_TIMER);
    /* Between the look and the WFI no interrupt is taken, and WFI does not wait for one that is pending. */
    while (timer_ticks < count) {
        wait_for_interrupt();
        interrupts_enable();
        interrupts_disable();
    }
    csr_clear("sie", 1ul << INTERRUPT_TIMER);
    return timer_ticks;
}

void inner_main(void) __attribute__((noreturn));

void inner_main(void) {
    sbi_console_start();
    print("inner: SBI %lx\n", (uint64_t)sbi_specification_version());
    memory_start();
    print("inner: Sv39 is on\n");
    has_stimecmp = probe(probe_stimecmp, 0) == 0;
    print("inner: the timer is set through %s\n", has_stimecmp ? "stimecmp, or the SBI" : "the SBI");

    uint64_t right = checks_run();
    bool failed = right != (1ul << check_count) - 1;
    print("WIRT-VIRT {\"name\":\"checks\",\"operations\":%u,\"result\":\"0x%lx\",\"ok\":%s}\n", check_count,
          right, failed ? "false" : "true");
    works_run();
    print("inner: switching off\n");
    sbi_shutdown(failed);
}

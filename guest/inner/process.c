/* Processes of the inner kernel: an address space, a frame of registers, and the answers to what the program
 * asks for. */
#include "inner/inner.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/sbi.h"
#include "kernel/string.h"

#define SSTATUS_SUM (1ul << 18)
enum { EXCEPTION_ECALL_U = 8 };

void user_enter(struct user_frame* frame);

void process_create(struct process* process, user_program* program, uint64_t amount, uint64_t seed) {
    memset(process, 0, sizeof *process);
    process->space = address_space_create();
    page_map(&process->space, USER_STACK_TOP - PAGE_SIZE, page_allocate(),
             PAGE_READ | PAGE_WRITE | PAGE_USER);
    process->frame.x[0] = (uintptr_t)program;
    process->frame.x[2] = USER_STACK_TOP;
    process->frame.x[10] = amount;
    process->frame.x[11] = seed;
    /* SPP = 0: back to U-mode. */
    process->frame.sstatus = SSTATUS_SPIE;
    process->demand_end = USER_DATA;
}

/* A and D where hardware leaves them to software (Privileged Specification, "Svade"). */
static bool set_accessed_and_dirty(struct process* process, uint64_t cause, uint64_t address) {
    uint64_t* entry = page_entry(&process->space, address);
    uint64_t wanted = PAGE_ACCESSED | (cause == EXCEPTION_STORE_PAGE_FAULT ? PAGE_DIRTY : 0);
    uint64_t permits = cause == EXCEPTION_STORE_PAGE_FAULT ? PAGE_WRITE : PAGE_READ;
    if ((~*entry & (PAGE_VALID | PAGE_USER | permits)) != 0 || (*entry & wanted) == wanted) return false;
    *entry |= wanted;
    flush_page(address);
    return true;
}

static bool page_fault(struct process* process, uint64_t cause) {
    uint64_t address = csr_read("stval");
    if (address >= USER_DATA && address < process->demand_end) {
        uint64_t* entry = page_entry(&process->space, address);
        if ((*entry & PAGE_VALID) == 0) {
            page_map(&process->space, address, page_allocate(), PAGE_READ | PAGE_WRITE | PAGE_USER);
            flush_page(address); /* that there was none may have been cached */
            return true;
        }
    }
    return address < process->demand_end && set_accessed_and_dirty(process, cause, address);
}

/* The program's bytes are reached at its own addresses, for the moment that sstatus.SUM allows it. */
static uint64_t write_line(uint64_t address, uint64_t length) {
    char line[64];
    uint64_t sum = 0;
    if (length > sizeof line || address < USER_STACK_TOP - PAGE_SIZE || address > USER_STACK_TOP - length)
        return ~0ul;
    csr_set("sstatus", SSTATUS_SUM);
    memcpy(line, (const void*)address, length);
    csr_clear("sstatus", SSTATUS_SUM);
    for (uint64_t i = 0; i < length; i++) sum = sum * 31 + (uint8_t)line[i];
    sbi_console_write(line, length);
    return sum;
}

enum process_event process_run(struct process* process, uint64_t* fault) {
    struct user_frame* frame = &process->frame;
    address_space_activate(&process->space);
    for (;;) {
        user_enter(frame);
        uint64_t cause = csr_read("scause");
        if (cause == EXCEPTION_ECALL_U) {
            frame->x[0] += 4;
            switch (frame->x[17]) {
                case CALL_EXIT:
                    process->result = frame->x[10];
                    return PROCESS_EXITED;
                case CALL_STEP:
                    frame->x[10] = frame->x[10] * 6364136223846793005ul + 1442695040888963407ul;
                    continue;
                case CALL_YIELD:
                    return PROCESS_YIELDED;
                case CALL_WRITE:
                    frame->x[10] = write_line(frame->x[10], frame->x[11]);
                    continue;
                default:
                    frame->x[10] = ~0ul;
                    continue;
            }
        }
        if ((cause == EXCEPTION_LOAD_PAGE_FAULT || cause == EXCEPTION_STORE_PAGE_FAULT) &&
            page_fault(process, cause))
            continue;
        *fault = cause;
        return PROCESS_FAULTED;
    }
}

void process_destroy(struct process* process) {
    address_space_destroy(&process->space, true);
}

uint64_t process_result(user_program* program, uint64_t amount, uint64_t seed) {
    struct process process;
    uint64_t fault;
    process_create(&process, program, amount, seed);
    if (process_run(&process, &fault) != PROCESS_EXITED) panic("inner: a program did not end\n");
    process_destroy(&process);
    return process.result;
}

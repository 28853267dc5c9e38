/*
 * The SBI (v2.0) as the guest sees it. A hypervisor is to its guest's kernel what the firmware is to the
 * hypervisor: each call ends here, and only what concerns the machine as a whole goes on below.
 *
 * Untrusted: all of it. An address is one of guest physical memory, and is checked to lie in it.
 */
#include "hypervisors/hypervisor.h"
#include "kernel/sbi.h"

enum {
    EXTENSION_BASE = 0x10,
    EXTENSION_TIME = 0x54494D45,
    EXTENSION_SRST = 0x53525354,
    EXTENSION_DBCN = 0x4442434E,
    EXTENSION_WIRT = 0x0A574952,
};
enum { ERR_INVALID_PARAM = -3, ERR_INVALID_ADDRESS = -5 };

static struct sbi_result base(uint64_t function, uint64_t argument) {
    switch (function) {
        case 0: /* the version of the specification */
            return (struct sbi_result){SBI_SUCCESS, 2l << 24};
        case 3: { /* is there an extension of this number? */
            bool served = argument == EXTENSION_BASE || argument == EXTENSION_TIME ||
                          argument == EXTENSION_SRST || argument == EXTENSION_DBCN;
            return (struct sbi_result){SBI_SUCCESS, served};
        }
        default:
            return (struct sbi_result){function < 7 ? SBI_SUCCESS : SBI_ERR_NOT_SUPPORTED, 0};
    }
}

static struct sbi_result console(uint64_t function, uint64_t length, uint64_t address) {
    if (function != 0) return (struct sbi_result){SBI_ERR_NOT_SUPPORTED, 0};
    const char* bytes = guest_memory(address, length);
    if (bytes == NULL) return (struct sbi_result){ERR_INVALID_PARAM, 0};
    sbi_console_write(bytes, length);
    return (struct sbi_result){SBI_SUCCESS, (long)length};
}

/*
 * The mark of a measured section. Its name lies in the guest's memory, and whoever reads it below looks no
 * further than this for the end of it.
 */
enum { MARK_NAME_LENGTH = 128 };
static struct sbi_result mark(uint64_t function, uint64_t name, uint64_t operations, uint64_t bytes) {
    const void* text = guest_memory(name, MARK_NAME_LENGTH);
    if (text == NULL) return (struct sbi_result){ERR_INVALID_ADDRESS, 0};
    return sbi_call(EXTENSION_WIRT, (long)function, physical_of(text), operations, bytes);
}

void virtual_sbi(struct vcpu* vcpu) {
    uint64_t *a = vcpu->x + 10, function = vcpu->x[16];
    struct sbi_result result = {SBI_ERR_NOT_SUPPORTED, 0};
    switch (vcpu->x[17]) {
        case EXTENSION_BASE:
            result = base(function, a[0]);
            break;
        case EXTENSION_TIME:
            if (function != 0) break;
            virtual_set_timer(a[0]);
            result.error = SBI_SUCCESS;
            break;
        case EXTENSION_DBCN:
            result = console(function, a[0], a[1]);
            break;
        case EXTENSION_SRST:
            /* The guest was all there was to do. */
            if (function == 0 && a[0] == 0) sbi_shutdown(a[1] != 0);
            break;
        case EXTENSION_WIRT:
            result = mark(function, a[0], a[1], a[2]);
            break;
    }
    a[0] = (uint64_t)result.error;
    a[1] = (uint64_t)result.value;
    vcpu->x[0] += 4;
}

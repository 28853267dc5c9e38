// The smallest monitor that boots Linux under KVM on riscv64: virtual CPUs, memory, the SBI's debug console, and an
// IMSIC for each CPU where the host's harts have guest interrupt files. No other device: what the guest says comes
// through SBI DBCN, which KVM hands to user space.
//
//     kvm_monitor IMAGE DTB INITRD CPUS imsic|none
//
// Interface: Linux' include/uapi/linux/kvm.h and arch/riscv/include/uapi/asm/kvm.h; SBI 2.0.
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ram_size = 192 << 20, image_offset = 2 << 20, dtb_offset = 128 << 20, initrd_offset = 130 << 20 };
enum { most_cpus = 8 };
static const uint64_t ram_base = 0x80000000, imsic_base = 0x28000000;
static const uint64_t id_dbcn = 0x4442434e;

static void die(const char* what) {
    perror(what);
    exit(1);
}

static int command(int fd, unsigned long request, const void* argument, const char* name) {
    const int result = ioctl(fd, request, argument);
    if (result < 0) die(name);
    return result;
}

static void load(uint8_t* ram, uint64_t offset, const char* path) {
    const int fd = open(path, O_RDONLY);
    if (fd < 0) die(path);
    for (ssize_t count; (count = read(fd, ram + offset, ram_size - offset)) > 0;) offset += (uint64_t)count;
    close(fd);
}

static void set_register(int vcpu, uint64_t id, uint64_t value, const char* name) {
    const struct kvm_one_reg reg = {KVM_REG_RISCV | KVM_REG_SIZE_U64 | id, (uint64_t)(uintptr_t)&value};
    if (ioctl(vcpu, KVM_SET_ONE_REG, &reg) < 0) die(name);
}

struct cpu {
    pthread_t thread;
    int fd;
    struct kvm_run* run;
    const uint8_t* ram;
};

// Console calls; everything else is KVM's own business, or not there.
static void serve_sbi(struct kvm_run* run, const uint8_t* ram) {
    uint64_t* const a = (uint64_t*)run->riscv_sbi.args;
    run->riscv_sbi.ret[0] = (unsigned long)-2;  // SBI_ERR_NOT_SUPPORTED
    run->riscv_sbi.ret[1] = 0;
    if (run->riscv_sbi.extension_id != id_dbcn) return;
    if (run->riscv_sbi.function_id == 0) {
        const uint64_t offset = a[1] - ram_base;
        if (offset >= ram_size || a[0] > ram_size - offset) return;
        fwrite(ram + offset, 1, a[0], stdout);
        run->riscv_sbi.ret[1] = a[0];
    } else if (run->riscv_sbi.function_id == 2) {
        putchar((int)(a[0] & 0xff));
    }
    fflush(stdout);
    run->riscv_sbi.ret[0] = 0;
}

static void* run_cpu(void* argument) {
    struct cpu* const cpu = argument;
    struct kvm_run* const run = cpu->run;
    for (;;) {
        if (ioctl(cpu->fd, KVM_RUN, 0) < 0) die("KVM_RUN");
        switch (run->exit_reason) {
            case KVM_EXIT_RISCV_SBI:
                serve_sbi(run, cpu->ram);
                break;
            case KVM_EXIT_MMIO:
                // Nothing is there.
                if (!run->mmio.is_write) memset(run->mmio.data, 0xff, sizeof run->mmio.data);
                break;
            case KVM_EXIT_INTR:
                break;
            case KVM_EXIT_SYSTEM_EVENT:
                printf("the guest ended: system event %u\n", run->system_event.type);
                exit(0);
            default:
                printf("exit reason %u\n", run->exit_reason);
                exit(1);
        }
    }
}

static void set_aia(int device, uint32_t group, uint64_t attribute, const void* value, const char* name) {
    const struct kvm_device_attr attr = {0, group, attribute, (uint64_t)(uintptr_t)value};
    command(device, KVM_SET_DEVICE_ATTR, &attr, name);
}

// Each virtual CPU gets a guest interrupt file: KVM may not emulate.
static void create_imsics(int vm, unsigned cpus) {
    struct kvm_create_device create = {KVM_DEV_TYPE_RISCV_AIA, 0, 0};
    command(vm, KVM_CREATE_DEVICE, &create, "KVM_DEV_TYPE_RISCV_AIA");
    const int device = (int)create.fd;
    const uint32_t mode = KVM_DEV_RISCV_AIA_MODE_HWACCEL, hart_bits = cpus > 4 ? 3 : cpus > 2 ? 2 : cpus > 1 ? 1 : 0;
    set_aia(device, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, &mode, "mode of the AIA");
    set_aia(device, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, &hart_bits, "hart bits");
    for (unsigned i = 0; i < cpus; ++i) {
        const uint64_t address = imsic_base + 0x1000 * i;
        set_aia(device, KVM_DEV_RISCV_AIA_GRP_ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(i), &address, "address of an IMSIC");
    }
    set_aia(device, KVM_DEV_RISCV_AIA_GRP_CTRL, KVM_DEV_RISCV_AIA_CTRL_INIT, 0, "start of the AIA");
}

int main(int argc, char** argv) {
    const unsigned cpus = argc == 6 ? (unsigned)atoi(argv[4]) : 0;
    if (cpus < 1 || cpus > most_cpus) {
        fprintf(stderr, "usage: kvm_monitor IMAGE DTB INITRD CPUS imsic|none\n");
        return 2;
    }
    const int kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0) die("/dev/kvm");
    printf("KVM API version %d\n", command(kvm, KVM_GET_API_VERSION, 0, "KVM_GET_API_VERSION"));
    const int vm = command(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
    uint8_t* const ram = mmap(0, ram_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED) die("mmap of guest memory");
    load(ram, image_offset, argv[1]);
    load(ram, dtb_offset, argv[2]);
    load(ram, initrd_offset, argv[3]);
    const struct kvm_userspace_memory_region region = {0, 0, ram_base, ram_size, (uint64_t)(uintptr_t)ram};
    command(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");

    static struct cpu all[most_cpus];
    const size_t run_size = (size_t)command(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    for (unsigned i = 0; i < cpus; ++i) {
        all[i].ram = ram;
        all[i].fd = command(vm, KVM_CREATE_VCPU, (const void*)(uintptr_t)i, "KVM_CREATE_VCPU");
        all[i].run = mmap(0, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, all[i].fd, 0);
        if (all[i].run == MAP_FAILED) die("mmap of a virtual CPU");
        set_register(all[i].fd, KVM_REG_RISCV_SBI_EXT | KVM_REG_RISCV_SBI_SINGLE | KVM_RISCV_SBI_EXT_DBCN, 1, "SBI DBCN");
    }
    if (strcmp(argv[5], "imsic") == 0) create_imsics(vm, cpus);
    // The others are started by the guest, through SBI HSM.
    set_register(all[0].fd, KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG(regs.pc), ram_base + image_offset, "pc");
    set_register(all[0].fd, KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG(regs.a0), 0, "a0");
    set_register(all[0].fd, KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG(regs.a1), ram_base + dtb_offset, "a1");
    printf("running\n");
    fflush(stdout);
    for (unsigned i = 1; i < cpus; ++i) {
        if (pthread_create(&all[i].thread, 0, run_cpu, &all[i]) != 0) die("pthread_create");
    }
    run_cpu(&all[0]);
}

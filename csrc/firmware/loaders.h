// Puts kernels, initrds and device trees into guest memory.
//
// Implements: ELF-64 (System V gABI; RISC-V ELF psABI), the RISC-V Linux boot image header
// (Documentation/arch/riscv/boot-image-header.rst), raw binaries. Compressed forms are unpacked by the
// caller.
//
// Untrusted input: all image bytes. Nothing is written to memory before the whole image has been checked.
#pragma once

#include <span>
#include <string>

#include "base/types.h"
#include "memory/guest_ram.h"

namespace wirt::firmware {

enum class ImageKind : u8 { elf, linux_image, raw };

struct LoadedImage {
    ImageKind kind;
    u64 entry;  // physical
    u64 start;  // [start, end): what the image occupies, BSS included
    u64 end;
};

enum class RawBinary : u8 { refuse, allow };

// Loads `image`; `name` is what errors call it. An executable ELF goes to its segments' physical addresses, a
// position-independent one and a raw binary to `load_base`, a Linux Image to the lowest address from
// `load_base` on that is its text_offset above a 2 MiB boundary. A raw binary has no mark to know it by and
// is loaded only where `raw` allows it. Throws ImageError with the reason.
LoadedImage load_kernel(memory::GuestRam& ram, std::span<const u8> image, const std::string& name,
                        u64 load_base, RawBinary raw = RawBinary::refuse);

// ImageError when the two (say, a firmware and the kernel it starts) overlap.
void check_apart(const LoadedImage& a, const std::string& a_name, const LoadedImage& b,
                 const std::string& b_name);

// Page-aligned addresses at which nothing overlaps: the device tree at the top of memory, the initrd right
// below it, both above the kernel's end. ImageError when memory is too small.
u64 place_dtb(const memory::GuestRam& ram, const LoadedImage& kernel, u64 size);
u64 place_initrd(const memory::GuestRam& ram, const LoadedImage& kernel, u64 dtb_address, u64 size);

// Copies `bytes` to `address`, which a place_* function gave.
void write_image(memory::GuestRam& ram, u64 address, std::span<const u8> bytes);

}  // namespace wirt::firmware

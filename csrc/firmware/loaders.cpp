#include "firmware/loaders.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bits.h"
#include "base/error.h"

namespace wirt::firmware {

namespace {

using memory::GuestRam;

std::string hex(u64 value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

std::string ram_range(const GuestRam& ram) {
    return "[" + hex(ram.base()) + ", " + hex(ram.base() + ram.size()) + ")";
}

[[noreturn]] void fail(const std::string& name, const std::string& reason) {
    throw ImageError(name + ": " + reason);
}

bool has_bytes(std::span<const u8> image, std::size_t offset, std::string_view expected) {
    return range_inside(offset, expected.size(), 0, image.size()) &&
           std::memcmp(image.data() + offset, expected.data(), expected.size()) == 0;
}

using namespace std::string_view_literals;

// --- What is not ours to load, each with the reason ---

struct ForeignFormat {
    std::size_t offset;
    std::string_view magic;
    const char* reason;
};

// In the order of the checks: an EFI zboot and an arm64 Image may also begin with "MZ".
constexpr ForeignFormat foreign_formats[] = {
    {0, "\x1f\x8b"sv, "is gzip-compressed; unpack it first (wirt.images.read_image does)"},
    {0, "\x28\xb5\x2f\xfd"sv, "is zstd-compressed; unpack it first (wirt.images.read_image does)"},
    {0, "\xfd\x37zXZ\0"sv, "is xz-compressed; unpack it first (wirt.images.read_image does)"},
    {0, "BZh"sv, "is bzip2-compressed; unpack it first"},
    {0, "\x02\x21\x4c\x18"sv, "is lz4-compressed; unpack it first"},
    {4, "zimg"sv, "is a compressed EFI zboot image; unpack it first (wirt.images.read_image does)"},
    {56, "ARM\x64"sv, "is a Linux kernel for arm64, this machine is RISC-V"},
    {0x202, "HdrS"sv, "is a Linux bzImage for x86, this machine is RISC-V"},
    {0, "MZ"sv, "is an EFI application (PE/COFF), not a kernel that starts without EFI"},
    {0, "\x27\x05\x19\x56"sv, "is a U-Boot uImage; give the kernel inside it"},
    {0, "\xd0\x0d\xfe\xed"sv, "is a flattened device tree (or a U-Boot FIT image), not a kernel"},
    {0, "!<arch>"sv, "is an archive (a .deb or .a file), not a kernel"},
    {0, "070701"sv, "is a cpio archive: an initrd, not a kernel"},
};

void refuse_foreign(std::span<const u8> image, const std::string& name) {
    for (const ForeignFormat& format : foreign_formats) {
        if (has_bytes(image, format.offset, format.magic)) fail(name, format.reason);
    }
}

// --- ELF-64 (gABI chapters 4 "Object Files" and 5 "Program Loading") ---

constexpr u16 ET_REL = 1, ET_EXEC = 2, ET_DYN = 3, ET_CORE = 4;
constexpr u16 EM_RISCV = 243;
constexpr u32 PT_LOAD = 1, PT_INTERP = 3;

struct ElfHeader {
    std::array<u8, 16> e_ident;
    u16 e_type, e_machine;
    u32 e_version;
    u64 e_entry, e_phoff, e_shoff;
    u32 e_flags;
    u16 e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
};
static_assert(sizeof(ElfHeader) == 64);

struct ProgramHeader {
    u32 p_type, p_flags;
    u64 p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
};
static_assert(sizeof(ProgramHeader) == 56);

const char* machine_name(u16 e_machine) {
    switch (e_machine) {
        case 3:
            return "x86 (32-bit)";
        case 8:
            return "MIPS";
        case 20:
            return "PowerPC";
        case 21:
            return "PowerPC 64";
        case 22:
            return "s390";
        case 40:
            return "ARM (32-bit)";
        case 62:
            return "x86-64";
        case 183:
            return "arm64";
        case 258:
            return "LoongArch";
        default:
            return "another machine";
    }
}

ElfHeader read_elf_header(std::span<const u8> image, const std::string& name) {
    constexpr std::size_t EI_CLASS = 4, EI_DATA = 5;
    if (image.size() < sizeof(ElfHeader)) fail(name, "is an ELF file truncated inside its header");
    const auto header = load_le<ElfHeader>(image.data());
    if (header.e_ident[EI_DATA] != 1)
        fail(name, "is a big-endian ELF file, RISC-V kernels are little-endian");
    if (header.e_machine != EM_RISCV) {
        fail(name, std::string("is an ELF file for ") + machine_name(header.e_machine) + " (e_machine " +
                       std::to_string(header.e_machine) + "), this machine is RISC-V");
    }
    if (header.e_ident[EI_CLASS] != 2) fail(name, "is a 32-bit ELF file, this machine is RV64");
    if (header.e_type == ET_REL) fail(name, "is a relocatable ELF object; link it first");
    if (header.e_type == ET_CORE) fail(name, "is an ELF core dump, not a kernel");
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
        fail(name, "is an ELF file of unknown type " + std::to_string(header.e_type));
    }
    if (header.e_phnum == 0) fail(name, "is an ELF file without program headers");
    if (header.e_phentsize != sizeof(ProgramHeader)) {
        fail(name, "is an ELF file whose program headers have " + std::to_string(header.e_phentsize) +
                       " bytes instead of 56");
    }
    if (!range_inside(header.e_phoff, u64{header.e_phnum} * sizeof(ProgramHeader), 0, image.size())) {
        fail(name, "is an ELF file truncated inside its program headers");
    }
    return header;
}

// The PT_LOAD segments with a size, sorted by physical address and free of overlaps and wraps.
std::vector<ProgramHeader> read_segments(std::span<const u8> image, const ElfHeader& header,
                                         const std::string& name) {
    std::vector<ProgramHeader> segments;
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        const auto segment =
            load_le<ProgramHeader>(image.data() + header.e_phoff + i * sizeof(ProgramHeader));
        if (segment.p_type == PT_INTERP) {
            fail(name, "is a dynamically linked program that needs an operating system, not a kernel");
        }
        if (segment.p_type != PT_LOAD || segment.p_memsz == 0) continue;
        const std::string label = "ELF segment " + std::to_string(i);
        if (segment.p_filesz > segment.p_memsz)
            fail(name, label + " has more bytes in the file than in memory");
        if (!range_inside(segment.p_offset, segment.p_filesz, 0, image.size())) {
            fail(name, label + " lies outside the file, which is truncated at " +
                           std::to_string(image.size()) + " bytes");
        }
        if (segment.p_paddr + segment.p_memsz < segment.p_paddr)
            fail(name, label + " wraps around the address space");
        segments.push_back(segment);
    }
    if (segments.empty()) fail(name, "is an ELF file without a segment to load");
    std::sort(segments.begin(), segments.end(),
              [](const ProgramHeader& a, const ProgramHeader& b) { return a.p_paddr < b.p_paddr; });
    for (std::size_t i = 1; i < segments.size(); ++i) {
        if (segments[i - 1].p_paddr + segments[i - 1].p_memsz > segments[i].p_paddr) {
            fail(name, "ELF segments overlap at " + hex(segments[i].p_paddr));
        }
    }
    return segments;
}

LoadedImage load_elf(GuestRam& ram, std::span<const u8> image, const std::string& name, u64 load_base) {
    const ElfHeader header = read_elf_header(image, name);
    const std::vector<ProgramHeader> segments = read_segments(image, header, name);

    // A position-independent image is moved as a whole; arithmetic is modulo 2^64 and checked against RAM
    // below.
    const u64 bias =
        header.e_type == ET_DYN ? load_base - align_down(segments.front().p_paddr, page_size) : 0;
    std::optional<u64> entry;
    for (const ProgramHeader& segment : segments) {
        const u64 address = segment.p_paddr + bias;
        if (!ram.contains(address, segment.p_memsz)) {
            fail(name, "ELF segment at " + hex(address) + " with " + hex(segment.p_memsz) +
                           " bytes lies outside guest memory " + ram_range(ram) +
                           "; link the kernel for that range or give the machine more memory");
        }
        // e_entry is a virtual address; kernels start with translation off.
        if (range_inside(header.e_entry, 2, segment.p_vaddr, segment.p_memsz)) {
            entry = header.e_entry - segment.p_vaddr + address;
        }
    }
    if (!entry) fail(name, "the ELF entry point " + hex(header.e_entry) + " lies in no segment");
    if (*entry % 2 != 0) fail(name, "the ELF entry point " + hex(header.e_entry) + " is misaligned");

    LoadedImage loaded{ImageKind::elf, *entry, ~u64{0}, 0};
    for (const ProgramHeader& segment : segments) {
        const u64 address = segment.p_paddr + bias;
        const u64 zeroes = segment.p_memsz - segment.p_filesz;
        write_image(ram, address, image.subspan(segment.p_offset, segment.p_filesz));
        std::memset(ram.host(address, segment.p_memsz) + segment.p_filesz, 0, zeroes);
        ram.note_write(address, segment.p_memsz);
        loaded.start = std::min(loaded.start, address);
        loaded.end = std::max(loaded.end, address + segment.p_memsz);
    }
    return loaded;
}

// --- Linux Image ---

struct ImageHeader {
    u32 code0, code1;
    u64 text_offset;
    u64 image_size;
    u64 flags;
    u32 version;
    u32 res1;
    u64 res2;
    u64 magic;   // "RISCV", deprecated
    u32 magic2;  // "RSC\x05"
    u32 res3;    // offset of the PE header when the image is an EFI application too
};
static_assert(sizeof(ImageHeader) == 64);

constexpr std::size_t image_magic2_offset = 56;
constexpr std::string_view image_magic2 = "RSC\x05";
constexpr u64 image_flag_big_endian = 1;
constexpr u64 kernel_alignment = 2 * MiB;

// The header's image_size covers the BSS, so it does not tell a truncated file. The section table of the EFI
// stub, where there is one, does (PE format, "COFF File Header" and "Section Table").
void check_not_truncated(std::span<const u8> image, const ImageHeader& header, const std::string& name) {
    if (!has_bytes(image, 0, "MZ") || !has_bytes(image, header.res3, "PE\0\0"sv)) return;
    constexpr std::size_t coff_size = 24, section_size = 40;
    const std::size_t coff = header.res3;
    if (!range_inside(coff, coff_size, 0, image.size())) fail(name, "Linux Image is truncated");
    const std::size_t sections = load_le<u16>(image.data() + coff + 6);
    const std::size_t table = coff + coff_size + load_le<u16>(image.data() + coff + 20);
    if (!range_inside(table, sections * section_size, 0, image.size()))
        fail(name, "Linux Image is truncated");
    for (std::size_t i = 0; i < sections; ++i) {
        const u8* section = image.data() + table + i * section_size;
        const u64 end = u64{load_le<u32>(section + 16)} + load_le<u32>(section + 20);
        if (end > image.size()) {
            fail(name, "Linux Image is truncated: it has " + std::to_string(image.size()) + " bytes of " +
                           std::to_string(end));
        }
    }
}

LoadedImage load_linux_image(GuestRam& ram, std::span<const u8> image, const std::string& name,
                             u64 load_base) {
    if (image.size() < sizeof(ImageHeader)) fail(name, "Linux Image is truncated inside its header");
    const auto header = load_le<ImageHeader>(image.data());
    if ((header.flags & image_flag_big_endian) != 0) fail(name, "is a big-endian Linux Image");
    check_not_truncated(image, header, name);

    // image_size is 0 in kernels before 5.3, whose BSS is then not known.
    const u64 size = std::max<u64>(header.image_size, image.size());
    // The image stands text_offset above some 2 MiB boundary: the lowest that keeps it at or above load_base.
    const u64 floor = align_up(ram.base(), kernel_alignment);
    const u64 base = header.text_offset < load_base
                         ? std::max(floor, align_up(load_base - header.text_offset, kernel_alignment))
                         : floor;
    const u64 room = ram.contains(base, 0) ? ram.base() + ram.size() - base : 0;
    if (header.text_offset > room || size > room - header.text_offset) {
        fail(name, "Linux Image needs " + hex(size) + " bytes from " + hex(base) + " + " +
                       hex(header.text_offset) + " on, which guest memory " + ram_range(ram) +
                       " has not; give the machine more memory");
    }
    const u64 start = base + header.text_offset;
    write_image(ram, start, image);
    return {ImageKind::linux_image, start, start, start + size};
}

LoadedImage load_raw(GuestRam& ram, std::span<const u8> image, const std::string& name, u64 load_base) {
    if (!ram.contains(load_base, image.size())) {
        fail(name, "with " + hex(image.size()) + " bytes at " + hex(load_base) +
                       " does not fit into guest memory " + ram_range(ram));
    }
    write_image(ram, load_base, image);
    return {ImageKind::raw, load_base, load_base, load_base + image.size()};
}

// Highest page-aligned start at which `size` bytes end at or below `ceiling` and above the kernel.
u64 place_below(const LoadedImage& kernel, u64 ceiling, u64 size, const char* what) {
    const u64 floor = align_up(kernel.end, page_size);
    if (ceiling < floor || size > ceiling - floor || align_down(ceiling - size, page_size) < floor) {
        throw ImageError(std::string(what) + " of " + std::to_string(size) +
                         " bytes does not fit between the kernel's end at " + hex(kernel.end) + " and " +
                         hex(ceiling) + "; give the machine more memory");
    }
    return align_down(ceiling - size, page_size);
}

}  // namespace

LoadedImage load_kernel(GuestRam& ram, std::span<const u8> image, const std::string& name, u64 load_base,
                        RawBinary raw) {
    if (image.empty()) fail(name, "is empty");
    if (has_bytes(image, 0,
                  "\x7f"
                  "ELF"))
        return load_elf(ram, image, name, load_base);
    // Before the foreign formats: with its EFI stub, our Image begins with "MZ" too.
    if (has_bytes(image, image_magic2_offset, image_magic2))
        return load_linux_image(ram, image, name, load_base);
    refuse_foreign(image, name);
    if (raw == RawBinary::allow) return load_raw(ram, image, name, load_base);
    fail(name, "is neither a RISC-V ELF file nor a RISC-V Linux Image (or it is truncated)");
}

void check_apart(const LoadedImage& a, const std::string& a_name, const LoadedImage& b,
                 const std::string& b_name) {
    if (a.start >= b.end || b.start >= a.end) return;
    fail(a_name, "occupies [" + hex(a.start) + ", " + hex(a.end) + ") and overlaps " + b_name + " at [" +
                     hex(b.start) + ", " + hex(b.end) + ")");
}

u64 place_dtb(const GuestRam& ram, const LoadedImage& kernel, u64 size) {
    return place_below(kernel, ram.base() + ram.size(), size, "the device tree");
}

u64 place_initrd(const GuestRam& ram, const LoadedImage& kernel, u64 dtb_address, u64 size) {
    return place_below(kernel, std::min(dtb_address, ram.base() + ram.size()), size, "the initrd");
}

void write_image(GuestRam& ram, u64 address, std::span<const u8> bytes) {
    if (bytes.empty()) return;
    u8* to = ram.host(address, bytes.size());
    if (to == nullptr) {
        throw ImageError(hex(bytes.size()) + " bytes at " + hex(address) + " lie outside guest memory " +
                         ram_range(ram));
    }
    std::memcpy(to, bytes.data(), bytes.size());
    ram.note_write(address, bytes.size());
}

}  // namespace wirt::firmware

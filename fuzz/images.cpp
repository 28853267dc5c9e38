// Fuzzes what reads images: ELF files, Linux Images and raw firmware, and the reader of device trees. An
// image is loaded where it says or refused with ImageError; nothing else may happen. The first byte says
// which.
#include <string>

#include "base/error.h"
#include "base/types.h"
#include "firmware/fdt.h"
#include "firmware/loaders.h"
#include "require.h"

namespace {

using namespace wirt;
using namespace wirt::firmware;

constexpr u64 ram_base = 0x8000'0000, ram_size = 8 * MiB;

void load(std::span<const u8> image, RawBinary raw) {
    memory::GuestRam ram(ram_base, ram_size);
    const LoadedImage loaded = load_kernel(ram, image, "image", ram_base, raw);
    FUZZ_REQUIRE(loaded.start >= ram_base && loaded.start <= loaded.end && loaded.end <= ram_base + ram_size);
    const u64 tree = place_dtb(ram, loaded, 4096);
    FUZZ_REQUIRE(ram.contains(tree, 4096) && tree >= loaded.end);
    const u64 initrd = place_initrd(ram, loaded, tree, 4096);
    FUZZ_REQUIRE(initrd >= loaded.end && initrd + 4096 <= tree);
}

void read_tree(std::span<const u8> tree) {
    const std::size_t size = check_dtb(tree, "tree");
    FUZZ_REQUIRE(size <= tree.size());
    // What passed the check can be changed, and what comes of it passes again.
    const std::vector<u8> chosen = with_chosen(tree.first(size), "console=hvc0", 0x8100'0000, 0x8200'0000);
    FUZZ_REQUIRE(check_dtb(chosen, "chosen") == chosen.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0) return 0;
    const std::span<const u8> image(data + 1, size - 1);
    try {
        switch (data[0] % 3) {
            case 0:
                load(image, RawBinary::refuse);
                break;
            case 1:
                load(image, RawBinary::allow);
                break;
            default:
                read_tree(image);
                break;
        }
    } catch (const ImageError&) {
    }
    return 0;
}

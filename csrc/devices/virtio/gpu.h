// virtio GPU device (virtio 1.2, section 5.7) in 2D mode, with one scanout, EDID and a cursor.
//
// A resource is an image in host memory; the driver fills it from its own memory (transfer) and shows what
// changed of it (flush). Both happen on the device's executor, under a lock of their own, so that neither a
// hart nor a viewer waits for more than one command.
//
// Untrusted input: every command. Host memory and backing entries are bounded over all resources (the driver
// hears ERR_OUT_OF_MEMORY), rectangles are checked without sums that wrap, and backing is translated anew by
// each transfer. A command that was under way when the driver reset the device changes nothing.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "base/host_pages.h"
#include "devices/display.h"
#include "devices/edid.h"
#include "devices/virtio/virtio_device.h"

namespace wirt::devices::virtio {

class VirtioGpu final : public VirtioDevice, public Display {
  public:
    // Together, over all resources.
    static constexpr u64 most_resource_bytes = 256 * MiB;
    static constexpr std::size_t most_resources = 1024;
    static constexpr std::size_t most_backing_entries = 128 * KiB;

    VirtioGpu(std::string name, const DisplayMode& mode, Executor& executor);
    ~VirtioGpu() override;

    u32 device_id() const override { return 16; }
    u64 features() const override;
    std::span<const FeatureName> feature_names() const override;
    unsigned queue_count() const override { return 2; }
    std::span<const u8> config() override { return config_; }
    void reset() override;
    void visit_state(StateVisitor& v) override;

    void capture(Picture& out) override;

  private:
    struct Rectangle {  // struct virtio_gpu_rect (5.7.6.8)
        u32 x, y, width, height;
        bool inside(u64 outer_width, u64 outer_height) const {
            return u64{x} + width <= outer_width && u64{y} + height <= outer_height;
        }
        bool empty() const { return width == 0 || height == 0; }
    };
    struct BackingEntry {  // struct virtio_gpu_mem_entry
        u64 address;
        u32 length;
        u32 padding;
    };
    struct Resource {
        u32 format = 0;
        u32 width = 0;
        u32 height = 0;
        HostPages pixels;
        std::vector<BackingEntry> backing;

        u64 stride() const { return u64{width} * 4; }
        u64 bytes() const { return stride() * height; }
        u8* at(u32 x, u32 y) const { return pixels.data() + y * stride() + u64{x} * 4; }
    };
    struct Cursor {
        u32 x = 0;
        u32 y = 0;
        std::vector<u32> pixels;  // 0xAARRGGBB, premultiplied; empty: not shown
    };
    class Request;

    void process(unsigned queue) override;
    // Carries out one command and appends what its response has behind the header; returns the response type.
    u32 execute(const Request& request, std::vector<u8>& payload);
    u32 get_display_info(std::vector<u8>& payload) const;
    u32 get_edid(const Request& request, std::vector<u8>& payload) const;
    u32 resource_create_2d(const Request& request);
    u32 resource_unref(const Request& request);
    u32 resource_attach_backing(const Request& request);
    u32 resource_detach_backing(const Request& request);
    u32 set_scanout(const Request& request);
    u32 transfer_to_host_2d(const Request& request);
    u32 resource_flush(const Request& request);
    u32 update_cursor(const Request& request);

    Resource* find(u32 id);
    bool create(u32 id, u32 format, u32 width, u32 height);
    void drop_backing(Resource& resource);
    bool gather_backing(const Resource& resource, const memory::DmaView& dma, u64 offset,
                        const Rectangle& to);
    // Brings a part of the scanout's resource onto the screen.
    void show(const Resource& resource, const Rectangle& part);
    void visit_resources(StateVisitor& v);
    void visit_screen(StateVisitor& v);

    const DisplayMode mode_;
    const Edid edid_;
    std::array<u8, 16> config_{};  // struct virtio_gpu_config (5.7.4)

    // Guards all below; taken with the device mutex held or not. Written with the latter held as well: which
    // life of the device a command belongs to.
    std::mutex display_mutex_;
    u64 incarnation_ = 0;
    std::map<u32, Resource> resources_;
    u64 resource_bytes_ = 0;
    std::size_t backing_entries_ = 0;
    u32 scanout_resource_ = 0;  // 0: off
    Rectangle scanout_{};
    Picture screen_;
    Cursor cursor_;
};

}  // namespace wirt::devices::virtio

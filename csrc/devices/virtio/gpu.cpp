#include "devices/virtio/gpu.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "base/error.h"
#include "devices/virtio/iovecs.h"

namespace wirt::devices::virtio {

namespace {

constexpr u64 VIRTIO_GPU_F_EDID = u64{1} << 1;  // 5.7.3

// struct virtio_gpu_config (5.7.4)
constexpr u64 config_num_scanouts = 8;  // no events: the display stays as it is

// enum virtio_gpu_ctrl_type (5.7.6.7)
enum : u32 {
    CMD_GET_DISPLAY_INFO = 0x0100,
    CMD_RESOURCE_CREATE_2D,
    CMD_RESOURCE_UNREF,
    CMD_SET_SCANOUT,
    CMD_RESOURCE_FLUSH,
    CMD_TRANSFER_TO_HOST_2D,
    CMD_RESOURCE_ATTACH_BACKING,
    CMD_RESOURCE_DETACH_BACKING,
    CMD_GET_CAPSET_INFO,
    CMD_GET_CAPSET,
    CMD_GET_EDID,
    CMD_UPDATE_CURSOR = 0x0300,
    CMD_MOVE_CURSOR,
    RESP_OK_NODATA = 0x1100,
    RESP_OK_DISPLAY_INFO,
    RESP_OK_CAPSET_INFO,
    RESP_OK_CAPSET,
    RESP_OK_EDID,
    RESP_ERR_UNSPEC = 0x1200,
    RESP_ERR_OUT_OF_MEMORY,
    RESP_ERR_INVALID_SCANOUT_ID,
    RESP_ERR_INVALID_RESOURCE_ID,
    RESP_ERR_INVALID_CONTEXT_ID,
    RESP_ERR_INVALID_PARAMETER,
};

// struct virtio_gpu_ctrl_hdr (5.7.6.7)
struct Header {
    u32 type;
    u32 flags;
    u64 fence_id;
    u32 ctx_id;
    u8 ring_idx;
    u8 padding[3];
};
static_assert(sizeof(Header) == 24);
constexpr u32 VIRTIO_GPU_FLAG_FENCE = 1;

constexpr unsigned max_scanouts = 16;     // of a response, 5.7.6.8
constexpr std::size_t edid_bytes = 1024;  // likewise
constexpr u32 cursor_size = 64;           // 5.7.6.10

constexpr u32 most_pixels_a_side = 16384;
constexpr u32 most_entries_a_resource = 16384;
// The longest command: attaching so much backing.
constexpr u64 most_request_bytes = 32 + u64{most_entries_a_resource} * 16;

// enum virtio_gpu_formats (5.7.6.8): by the order of the bytes in memory.
struct Format {
    u32 number;
    u8 red, green, blue;  // which byte
    bool alpha;           // the one that is left
};
constexpr Format formats[] = {
    {1, 2, 1, 0, true},     // B8G8R8A8
    {2, 2, 1, 0, false},    // B8G8R8X8
    {3, 1, 2, 3, true},     // A8R8G8B8
    {4, 1, 2, 3, false},    // X8R8G8B8
    {67, 0, 1, 2, true},    // R8G8B8A8
    {68, 3, 2, 1, false},   // X8B8G8R8
    {121, 3, 2, 1, true},   // A8B8G8R8
    {134, 0, 1, 2, false},  // R8G8B8X8
};

const Format* format_of(u32 number) {
    const auto* found = std::find_if(std::begin(formats), std::end(formats),
                                     [&](const Format& f) { return f.number == number; });
    return found == std::end(formats) ? nullptr : found;
}

bool possible(u32 format, u32 width, u32 height) {
    return format_of(format) != nullptr && width != 0 && width <= most_pixels_a_side && height != 0 &&
           height <= most_pixels_a_side;
}

// To 0xAARRGGBB.
void convert(u32* to, const u8* from, u32 count, const Format& format) {
    const unsigned alpha = 6u - format.red - format.green - format.blue;
    for (u32 i = 0; i < count; ++i, from += 4) {
        to[i] = u32{from[format.red]} << 16 | u32{from[format.green]} << 8 | from[format.blue] |
                (format.alpha ? u32{from[alpha]} : 0xffu) << 24;
    }
}

// One channel of `over` on `under`, with `over` multiplied by its alpha already.
u32 blend(u32 under, u32 over, unsigned shift) {
    const u32 alpha = over >> 24;
    return std::min<u32>(255, (over >> shift & 0xff) + (under >> shift & 0xff) * (255 - alpha) / 255)
           << shift;
}

}  // namespace

// A command, copied out of the guest's memory; what is missing of it reads as zero and makes it incomplete.
class VirtioGpu::Request {
  public:
    Request(const Chain& chain, const memory::DmaView& dma, std::vector<u8>& bytes)
        : dma_(dma), bytes_(bytes) {
        bytes_.resize(std::min(chain.readable_bytes, most_request_bytes));
        gather(chain.readable, 0, bytes_.data(), bytes_.size());
        header_ = get<Header>(0);
    }

    const Header& header() const { return header_; }
    bool has(u64 bytes) const { return bytes <= bytes_.size(); }
    u32 word(u64 offset) const { return get<u32>(offset); }
    u64 quad(u64 offset) const { return get<u64>(offset); }
    Rectangle rectangle() const { return get<Rectangle>(sizeof(Header)); }
    const u8* data() const { return bytes_.data(); }
    const memory::DmaView& dma() const { return dma_; }

  private:
    template <typename T>
    T get(u64 offset) const {
        return has(offset + sizeof(T)) ? load_le<T>(bytes_.data() + offset) : T{};
    }

    const memory::DmaView& dma_;
    std::vector<u8>& bytes_;
    Header header_{};
};

VirtioGpu::VirtioGpu(std::string name, const DisplayMode& mode, Executor& executor)
    : VirtioDevice(std::move(name), executor), mode_(mode), edid_(make_edid(mode)) {
    store_le<u32>(&config_[config_num_scanouts], 1);
}

VirtioGpu::~VirtioGpu() = default;

std::span<const FeatureName> VirtioGpu::feature_names() const {
    static constexpr FeatureName names[] = {{VIRTIO_GPU_F_EDID, "EDID"}};
    return names;
}

u64 VirtioGpu::features() const {
    return VIRTIO_GPU_F_EDID;
}

void VirtioGpu::reset() {
    std::lock_guard lock(display_mutex_);
    ++incarnation_;
    resources_.clear();
    resource_bytes_ = 0;
    backing_entries_ = 0;
    scanout_resource_ = 0;
    cursor_ = {};
}

void VirtioGpu::process(unsigned queue) {
    Chain chain;
    std::vector<u8> bytes;
    std::vector<u8> payload;
    std::unique_lock lock(core().mutex());
    for (unsigned budget = task_budget; take(queue, chain); --budget) {
        if (budget == 0) {
            core().unpop(queue, chain);
            schedule(queue);
            break;
        }
        const u64 incarnation = incarnation_;
        const memory::DmaView dma = core().dma();
        lock.unlock();
        const Request request(chain, dma, bytes);
        payload.clear();
        Header response{};
        {
            std::lock_guard display(display_mutex_);
            response.type = incarnation == incarnation_ ? execute(request, payload) : u32{RESP_ERR_UNSPEC};
        }
        // 5.7.6.7: every command is complete when it is answered, so a fence has nothing to wait for.
        response.flags = request.header().flags & VIRTIO_GPU_FLAG_FENCE;
        if (response.flags != 0) {
            response.fence_id = request.header().fence_id;
            response.ctx_id = request.header().ctx_id;
            response.ring_idx = request.header().ring_idx;
        }
        lock.lock();
        std::size_t written = scatter(chain.writable, 0, &response, sizeof response);
        written += scatter(chain.writable, sizeof response, payload.data(), payload.size());
        if (!core().push(queue, chain, static_cast<u32>(written))) break;
        DeviceCounters::add(count().operations);
        core().notify_driver(queue);
    }
}

u32 VirtioGpu::execute(const Request& request, std::vector<u8>& payload) {
    switch (request.header().type) {
        case CMD_GET_DISPLAY_INFO:
            return get_display_info(payload);
        case CMD_GET_EDID:
            return get_edid(request, payload);
        case CMD_RESOURCE_CREATE_2D:
            return resource_create_2d(request);
        case CMD_RESOURCE_UNREF:
            return resource_unref(request);
        case CMD_RESOURCE_ATTACH_BACKING:
            return resource_attach_backing(request);
        case CMD_RESOURCE_DETACH_BACKING:
            return resource_detach_backing(request);
        case CMD_SET_SCANOUT:
            return set_scanout(request);
        case CMD_TRANSFER_TO_HOST_2D:
            return transfer_to_host_2d(request);
        case CMD_RESOURCE_FLUSH:
            return resource_flush(request);
        case CMD_UPDATE_CURSOR:
        case CMD_MOVE_CURSOR:
            return update_cursor(request);
        default:
            return RESP_ERR_UNSPEC;
    }
}

u32 VirtioGpu::get_display_info(std::vector<u8>& payload) const {
    struct Mode {
        Rectangle rectangle;
        u32 enabled;
        u32 flags;
    };
    Mode modes[max_scanouts] = {};
    modes[0] = {{0, 0, mode_.width, mode_.height}, 1, 0};
    payload.resize(sizeof modes);
    std::memcpy(payload.data(), modes, sizeof modes);
    return RESP_OK_DISPLAY_INFO;
}

u32 VirtioGpu::get_edid(const Request& request, std::vector<u8>& payload) const {
    if (!request.has(sizeof(Header) + 8)) return RESP_ERR_UNSPEC;
    if (request.word(24) != 0) return RESP_ERR_INVALID_SCANOUT_ID;
    payload.resize(8 + edid_bytes);
    store_le<u32>(payload.data(), static_cast<u32>(edid_.size()));
    std::copy(edid_.begin(), edid_.end(), payload.begin() + 8);
    return RESP_OK_EDID;
}

// ---------------------------------------------------------------- resources

VirtioGpu::Resource* VirtioGpu::find(u32 id) {
    const auto found = resources_.find(id);
    return found == resources_.end() ? nullptr : &found->second;
}

// With a size and format that were checked.
bool VirtioGpu::create(u32 id, u32 format, u32 width, u32 height) {
    const u64 bytes = align_up(u64{width} * height * 4, page_size);
    if (resources_.size() >= most_resources || bytes > most_resource_bytes - resource_bytes_) return false;
    HostPages pixels(bytes);
    if (!pixels) return false;
    Resource& resource = resources_[id];
    resource.format = format;
    resource.width = width;
    resource.height = height;
    resource.pixels = std::move(pixels);
    resource_bytes_ += bytes;
    return true;
}

u32 VirtioGpu::resource_create_2d(const Request& request) {
    if (!request.has(40)) return RESP_ERR_UNSPEC;
    const u32 id = request.word(24), format = request.word(28), width = request.word(32),
              height = request.word(36);
    if (id == 0 || find(id) != nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    if (!possible(format, width, height)) return RESP_ERR_INVALID_PARAMETER;
    return create(id, format, width, height) ? RESP_OK_NODATA : RESP_ERR_OUT_OF_MEMORY;
}

u32 VirtioGpu::resource_unref(const Request& request) {
    if (!request.has(32)) return RESP_ERR_UNSPEC;
    const u32 id = request.word(24);
    Resource* resource = find(id);
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    if (scanout_resource_ == id) scanout_resource_ = 0;
    drop_backing(*resource);
    resource_bytes_ -= resource->pixels.size();
    resources_.erase(id);
    return RESP_OK_NODATA;
}

u32 VirtioGpu::resource_attach_backing(const Request& request) {
    if (!request.has(32)) return RESP_ERR_UNSPEC;
    Resource* resource = find(request.word(24));
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    const u32 entries = request.word(28);
    if (entries == 0 || entries > most_entries_a_resource || !resource->backing.empty()) {
        return RESP_ERR_INVALID_PARAMETER;
    }
    if (!request.has(32 + u64{entries} * sizeof(BackingEntry))) return RESP_ERR_UNSPEC;
    if (entries > most_backing_entries - backing_entries_) return RESP_ERR_OUT_OF_MEMORY;
    resource->backing.resize(entries);
    std::memcpy(resource->backing.data(), request.data() + 32, entries * sizeof(BackingEntry));
    backing_entries_ += entries;
    return RESP_OK_NODATA;
}

u32 VirtioGpu::resource_detach_backing(const Request& request) {
    if (!request.has(32)) return RESP_ERR_UNSPEC;
    Resource* resource = find(request.word(24));
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    drop_backing(*resource);
    return RESP_OK_NODATA;
}

void VirtioGpu::drop_backing(Resource& resource) {
    backing_entries_ -= resource.backing.size();
    resource.backing = {};
}

u32 VirtioGpu::transfer_to_host_2d(const Request& request) {
    if (!request.has(56)) return RESP_ERR_UNSPEC;
    const Resource* resource = find(request.word(48));
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    const Rectangle to = request.rectangle();
    if (to.empty() || !to.inside(resource->width, resource->height)) return RESP_ERR_INVALID_PARAMETER;
    if (!gather_backing(*resource, request.dma(), request.quad(40), to)) return RESP_ERR_INVALID_PARAMETER;
    const u64 bytes = u64{to.width} * 4 * to.height;
    DeviceCounters::add(count().bytes_moved, bytes);
    DeviceCounters::add(count().bytes_copied, bytes);
    return RESP_OK_NODATA;
}

// Rows of the backing are as long as those of the resource; `offset` is where the first one's part begins.
bool VirtioGpu::gather_backing(const Resource& resource, const memory::DmaView& dma, u64 offset,
                               const Rectangle& to) {
    u64 length = 0;
    for (const BackingEntry& entry : resource.backing) length += entry.length;
    const u64 row_bytes = u64{to.width} * 4;
    if (!range_inside(offset, (to.height - 1) * resource.stride() + row_bytes, 0, length)) return false;

    std::size_t index = 0;
    u64 entry_start = 0;  // position of the entry in the backing
    for (u32 y = 0; y < to.height; ++y) {
        u8* into = resource.at(to.x, to.y + y);
        u64 position = offset + y * resource.stride();
        for (u64 left = row_bytes; left > 0;) {
            const BackingEntry& entry = resource.backing[index];
            if (position >= entry_start + entry.length) {
                entry_start += entry.length;
                ++index;
                continue;
            }
            const u64 within = position - entry_start;
            const u64 part = std::min(left, entry.length - within);
            if (!dma.read(entry.address + within, into, part)) return false;
            into += part;
            position += part;
            left -= part;
        }
    }
    return true;
}

// ---------------------------------------------------------------- what is seen

u32 VirtioGpu::set_scanout(const Request& request) {
    if (!request.has(48)) return RESP_ERR_UNSPEC;
    if (request.word(40) != 0) return RESP_ERR_INVALID_SCANOUT_ID;
    const u32 id = request.word(44);
    if (id == 0) {
        scanout_resource_ = 0;
        return RESP_OK_NODATA;
    }
    const Resource* resource = find(id);
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    const Rectangle rectangle = request.rectangle();
    if (rectangle.empty() || !rectangle.inside(resource->width, resource->height)) {
        return RESP_ERR_INVALID_PARAMETER;
    }
    scanout_resource_ = id;
    scanout_ = rectangle;
    screen_.clear(rectangle.width, rectangle.height);
    show(*resource, rectangle);
    return RESP_OK_NODATA;
}

u32 VirtioGpu::resource_flush(const Request& request) {
    if (!request.has(48)) return RESP_ERR_UNSPEC;
    const u32 id = request.word(40);
    const Resource* resource = find(id);
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    const Rectangle part = request.rectangle();
    if (part.empty() || !part.inside(resource->width, resource->height)) return RESP_ERR_INVALID_PARAMETER;
    if (id == scanout_resource_) show(*resource, part);
    return RESP_OK_NODATA;
}

void VirtioGpu::show(const Resource& resource, const Rectangle& part) {
    const u32 left = std::max(part.x, scanout_.x), top = std::max(part.y, scanout_.y);
    const u32 right = std::min(part.x + part.width, scanout_.x + scanout_.width);
    const u32 bottom = std::min(part.y + part.height, scanout_.y + scanout_.height);
    if (left >= right) return;
    const Format& format = *format_of(resource.format);
    for (u32 y = top; y < bottom; ++y) {
        convert(screen_.row(y - scanout_.y) + (left - scanout_.x), resource.at(left, y), right - left,
                format);
    }
}

u32 VirtioGpu::update_cursor(const Request& request) {
    if (!request.has(56)) return RESP_ERR_UNSPEC;
    if (request.word(24) != 0) return RESP_ERR_INVALID_SCANOUT_ID;
    cursor_.x = request.word(28);
    cursor_.y = request.word(32);
    if (request.header().type == CMD_MOVE_CURSOR) return RESP_OK_NODATA;
    const u32 id = request.word(40);
    cursor_.pixels.clear();
    if (id == 0) return RESP_OK_NODATA;
    const Resource* resource = find(id);
    if (resource == nullptr) return RESP_ERR_INVALID_RESOURCE_ID;
    // 5.7.6.10: a cursor is 64x64 pixels.
    if (resource->width != cursor_size || resource->height != cursor_size) return RESP_ERR_INVALID_PARAMETER;
    cursor_.pixels.resize(cursor_size * cursor_size);
    convert(cursor_.pixels.data(), resource->at(0, 0), cursor_size * cursor_size,
            *format_of(resource->format));
    return RESP_OK_NODATA;
}

void VirtioGpu::capture(Picture& out) {
    std::lock_guard lock(display_mutex_);
    if (scanout_resource_ == 0) {
        out.clear(mode_.width, mode_.height);
    } else {
        out = screen_;
        // The position may be beyond the edge, and left of it as a number that wrapped.
        for (u32 i = 0; i < cursor_.pixels.size(); ++i) {
            const u32 x = cursor_.x + i % cursor_size, y = cursor_.y + i / cursor_size;
            if (x >= out.width || y >= out.height) continue;
            u32& under = out.row(y)[x];
            const u32 over = cursor_.pixels[i];
            under = blend(under, over, 16) | blend(under, over, 8) | blend(under, over, 0);
        }
    }
    for (u32& pixel : out.pixels) pixel &= 0xff'ffff;
}

// ---------------------------------------------------------------- state

void VirtioGpu::visit_state(StateVisitor& v) {
    v.section("virtio-gpu", 2);
    std::lock_guard lock(display_mutex_);
    visit_resources(v);
    visit_screen(v);
}

void VirtioGpu::visit_resources(StateVisitor& v) {
    // A snapshot is untrusted: nothing is rebuilt that the commands would not have let through.
    const auto require = [&](bool condition, const char* what) {
        if (v.loading() && !condition) {
            throw StateError("the saved state of " + std::string(name()) + " is broken: " + what);
        }
    };
    if (v.loading()) {
        ++incarnation_;
        resources_.clear();
        resource_bytes_ = 0;
        backing_entries_ = 0;
        scanout_resource_ = 0;
    }
    u64 resource_count = resources_.size();
    v.field("resources", resource_count);
    require(resource_count <= most_resources, "too many resources");
    auto next = resources_.begin();
    for (u64 i = 0; i < resource_count; ++i) {
        u32 id = 0, format = 0, width = 0, height = 0;
        if (!v.loading()) {
            const Resource& resource = next->second;
            id = next++->first;
            format = resource.format;
            width = resource.width;
            height = resource.height;
        }
        v.field("id", id);
        v.field("format", format);
        v.field("width", width);
        v.field("height", height);
        if (v.loading()) {
            require(id != 0 && find(id) == nullptr, "a resource's id");
            require(possible(format, width, height), "a resource's shape");
            require(create(id, format, width, height), "more resources than there is memory for");
        }
        Resource& resource = *find(id);
        resource.pixels.visit_state(v, "pixels");
        std::vector<u8> entries(resource.backing.size() * sizeof(BackingEntry));
        if (!entries.empty()) std::memcpy(entries.data(), resource.backing.data(), entries.size());
        v.blob("backing", entries, most_entries_a_resource * sizeof(BackingEntry));
        if (!v.loading()) continue;
        const std::size_t entry_count = entries.size() / sizeof(BackingEntry);
        require(entry_count <= most_backing_entries - backing_entries_, "too much backing");
        resource.backing.resize(entry_count);
        if (entry_count != 0) {
            std::memcpy(resource.backing.data(), entries.data(), entry_count * sizeof(BackingEntry));
        }
        backing_entries_ += entry_count;
    }
}

void VirtioGpu::visit_screen(StateVisitor& v) {
    v.field("scanout resource", scanout_resource_);
    v.field("scanout x", scanout_.x);
    v.field("scanout y", scanout_.y);
    v.field("scanout width", scanout_.width);
    v.field("scanout height", scanout_.height);
    const auto pixels = [&](const char* name, std::vector<u32>& visited, std::size_t most) {
        std::vector<u8> bytes(visited.size() * 4);
        if (!bytes.empty()) std::memcpy(bytes.data(), visited.data(), bytes.size());
        v.blob(name, bytes, most * 4);
        if (!v.loading()) return;
        visited.resize(bytes.size() / 4);
        if (!visited.empty()) std::memcpy(visited.data(), bytes.data(), visited.size() * 4);
    };
    pixels("screen", screen_.pixels, most_resource_bytes / 4);
    v.field("cursor x", cursor_.x);
    v.field("cursor y", cursor_.y);
    pixels("cursor", cursor_.pixels, cursor_size * cursor_size);
    if (!v.loading()) return;
    if (cursor_.pixels.size() != cursor_size * cursor_size) cursor_.pixels.clear();
    const Resource* shown = find(scanout_resource_);
    if (shown == nullptr || scanout_.empty() || !scanout_.inside(shown->width, shown->height)) {
        scanout_resource_ = 0;
        return;
    }
    screen_.width = scanout_.width;
    screen_.height = scanout_.height;
    screen_.pixels.resize(std::size_t{screen_.width} * screen_.height);
}

}  // namespace wirt::devices::virtio

// The host's end of a guest's display, whatever device drives it: screenshots and the VNC server take
// pictures.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"

namespace wirt::devices {

// What a display shows at one moment.
struct Picture {
    u32 width = 0;  // pixels
    u32 height = 0;
    std::vector<u32> pixels;  // 0x00RRGGBB, row by row without gaps

    // Makes it a black picture of that size.
    void clear(u32 new_width, u32 new_height) {
        width = new_width;
        height = new_height;
        pixels.assign(std::size_t{width} * height, 0);
    }
    u32* row(u32 y) { return pixels.data() + std::size_t{y} * width; }
};

// The mode that a display starts with and that its EDID prefers.
class DisplayMode {
  public:
    // In pixels; ConfigError beyond 3840x2160, and below 320x200.
    DisplayMode(u32 width, u32 height) : width(width), height(height) {
        if (width < 320 || width > 3840 || height < 200 || height > 2160) {
            throw ConfigError("a display has 320x200 to 3840x2160 pixels, not " + std::to_string(width) +
                              "x" + std::to_string(height));
        }
    }
    const u32 width;
    const u32 height;
};

class Display {
  public:
    virtual ~Display() = default;
    // What is on the screen now, the cursor included; a display that is off is black. Any thread, no lock
    // held.
    virtual void capture(Picture& out) = 0;
};

}  // namespace wirt::devices

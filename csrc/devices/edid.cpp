#include "devices/edid.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/bits.h"

namespace wirt::devices {

namespace {

// Where the fields of the base block are (3.3 to 3.11).
enum : unsigned {
    manufacturer = 8,
    product_code = 10,
    year = 17,
    version = 18,
    revision = 19,
    video_input = 20,
    screen_width_cm = 21,
    screen_height_cm = 22,
    gamma = 23,
    features = 24,
    chromaticity = 25,
    established_timings = 35,
    standard_timings = 38,
    descriptors = 54,
    checksum = 127,
};
constexpr unsigned descriptor_bytes = 18;

// CVT 1.2, 4: reduced blanking.
constexpr u32 h_blank = 160, h_front_porch = 48, h_sync = 32, v_front_porch = 3, v_sync = 4, v_back_porch = 6,
              v_blank_us = 460;
constexpr u32 refresh_hz = 60;
constexpr u64 most_pixel_clock_hz = 655'350'000;  // 16 bits of 10 kHz
constexpr u32 pixels_per_mm = 4;                  // about 100 dpi

// 3.10.2
void detailed_timing(u8* at, const DisplayMode& mode) {
    // The blanking lasts for 460 us at least: lines / (frame - blanking) gives how many lines that is.
    const u64 active_us = 1'000'000 / refresh_hz - v_blank_us;
    const u32 v_blank = std::max(v_front_porch + v_sync + v_back_porch,
                                 static_cast<u32>(v_blank_us * u64{mode.height} / active_us) + 1);
    const u64 clock_hz =
        std::min(most_pixel_clock_hz, u64{refresh_hz} * (mode.width + h_blank) * (mode.height + v_blank));
    const u32 width_mm = mode.width / pixels_per_mm;
    const u32 height_mm = mode.height / pixels_per_mm;
    const auto byte = [](u32 value) { return static_cast<u8>(value); };
    const auto high_nibbles = [](u32 first, u32 second) {
        return static_cast<u8>((first >> 8 & 0xf) << 4 | (second >> 8 & 0xf));
    };
    store_le<u16>(at, static_cast<u16>(clock_hz / 10'000));
    at[2] = byte(mode.width);
    at[3] = byte(h_blank);
    at[4] = high_nibbles(mode.width, h_blank);
    at[5] = byte(mode.height);
    at[6] = byte(v_blank);
    at[7] = high_nibbles(mode.height, v_blank);
    at[8] = byte(h_front_porch);
    at[9] = byte(h_sync);
    at[10] = byte(v_front_porch << 4 | v_sync);
    at[12] = byte(width_mm);
    at[13] = byte(height_mm);
    at[14] = high_nibbles(width_mm, height_mm);
    at[17] = 0x1a;  // digital separate sync, horizontal positive
}

// 3.10.3
void text_descriptor(u8* at, u8 tag, const char* text) {
    at[3] = tag;
    std::memset(at + 5, ' ', 13);
    const std::size_t length = std::min<std::size_t>(std::strlen(text), 12);
    std::memcpy(at + 5, text, length);
    at[5 + length] = '\n';
}

}  // namespace

Edid make_edid(const DisplayMode& mode) {
    Edid edid{};
    static constexpr u8 header[8] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    std::memcpy(edid.data(), header, sizeof header);
    // Three letters of five bits: "WRT".
    edid[manufacturer] = ('W' - '@') << 2 | ('R' - '@') >> 3;
    edid[manufacturer + 1] = static_cast<u8>(('R' - '@') << 5 | ('T' - '@'));
    edid[product_code] = 1;
    edid[year] = 2026 - 1990;
    edid[version] = 1;
    edid[revision] = 4;
    edid[video_input] = 0xa5;  // digital, 8 bits a colour, DisplayPort
    edid[screen_width_cm] = static_cast<u8>(std::max(1u, mode.width / pixels_per_mm / 10));
    edid[screen_height_cm] = static_cast<u8>(std::max(1u, mode.height / pixels_per_mm / 10));
    edid[gamma] = 120;      // 2.2
    edid[features] = 0x06;  // sRGB, the first timing is the native one
    static constexpr u8 srgb[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    std::memcpy(&edid[chromaticity], srgb, sizeof srgb);
    edid[established_timings] = 0x21;      // 640x480 and 800x600 at 60 Hz
    edid[established_timings + 1] = 0x08;  // 1024x768 at 60 Hz
    std::memset(&edid[standard_timings], 0x01, 16);
    detailed_timing(&edid[descriptors], mode);
    text_descriptor(&edid[descriptors + descriptor_bytes], 0xfc, "Wirt display");
    edid[descriptors + 2 * descriptor_bytes + 3] = 0x10;  // unused
    edid[descriptors + 3 * descriptor_bytes + 3] = 0x10;
    edid[checksum] = static_cast<u8>(-std::accumulate(edid.begin(), edid.end(), 0u));
    return edid;
}

}  // namespace wirt::devices

// ISA strings (Unprivileged ISA, chapter "ISA Extension Naming Conventions") and profiles.
#include "riscv/isa_config.h"

#include <algorithm>

#include "base/error.h"

namespace wirt::riscv {

namespace {

struct Row {
    std::string_view name;
    std::string_view brings;
};

constexpr Row rows[] = {
#define ISA_EXTENSION(name, brings) {#name, brings},
#include "riscv/extensions.def"
#undef ISA_EXTENSION
    {"", ""},  // Extension::privileged: every hart has it and nobody names it
};
static_assert(std::size(rows) == static_cast<std::size_t>(Extension::count));

// Names that stand for several extensions.
constexpr Row groups[] = {
    {"g", "i m a f d zicsr zifencei"},
    {"b", "zba zbb zbs"},
};

template <typename Fn>
void for_each_word(std::string_view text, char separator, Fn&& fn) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(separator), text.size());
        if (end > 0) fn(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

}  // namespace

const char* extension_name(Extension extension) {
    return extension == Extension::privileged ? "privileged"
                                              : rows[static_cast<std::size_t>(extension)].name.data();
}

IsaConfig::IsaConfig(std::string_view text) {
    const std::string given(text);
    std::string lower = given;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    std::string_view rest = lower;
    try {
        if (!rest.starts_with("rv64")) throw ConfigError("it does not begin with rv64");
        const std::string_view base = rest.substr(0, rest.find('_'));
        for (const char letter : base.substr(4)) add(std::string_view(&letter, 1));
        rest.remove_prefix(base.size());
        for_each_word(rest, '_', [this](std::string_view name) { add(name); });
        if (!has(Extension::i)) throw ConfigError("rv64 is followed by i or g");
        // Without it instructions lie at multiples of four, which is another machine in every jump.
        if (!has(Extension::c)) throw ConfigError("every hart here has c");
        // Zve* and Zvl* are what v consists of and how wide it is: without it they make no hart here.
        if (has(Extension::zvl32b) && !has(Extension::v))
            throw ConfigError("vectors are to be had as v only, zvl*b beside it says how wide they are");
    } catch (const ConfigError& error) {
        throw ConfigError("isa \"" + given + "\": " + error.what());
    }
    add(Extension::privileged);
    for (std::size_t op = 0; op < static_cast<std::size_t>(Opcode::illegal); ++op)
        opcodes_[op] = has(info(static_cast<Opcode>(op)).extension);
    for (std::size_t op = 0; op < static_cast<std::size_t>(CompressedOpcode::count); ++op)
        compressed_opcodes_[op] = has(info(static_cast<CompressedOpcode>(op)).extension);
}

void IsaConfig::add(Extension extension) {
    const std::size_t index = static_cast<std::size_t>(extension);
    if (extensions_[index]) return;
    extensions_[index] = true;
    for_each_word(rows[index].brings, ' ', [this](std::string_view name) { add(name); });
}

void IsaConfig::add(std::string_view name) {
    for (const Row& group : groups) {
        if (group.name != name) continue;
        for_each_word(group.brings, ' ', [this](std::string_view member) { add(member); });
        return;
    }
    const auto row =
        std::find_if(std::begin(rows), std::end(rows), [&](const Row& r) { return r.name == name; });
    if (name.empty() || row == std::end(rows))
        throw ConfigError("there is no extension " + std::string(name) + " here");
    add(static_cast<Extension>(row - std::begin(rows)));
}

unsigned IsaConfig::vlen() const {
    if (!has(Extension::v)) return 0;
    return has(Extension::zvl1024b)  ? 1024
           : has(Extension::zvl512b) ? 512
           : has(Extension::zvl256b) ? 256
                                     : 128;
}

std::vector<std::string> IsaConfig::names() const {
    std::vector<std::string> list;
    for (std::size_t index = 0; index < static_cast<std::size_t>(Extension::privileged); ++index) {
        if (extensions_[index]) list.emplace_back(rows[index].name);
    }
    return list;
}

std::string IsaConfig::text() const {
    std::string text = "rv64";
    for (const std::string& name : names()) text += (name.size() > 1 ? "_" : "") + name;
    return text;
}

}  // namespace wirt::riscv

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
#define EXTENSION_SET(name, kind, members) {#name, members},
#include "riscv/extension_sets.def"
#undef EXTENSION_SET
};
constexpr std::size_t named = static_cast<std::size_t>(Extension::privileged);
static_assert(std::size(rows) == static_cast<std::size_t>(Extension::count));

enum class SetKind : u8 { all_of, any_of };
constexpr SetKind set_kinds[] = {
#define EXTENSION_SET(name, kind, members) SetKind::kind,
#include "riscv/extension_sets.def"
#undef EXTENSION_SET
};

// Names that stand for several extensions: single letters, the bundles of scalar cryptography, and the
// profiles, each with all that it makes mandatory.
constexpr Row groups[] = {
    {"g", "i m a f d zicsr zifencei"},
    {"b", "zba zbb zbs"},
    {"zkn", "zbkb zbkc zbkx zkne zknd zknh"},
    {"zk", "zkn zkr zkt"},
    {"rva22u64",
     "i m a f d c zicsr zicntr zihpm ziccif ziccrse ziccamoa zicclsm za64rs zihintpause b zic64b "
     "zicbom zicbop zicboz zfhmin zkt"},
    {"rva22s64",
     "rva22u64 zifencei svbare svade ssccptr sstvecd sstvala sscounterenw svpbmt svinval ssu64xl"},
    {"rva23u64", "rva22u64 v zvfhmin zvbb zvkt zihintntl zicond zimop zcmop zcb zfa zawrs supm"},
    {"sha", "h ssstateen shcounterenw shgatpa shtvala shvsatpa shvstvala shvstvecd"},
    {"rva23s64", "rva22s64 rva23u64 svnapot sstc sscofpmf ssnpm sha"},
};

template <typename Fn>
void for_each_word(std::string_view text, char separator, Fn&& fn) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(separator), text.size());
        if (end > 0) fn(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

// `named` if there is none.
std::size_t index_of(std::string_view name) {
    return static_cast<std::size_t>(
        std::find_if(rows, rows + named, [&](const Row& row) { return row.name == name; }) - rows);
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
        const std::string_view base = rest.substr(0, rest.find('_'));
        if (base.starts_with("rva")) {
            add(base);
        } else {
            if (!base.starts_with("rv64")) throw ConfigError("it does not begin with rv64");
            for (const char letter : base.substr(4)) add(std::string_view(&letter, 1));
        }
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
    for (std::size_t set = 0; set < std::size(set_kinds); ++set) {
        const std::size_t index = named + 1 + set;
        bool all = true;
        bool any = false;
        for_each_word(rows[index].brings, ' ', [&](std::string_view name) {
            const bool there = extensions_[index_of(name)];
            all = all && there;
            any = any || there;
        });
        extensions_[index] = set_kinds[set] == SetKind::all_of ? all : any;
    }
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
    const std::size_t index = index_of(name);
    if (index == named) throw ConfigError("there is no extension " + std::string(name) + " here");
    add(static_cast<Extension>(index));
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

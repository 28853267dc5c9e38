"""Numbers of Linux' input events, and which key of a US keyboard gives which character.

Sources: linux/input-event-codes.h for the events, X11's keysymdef.h for the keysyms that VNC viewers send.
"""

from __future__ import annotations

__all__ = ["BUTTONS", "KEYS", "LEDS", "key_for_character", "key_for_keysym"]

EV_KEY, EV_REL, EV_ABS = 0x01, 0x02, 0x03
REL_HWHEEL, REL_WHEEL = 0x06, 0x08
ABS_X, ABS_Y = 0x00, 0x01
TABLET_RANGE = 0x7FFF

LEDS = ("num", "caps", "scroll")
BUTTONS = {"left": 0x110, "right": 0x111, "middle": 0x112, "side": 0x113, "extra": 0x114}

# The main block row by row, each with the code of its first key: unshifted, shifted.
_ROWS = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
)
_CHARACTERS: dict[str, tuple[int, bool]] = {" ": (57, False), "\n": (28, False), "\r": (28, False), "\t": (15, False)}
for _first, _plain, _shifted in _ROWS:
    for _offset, (_lower, _upper) in enumerate(zip(_plain, _shifted, strict=True)):
        _CHARACTERS[_lower] = (_first + _offset, False)
        _CHARACTERS[_upper] = (_first + _offset, True)

KEYS: dict[str, int] = {
    "esc": 1, "backspace": 14, "tab": 15, "enter": 28, "ctrl": 29, "shift": 42, "rightshift": 54, "alt": 56,
    "space": 57, "capslock": 58, "numlock": 69, "scrolllock": 70, "rightctrl": 97, "sysrq": 99, "altgr": 100,
    "home": 102, "up": 103, "pageup": 104, "left": 105, "right": 106, "end": 107, "down": 108, "pagedown": 109,
    "insert": 110, "delete": 111, "pause": 119, "meta": 125, "rightmeta": 126, "menu": 127,
    "kp0": 82, "kp1": 79, "kp2": 80, "kp3": 81, "kp4": 75, "kp5": 76, "kp6": 77, "kp7": 71, "kp8": 72, "kp9": 73,
    "kpmultiply": 55, "kpsubtract": 74, "kpadd": 78, "kpdecimal": 83, "kpenter": 96, "kpdivide": 98, "kpequal": 117,
    **{f"f{n}": 58 + n for n in range(1, 11)}, "f11": 87, "f12": 88, **{f"f{n}": 170 + n for n in range(13, 25)},
}  # fmt: skip
"""Codes by name, of the keys that give no character."""

_KEYSYMS: dict[int, str] = {
    0xFF08: "backspace", 0xFF09: "tab", 0xFF0D: "enter", 0xFF13: "pause", 0xFF14: "scrolllock", 0xFF15: "sysrq",
    0xFF1B: "esc", 0xFF50: "home", 0xFF51: "left", 0xFF52: "up", 0xFF53: "right", 0xFF54: "down", 0xFF55: "pageup",
    0xFF56: "pagedown", 0xFF57: "end", 0xFF61: "sysrq", 0xFF63: "insert", 0xFF67: "menu", 0xFF6B: "pause",
    0xFF7F: "numlock", 0xFF8D: "kpenter", 0xFF95: "kp7", 0xFF96: "kp4", 0xFF97: "kp8", 0xFF98: "kp6", 0xFF99: "kp2",
    0xFF9A: "kp9", 0xFF9B: "kp3", 0xFF9C: "kp1", 0xFF9D: "kp5", 0xFF9E: "kp0", 0xFF9F: "kpdecimal",
    0xFFAA: "kpmultiply", 0xFFAB: "kpadd", 0xFFAC: "kpdecimal", 0xFFAD: "kpsubtract", 0xFFAE: "kpdecimal",
    0xFFAF: "kpdivide", 0xFFBD: "kpequal", 0xFFE1: "shift", 0xFFE2: "rightshift", 0xFFE3: "ctrl", 0xFFE4: "rightctrl",
    0xFFE5: "capslock", 0xFFE7: "meta", 0xFFE8: "rightmeta", 0xFFE9: "alt", 0xFFEA: "altgr", 0xFFEB: "meta",
    0xFFEC: "rightmeta", 0xFFFF: "delete", 0xFE03: "altgr", 0xFE20: "tab",
    **{0xFFB0 + digit: f"kp{digit}" for digit in range(10)},
    **{0xFFBD + n: f"f{n}" for n in range(1, 25)},
}  # fmt: skip


def key_for_character(character: str) -> tuple[int, bool] | None:
    """The code of the key that gives a character, and whether shift must be held; None when no key does."""
    return _CHARACTERS.get(character)


def key_for_keysym(keysym: int) -> tuple[int, bool] | None:
    """The same for an X11 keysym: those of Latin-1 are their characters."""
    name = _KEYSYMS.get(keysym)
    if name is not None:
        return KEYS[name], False
    return key_for_character(chr(keysym)) if 0x20 <= keysym < 0x7F else None

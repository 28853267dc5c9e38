"""One viewer: its handshake, its messages, and the updates it is sent (RFC 6143).

Untrusted input: every byte from the viewer. Messages have a bounded length (the text of a ClientCutText is skipped as
it comes), pictures are sent when the viewer asks for one, and whoever breaks the protocol, or takes no data for half
a minute, is disconnected.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import time

import numpy as np

from wirt import _core, evdev
from wirt.display import capture
from wirt.errors import StateError
from wirt.input import Keyboard, Tablet
from wirt.vnc.pixels import Picture, PixelFormat, Rectangle, ZrleEncoder, changed_tiles, clip

__all__ = ["Viewer"]

_VERSION = b"RFB 003.008\n"
_HANDSHAKE_S = 10.0
_SEND_S = 30.0
# How often the display is looked at while a viewer waits for a change, and when nothing has changed for long.
_FRAME_S, _IDLE_FRAME_S = 1 / 30, 1 / 10
_IDLE_FRAMES = 60
_CLOSING_S = 0.2  # the longest time that the end of the server goes unnoticed

_SECURITY_NONE = 1
_RAW, _ZRLE, _DESKTOP_SIZE = 0, 16, -223
_MOST_ENCODINGS = 1024
# Lengths of the messages with a fixed part only, by type; the others are SetEncodings and ClientCutText.
_SET_PIXEL_FORMAT, _SET_ENCODINGS, _UPDATE_REQUEST, _KEY, _POINTER, _CUT_TEXT = 0, 2, 3, 4, 5, 6
_LENGTHS = {_SET_PIXEL_FORMAT: 20, _SET_ENCODINGS: 4, _UPDATE_REQUEST: 10, _KEY: 8, _POINTER: 6, _CUT_TEXT: 8}
# Bits of a pointer message (7.5.5); 3 to 6 are the wheel.
_BUTTON_BITS = ("left", "middle", "right")
_WHEEL_BITS = {3: (evdev.REL_WHEEL, 1), 4: (evdev.REL_WHEEL, -1), 5: (evdev.REL_HWHEEL, -1), 6: (evdev.REL_HWHEEL, 1)}


class ProtocolError(Exception):
    """The viewer sent what RFB does not allow, or what this server does not serve."""


class Viewer:
    """Serves one connection until it ends.

    Args:
        connection: the accepted socket.
        display: what is shown.
        keyboard: takes the viewer's keys, if there is one.
        tablet: takes the viewer's pointer, if there is one.
        name: the desktop's name.
    """

    def __init__(
        self,
        connection: socket.socket,
        display: _core.Display,
        keyboard: Keyboard | None,
        tablet: Tablet | None,
        name: str,
    ) -> None:
        self._connection = connection
        self._display = display
        self._keyboard = keyboard
        self._tablet = tablet
        self._name = name
        self.closing = False
        self._received = bytearray()
        self._skip = 0  # bytes of a cut text that are still to come
        self._format = PixelFormat()
        self._encoding = _RAW
        self._resizable = False
        self._zrle = ZrleEncoder()
        self._size = (0, 0)  # as the viewer knows it: width, height
        self._shown: Picture | None = None  # what the viewer shows; None: nothing yet
        self._request: Rectangle | None = None
        self._forced = False
        self._keys: set[int] = set()
        self._buttons = 0

    def serve(self) -> None:
        """Returns when the viewer has gone, was sent away, or :attr:`closing` was set."""
        try:
            self._connection.settimeout(_HANDSHAKE_S)
            self._handshake()
            self._connection.settimeout(_SEND_S)
            self._converse()
        except (OSError, ProtocolError, EOFError):
            pass  # the viewer's end of it
        finally:
            self._let_go()
            self._connection.close()

    def close(self) -> None:
        """Ends :meth:`serve` soon, whatever it waits for; from another thread."""
        self.closing = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    # --- 7.1 to 7.3 ---

    def _handshake(self) -> None:
        self._connection.sendall(_VERSION)
        version = re.fullmatch(rb"RFB (\d{3})\.(\d{3})\n", self._take(12))
        if version is None or int(version[1]) < 3:
            raise ProtocolError("no version of RFB")
        # 7.1.1: an unknown minor version is 3.3; some later ones speak 3.8.
        minor = int(version[2]) if int(version[1]) == 3 else 8
        if minor >= 7:
            self._connection.sendall(bytes([1, _SECURITY_NONE]))
            if self._take(1)[0] != _SECURITY_NONE:
                raise ProtocolError("a security type that was not offered")
            if minor >= 8:
                self._connection.sendall(struct.pack(">I", 0))
        else:
            self._connection.sendall(struct.pack(">I", _SECURITY_NONE))
        self._take(1)  # the display is always shared
        picture = capture(self._display)
        self._size = (picture.shape[1], picture.shape[0])
        name = self._name.encode()
        self._connection.sendall(struct.pack(">HH", *self._size) + self._format.pack())
        self._connection.sendall(struct.pack(">I", len(name)) + name)

    def _take(self, count: int) -> bytes:
        deadline = time.monotonic() + _HANDSHAKE_S
        while len(self._received) < count:
            if self.closing or time.monotonic() > deadline:
                raise ProtocolError("no handshake in time")
            self._receive()
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    def _receive(self) -> None:
        data = self._connection.recv(65536)
        if not data:
            raise EOFError
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._received += data[skipped:]

    # --- 7.5 ---

    def _converse(self) -> None:
        quiet, next_look = 0, 0.0
        while not self.closing:
            left = next_look - time.monotonic()
            if self._request is not None and left <= 0:
                quiet = 0 if self._update() else quiet + 1
                left = _FRAME_S if quiet < _IDLE_FRAMES else _IDLE_FRAME_S
                next_look = time.monotonic() + left
            # However much a viewer sends, the display is looked at no more often.
            wait = _CLOSING_S if self._request is None else max(left, 0.0)
            if select.select([self._connection], [], [], wait)[0]:
                self._receive()
                while self._message():
                    pass
                if quiet >= _IDLE_FRAMES:
                    quiet, next_look = 0, 0.0

    def _message(self) -> bool:
        """Handles the first message, if all of it is there."""
        data = self._received
        if not data:
            return False
        length = _LENGTHS.get(data[0])
        if length is None:
            raise ProtocolError("an unknown message")
        if len(data) < length:
            return False
        kind = data[0]
        if kind == _SET_ENCODINGS:
            (count,) = struct.unpack_from(">H", data, 2)
            if count > _MOST_ENCODINGS:
                raise ProtocolError("too many encodings")
            length += 4 * count
            if len(data) < length:
                return False
        message = bytes(data[:length])
        del data[:length]
        if kind == _SET_PIXEL_FORMAT:
            try:
                self._format = PixelFormat.parse(message[4:])
            except ValueError as error:
                raise ProtocolError(str(error)) from error
            self._shown = None
        elif kind == _SET_ENCODINGS:
            self._set_encodings(struct.unpack(f">{len(message) // 4 - 1}i", message[4:]))
        elif kind == _UPDATE_REQUEST:
            incremental, *rectangle = struct.unpack(">xBHHHH", message)
            self._forced |= not incremental
            self._request = (rectangle[0], rectangle[1], rectangle[2], rectangle[3])
        elif kind == _KEY:
            down, keysym = struct.unpack(">xBxxI", message)
            self._key(bool(down), keysym)
        elif kind == _POINTER:
            buttons, x, y = struct.unpack(">xBHH", message)
            self._point(buttons, x, y)
        else:
            # A negative length is that of the extended clipboard, which was not offered.
            (text,) = struct.unpack(">4xi", message)
            text = abs(text)
            here = min(text, len(data))
            del data[:here]
            self._skip = text - here
        return True

    def _set_encodings(self, encodings: tuple[int, ...]) -> None:
        self._resizable = _DESKTOP_SIZE in encodings
        self._encoding = next((encoding for encoding in encodings if encoding in (_RAW, _ZRLE)), _RAW)

    # --- input ---

    def _key(self, down: bool, keysym: int) -> None:
        found = evdev.key_for_keysym(keysym)
        if self._keyboard is None or found is None:
            return
        code, shifted = found
        shift, right_shift = evdev.KEYS["shift"], evdev.KEYS["rightshift"]
        # A viewer that sends a capital alone, without the shift key that its user's keyboard needs for it.
        lend_shift = down and shifted and not self._keys & {shift, right_shift}
        try:
            if lend_shift:
                self._keyboard.key(shift, True)
            if down or code in self._keys:
                self._keyboard.key(code, down)
            if lend_shift:
                self._keyboard.key(shift, False)
        except StateError:
            return  # nobody listens
        (self._keys.add if down else self._keys.discard)(code)

    def _point(self, buttons: int, x: int, y: int) -> None:
        if self._tablet is None:
            return
        width, height = self._size
        report = Tablet.position(x / max(1, width - 1), y / max(1, height - 1))
        changed = buttons ^ self._buttons
        for bit, name in enumerate(_BUTTON_BITS):
            if changed >> bit & 1:
                report.append((evdev.EV_KEY, evdev.BUTTONS[name], buttons >> bit & 1))
        for bit, (axis, step) in _WHEEL_BITS.items():
            if (changed & buttons) >> bit & 1:
                report.append((evdev.EV_REL, axis, step))
        self._buttons = buttons
        try:
            self._tablet.report(report)
        except StateError:
            return

    def _let_go(self) -> None:
        """Releases what the viewer held when it went."""
        try:
            for code in self._keys:
                if self._keyboard is not None:
                    self._keyboard.key(code, False)
            if self._buttons and self._tablet is not None:
                self._tablet.report([(evdev.EV_KEY, evdev.BUTTONS[name], 0) for name in _BUTTON_BITS])
        except StateError:
            pass  # nobody listens

    # --- 7.6 ---

    def _update(self) -> bool:
        """Answers the request that waits, if there is something new; whether there was."""
        assert self._request is not None
        picture = capture(self._display)
        height, width = picture.shape
        if (width, height) != self._size:
            self._shown = None
            if self._resizable:
                self._size = (width, height)
                self._request, self._forced = None, False
                # 7.8.2: the viewer now asks for all of it.
                header = struct.pack(">BxHHHHHi", 0, 1, 0, 0, width, height, _DESKTOP_SIZE)
                self._connection.sendall(header)
                return True
            picture = _fitted(picture, *self._size)
        inside = clip(self._request, *self._size)
        if self._forced or self._shown is None:
            rectangles = [inside] if inside[2] and inside[3] else []
        else:
            rectangles = list(changed_tiles(self._shown, picture, inside))
        if not rectangles and not self._forced:
            return False
        self._request, self._forced = None, False
        if self._shown is None:
            # What was not asked for is not known to be on the viewer's screen: no pixel has this value.
            self._shown = np.full(picture.shape, 0xFFFF_FFFF, np.uint32)
        self._connection.sendall(struct.pack(">BxH", 0, len(rectangles)))
        for x, y, w, h in rectangles:
            part = picture[y : y + h, x : x + w]
            pixels = self._format.convert(part)
            data = self._zrle.encode(pixels, self._format) if self._encoding == _ZRLE else pixels.tobytes()
            self._connection.sendall(struct.pack(">HHHHi", x, y, w, h, self._encoding) + data)
            self._shown[y : y + h, x : x + w] = part
        return True


def _fitted(picture: Picture, width: int, height: int) -> Picture:
    """Cut, or with black beside it, for a viewer that cannot change its size."""
    out = np.zeros((height, width), np.uint32)
    part = picture[:height, :width]
    out[: part.shape[0], : part.shape[1]] = part
    return out

"""The specification's reference model, built by the user from its own sources, as an implementation to play on."""

from __future__ import annotations

import ctypes
from pathlib import Path

from .cases import ATS_REQUEST, MESSAGES, PAGE, POOL_PAGES, RAM, WIRED, Capabilities, Completion, PageRequest, Request
from .play import Response

HOW_TO_BUILD = """\
The reference model is part of the specification's repository (riscv-non-isa/riscv-iommu on GitHub):
  git clone https://github.com/riscv-non-isa/riscv-iommu
  model=riscv-iommu/iommu_ref_model/libiommu
  cc -O2 -w -shared -fPIC -I$model/include tests/support/iommu_reference/reference_model.c $model/src/*.c -o libmodel.so
Then name the library with --model or in WIRT_IOMMU_MODEL."""


# The range of a translation whose stage is Bare is left open (section 4.6); this is what Wirt's IOMMU says.
BARE_SIZE = 1 << 30


class _Request(ctypes.Structure):
    _fields_ = [("device_id", ctypes.c_uint32), ("process_id", ctypes.c_uint32), ("iova", ctypes.c_uint64)] + [
        (name, ctypes.c_uint8)
        for name in ("pid_valid", "no_write", "exec_req", "priv_req", "is_cxl", "address_type", "write", "unused")
    ]


_Fields = ctypes.c_uint64 * len(Response._fields)


class ReferenceModel:
    """The model and its RAM: POOL_PAGES pages."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library.resolve()))
        self._library.model_read.restype = ctypes.c_uint64
        size = POOL_PAGES * PAGE
        self._memory = bytearray(size)
        self._bytes = memoryview(self._memory)
        self._view = (ctypes.c_uint8 * size).from_buffer(self._memory)
        self._library.model_attach(self._view, *map(ctypes.c_uint64, (RAM, size, *MESSAGES)))
        self._in, self._out = _Request(), _Fields()
        self._messages = (ctypes.c_uint64 * (8 * 64))()

    def reset(self, capabilities: Capabilities, counting: bool) -> None:
        vectors, counters, counter_bits = 2, 31, 64
        counted = (counters, counter_bits) if capabilities.hpm else (0, 0)
        fixed = WIRED if capabilities.igs == 1 else 0
        ctypes.memset(self._view, 0, len(self._memory))
        self._library.model_reset(ctypes.c_uint64(capabilities.raw), fixed, capabilities.gxl_writable, vectors,
                                  *counted, ctypes.c_uint64(BARE_SIZE))  # fmt: skip

    def read(self, offset: int, size: int) -> int:
        return int(self._library.model_read(offset, size))

    def write(self, offset: int, size: int, value: int) -> None:
        self._library.model_write(offset, size, ctypes.c_uint64(value))
        self._library.model_run_commands()

    def load(self, address: int, size: int) -> bytes:
        at = address - RAM
        return bytes(self._bytes[at : at + size])

    def store(self, address: int, data: bytes) -> None:
        at = address - RAM
        if 0 <= at <= len(self._memory) - len(data):
            self._memory[at : at + len(data)] = data

    def request(self, request: Request) -> Response:
        self._library.model_forget()
        to = self._in
        to.device_id, to.iova, to.address_type = request.device_id, request.iova, request.kind
        to.pid_valid, to.process_id = request.process_id is not None, request.process_id or 0
        to.no_write, to.exec_req, to.priv_req = request.no_write, request.execute, request.privileged
        to.is_cxl, to.write = request.cxl, request.write
        self._library.model_request(ctypes.byref(to), self._out)
        first = Response(*self._out)
        if request.kind == ATS_REQUEST and not request.no_write and first.r and not first.w:
            # When it has just set D for this request, the model still answers from the entry as it was before.
            self._library.model_forget()
            self._library.model_request(ctypes.byref(to), self._out)
        return Response(*self._out)

    def page_request(self, request: PageRequest) -> None:
        self._library.model_forget()
        process = request.process_id is not None, request.process_id or 0, request.privileged, request.execute
        self._library.model_page_request(request.device_id, *process, ctypes.c_uint64(request.payload))

    def complete(self, completion: Completion) -> None:
        if completion.timed_out:
            self._library.model_ats_timeout(completion.tags)
        else:
            payload = ctypes.c_uint64(completion.count << 32 | completion.tags)
            self._library.model_invalidation_completion(completion.device_id, payload)
        self._library.model_run_commands()

    def messages(self) -> list[tuple[int | None, ...]]:
        out: list[tuple[int | None, ...]] = []
        for i in range(self._library.model_take_messages(self._messages, 64)):
            code, tag, rid, segment, dsv, pv, process_id, payload = self._messages[8 * i : 8 * i + 8]
            out.append((code, tag, rid, segment if dsv else None, process_id if pv else None, payload))
        return out

    def interrupts(self) -> list[tuple[int, int]]:
        count = self._library.model_take_stores(self._messages, 64)
        return [(self._messages[2 * i], self._messages[2 * i + 1]) for i in range(count)]

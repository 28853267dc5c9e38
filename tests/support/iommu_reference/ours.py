"""Wirt's IOMMU, with memory of its own and nothing else, as an implementation to play on."""

from __future__ import annotations

from wirt import _core

from .cases import OPTIONS, PAGE, POOL_PAGES, RAM, UNTRANSLATED, Capabilities, Completion, PageRequest, Request
from .play import Response

KINDS = "untranslated", "ats", "translated"


def _split(device_id: int) -> tuple[int, int | None]:
    """The requester id and the segment that PCIe messages carry."""
    return device_id & 0xFFFF, device_id >> 16 or None


class Ours:
    def reset(self, capabilities: Capabilities, counting: bool) -> None:
        self._counting = counting
        options = {name: getattr(capabilities, name) for name in OPTIONS}
        self._iommu = _core.IommuBench(
            POOL_PAGES * PAGE,
            **options,
            pas=capabilities.address_bits,
            igs=capabilities.igs,
            reset_mode=0,
            gxl_writable=capabilities.gxl_writable,
        )
        self.read = self._iommu.read
        self.write = self._iommu.write
        self.load = self._iommu.memory_read

    def store(self, address: int, data: bytes) -> None:
        if RAM <= address <= RAM + POOL_PAGES * PAGE - len(data):
            self._iommu.memory_write(address, data)

    def request(self, request: Request) -> Response:
        got = self._iommu.request(
            request.device_id,
            request.iova,
            process_id=request.process_id,
            kind=KINDS[request.kind],
            write=request.write,
            execute=request.execute,
            privileged=request.privileged,
            no_write=request.no_write,
            cxl=request.cxl,
        )
        if got["status"] != 0:
            return Response(got["status"])
        simple = request.kind == UNTRANSLATED and request.process_id is None and not request.execute
        if simple and not got["mrif"] and not self._counting:
            self._check_dma(request, got["address"])
        address, size = got["address"], got["size"]
        range_ppn = (address & -size | size // 2 - 1) >> 12
        return Response(
            0,
            range_ppn,
            int(size > PAGE),
            cxl_io=int(got["cxl_io"]),
            global_=int(got["global"]),
            priv=int(got["priv"]),
            u=int(got["u"]),
            r=int(got["r"]),
            w=int(got["w"]),
            exe=int(got["x"]),
            pbmt=got["pbmt"],
            is_msi=int(got["msi"]),
            is_mrif=int(got["mrif"]),
            mrif_address=got["mrif_address"],
            mrif_nid=got["mrif_notice_id"],
        )

    def _check_dma(self, request: Request, address: int) -> None:
        """Devices on the bus ask in another way, which does without the lock what has been asked before."""
        physical, contiguous = self._iommu.dma_translate(request.device_id, request.iova, request.write)
        assert physical == address, (request, hex(physical), hex(address))
        assert contiguous >= 1

    def page_request(self, request: PageRequest) -> None:
        rid, segment = _split(request.device_id)
        self._iommu.page_request(rid, request.payload, pid=request.process_id, privileged=request.privileged,
                                 execute=request.execute, dseg=segment)  # fmt: skip

    def complete(self, completion: Completion) -> None:
        rid, segment = _split(completion.device_id)
        if completion.timed_out:
            self._iommu.invalidation_timed_out(completion.tags)
        else:
            payload = completion.count << 32 | completion.tags
            self._iommu.invalidation_completed(rid, payload, dseg=segment)

    def messages(self) -> list[tuple[int | None, ...]]:
        fields = "code", "tag", "rid", "dseg", "pid", "payload"
        return [tuple(message[name] for name in fields) for message in self._iommu.take_messages()]

    def interrupts(self) -> list[tuple[int, int]]:
        return list(self._iommu.take_interrupts())

"""Stops a kernel in its trap handler, looks around, and steps through the first instructions of it."""

import wirt
from wirt.guest_image import guest_image

CAUSES = {
    2: "illegal instruction",
    3: "breakpoint",
    12: "instruction page fault",
    13: "load page fault",
    15: "store page fault",
}


def main() -> None:
    # `traps` takes exceptions on purpose. Once its kernel prints, its trap vector is set.
    with wirt.Machine(guest_image(), cmdline="traps", memory="64M") as vm:
        hart = vm.harts[0]
        while hart.csr["stvec"] < 0x8000_0000:
            vm.step(1000)
        vector = hart.csr["stvec"] & ~3
        print(f"the trap vector is at {vector:#x}; a breakpoint there")
        vm.add_breakpoint(vector)
        for _ in range(4):
            vm.resume()
            if not vm.wait(timeout=30) or vm.stop_reason != "breakpoint":
                raise SystemExit(f"no trap came: {vm.stop_reason}")
            cause, origin = hart.csr["scause"], hart.csr["sepc"]
            what = "interrupt" if cause >> 63 else CAUSES.get(cause, "exception")
            # The guest has jumped to where no code is, too: then there is nothing to disassemble.
            code = hart.disassemble(1, origin)
            text = code[0].text if code else "no code can be read there"
            print(f"\n{what} {cause & 0xFF} at {origin:#x}: {text}   (sp {hart.x['sp']:#x})")
            for _ in range(3):
                print(f"    {hart.pc:x}: {hart.disassemble(1)[0].text}")
                vm.step()
        vm.remove_breakpoint(vector)
        vm.resume()
        vm.wait(timeout=30)
        print(f"\nleft alone it ends well: {vm.stop_reason}, exit code {vm.exit_code}")


if __name__ == "__main__":
    main()

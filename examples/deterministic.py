"""Runs a guest with three harts twice, and gets the same state to the last bit; another seed gives another one."""

import wirt
from wirt.guest_image import guest_image


def run(seed: int) -> tuple[str, int, float]:
    """The state hash, the instructions and the guest's time at the end of one run."""
    with wirt.Machine(
        guest_image(), cmdline="demo smp smp.count=2000", memory="64M", cpus=3, deterministic=True, seed=seed
    ) as vm:
        # A deterministic machine stops exactly where it is told to...
        vm.run_for(1_000_000)
        print(f"seed {seed}: {vm.instructions:,} instructions, {vm.state_hash()}")
        # ...and a stop changes nothing of what follows.
        vm.resume()
        if not vm.wait(timeout=60) or vm.exit_code != 0:
            raise SystemExit(f"the guest did not end well: {vm.stop_reason}\n{vm.console.tail}")
        print(f"        {vm.instructions:,} instructions, {vm.state_hash()}")
        return vm.state_hash(), vm.instructions, vm.time


def main() -> None:
    first, second, third = run(1), run(1), run(2)
    print("the same seed gives the same state:", first == second)
    print("another seed gives another one:", first != third)


if __name__ == "__main__":
    main()

"""The control socket of ``wirt run``: another command of the same user asks the running process to migrate.

Untrusted: nobody; only the user who started the machine can connect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from wirt.errors import ConfigError, MigrationError, WirtError
from wirt.machine import Machine
from wirt.migration.progress import MigrationProgress
from wirt.migration.protocol import fields, pack
from wirt.migration.transport import Address, Broken, Channel, Kind, Listener, Security, connect, parse_address

__all__ = ["Control", "ask"]

# A migration says something ten times a second while it gets on; storage of a slow disk may be slower.
_STALL_S = 600.0


def _unix(text: str) -> Address:
    address = parse_address(text)
    if not address.path:
        raise ConfigError(f"control socket {text!r}: give unix:/PATH")
    return address


class Control:
    """Listens for one machine until it is closed."""

    def __init__(self, machine: Machine, address: str) -> None:
        self._machine = machine
        security = Security(None, None, server=True)
        self._listener = Listener(_unix(address), security, self._serve, stall=_STALL_S)

    def _serve(self, channel: Channel) -> None:
        kind, payload, _ = channel.receive()
        if kind is not Kind.hello:
            return

        def tell(progress: MigrationProgress) -> None:
            # Whoever asked may have gone; the migration goes on.
            with contextlib.suppress(Broken):
                channel.send(Kind.progress, pack(**dataclasses.asdict(progress)))

        try:
            request = fields(payload, {"command": str, "arguments": dict})
            if request["command"] == "resolve":
                migration = self._machine.migration
                if migration is None or not hasattr(migration, "resolve"):
                    raise ConfigError("the machine was not migrated")
                answer: object = migration.resolve(**request["arguments"])
            else:
                answer = self._machine.migrate(**request["arguments"], on_progress=tell).as_json()
            channel.send(Kind.done, pack(answer=answer))
        except (WirtError, TypeError, OSError) as error:
            channel.send(Kind.refused, pack(reason=str(error)[:2000]))

    def close(self) -> None:
        """Nobody can ask any more."""
        self._listener.close()


def ask(
    address: str, command: str, arguments: dict[str, Any], on_progress: Callable[[MigrationProgress], None]
) -> dict[str, Any] | str:
    """Has the machine behind a control socket do something; its answer.

    Raises:
        MigrationError: it did not, and why.
    """
    channel = connect(_unix(address), Security(None, None, server=False), stall=_STALL_S)
    try:
        channel.send(Kind.hello, pack(command=command, arguments=arguments))
        while True:
            kind, payload, _ = channel.receive()
            if kind is Kind.progress:
                on_progress(MigrationProgress(**json.loads(bytes(payload))))
            elif kind is Kind.done:
                answer: dict[str, Any] | str = json.loads(bytes(payload))["answer"]
                return answer
            else:
                raise MigrationError(json.loads(bytes(payload))["reason"])
    finally:
        channel.close()

"""Connections of py-amqp, but for its patience."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import amqp  # type: ignore[import-untyped, unused-ignore]
from amqp.method_framing import frame_writer  # type: ignore[import-untyped, unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.kombu.amqp.address import Address

# How long the server may take for an answer or a confirm (seconds).
PATIENCE = 15.0
CONNECT_SECONDS = 5.0


class Connection(amqp.Connection):  # type: ignore[misc, unused-ignore]
    """One that waits for an answer until it is overdue: py-amqp waits on as long as anything comes, as heartbeats do.

    `blocked`: told why the server takes nothing. `output`: has the `write` to be used instead of the transport's.
    """

    def __init__(self, address: Address, connect_seconds: float, heartbeat: int,
                 blocked: Callable[[str], None] | None = None, output: Any = None) -> None:  # fmt: skip
        self.asked = monotonic()
        """When the server was last asked something."""
        self._output = output
        options = {"connect_timeout": connect_seconds, **address.options}
        # Read without another timeout is only what makes a connection, as the handshake of TLS.
        super().__init__(
            heartbeat=heartbeat, on_blocked=blocked, frame_writer=self._writer,
            read_timeout=options["connect_timeout"], write_timeout=PATIENCE, **options,
        )  # fmt: skip

    def _writer(self, _connection: Any, transport: Any) -> Callable[..., None]:
        write = frame_writer(self, self._output or transport)

        def ask(*frame: Any) -> None:
            self.asked = monotonic()
            write(*frame)

        return ask

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Wait for input; who waits for an answer gives no timeout, or connects: then until that is overdue."""
        if timeout is None or not self._handshake_complete:
            timeout = self.asked + (PATIENCE if timeout is None else timeout) - monotonic()
            if timeout <= 0:
                raise TimeoutError("the server does not answer")
        return super().blocking_read(timeout)

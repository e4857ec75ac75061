"""Runs the page: one socket, one process, until Ctrl-C."""

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from langchain_finops.budgets.policy import Budget
from langchain_finops.dashboard.access import Access
from langchain_finops.dashboard.app import make_app
from langchain_finops.errors import BadArguments
from langchain_finops.ledger.sql import SqlLedger

__all__ = ["serve"]

GRACE_S = 5
"""How long requests in flight may take once it is to end."""


SWITCH_S = 0.001
"""How long sums may keep an answer waiting each time that it needs the interpreter: a fifth of the default."""


class _Server(uvicorn.Server):
    """Ends the streams of those who watch, which would else keep it from ending."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def serve(
    ledger: SqlLedger,
    access: Access,
    *,
    port: int,
    budgets: tuple[Budget, ...] = (),
    ready: Callable[[str], None],
) -> None:
    """Serve the page until a signal ends it; `ready` is told its address once it answers.

    Raises BadArguments where the address cannot be used. Port 0 takes a free one.
    """
    listening = _listening(access.host, port)
    app = make_app(ledger, access, budgets=budgets)

    def end_streams() -> None:
        app.state.closing = True

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
    )
    with listening:
        name = f"[{access.host}]" if ":" in access.host else access.host
        sys.setswitchinterval(SWITCH_S)
        ready(f"http://{name}:{listening.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends.
            _Server(config, end_streams).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)  # IPv6 addresses have four parts
    except (OSError, OverflowError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise BadArguments(
            f"cannot listen on {host} port {port}: {said}. Choose others with --host and --port, or end what uses it"
        ) from error

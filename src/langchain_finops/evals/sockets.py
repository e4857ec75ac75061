"""Keeps an attempt that is replayed off the network: what no HTTP client asked for, no recording can answer.

HTTP clients are caught before they open a connection, so what gets here is a database, a socket of the target's own, a
client that nobody records. Only who is in a slot is refused: the ledger, uploads and the event loop go their way.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any
from unittest import mock

__all__ = ["Passes", "Refuse", "blocking"]

Refuse = Callable[[str], BaseException | None]
"""The error for a connection to `host:port`, or None where whoever asks may open it."""
Passes = Callable[[str, int | None], bool]
"""Whether anybody may connect to this host and port."""

AWAY = (socket.AF_INET, socket.AF_INET6)
"""Families that leave the machine; Unix sockets do not."""

_PAIRING: ContextVar[bool] = ContextVar("finops_pairing", default=False)
"""Within `socket.socketpair`, which connects over TCP on Windows: an event loop wakes itself by such a pair."""


class _Guard:
    """Tells for each address whether it may be reached."""

    def __init__(self, refuse: Refuse, passes: Passes) -> None:
        self._refuse, self._passes = refuse, passes
        self._passed: set[tuple[object, object]] = set()
        """Addresses of hosts that pass: a connection names these alone."""

    def look_up(self, host: object, port: object) -> None:
        """Raise where a name is looked up that only the network knows: without one, that would fail unexplained."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if isinstance(name, str) and not _is_known_here(name) and not self._passes(name, _number(port)):
            self._raise(name, port)

    def found(self, host: object, port: object, entries: list[Any]) -> None:
        """Note the addresses of a host that passes."""
        if isinstance(host, str) and self._passes(host, _number(port)):
            self._passed |= {tuple(entry[4][:2]) for entry in entries}

    def connect(self, sock: socket.socket, address: object) -> None:
        """Raise where a connection leaves the machine."""
        if sock.family not in AWAY or not isinstance(address, tuple) or len(address) < 2 or _PAIRING.get():
            return
        host, port = address[:2]
        if (host, port) not in self._passed and not self._passes(str(host), _number(port)):
            self._raise(host, port)

    def _raise(self, host: object, port: object) -> None:
        where = f"[{host}]" if ":" in str(host) else f"{host}"
        error = self._refuse(where if port in (None, "") else f"{where}:{port}")
        if error is not None:
            raise error


def blocking(refuse: Refuse, passes: Passes) -> Iterator[AbstractContextManager[object]]:
    """Patches that refuse connections and look-ups while they are entered, and leave nothing behind."""
    guard = _Guard(refuse, passes)
    real = socket.socket
    yield mock.patch.object(real, "connect", _connecting(guard, real.connect))
    yield mock.patch.object(real, "connect_ex", _connecting(guard, real.connect_ex))
    yield mock.patch.object(real, "sendto", _sending(guard, real.sendto, at=1))
    if hasattr(real, "sendmsg"):  # Windows has none.
        yield mock.patch.object(real, "sendmsg", _sending(guard, real.sendmsg, at=3))
    yield mock.patch.object(socket, "socketpair", _pairing(socket.socketpair))
    yield mock.patch.object(socket, "getaddrinfo", _looking_up(guard, socket.getaddrinfo))
    loop = asyncio.BaseEventLoop  # It looks names up in a thread that knows of no slot.
    yield mock.patch.object(loop, "getaddrinfo", _looking_up_async(guard, loop.getaddrinfo))


def _connecting(guard: _Guard, connect: Callable[..., Any]) -> Callable[..., Any]:
    def checked(sock: socket.socket, address: Any) -> Any:
        try:
            guard.connect(sock, address)
        except BaseException:
            sock.close()  # socket.create_connection closes it after an OSError alone.
            raise
        return connect(sock, address)

    return checked


def _sending(guard: _Guard, send: Callable[..., Any], *, at: int) -> Callable[..., Any]:
    """Datagrams name their address as the last argument, if they do."""

    def checked(sock: socket.socket, *arguments: Any) -> Any:
        if len(arguments) > at:
            guard.connect(sock, arguments[-1])
        return send(sock, *arguments)

    return checked


def _pairing(pair: Callable[..., Any]) -> Callable[..., Any]:
    def marked(*arguments: Any, **named: Any) -> Any:
        token = _PAIRING.set(True)
        try:
            return pair(*arguments, **named)
        finally:
            _PAIRING.reset(token)

    return marked


def _looking_up(guard: _Guard, look_up: Callable[..., Any]) -> Callable[..., Any]:
    def checked(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        guard.look_up(host, port)
        entries = look_up(host, port, *arguments, **named)
        guard.found(host, port, entries)
        return entries

    return checked


def _looking_up_async(guard: _Guard, look_up: Callable[..., Any]) -> Callable[..., Any]:
    async def checked(loop: asyncio.AbstractEventLoop, host: Any, port: Any, **named: Any) -> Any:
        guard.look_up(host, port)
        return await look_up(loop, host, port, **named)

    return checked


def _is_known_here(host: str) -> bool:
    """Whether no network is asked for its address; a connection to it is looked at by itself."""
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _number(port: object) -> int | None:
    try:
        return int(str(port))
    except ValueError:
        return None

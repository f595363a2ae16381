"""The server of the viewer's page: viser, which other pages of the browser and other machines do not reach.

viser listens on all addresses, tells everybody who is connected how to open a tunnel to the outside, and lets any page
that is open in the same browser connect to it. A recording shows people, so none of it is left like that here.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import ipaddress
import socket
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import viser
import websockets.asyncio.server

from core.errors import InputError


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def is_own_page(origin: str | None, host: str | None) -> bool:
    """Whether a connection comes from the page that this server served: `Origin` and `Host` are the same place.

    A site that points its own name at this machine has both alike: so the place must be an address, or this machine's
    name. Programs send no `Origin`; it is browsers that lend themselves to others' pages.
    """
    if origin is None:
        return True
    asked, page = urlsplit(f"//{host or ''}"), urlsplit(origin)
    try:
        if page.scheme not in ("http", "https") or (page.hostname, page.port) != (asked.hostname, asked.port):
            return False
        name = page.hostname or ""
        if name in ("localhost", socket.gethostname().lower(), socket.getfqdn().lower()):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Server(viser.ViserServer):
    def request_share_url(self, verbose: bool = True) -> str | None:
        """No tunnel to the outside, whoever asks."""
        return None


def serve(host: str, port: int, title: str) -> viser.ViserServer:
    """Starts the server.

    Args:
        host: address to listen on; pages of other sites cannot connect, though the browser could.
        port: the next free one is taken if it is not free.
        title: of the page.

    Raises:
        InputError: if the address is not this machine's, or the port none.
    """
    if not 0 <= port < 2**16:
        raise InputError("--port", f"{port} is no port", "give a number from 1024 to 65535")
    try:  # viser would wait for ever
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise InputError("--host", f"{host}: {error.strerror}", "give an address of this machine") from error
    with _own_pages_alone(), contextlib.redirect_stdout(io.StringIO()):
        return _Server(host=host, port=port, label=title, verbose=False)


def stop(server: viser.ViserServer) -> None:
    """Ends the server."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


@contextlib.contextmanager
def _own_pages_alone() -> Iterator[None]:
    """Makes servers that start in the block refuse connections from pages of other sites."""
    server: Any = websockets.asyncio.server
    plain = server.serve
    server.serve = partial(_serve_own_pages, plain)
    try:
        yield
    finally:
        server.serve = plain


def _serve_own_pages(plain: Any, *arguments: Any, process_request: Any = None, **options: Any) -> Any:
    """`websockets.serve` that asks where each connection comes from before anything else."""

    async def checked(connection: Any, request: Any) -> Any:
        if not is_own_page(request.headers.get("Origin"), request.headers.get("Host")):
            return connection.respond(HTTPStatus.FORBIDDEN, "this page belongs to another site\n")
        answer = None if process_request is None else process_request(connection, request)
        return await answer if inspect.isawaitable(answer) else answer

    return plain(*arguments, process_request=checked, **options)

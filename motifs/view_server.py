"""The server of the viewer's page: viser, which other pages of the browser and other machines do not reach.

viser listens on all addresses, tells everybody who is connected how to open a tunnel to the outside, and lets any page
that is open in the same browser connect to it. A recording shows people, so none of it is left like that here.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import viser
import websockets.asyncio.server

from core.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OWN_PAGES = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


class _Server(viser.ViserServer):
    def request_share_url(self, verbose: bool = True) -> str | None:
        """No tunnel to the outside, whoever asks."""
        return None


def serve(host: str, port: int, title: str) -> viser.ViserServer:
    """Starts the server.

    Args:
        host: address to listen on; on the loopback, pages of other sites cannot connect, though the browser could.
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
    with _own_pages_alone(host in LOOPBACK), contextlib.redirect_stdout(io.StringIO()):
        return _Server(host=host, port=port, label=title, verbose=False)


def stop(server: viser.ViserServer) -> None:
    """Ends the server."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


@contextlib.contextmanager
def _own_pages_alone(wanted: bool) -> Iterator[None]:
    """Makes servers that start in the block refuse connections from pages of other sites (`Origin`)."""
    if not wanted:
        yield
        return
    server: Any = websockets.asyncio.server
    plain = server.serve
    server.serve = partial(plain, origins=[None, _OWN_PAGES])
    try:
        yield
    finally:
        server.serve = plain

"""A TCP proxy before a server that ends it, or what you like, in the middle of an answer."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable


class Cutter:
    """Passes connections on; cuts the one whose request fits what it was told.

    Parameters
    ----------
    port
        Of the server behind, on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._armed: tuple[re.Pattern[bytes], int, Callable[[], object]] | None = None
        self.cut = threading.Event()
        self.seen: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, pattern: bytes, after: int, action: Callable[[], object]) -> None:
        """Cut once: a request that fits `pattern`, after so many bytes of its answer."""
        self.cut.clear()
        self._armed = (re.compile(pattern), after, action)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._target))
            left: list[int | None] = [None]
            with server:
                back = threading.Thread(
                    target=self._answer, args=(server, client, left), daemon=True
                )
                back.start()
                while data := client.recv(1 << 16):
                    self.seen.append(data[:300])
                    if self._armed and self._armed[0].search(data):
                        left[0] = self._armed[1]
                        if left[0] == 0:
                            self._cut(client, server)
                            return
                    server.sendall(data)
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_WR)
                back.join()

    def _answer(self, server: socket.socket, client: socket.socket, left: list[int | None]) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 12):
                rest = left[0]
                if rest is not None and len(data) >= rest:
                    client.sendall(data[:rest])
                    self._cut(client, server)
                    return
                if rest is not None:
                    left[0] = rest - len(data)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def _cut(self, *ends: socket.socket) -> None:
        if self._armed is None:
            return
        action, self._armed = self._armed[2], None
        action()
        self.cut.set()  # before anybody can notice
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

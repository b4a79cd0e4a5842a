"""A way to a server that can be closed, and opened again at the same port: to its clients, the server is away."""

import socket
import threading
from contextlib import suppress

Address = tuple[str, int]


class Forwarder:
    """Forwards TCP from a port on loopback; once it is closed, connections are cut and new ones refused.

    It closes by itself where ``until`` is about to pass, which then never arrives.
    """

    def __init__(self, target: Address, *, port: int = 0, until: bytes | None = None) -> None:
        self.target = target
        self.until = until
        self.closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._open = {self._listener}
        self._changing = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut all connections, and refuse new ones."""
        with self._changing:
            self.closed.set()
            for each in self._open:
                _close(each)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection(self.target)
        with self._changing:
            self._open |= {client, server}
            if self.closed.is_set():
                _close(client)
                _close(server)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pipe, args=(source, sink), daemon=True).start()

    def _pipe(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # one of them is closed
            while data := source.recv(1 << 16):
                if self.until is not None and self.until in data:
                    self.close()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def _close(each: socket.socket) -> None:
    with suppress(OSError):  # its peer was faster
        each.shutdown(socket.SHUT_RDWR)
    each.close()

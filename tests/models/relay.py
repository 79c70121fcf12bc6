"""A network between a client and a server that can be made to drop everything."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes on to an address, as long as it is not frozen."""

    def __init__(self, address: tuple[str, int], listener: socket.socket | None = None) -> None:
        self._address = address
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        self._forgotten: list[socket.socket] = []
        self._sender: socket.socket | None = None
        self.turns = 0
        """How often the direction changed: twice for each round trip on a single connection."""
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port of this machine that leads to the address."""
        port: int = self._listener.getsockname()[1]
        return port

    def freeze(self) -> None:
        """Keep connections open and let nothing through, like a paused server."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let everything through again, also what came meanwhile."""
        self._flows.set()

    def lead_to(self, host: str, port: int) -> None:
        """Route new connections to another address, like a virtual address after a failover."""
        self._address = (host, port)

    def forget(self) -> None:
        """Swallow all on the connections that there are, like a firewall that lost its state."""
        self._forgotten = list(self._sockets)

    def close(self) -> None:
        """Cut all connections."""
        self.thaw()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._address)
                except ConnectionRefusedError:
                    client.close()
                    continue
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                self.turns += source is not self._sender
                self._sender = source
                if source not in self._forgotten:
                    sink.sendall(data)
        # Also after a reset, as when a process was killed.
        with suppress(OSError):
            if source not in self._forgotten:
                sink.shutdown(socket.SHUT_WR)


@contextmanager
def relay_to(host: str, port: int) -> Iterator[Relay]:
    """Open a relay for the block."""
    relay = Relay((host, port))
    try:
        yield relay
    finally:
        relay.close()

"""A loopback server that sends scripted bytes, made of sockets and threads; and its TLS.

`handler(peer)` runs in a thread of its own for each connection. The `with` block of the server, if
it does not raise itself, ends by raising the first exception of a handler again. So an assertion in
a handler fails the test. A `ConnectionError` of a handler is ignored.

    def handler(peer):
        request = peer.read_request()
        peer.send(reply(b"hello"))

    with ScriptedServer(handler) as server:
        ...server.url...
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import trustme

PATIENCE = 60.0
"""Seconds after which a handler gives up on its client."""

CHUNKED = ("Transfer-Encoding", "chunked")


@dataclass
class ReceivedRequest:
    """A request as it was received; `request["x-name"]` is the value of a header field.

    The case of the name does not matter. Of a repeated field, this is the last value. `head` is the
    bytes of the head, without the blank line.
    """

    method: str
    target: str
    headers: List[Tuple[str, str]]
    body: bytes
    head: bytes

    def __getitem__(self, name: str) -> str:
        return {key.lower(): value for key, value in self.headers}[name.lower()]

    def __contains__(self, name: str) -> bool:
        return any(key.lower() == name.lower() for key, _ in self.headers)


class Peer:
    """An accepted connection, for its handler."""

    def __init__(self, sock: socket.socket, server: ScriptedServer, number: int) -> None:
        self.sock = sock
        self.server = server
        self.number = number
        """The number of the connection, from 0."""
        self._buffer = bytearray()

    def read_request(self) -> Optional[ReceivedRequest]:
        """Return the next whole request; `None` if the connection ends before.

        Raises `OSError` after PATIENCE seconds without data.
        """
        try:
            head = self._until(b"\r\n\r\n")
            start, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = start.split(" ")
            fields = [(name, value.strip()) for name, _, value in (x.partition(":") for x in lines)]
            request = ReceivedRequest(method, target, fields, b"", head)
            request.body = self._body(request)
        except EOFError:
            return None
        with self.server.lock:
            self.server.requests.append(request)
        return request

    def _body(self, request: ReceivedRequest) -> bytes:
        if CHUNKED[0] not in request:
            return self._take(int(request["content-length"]) if "content-length" in request else 0)
        body = bytearray()
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            body += self._take(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        return bytes(body)

    def _until(self, end: bytes) -> bytes:
        while (length := self._buffer.find(end)) < 0:
            self._receive()
        return self._take(length + len(end))[:length]

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._receive()
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _receive(self) -> None:
        """Receive more bytes. Raise `EOFError` if either side has ended the connection.

        Raises `OSError` after PATIENCE seconds without data.
        """
        try:
            data = self.sock.recv(65536)
        except (OSError, ValueError) as error:
            shut_down = self.sock.fileno() == -1 or self.server.leaving
            if shut_down or isinstance(error, ConnectionError):
                raise EOFError from error
            raise
        if not data:
            raise EOFError
        self._buffer += data

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.sock.sendall(data)

    def close(self) -> None:
        """End the connection cleanly: with `close_notify` under TLS, then FIN."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def has_hung_up(self) -> bool:
        """Return at once whether the client has closed or reset the connection.

        Bytes that were received and not read yet count as an open connection. Only for connections
        without TLS.
        """
        try:
            ready, _, _ = select.select([self.sock], [], [], 0)
            return bool(ready) and not self.sock.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def wait_closed(self) -> None:
        """Receive what the client sends until the connection ends.

        Raises `OSError` after PATIENCE seconds without data.
        """
        with contextlib.suppress(EOFError):
            while True:
                self._receive()


Handler = Callable[[Peer], Any]


class ScriptedServer:
    """A loopback server of scripted bytes.

    `tls` is a server-side context; `host` is the name or address to listen on.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        tls: Optional[ssl.SSLContext] = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.handler = handler
        self.leaving: bool = False
        """Whether its sockets are being shut down."""
        self.requests: List[ReceivedRequest] = []
        self.errors: List[BaseException] = []
        self.connections: int = 0
        """The number of connections so far."""
        self.open_connections: int = 0
        self.most_open: int = 0
        """The highest number of connections at the same time."""
        self.lock: threading.Lock = threading.Lock()
        self._tls = tls
        self._peers: Dict[Peer, threading.Thread] = {}
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        scheme = "https" if tls else "http"
        shown = f"[{host}]" if ":" in host else host
        self.url: str = f"{scheme}://{shown}:{self.port}"

    def is_left(self) -> bool:
        """Return at once whether no connection is being served now."""
        return not self.open_connections

    def __enter__(self) -> ScriptedServer:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.leaving = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # This wakes a blocked accept().
        self._listener.close()
        self._acceptor.join(PATIENCE)
        for peer, thread in list(self._peers.items()):
            with contextlib.suppress(OSError):
                # The method of the plain socket wakes the thread of the handler, even under TLS.
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
            thread.join(PATIENCE)
            peer.sock.close()
        if self.errors and kind is None:
            raise self.errors[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            with self.lock:
                peer = Peer(sock, self, self.connections)
                self.connections += 1
                self.open_connections += 1
                self.most_open = max(self.most_open, self.open_connections)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._peers[peer] = thread
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._tls:
                try:
                    peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
                except OSError:  # The client has refused the handshake.
                    return
            self.handler(peer)
        except ConnectionError:
            pass  # The client has closed the connection.
        except BaseException as error:
            self.errors.append(error)
        finally:
            if peer.sock.fileno() != -1:
                peer.close()
            with self.lock:
                self.open_connections -= 1


def reply(
    body: bytes = b"",
    *,
    status: str = "200 OK",
    headers: Sequence[Tuple[str, str]] = (),
    length: bool = True,
) -> bytes:
    """Return the bytes of one HTTP/1.1 response; `length` adds a Content-Length."""
    fields = list(headers)
    if length:
        fields.append(("Content-Length", str(len(body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


HEAD_CHUNKED = reply(headers=[CHUNKED], length=False)
"""The head of a response with a chunked body."""


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; `chunk(b"")` ends the body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def echo(peer: Peer) -> None:
    """Answer each request with its own body, until the client closes the connection."""
    while (request := peer.read_request()) is not None:
        peer.send(reply(request.body))


def answering(*replies: bytes, then: Handler = Peer.wait_closed) -> Handler:
    """Return a handler that answers the first request with the first of `replies`, and so on.

    After the last of `replies`, it calls `then`: by default, it waits until the client closes the
    connection. It does not call `then` if the client closes the connection before.
    """

    def handler(peer: Peer) -> None:
        for data in replies:
            if peer.read_request() is None:
                return
            peer.send(data)
        then(peer)

    return handler


class Authority:
    """A temporary certificate authority for loopback servers and clients.

    Its files are in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Its annotations name types of packages that may not be installed, hence `Any`.
        self._authority: Any = trustme.CA()
        self.file: str = str(folder / "authority.pem")
        """The path of the certificate that a client must trust."""
        self._authority.cert_pem.write_to_path(self.file)

    def server_context(
        self, host: str = "127.0.0.1", *, asks_for_client: bool = False
    ) -> ssl.SSLContext:
        """Return the TLS context of a server with a certificate for `host`.

        With `asks_for_client`, the server accepts only clients with a certificate of this
        authority.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(context)
        if asks_for_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self._authority.configure_trust(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts this authority and those of the system."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    def client_certificate(self, name: str) -> Tuple[str, str]:
        """Issue a certificate for a client. Return the paths of the certificate and of its key.

        `name` is the common name in it. The next call overwrites both files.
        """
        issued = self._authority.issue_cert(common_name=name)
        certificate, key = self._folder / "client.pem", self._folder / "client.key"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)

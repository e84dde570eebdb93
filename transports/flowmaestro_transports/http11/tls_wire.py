"""TLS over a wire that never waits. Loads `ssl`, which plain HTTP does not need.

May touch: the socket of the wire.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import suppress
from typing import List, Optional

from flowmaestro_transports.http11.wire import CLEAN_END, READ_SIZE, IOSteps, Wire, WireEnd

_RECORD = 16 * 1024
"""The most bytes of content in a TLS record (RFC 8446, 5.1)."""
_RECORD_HEADER = 5
"""Bytes before the content of a TLS record."""
_NAME_MISMATCH = (62, 64)
"""The codes of OpenSSL for a certificate of another host name, and of another IP address."""
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")
"""The object identifier of the extension, 2.5.29.17, as certificates encode it."""


class TlsWire(Wire):
    """TLS with `host` over another wire, which may be TLS itself. Call `handshake` first.

    Raises `ValueError` for a name that `ssl` refuses, such as an empty one.
    """

    __slots__ = (
        "_accepted",
        "_arrived",
        "_header",
        "_leaving",
        "_outer",
        "_record_left",
        "_tls",
        "_unsent",
        "end",
    )

    def __init__(self, outer: Wire, context: ssl.SSLContext, host: str) -> None:
        super().__init__(outer.sock)
        self._outer = outer
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._accepted = 0
        # How much of a record has not arrived yet. OpenSSL holds the part that has, and does not
        # say so.
        self._record_left: int = 0  # bytes of its content
        self._header: bytes = b""  # what has arrived of its header, if that is not complete
        self.end: Optional[WireEnd] = None  # TLS may end before its connection does.
        # As in certificates: without a scope, and without a trailing dot (RFC 6066, 3).
        name = host.partition("%")[0] if ":" in host else host.rstrip(".")
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=name)

    def handshake(self) -> IOSteps[None]:
        """Do the handshake. Raises `OSError`, such as `ssl.SSLError`."""
        while True:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError as error:
                with suppress(OSError):
                    self._flush()  # Send the alert, which tells the peer why.
                if getattr(error, "verify_code", None) in _NAME_MISMATCH:
                    error.strerror = f"{error.strerror}{self._name_hint()}"
                raise
            while not self._flush():
                yield self.writable
            if done:
                return
            while not self._fill():
                yield self.readable

    def _name_hint(self) -> str:
        """Return why the certificate is not valid for the host's name; `""` if unknown.

        The text ends an error message. It covers certificates without a subjectAltName, which
        common commands still make by default: the common name used to be enough.
        """
        if sys.version_info >= (3, 13):
            chain = self._tls.get_unverified_chain()
            if chain and _SUBJECT_ALT_NAME not in chain[0]:
                return "; the certificate has no subjectAltName"
        elif not self._tls.context.hostname_checks_common_name:
            return (
                "; the certificate has no such subjectAltName, and its common name does not count"
            )
        return ""

    def receive(self) -> Optional[bytes]:
        """Return what has arrived, decrypted; `b""` once the peer has sent `close_notify`.

        Return None if no content has arrived. Raises `OSError` if the socket or TLS fails:
        `ssl.SSLError` if the connection ends without `close_notify`. Content that TLS has decrypted
        before its own error is returned first.
        """
        if self.end is None and not self._fill():
            return None
        records: List[bytes] = []
        while self.end is None:
            try:
                record = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                # An error here must not lose the records. The next receive or send reports it.
                with suppress(OSError):
                    self._flush()
                return b"".join(records) or None
            except OSError as error:
                self.end = WireEnd(error)
            else:
                if not record:
                    self.end = CLEAN_END  # The peer has sent `close_notify`.
                records.append(record)
        if self.end.failure is not None and not records:
            raise self.end.failure
        return b"".join(records)

    def send(self, data: memoryview) -> int:
        """Encrypt and send the beginning of `data`. Return how many of its bytes were sent.

        After 0, call it again with the same data.
        """
        if not self._accepted:
            self._accepted = self._tls.write(data[:_RECORD])
        if not self._flush():
            return 0
        count, self._accepted = self._accepted, 0
        return count

    def is_silent(self) -> bool:
        """Return whether an idle connection may be reused.

        Return False if the peer has closed the connection, or has sent bytes on it. A part of a TLS
        record counts as well: its rest may complete an unsolicited response.
        """
        between_records = not self._record_left and not self._header
        return self.end is None and between_records and self._outer.is_silent()

    def close(self) -> None:
        """Close at once, without sending `close_notify`. Closing twice is harmless."""
        self._outer.close()

    def _fill(self) -> bool:
        """Pass what has arrived to TLS: bytes, or the end of the connection.

        Return False if neither has arrived.
        """
        data = self._outer.receive()
        if data:
            self._arrived.write(data)
            self._follow_records(data)
        elif data is not None:
            self._arrived.write_eof()
        return data is not None

    def _follow_records(self, data: bytes) -> None:
        """Compute how many bytes of the last record in `data` have not arrived yet."""
        data = self._header + data
        size, position = len(data), self._record_left
        while position + _RECORD_HEADER <= size:
            # A header ends with the length of the content, in two bytes (RFC 8446, 5.1).
            position += _RECORD_HEADER + (data[position + 3] << 8) + data[position + 4]
        self._record_left = max(position - size, 0)
        self._header = data[position:]

    def _flush(self) -> bool:
        """Send pending TLS records. Return whether all of them were sent."""
        while self._unsent or self._leaving.pending:
            if not self._unsent:
                self._unsent = memoryview(self._leaving.read())
            count = self._outer.send(self._unsent)
            if not count:
                return False
            self._unsent = self._unsent[count:]
        return True

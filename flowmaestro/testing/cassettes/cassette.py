"""`Cassette`: the file, its mode, and the transports that record it or replay it."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import (
    Generator,
    List,
    Literal,
    Optional,
    Type,
    TypeVar,
    Union,
    get_args,
)

from flowmaestro.testing.cassettes import jsonlines
from flowmaestro.testing.cassettes.jsonlines import CassetteError, RecordedExchange
from flowmaestro.testing.cassettes.player import Player
from flowmaestro.testing.cassettes.recorder import (
    AsyncRecordingTransport,
    Recording,
    RecordingTransport,
)
from flowmaestro.testing.cassettes.redaction import Redact, Redaction
from flowmaestro.testing.fake.scripting import UnusedScriptWarning
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro.testing.virtual.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro_transports.contract import (
    AsyncFunction,
    AsyncTransport,
    SyncFunction,
    Transport,
)
from flowmaestro_transports.functions import as_async_transport, as_transport
from flowmaestro_transports.override import override_transport

Mode = Literal["none", "once", "new_episodes", "all"]
C = TypeVar("C", bound="Cassette")


class Cassette:
    """Exchanges with the service in a file, recorded through any transport, replayed without one.

        with Cassette("tests/cassettes/invoice.jsonl") as cassette, cassette.installed():
            client = FlowMaestroClient()

    A response is replayed in virtual time, without a socket, in the same pieces as the client read
    it. A request is recognised by its method, path, query and body. Recorded exchanges are
    written when the cassette is closed. The file is replaced atomically, and keeps its permissions;
    a symbolic link stays a link. If the `with` block raises, as in a test that fails, nothing is
    written.

    In the file, credentials are `***`: the API key, secret header fields and query parameters,
    secrets of webhooks, and members of JSON that are named like a credential.

    Args:
        path: the file, JSON Lines. Missing folders are created.
        mode: `none` only replays; `once` replays the file if it exists, else records it;
            `new_episodes` replays the exchanges in the file and records others; `all` records
            everything again and replaces the file. The names are those of VCR.
        redact: a function that gets a text, such as a body, a URL or the value of a header
            field, and returns the parts of it that must be redacted as well. For example,
            `re.compile("[a-z]+@example.com").findall` redacts e-mail addresses. Pass the same
            function when the cassette is replayed.
        strict: whether closing a cassette that only replays raises `AssertionError` if some of its
            exchanges were not replayed. By default, it warns with `UnusedScriptWarning`.

    Raises:
        CassetteError: the file is damaged, of an unknown version, not a regular file, or
            missing in the mode `none`; or the cassette records and the folder is not writable.
        TypeError, ValueError: `path`, `mode` or `redact` has a wrong type or value.
        OSError: the file cannot be read, or its name is too long.

    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        mode: Mode = "once",
        redact: Optional[Redact] = None,
        strict: bool = False,
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.path: Path = Path(path)
        self._file = Path(os.path.realpath(self.path))
        self._mode = self._check_regular()
        self.mode: Mode = mode
        self._strict = strict
        self._redaction = Redaction(redact)
        self._recording = Recording()
        self._loaded = [] if mode == "all" else self._load()
        self.recording: bool = mode in ("all", "new_episodes") or (
            mode == "once" and self._mode is None
        )
        """Whether requests may reach the service."""
        if self.recording:
            self._check_folder()
        self._player = Player(self.path, self._loaded, self._redaction)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Cassette {str(self.path)!r}, mode {self.mode!r}>"

    @property
    def clock(self) -> VirtualClock:
        """The virtual clock of replayed exchanges."""
        return self._player.clock

    @property
    def api_key(self) -> str:
        """The API key of clients that are made in `installed` without a key.

        Raises `ValueError` if the cassette records: then clients need a real key.
        """
        if self.recording:
            raise ValueError(
                "no API key to record with: pass api_key= or set FLOWMAESTRO_API_KEY; "
                "it is not written to the cassette"
            )
        # A text of this form is `***` in every cassette, so a request that holds it is recognised.
        return "fm_live_replayed"

    def transport(self, through: Union[Transport, SyncFunction, None] = None) -> Transport:
        """Return a new transport for a sync client.

        If the cassette records (`mode`), requests that it cannot replay are sent through the
        transport `through` and recorded; by default, through a new `SocketTransport`. When
        the new transport is closed, it closes `through`. If the cassette only replays, `through` is
        not used, and such requests raise `CassetteMismatch`.
        """
        replaying = MemoryTransport(self._player)
        if not self.recording:
            return replaying
        from flowmaestro_transports import SocketTransport

        inner = SocketTransport() if through is None else as_transport(through)
        return RecordingTransport(inner, self._recording, replaying if self._loaded else None)

    def async_transport(
        self, through: Union[AsyncTransport, AsyncFunction, None] = None
    ) -> AsyncTransport:
        """Return a new transport for an async client, on asyncio and trio.

        If the cassette records (`mode`), requests that it cannot replay are sent through the
        transport `through` and recorded; by default, through a new `AnyioTransport`. When
        the new transport is closed, it closes `through`. If the cassette only replays, `through` is
        not used, and such requests raise `CassetteMismatch`.
        """
        replaying = AsyncMemoryTransport(self._player)
        if not self.recording:
            return replaying
        from flowmaestro_transports import AnyioTransport

        inner = AnyioTransport() if through is None else as_async_transport(through)
        return AsyncRecordingTransport(inner, self._recording, replaying if self._loaded else None)

    @contextmanager
    def installed(self: C, *, allow_network: bool = False) -> Generator[C, None, None]:
        """Have clients made without `transport=` use this cassette in a `with` block.

        The block affects the whole process. A cassette that only replays needs no key. Calls of
        other clients raise `RuntimeError`, unless `allow_network` is true.
        """
        with override_transport(self, allow_network=allow_network):
            yield self

    def report(self) -> str:
        """Return a text for a failed test: which requests of the file were not replayed.

        If the cassette records, the text says that instead.
        """
        if self.recording:
            return f"{self!r} was recording; nothing is written when the test fails"
        lines = ", ".join(str(exchange.line) for exchange in self._player.unplayed)
        return f"{self!r} has not replayed: {f'the requests in line {lines}' if lines else 'none'}"

    def close(self) -> None:
        """Write the recorded exchanges to the file. Closing twice is harmless.

        If nothing was recorded, the file stays as it is. But in the mode `all`, a file that existed
        before becomes a cassette without exchanges. If the cassette only replays and some exchanges
        were not replayed, the first `close` warns with `UnusedScriptWarning`, or with `strict`
        raises `AssertionError`.
        """
        secrets = self._recording.secrets()
        recorded = [self._redaction.exchange(it, secrets) for it in self._recording.exchanges()]
        if recorded or (self.mode == "all" and self._mode is not None):
            self._write(jsonlines.written([*self._loaded, *recorded]))
        unplayed = [] if self.recording else self._player.unplayed
        if unplayed and not self._closed:
            self._closed = True
            requests = ", ".join(f"line {it.line} ({it.request.method})" for it in unplayed)
            message = f"not requested in this test: exchanges of {self.path.name} in {requests}"
            if self._strict:
                raise AssertionError(message)
            warnings.warn(message, UnusedScriptWarning, stacklevel=2)

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *exc: object) -> None:
        if kind is None:
            self.close()

    def _load(self) -> List[RecordedExchange]:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            if self.mode == "none":
                raise CassetteError(
                    f"{self.path}: there is no such cassette; record it with mode='once'"
                ) from None
            return []
        return jsonlines.read(str(self.path), data)

    def _check_regular(self) -> Optional[int]:
        """Return the permission bits of the file; `None` if there is no file.

        Raises `CassetteError` if it is not a regular file.
        """
        try:
            mode = os.stat(self._file).st_mode
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(mode):
            raise CassetteError(f"{self.path}: not a regular file")
        return stat.S_IMODE(mode)

    def _check_folder(self) -> None:
        """Raise `CassetteError` now, not after the recording, if the folder cannot be written.

        If the folder is missing, check the nearest folder above it that exists.
        """
        folder = next(it for it in self._file.parents if it.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CassetteError(f"{self.path}: the folder {folder} cannot be written")

    def _write(self, data: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Its name does not extend that of the file, which may be as long as the system allows.
        part = self._file.with_name(f".cassette.{os.getpid()}.{threading.get_ident()}")
        try:
            part.write_bytes(data)
            if self._mode is not None:
                part.chmod(self._mode)
            os.replace(part, self._file)
        finally:
            part.unlink(missing_ok=True)

"""A guard against the network: resolving a name or connecting a socket fails the test.

Starting another program fails it, too. A few operations are allowed: see `NetworkGuard.meet`.

The guard listens to the interpreter's audit events (`sys.addaudithook`), which cover `socket`,
`_socket` and everything on top of them, and the start of other programs. `listen` of a socket and
uvloop's own C code send no audit events, so the guard replaces that method, and methods of uvloop's
event loop. The guard does not see other C code that opens sockets by itself, connections that were
made before, and processes that `multiprocessing` spawns. In a forked child, the same operations
raise, but that does not fail the test.
"""

from __future__ import annotations

import inspect
import socket
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Callable, Generator, List, Optional, Set, Tuple, Type

import pytest

_EVENTS = {
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.getnameinfo",
    "socket.bind",
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
}
_OF_A_SOCKET = ("socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg")
_UVLOOP = (
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "subprocess_exec",
    "subprocess_shell",
)

# Module state, because an audit hook cannot be removed.
_active: List[NetworkGuard] = []
_hooked: List[bool] = []


def _hook(
    event: str,
    args: Tuple[Any, ...],
    guarded: Set[str] = _EVENTS,
    active: List[NetworkGuard] = _active,
) -> None:
    # The defaults are there to the end of the interpreter, which clears the names of this module
    # before it calls this for the last time.
    if event in guarded:
        # Not `active[-1]`: the test may end meanwhile, while a thread of it lives on.
        for guard in active[-1:]:
            guard.meet(event, args)


class NetworkGuard:
    """Fails a test that uses the network in the `with` block of this object.

    A refused operation raises an error that fails the test. It is not an `Exception`, so that
    ordinary handlers do not catch it. If the test catches it all the same, it is raised again at
    the end of the block, unless another exception ends the block. If this object is also registered
    as a pytest plugin, the same happens at the end of the test.
    """

    def __init__(self) -> None:
        self._patches = pytest.MonkeyPatch()
        self._refused: List[BaseException] = []

    def __enter__(self) -> NetworkGuard:
        if not _hooked:
            _hooked.append(True)
            sys.addaudithook(_hook)
        if find_spec("uvloop") is not None:
            loop = import_module("uvloop").Loop
            for name in _UVLOOP:
                self._patches.setattr(loop, name, self._refusing(f"uvloop.Loop.{name}"))
        # Has no audit event. It binds a socket that is not bound.
        listen = socket.socket.listen
        self._patches.setattr(socket.socket, "listen", self._guarding(listen))
        _active.append(self)
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *exc: object) -> None:
        _active.remove(self)
        self._patches.undo()
        if kind is None:
            self._tell()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Run the test, and fail it if the error of a refused operation was swallowed."""
        try:
            result = yield
        except BaseException:
            self._refused.clear()
            raise
        self._tell()
        return result

    def meet(self, event: str, args: Tuple[Any, ...]) -> None:
        """Raise, and so fail the test, for an operation that may use the network.

        `event` and `args` are those of an audit event. Some operations need a socket, but no
        network, such as `socket.socketpair`. They are allowed.
        """
        # Without an address, it is sent over a socket that is connected already.
        if event == "socket.sendmsg" and args[1] is None:
            return
        if event in ("socket.bind", "socket.connect") and _is_within_the_process():
            return
        if event.startswith("socket."):
            self._refuse(event, args[1:] if event in _OF_A_SOCKET else args[:2])
        self._refuse(event, ())  # arguments and environment of a program may hold secrets

    def _refuse(self, what: str, args: Tuple[Any, ...]) -> None:
        __tracebackhide__ = True
        shown = ", ".join(repr(arg) for arg in args if arg is not None)
        refusal = pytest.fail.Exception(f"no network in this test, but {what}({shown})")
        self._refused.append(refusal)
        raise refusal

    def _refusing(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: self._refuse(name, ())

    def _guarding(self, listen: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(it: socket.socket, *args: Any) -> Any:
            if not _is_within_the_process():
                self._refuse("socket.listen", ())
            return listen(it, *args)

        return guarded

    def _tell(self) -> None:
        __tracebackhide__ = True
        if self._refused:
            first, self._refused = self._refused[0], []
            raise pytest.fail.Exception(str(first)) from first


def _is_within_the_process() -> bool:
    """Return whether the caller needs a socket, but no network.

    True within `socket.socketpair`, and within the import of urllib3, which tries to bind to `::1`.
    """
    frame = inspect.currentframe()
    # The hook is called by the guard's frames, and `socketpair` calls `bind` or `connect` itself:
    # these frames are among the next few.
    for _ in range(8):
        frame = frame and frame.f_back
        if frame is None:
            return False
        place = frame.f_globals.get("__name__"), frame.f_code.co_name
        if place in (
            ("socket", "socketpair"),
            ("socket", "_fallback_socketpair"),
            ("urllib3.util.connection", "_has_ipv6"),
        ):
            return True
    return False

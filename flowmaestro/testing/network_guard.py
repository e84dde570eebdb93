"""A guard against the network: who looks up an address, binds or connects a socket is refused.

It watches Python's `socket` module. What reaches the network without it, such as a resolver or
an event loop written in C, is not seen.
"""

from __future__ import annotations

import inspect
import socket
import threading
from types import FrameType
from typing import Any, Callable, Generator, List, Optional, Type

import pytest

_LOOKUPS = ("getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo")
_METHODS = ("bind", "connect", "connect_ex", "sendto")


class NetworkGuard:
    """A `with` block, and a pytest plugin while it lasts, that fails the test in any case.

    The call that is refused raises the failure of the test, which is no `Exception`; if that
    gets lost, the test is failed at its end.
    """

    def __init__(self) -> None:
        self._patches = pytest.MonkeyPatch()
        self._refused: List[BaseException] = []
        self._pairing = threading.local()

    def __enter__(self) -> NetworkGuard:
        for name in _LOOKUPS:
            self._refuse(socket, name, f"socket.{name}", 0)
        for name in _METHODS:
            self._refuse(socket.socket, name, f"a socket's {name}", 1)
        if hasattr(socket.socket, "sendmsg"):
            self._refuse(socket.socket, "sendmsg", "a socket's sendmsg", 4, 1)
        make_pair = socket.socketpair

        def socketpair(*args: Any, **options: Any) -> Any:
            self._pairing.active = True
            try:
                return make_pair(*args, **options)
            finally:
                self._pairing.active = False

        self._patches.setattr(socket, "socketpair", socketpair)
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *exc: object) -> None:
        self._patches.undo()
        if kind is None:
            self._tell()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Run the test, and fail it if what was refused got lost."""
        try:
            result = yield
        except BaseException:
            self._refused.clear()
            raise
        self._tell()
        return result

    def _refuse(self, owner: Any, name: str, shown: str, skipped: int, needed: int = 0) -> None:
        """Refuse calls of a function that have `needed` arguments behind the first `skipped`."""
        original: Callable[..., Any] = getattr(owner, name)

        def refused(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            if (
                getattr(self._pairing, "active", False)
                or len(args) < skipped + needed
                or (name == "bind" and _asks_for_ipv6(inspect.stack(0)[1].frame))
            ):
                return original(*args, **options)
            what = ", ".join(map(repr, args[skipped:]))
            refusal = pytest.fail.Exception(f"no network in this test, but {shown}({what})")
            self._refused.append(refusal)
            raise refusal

        self._patches.setattr(owner, name, refused)

    def _tell(self) -> None:
        __tracebackhide__ = True
        if self._refused:
            first, self._refused = self._refused[0], []
            raise pytest.fail.Exception(str(first)) from first


def _asks_for_ipv6(caller: FrameType) -> bool:
    """Whether urllib3 is being imported, and binds a socket to see whether there is IPv6."""
    name, function = caller.f_globals.get("__name__"), caller.f_code.co_name
    return (name, function) == ("urllib3.util.connection", "_has_ipv6")

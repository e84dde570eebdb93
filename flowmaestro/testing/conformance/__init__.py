"""The conformance kit: checks of the transports, the drivers and the stores that others write.

Derive a class with a factory of your transport, and run it with pytest:

    from flowmaestro.testing.conformance import TransportConformance

    class TestMine(TransportConformance):
        def make_transport(self, **options):
            return MyTransport(**options)

The kit starts servers on loopback, with and without TLS, and servers that send scripted bytes. A
check that fails says what is wrong and why that matters. A check of an optional feature that the
transport does not offer is skipped; the reason says what users lack. A check that cannot apply, as
one of cancellation to a sync transport, makes no test. Needs `pip install 'flowmaestro[testing]'`.

`pytest -p flowmaestro.testing.conformance.grid` prints which check passed on which transport.

`check_driver` (`drivers.py`), `check_store` and `check_async_store` (`stores.py`) are imported from
`flowmaestro.testing`, and need no extra. So the names here are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowmaestro.testing.conformance.expectations import CheckFailed, NotOffered
    from flowmaestro.testing.conformance.site import LiveReply
    from flowmaestro.testing.conformance.suite import (
        AsyncTransportConformance,
        TransportConformance,
    )

__all__ = [
    "AsyncTransportConformance",
    "CheckFailed",
    "LiveReply",
    "NotOffered",
    "TransportConformance",
]

_HOME = {
    "AsyncTransportConformance": "suite",
    "CheckFailed": "expectations",
    "LiveReply": "site",
    "NotOffered": "expectations",
    "TransportConformance": "suite",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("pytest")
        import_module("trustme")
    except ImportError as error:
        raise ImportError(
            f"{__name__} needs {error.name}: pip install 'flowmaestro[testing]'", name=error.name
        ) from error
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__

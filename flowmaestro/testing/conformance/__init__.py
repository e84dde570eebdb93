"""The conformance kit: checks whether a transport keeps each rule of the contract.

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
"""

from __future__ import annotations

from importlib import import_module

try:
    import_module("pytest")
    import_module("trustme")
except ImportError as _error:
    raise ImportError(
        f"flowmaestro.testing.conformance needs {_error.name}: pip install 'flowmaestro[testing]'",
        name=_error.name,
    ) from _error

from flowmaestro.testing.conformance.expectations import CheckFailed, NotOffered
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro.testing.conformance.suite import AsyncTransportConformance, TransportConformance

__all__ = [
    "AsyncTransportConformance",
    "CheckFailed",
    "LiveReply",
    "NotOffered",
    "TransportConformance",
]

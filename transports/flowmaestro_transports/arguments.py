"""What the constructors of the transports take, checked there. May touch: the environment."""

from __future__ import annotations

from typing import Optional, Tuple

from flowmaestro_core.arguments import check_count
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.tls import ClientCert, TlsContext, Verify, tls_when_needed


def network_options(
    verify: Verify,
    client_cert: Optional[ClientCert],
    proxy: Optional[str],
    trust_env: bool,
    max_connections: int,
) -> Tuple[TlsContext, Proxies]:
    """What a transport without a session goes by. Raises what its constructor raises."""
    check_count("max_connections", max_connections)
    tls = tls_when_needed(verify, client_cert, trust_env=trust_env)
    return tls, Proxies(proxy, trust_env=trust_env)


def check_session(session: object, kind: type, max_connections: int, *others: object) -> None:
    """Check a session of this `kind`. Raises what the constructor of its transport raises.

    `others` are `verify`, `client_cert`, `proxy` and `trust_env`, which it has itself.
    """
    check_count("max_connections", max_connections)
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")
    if others != (True, None, None, True):
        raise ValueError("verify, client_cert, proxy and trust_env belong to the session")

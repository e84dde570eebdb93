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


def check_session(session: object, kind: type) -> None:
    """Raise `TypeError`, naming the argument, for a session that is not of this `kind`."""
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")

"""Whom a transport trusts over TLS, and what it shows of itself: one policy for all of them.

`ssl` is loaded with the first context (`contexts`). May touch: the certificate files that the
options name, and the environment variables below.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, Union

if TYPE_CHECKING:
    from ssl import SSLContext
else:
    SSLContext = Any

Path = Union[str, os.PathLike[str]]

Verify = Union[bool, Path, SSLContext]
"""True, the path of CA certificates, a context of the caller's own, or False."""

ClientCert = Union[Path, Tuple[Path, Path], Tuple[Path, Path, str]]
"""The path of a PEM file with certificate and key, or both apart, or a password besides."""

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
KEY_LOG = "SSLKEYLOGFILE"
Chain = Tuple[str, Optional[str], Optional[str]]
Stamp = Tuple[int, ...]

TlsContext = Callable[[], SSLContext]
"""Gives the context for origins and proxies; it is asked when the first one needs TLS."""


def tls_when_needed(
    verify: Verify = True, client_cert: Optional[ClientCert] = None, *, trust_env: bool = True
) -> TlsContext:
    """The client-side context for these options; the same options give the same context.

    The trust store is loaded when the context is first asked for. What the arguments name is read
    now, so that a mistake in it is an error of the call that made it. What the environment names
    need only be readable.

    Args:
        verify: True for the system's trust store, or certifi's where there is none and certifi
            is installed; the path of a file or directory of CA certificates that replaces it;
            an `ssl.SSLContext` that is used as it is; or False, which trusts everyone.
        client_cert: the certificate of the client: the path of a PEM file with
            certificate and key, `(certificate, key)`, or `(certificate, key, password)`.
        trust_env: whether the environment counts when `verify` is True. The file or directory
            that `REQUESTS_CA_BUNDLE` or else `CURL_CA_BUNDLE` names replaces the trust store;
            without them `SSL_CERT_FILE` and `SSL_CERT_DIR` do, as OpenSSL has it. Whatever
            `verify` is but a context, TLS keys are logged to the file that `SSLKEYLOGFILE` names;
            one that cannot be written is passed over with a warning in the log `flowmaestro`.

    A context of ours offers HTTP/1.1 alone (ALPN, RFC 7301) and is shared: do not change it. A
    file that has changed since is read again.

    Raises `TypeError` or `ValueError`, naming the argument, for what is none of these and for a
    `client_cert` beside a context, which has its own; `OSError`, naming the argument or the
    variable, for a path that cannot be read as certificates.

    """
    chain = _checked_chain(client_cert)
    if not isinstance(verify, (bool, str, os.PathLike)):
        return _checked_context(verify, chain)
    bundle = _bundle(verify, trust_env)
    environment = tuple(os.environ.get(name) if trust_env else None for name in OPENSSL)
    files = (*(chain[:2] if chain else ()), bundle and bundle[1], *environment)
    stamps = tuple(_stamp(path) for path in files if path)
    key_log = os.environ.get(KEY_LOG) if trust_env else None

    def context() -> SSLContext:
        from flowmaestro_transports.http11.contexts import context_for

        return context_for(verify is not False, bundle, chain, environment, key_log, stamps)

    if chain or (bundle and not (verify is True and os.access(bundle[1], os.R_OK))):
        context()
    return context


def _bundle(verify: Union[bool, Path], trust_env: bool) -> Optional[Tuple[str, str]]:
    """Which CA certificates replace the trust store, and which setting says so."""
    if not isinstance(verify, bool):
        path = os.fspath(verify)
        if not path:
            raise ValueError("verify must not be an empty path: True is the system's trust store")
        return "verify", path
    if verify and trust_env:
        for name in _BUNDLES:
            if os.environ.get(name):
                return name, os.environ[name]
    return None


def _checked_context(verify: SSLContext, chain: Optional[Chain]) -> TlsContext:
    import ssl

    if not isinstance(verify, ssl.SSLContext):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "verify must be True, False, the path of a CA file, or an ssl.SSLContext, "
            f"not {type(verify).__name__}"
        )
    if chain is not None:
        raise ValueError("client_cert belongs to the SSLContext that verify is: load it there")
    return lambda: verify


def _checked_chain(client_cert: Optional[ClientCert]) -> Optional[Chain]:
    if client_cert is None:
        return None
    given: Any = client_cert if isinstance(client_cert, tuple) else (client_cert,)
    if not 1 <= len(given) <= 3 or not all(isinstance(each, (str, os.PathLike)) for each in given):
        raise TypeError(
            "client_cert must be the path of a PEM file, (certificate, key), or "
            "(certificate, key, password)"
        )
    certificate, *rest = map(os.fspath, given)
    key, password = (*rest, None, None)[:2]
    return certificate, key, password


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # loading it will tell
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns

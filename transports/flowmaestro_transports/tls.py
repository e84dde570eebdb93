"""TLS contexts, made once per process and options: one costs milliseconds and a trust store.

May touch: the certificate files that the options name, and the environment variables that
OpenSSL itself reads.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Optional, Union


def tls_context(verify: Union[bool, str, ssl.SSLContext] = True) -> ssl.SSLContext:
    """The client-side context for `verify`; the same options give the same context.

    `verify` is True for the system's trust store (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace
    it, as OpenSSL has it; where there is none, certifi's does, if installed), the path of a
    file or directory of CA certificates that replaces it, an `ssl.SSLContext` that
    is used as it is, or False, which trusts everyone.

    A context of ours offers HTTP/1.1 alone (ALPN, RFC 7301) and is shared: do not change it.
    Raises `TypeError` for anything else, `OSError` for a path that cannot be read as
    certificates.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    if not isinstance(verify, (bool, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "verify must be True, False, the path of a CA file, or an ssl.SSLContext, "
            f"not {type(verify).__name__}"
        )
    return _cached(verify, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=32)
def _cached(
    verify: Union[bool, str],
    cert_file: Optional[str],  # noqa: ARG001 - part of the key: OpenSSL reads it by itself
    cert_dir: Optional[str],  # noqa: ARG001
) -> ssl.SSLContext:
    if isinstance(verify, str):
        folder = os.path.isdir(verify)
        context = ssl.create_default_context(
            cafile=None if folder else verify, capath=verify if folder else None
        )
    else:
        context = ssl.create_default_context()
        if verify and _trusts_nobody(context):
            _trust_certifi(context)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Python 3.9 has OpenSSL hide that a connection was cut: a body cut short would pass for whole.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trusts_nobody(context: ssl.SSLContext) -> bool:
    """Whether Python knows of no trust store, as in some containers and builds of their own."""
    folder = ssl.get_default_verify_paths().capath  # looked into with each handshake
    return not context.cert_store_stats()["x509_ca"] and not (folder and os.listdir(folder))


def _trust_certifi(context: ssl.SSLContext) -> None:
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(certifi.where())

"""TLS contexts, made and kept. This loads `ssl`, which plain HTTP does without.

A context costs milliseconds and a trust store, so there is one per process and options. May
touch: the certificate files that the options name, and the environment variables of `tls`.
"""

from __future__ import annotations

import os
import ssl
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Optional, Tuple

from flowmaestro_transports.http11.tls import KEY_LOG, Chain, Stamp


@lru_cache(maxsize=32)
def context_for(
    verified: bool,
    bundle: Optional[Tuple[str, str]],
    chain: Optional[Chain],
    environment: Tuple[Optional[str], ...],
    key_log: Optional[str],
    stamps: Tuple[Stamp, ...],  # noqa: ARG001 - part of the key
) -> ssl.SSLContext:
    """The context for what `tls_when_needed` found; `stamps` tell when its files change."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):  # as `ssl.create_default_context`
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if key_log:
        _log_keys(context, key_log)
    if bundle is not None:
        _trust_bundle(context, *bundle)
    elif verified:
        _trust_the_system(context, *environment)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if chain is not None:
        _load_chain(context, chain)
    # Python 3.9 has OpenSSL hide that a connection was cut: a body cut short would pass for whole.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _log_keys(context: ssl.SSLContext, path: str) -> None:
    try:
        context.keylog_filename = path
    except OSError as error:
        import logging

        reason = error.strerror or str(error)
        logging.getLogger("flowmaestro").warning("%s: %r: %s", KEY_LOG, path, reason)


def _trust_bundle(context: ssl.SSLContext, source: str, path: str) -> None:
    folder = os.path.isdir(path)
    try:
        context.load_verify_locations(
            cafile=None if folder else path, capath=path if folder else None
        )
    except (OSError, ValueError) as error:
        raise OSError(f"{source}: {path!r} cannot be read as CA certificates: {error}") from error


def _trust_the_system(context: ssl.SSLContext, file: Optional[str], folder: Optional[str]) -> None:
    """As `SSLContext.load_default_certs`, which would read the environment as it is by now.

    What is None is where OpenSSL was built to look. Where there is nothing, as in some containers,
    certifi is trusted.
    """
    places = ssl.get_default_verify_paths()
    file, folder = file or places.openssl_cafile, folder or places.openssl_capath
    if os.path.isfile(file):
        context.load_verify_locations(cafile=file)
    if os.path.isdir(folder):
        context.load_verify_locations(capath=folder)
    if sys.platform == "win32":
        context.load_verify_locations(
            cadata=b"".join(
                certificate
                for store in ("CA", "ROOT")
                for certificate, encoding, trust in ssl.enum_certificates(store)
                if encoding == "x509_asn"
                and (trust is True or ssl.Purpose.SERVER_AUTH.oid in trust)
            )
        )
    if context.cert_store_stats()["x509_ca"] or (os.path.isdir(folder) and os.listdir(folder)):
        return  # OpenSSL looks into the folder with each handshake
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())


def _load_chain(context: ssl.SSLContext, chain: Chain) -> None:
    certificate, key, password = chain
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=password or "")
    except (OSError, ValueError) as error:
        raise OSError(
            f"client_cert: {certificate!r} cannot be read as certificate and key: {error}"
        ) from error.with_traceback(None)

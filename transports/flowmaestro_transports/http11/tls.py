"""Whom a transport trusts over TLS, and what it shows of itself: one policy for all of them.

A context costs milliseconds and a trust store, so there is one per process and options. May
touch: the certificate files that the options name, and the environment variables below.
"""

from __future__ import annotations

import os
import ssl
import sys
from functools import lru_cache, partial
from typing import Any, Callable, Optional, Tuple, Union

Path = Union[str, os.PathLike[str]]

Verify = Union[bool, Path, ssl.SSLContext]
"""True, the path of CA certificates, a context of the caller's own, or False."""

ClientCert = Union[Path, Tuple[Path, Path], Tuple[Path, Path, str]]
"""The path of a PEM file with certificate and key, or both apart, or a password besides."""

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_KEY_LOG = "SSLKEYLOGFILE"
_Chain = Tuple[str, Optional[str], Optional[str]]
_Stamp = Tuple[int, ...]


def tls_context(
    verify: Verify = True, client_cert: Optional[ClientCert] = None, *, trust_env: bool = True
) -> ssl.SSLContext:
    """The client-side context for these options; the same options give the same context.

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
    if isinstance(verify, ssl.SSLContext):
        if chain is not None:
            raise ValueError("client_cert belongs to the SSLContext that verify is: load it there")
        return verify
    if not isinstance(verify, (bool, str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "verify must be True, False, the path of a CA file, or an ssl.SSLContext, "
            f"not {type(verify).__name__}"
        )
    bundle = _bundle(verify, trust_env)
    environment = tuple(os.environ.get(name) if trust_env else None for name in _OPENSSL)
    files = (*(chain[:2] if chain else ()), bundle and bundle[1], *environment)
    stamps = tuple(_stamp(path) for path in files if path)
    key_log = os.environ.get(_KEY_LOG) if trust_env else None
    return _cached(verify is not False, bundle, chain, trust_env, environment, key_log, stamps)


def tls_when_needed(
    verify: Verify = True, client_cert: Optional[ClientCert] = None, *, trust_env: bool = True
) -> Callable[[], ssl.SSLContext]:
    """As `tls_context`, but the trust store is loaded when the context is first asked for.

    What names a file is read now, so that a mistake in it is an error of the call that made it.
    """
    environment = (*_BUNDLES, *_OPENSSL, _KEY_LOG) if trust_env else ()
    if verify is True and client_cert is None and not any(map(os.environ.get, environment)):
        return partial(_cached, True, None, None, trust_env, (None, None), None, ())
    context = tls_context(verify, client_cert, trust_env=trust_env)
    return lambda: context


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


def _checked_chain(client_cert: Optional[ClientCert]) -> Optional[_Chain]:
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


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # loading it will tell
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=32)
def _cached(
    verified: bool,
    bundle: Optional[Tuple[str, str]],
    chain: Optional[_Chain],
    trust_env: bool,
    environment: Tuple[Optional[str], ...],
    key_log: Optional[str],
    stamps: Tuple[_Stamp, ...],  # noqa: ARG001 - part of the key
) -> ssl.SSLContext:
    if bundle is not None:
        context = _trusting(*bundle)
    elif not any(environment) and any(map(os.environ.get, _OPENSSL)):  # OpenSSL reads them
        context = _trusting_the_system()
    else:
        context = _new_context()
        context.load_default_certs()
    if key_log:
        _log_keys(context, key_log)
    if verified and bundle is None and _trusts_nobody(context, trust_env):
        _trust_certifi(context)
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if chain is not None:
        _load_chain(context, chain)
    # Python 3.9 has OpenSSL hide that a connection was cut: a body cut short would pass for whole.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _new_context() -> ssl.SSLContext:
    """As `ssl.create_default_context`, which would open the file of `SSLKEYLOGFILE`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    return context


def _log_keys(context: ssl.SSLContext, path: str) -> None:
    try:
        context.keylog_filename = path
    except OSError as error:
        import logging

        reason = error.strerror or str(error)
        logging.getLogger("flowmaestro").warning("%s: %r: %s", _KEY_LOG, path, reason)


def _trusting(source: str, path: str) -> ssl.SSLContext:
    folder = os.path.isdir(path)
    context = _new_context()
    try:
        context.load_verify_locations(
            cafile=None if folder else path, capath=path if folder else None
        )
        return context
    except (OSError, ValueError) as error:
        raise OSError(f"{source}: {path!r} cannot be read as CA certificates: {error}") from error


def _trusting_the_system() -> ssl.SSLContext:
    """As `ssl.create_default_context`, from the places that OpenSSL was built with."""
    context = _new_context()
    places = ssl.get_default_verify_paths()
    if os.path.isfile(places.openssl_cafile):
        context.load_verify_locations(cafile=places.openssl_cafile)
    if os.path.isdir(places.openssl_capath):
        context.load_verify_locations(capath=places.openssl_capath)
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
    return context


def _trusts_nobody(context: ssl.SSLContext, trust_env: bool) -> bool:
    """Whether Python knows of no trust store, as in some containers and builds of their own."""
    places = ssl.get_default_verify_paths()  # a folder is looked into with each handshake
    folder = places.capath if trust_env else places.openssl_capath
    filled = folder and os.path.isdir(folder) and os.listdir(folder)
    return not context.cert_store_stats()["x509_ca"] and not filled


def _trust_certifi(context: ssl.SSLContext) -> None:
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(certifi.where())


def _load_chain(context: ssl.SSLContext, chain: _Chain) -> None:
    certificate, key, password = chain
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=password or "")
    except (OSError, ValueError) as error:
        raise OSError(
            f"client_cert: {certificate!r} cannot be read as certificate and key: {error}"
        ) from error

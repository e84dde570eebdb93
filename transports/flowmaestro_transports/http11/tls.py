"""The TLS settings: which servers to trust, and which certificate to present.

`ssl` is imported for the first context, because plain HTTP does not need it. May touch: the
environment variables below, the files that they and the options name, and the trust store.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Tuple, Union

if TYPE_CHECKING:
    from ssl import SSLContext
else:
    SSLContext = Any

Path = Union[str, os.PathLike[str]]

Verify = Union[bool, Path, SSLContext]
"""True, the path of CA certificates, an `ssl.SSLContext`, or False."""

ClientCert = Union[Path, Tuple[Path, Path], Tuple[Path, Path, str]]
"""The path of a PEM file with certificate and key, or the paths of two, with or without a password.
"""

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_KEY_LOG = "SSLKEYLOGFILE"
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""The names by which OpenSSL finds certificates in a folder. Red Hat's folder may have none."""
Chain = Tuple[str, Optional[str], Optional[str]]
Stamp = Tuple[int, ...]

TlsContext = Callable[[], SSLContext]
"""Returns the context for origins and proxies. It is called for each handshake."""


def tls_when_needed(
    verify: Verify = True, client_cert: Optional[ClientCert] = None, *, trust_env: bool = True
) -> TlsContext:
    """Return a function that returns the TLS context for these options.

    Files that the arguments name are read now, so that the call with a wrong argument raises the
    error. The environment is read, and the trust store loaded, when the function is first called.
    If `verify` or `client_cert` names a file, `tls_when_needed` itself makes the first call.

    Args:
        verify: True for the system's trust store, or that of certifi if the system has none and
            certifi is installed; the path of a file or directory of CA certificates that replaces
            it; an `ssl.SSLContext`, which is used unchanged; or False, which trusts every server.
        client_cert: the certificate of the client: the path of a PEM file with
            certificate and key, `(certificate, key)`, or `(certificate, key, password)`.
        trust_env: whether the environment is used. If `verify` is True, the file or directory that
            `REQUESTS_CA_BUNDLE` or else `CURL_CA_BUNDLE` names replaces the trust store; without
            them `SSL_CERT_FILE` and `SSL_CERT_DIR` replace its file and its directory, as in
            OpenSSL. Unless `verify` is a context, TLS keys are logged to the file that
            `SSLKEYLOGFILE` names. If it cannot be written, it is ignored, with a warning in the log
            `flowmaestro`.

    A context that is made here offers only HTTP/1.1 (ALPN, RFC 7301). Unless `verify` is False, it
    looks for the host among the subjectAltNames of a certificate, not at its common name (RFC 9525,
    2). Calls with equal options share one context: do not change it. The returned function keeps
    its context when a file changes. A later call of `tls_when_needed` reads the changed file.

    Raises `TypeError` or `ValueError`, naming the argument, for any other value, and for a
    `client_cert` beside a context, which has its own. Raises `OSError`, naming the argument, for a
    path that cannot be read as certificates. For a path in the environment, the call of the
    function raises the `OSError`, naming the variable. An `SSL_CERT_FILE` or `SSL_CERT_DIR` that
    does not exist is no error: it holds no certificates.

    """
    chain = _checked_chain(client_cert)
    if not isinstance(verify, (bool, str, os.PathLike)):
        return _checked_context(verify, chain)
    path = None if isinstance(verify, bool) else os.fspath(verify)
    if path == "":
        raise ValueError("verify must not be an empty path: True is the system's trust store")

    @lru_cache(maxsize=1)
    def context() -> SSLContext:
        variables: Mapping[str, str] = os.environ if trust_env else {}
        bundle = None if path is None else ("verify", path)
        if verify is True:
            named = ((name, variables.get(name)) for name in _BUNDLES)
            bundle = next(((name, found) for name, found in named if found), None)
        environment = tuple(variables.get(name) for name in _OPENSSL)
        files = (*(chain[:2] if chain else ()), bundle and bundle[1], *environment)
        stamps = tuple(_stamp(file) for file in files if file)
        key_log = variables.get(_KEY_LOG)
        verified = verify is not False
        return context_for(verified, bundle, chain, environment, key_log, stamps)

    if chain or path:
        context()
    return context


def _checked_context(verify: SSLContext, chain: Optional[Chain]) -> TlsContext:
    import ssl

    if not isinstance(verify, ssl.SSLContext):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            "verify must be True, False, the path of a CA file, or an ssl.SSLContext, "
            f"not {type(verify).__name__}"
        )
    if chain is not None:
        raise ValueError(
            "client_cert cannot be combined with an SSLContext as verify; "
            "call its load_cert_chain() instead"
        )
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
    except (OSError, ValueError):  # Loading the file will raise the error or ignore the file.
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=32)
def context_for(
    verified: bool,
    bundle: Optional[Tuple[str, str]],
    chain: Optional[Chain],
    environment: Tuple[Optional[str], ...],
    key_log: Optional[str],
    stamps: Tuple[Stamp, ...],  # noqa: ARG001 - part of the key
) -> SSLContext:
    """Return the context for the options of `tls_when_needed`.

    To make a context takes milliseconds and loads a trust store, so equal options share one.

    Args:
        verified: if False, every server is trusted.
        bundle: the name of an option or variable, and the path of CA certificates that it names;
            `None` for the trust store of the system.
        chain: the paths of the client's certificate and key, and the password of the key.
        environment: the values of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
        key_log: the file to which TLS keys are logged, if any.
        stamps: inode, size and time of each path that the options or the environment name; empty
            for a path that is not found. If the stamps differ from those of earlier calls, a new
            context is made.

    """
    import ssl

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
    # Python 3.9 makes OpenSSL hide a missing close_notify: a truncated body would pass for whole.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))
    # RFC 9525, 2: the common name of a certificate is free text and names no host.
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def _log_keys(context: SSLContext, path: str) -> None:
    try:
        context.keylog_filename = path
    except OSError as error:
        import logging

        reason = error.strerror or str(error)
        logging.getLogger("flowmaestro").warning("%s: %r: %s", _KEY_LOG, path, reason)


def _trust_bundle(context: SSLContext, source: str, path: str) -> None:
    folder = os.path.isdir(path)
    try:
        context.load_verify_locations(
            cafile=None if folder else path, capath=path if folder else None
        )
    except (OSError, ValueError) as error:
        raise OSError(f"{source}: {path!r} cannot be read as CA certificates: {error}") from error


def _trust_the_system(context: SSLContext, file: Optional[str], folder: Optional[str]) -> None:
    """Load the system certificates as `SSLContext.load_default_certs` does, but from these paths.

    `file` and `folder` are the values of `SSL_CERT_FILE` and `SSL_CERT_DIR` when they were read,
    because the environment may have changed. For None or `""`, the path that OpenSSL was built with
    is used. If no certificate is found, as in some containers, those of certifi are loaded, if it
    is installed.
    """
    import ssl

    places = ssl.get_default_verify_paths()
    named = (folder or places.openssl_capath).split(os.pathsep)
    folders = [each for each in named if os.path.isdir(each)]
    # The contexts of `truststore.inject_into_ssl` cannot list their certificates.
    found = False
    if file and os.path.isfile(file):
        _trust_bundle(context, _OPENSSL[0], file)
        found = True
    elif not file and os.path.isfile(places.openssl_cafile):
        with suppress(ssl.SSLError, PermissionError):
            context.load_verify_locations(cafile=places.openssl_cafile)
            found = True
    for each in folders:  # OpenSSL looks into them at each handshake.
        _trust_bundle(context, _OPENSSL[1], each)
        with suppress(PermissionError):  # A folder may be readable, but not listable.
            found = found or any(map(_HASHED.fullmatch, os.listdir(each)))
    if sys.platform == "win32":
        found = True
        for store in ("CA", "ROOT"):
            for certificate, encoding, trust in ssl.enum_certificates(store):
                if encoding == "x509_asn" and (
                    trust is True or ssl.Purpose.SERVER_AUTH.oid in trust
                ):
                    # OpenSSL cannot read some certificates of the system.
                    with suppress(ssl.SSLError):
                        context.load_verify_locations(cadata=certificate)
    if found:
        return
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())


def _load_chain(context: SSLContext, chain: Chain) -> None:
    certificate, key, password = chain
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=password or "")
    except (OSError, ValueError) as error:
        raise OSError(
            f"client_cert: {certificate!r} cannot be read as certificate and key: {error}"
        ) from error.with_traceback(None)

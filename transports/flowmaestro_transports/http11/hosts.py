"""The ASCII form of host names, the same for every transport. Pure.

The codec `idna` of Python follows IDNA 2003, which sends `straße.example` to `strasse.example`, the
name of another host. The package `idna` follows IDNA 2008, as browsers do; anyio and requests
depend on it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flowmaestro_core.http.messages import Phase, TransportFailure


def ascii_host(host: str) -> str:
    """Return a host name in ASCII, as the name system and certificates have it (punycode).

    Raises `TransportFailure` (*not sent*) for a name that IDNA 2008 does not allow, and for any
    name that is not ASCII if the package `idna` is not installed.
    """
    if host.isascii():
        return host
    try:
        import idna  # Loading its tables takes a while.

        return idna.encode(host, uts46=True).decode()
    except (ImportError, UnicodeError):  # `idna.IDNAError` is a `UnicodeError`.
        pass
    raise TransportFailure(
        Phase.NOT_SENT,
        f"the host {host!r} cannot be looked up; write it in punycode, such as xn--strae-oqa.de",
        permanent=True,
    )


def with_ascii_host(url: str) -> str:
    """Return `url` with its host in ASCII. Raises what `ascii_host` raises, and `ValueError`."""
    if url.isascii():
        return url
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.isascii():
        return url
    port = "" if parts.port is None else f":{parts.port}"
    return url.replace(parts.netloc, ascii_host(host) + port, 1)

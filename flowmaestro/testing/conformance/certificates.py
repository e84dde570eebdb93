"""A certificate authority to throw away, made by `trustme`, and what it issues."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, List, Tuple

import trustme


class Authority:
    """Issues certificates for loopback servers and their clients; keeps its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority: Any = trustme.CA()  # its annotations name types that may not be there
        self.file = str(folder / "authority.pem")
        """The path of the certificate that a client has to trust."""
        self._authority.cert_pem.write_to_path(self.file)

    def server_context(
        self, host: str = "127.0.0.1", *, asks_for_client: bool = False
    ) -> ssl.SSLContext:
        """A context for a server that shows a certificate for `host`.

        With `asks_for_client`, it talks only to clients with a certificate of this authority.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(context)
        if asks_for_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self._authority.configure_trust(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A context for a client that trusts this authority."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    def client_certificate(self, name: str) -> Tuple[str, str]:
        """The paths of a certificate for a client, and of its key."""
        issued = self._authority.issue_cert(common_name=name)
        paths: List[str] = [str(self._folder / "client.pem"), str(self._folder / "client.key")]
        issued.cert_chain_pems[0].write_to_path(paths[0])
        issued.private_key_pem.write_to_path(paths[1])
        return paths[0], paths[1]

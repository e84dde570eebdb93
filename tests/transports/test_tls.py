"""Whom a TLS context of ours trusts where the system has no trust store."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from flowmaestro_transports.tls import tls_context


@pytest.fixture
def no_trust_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Has Python know of no certificate but those in this folder, which is empty."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(
        ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    return tmp_path


def trusted(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


@pytest.mark.usefixtures("no_trust_store")
def test_certifi_stands_in() -> None:
    assert trusted(tls_context()) > 1
    assert trusted(tls_context(False)) == 0


@pytest.mark.usefixtures("no_trust_store")
def test_nobody_is_trusted_without_certifi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "certifi", None)
    assert trusted(tls_context()) == 0


def test_a_folder_of_certificates_is_a_trust_store(no_trust_store: Path) -> None:
    (no_trust_store / "a1b2c3d4.0").touch()
    assert trusted(tls_context()) == 0

"""TLS: whom every transport trusts, what it shows of itself, and what of the environment counts."""

from __future__ import annotations

import errno
import os
import ssl
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import trustme

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.http11.failures import network_failure
from flowmaestro_transports.http11.tls import context_for, tls_when_needed
from tests.harness.runners import OURS, Runner, fails, post


def tls_context(*args: Any, **options: Any) -> ssl.SSLContext:
    return tls_when_needed(*args, **options)()


@pytest.fixture
def no_trust_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Has Python know of no certificate but those in this folder, which is empty."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    return tmp_path


def trusted(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


def test_certifi_replaces_a_missing_trust_store(no_trust_store: Path) -> None:
    (no_trust_store / "ca-bundle.crt").touch()  # which OpenSSL does not look for in a folder
    assert trusted(tls_context()) > 1
    assert trusted(tls_context(False)) == 0


def test_an_empty_path_is_no_trust_store() -> None:
    with pytest.raises(ValueError, match="verify must not be an empty path"):
        tls_context("")


def test_certifi_replaces_an_empty_trust_store_of_the_system(
    no_trust_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_trust_store / "cert.pem").touch()
    places = ssl.get_default_verify_paths()._replace(openssl_cafile=f"{no_trust_store}/cert.pem")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: places)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", f"{no_trust_store}/absent")
    assert trusted(tls_context()) > 1


def test_the_stores_of_windows(
    no_trust_store: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may be empty, or hold a certificate that OpenSSL cannot read."""
    server_auth, other = ssl.Purpose.SERVER_AUTH.oid, ssl.Purpose.CLIENT_AUTH.oid
    ours = ssl.PEM_cert_to_DER_cert(Path(ca_file).read_text())
    elsewhere = ssl.PEM_cert_to_DER_cert(trustme.CA().cert_pem.bytes().decode())
    stores: Dict[str, List[Any]] = {
        "CA": [],
        "ROOT": [
            (b"0\x82", "x509_asn", True),
            (ours, "x509_asn", {server_auth}),
            (elsewhere, "x509_asn", {other}),
        ],
    }
    with monkeypatch.context() as on_windows:
        on_windows.setattr(sys, "platform", "win32")
        on_windows.setattr(ssl, "enum_certificates", stores.__getitem__, raising=False)
        context_for.cache_clear()
        context = tls_context()
    context_for.cache_clear()
    assert trusted(context) == 1


@pytest.mark.usefixtures("no_trust_store")
def test_without_certifi_no_authority_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "certifi", None)
    assert trusted(tls_context()) == 0


def clear_of_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_trust_store_is_loaded_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_of_certificates(monkeypatch)
    with monkeypatch.context() as loading:
        loading.setattr(ssl, "SSLContext", None)
        needed = tls_when_needed()
    assert needed() is needed() is tls_context()


def test_files_of_arguments_are_read_at_construction(ca_file: str) -> None:
    with pytest.raises(OSError, match="verify: '/nowhere' cannot be read"):
        tls_when_needed("/nowhere")
    assert tls_when_needed(ca_file)() is tls_context(ca_file)


def test_the_environment_counts_as_it_is_when_a_context_is_first_needed(
    ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear_of_certificates(monkeypatch)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    needed = tls_when_needed()
    with pytest.raises(OSError, match="REQUESTS_CA_BUNDLE: '/nowhere' cannot be read"):
        needed()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    context = needed()
    assert trusted(context) == 1
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert needed() is context


def test_contexts_need_not_say_what_they_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that `truststore.inject_into_ssl` puts in place of Python's do not."""

    def refuse(_: ssl.SSLContext) -> None:
        raise NotImplementedError

    clear_of_certificates(monkeypatch)
    context_for.cache_clear()
    monkeypatch.setattr(ssl.SSLContext, "cert_store_stats", refuse)
    tls_context()


def test_a_folder_that_cannot_be_listed(
    no_trust_store: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listdir(path: str) -> List[str]:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setattr(os, "listdir", listdir)
    assert trusted(tls_context()) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(no_trust_store / "absent.pem"))
    assert trusted(tls_context()) > 1


@pytest.mark.parametrize("before", ["", "/nowhere" + os.pathsep])
def test_a_folder_of_certificates_is_a_trust_store(
    no_trust_store: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Or one of several, as OpenSSL has it."""
    monkeypatch.setenv("SSL_CERT_DIR", f"{before}{no_trust_store}")
    (no_trust_store / "a1b2c3d4.0").touch()
    assert trusted(tls_context()) == 0


@pytest.fixture
def client_pem(authority: trustme.CA, tmp_path: Path) -> Path:
    """Certificate and key of a client, in one file."""
    path = tmp_path / "client.pem"
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def client_pair(client_pem: Path, tmp_path: Path) -> List[Path]:
    """The same in two files."""
    key, _, certificate = client_pem.read_text().partition("-----BEGIN CERTIFICATE")
    paths = [tmp_path / "certificate.pem", tmp_path / "key.pem"]
    paths[0].write_text("-----BEGIN CERTIFICATE" + certificate)
    paths[1].write_text(key)
    return paths


@pytest.fixture
def locked_pair(client_pair: List[Path], tmp_path: Path) -> List[Path]:
    """The same, the key under the password "open sesame"."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(client_pair[1].read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    return [client_pair[0], locked]


class TestContext:
    def test_equal_options_share_one_context(self, ca_file: str, client_pem: Path) -> None:
        assert tls_context() is tls_context(True) is tls_context(trust_env=True)
        assert tls_context(ca_file) is tls_context(Path(ca_file))
        assert tls_context(ca_file, client_pem) is tls_context(ca_file, (str(client_pem),))
        different = [
            tls_context(),
            tls_context(False),
            tls_context(ca_file),
            tls_context(ca_file, client_pem),
        ]
        assert len(set(different)) == 4

    def test_a_changed_file_is_read_anew(self, ca_file: str) -> None:
        before = tls_context(ca_file)
        trustme.CA().cert_pem.write_to_path(ca_file)
        os.utime(ca_file, ns=(1, 1))
        assert tls_context(ca_file) is not before

    def test_arguments_of_another_type_are_refused(self) -> None:
        with pytest.raises(TypeError, match="verify must be True, False"):
            tls_context(None)
        for wrong in (5, (), ("a", 5), ("a", "b", "c", "d"), ["a", "b"], b"a"):
            with pytest.raises(TypeError, match="client_cert must be"):
                tls_context(True, wrong)

    def test_a_context_of_the_callers_is_used_as_it_is(
        self, client_pem: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = ssl.create_default_context()
        monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", None)  # It changes a context.
        assert tls_context(context) is context
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        with pytest.raises(ValueError, match="client_cert cannot be combined with an SSLContext"):
            tls_context(context, client_pem)

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_unreadable_file_is_named(
        self, tmp_path: Path, content: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "file.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(OSError, match=r"verify: .*file\.pem' cannot be read") as caught:
            tls_context(path)
        assert caught.value.__cause__ is not None
        with pytest.raises(OSError, match=r"client_cert: .*file\.pem' cannot be read"):
            tls_context(True, path)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        with pytest.raises(OSError, match=r"REQUESTS_CA_BUNDLE: .*file\.pem' cannot be read"):
            tls_context()
        tls_context(trust_env=False)

    def test_a_file_of_openssls_without_a_certificate(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clear_of_certificates(monkeypatch)
        (tmp_path / "file.pem").write_text("no certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "file.pem"))
        with pytest.raises(OSError, match=r"SSL_CERT_FILE: .*file\.pem' cannot be read"):
            tls_context()

    def test_an_encrypted_key_needs_its_password(self, locked_pair: List[Path]) -> None:
        certificate, key = locked_pair
        tls_context(True, (certificate, key, "open sesame"))
        for password in (("wrong secret",), ()):  # without one, nobody is asked on a terminal
            with pytest.raises(OSError, match="client_cert") as caught:
                tls_context(True, (certificate, key, *password))
            assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_a_bundle_replaces_the_trust_store(
        self, monkeypatch: pytest.MonkeyPatch, ca_file: str, name: str
    ) -> None:
        monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere")  # The other one comes first.
        monkeypatch.setenv(name, ca_file)
        assert trusted(tls_context()) == 1
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        assert trusted(tls_context()) == 1
        assert trusted(tls_context(False)) != 1
        monkeypatch.setenv(name, "/nowhere")
        context = tls_context(ca_file)
        assert trusted(context) == 1
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        monkeypatch.delenv("SSL_CERT_FILE")
        assert trusted(tls_context(trust_env=False)) != 1

    def test_keys_are_logged_where_the_environment_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = str(tmp_path / "keys.log")
        monkeypatch.setenv("SSLKEYLOGFILE", log)
        for verify in (True, False):
            assert tls_context(verify).keylog_filename == log
            assert tls_context(verify, trust_env=False).keylog_filename is None
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "absent" / "keys.log"))
        assert tls_context().keylog_filename is None
        (warned,) = caplog.records
        assert (warned.name, warned.levelname) == ("flowmaestro", "WARNING")
        assert "SSLKEYLOGFILE" in warned.getMessage()
        assert "No such file" in warned.getMessage()

    def test_openssls_variables_can_be_passed_over(
        self, monkeypatch: pytest.MonkeyPatch, ca_file: str, tmp_path: Path
    ) -> None:
        standard = tls_context()
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
        assert trusted(tls_context()) == 1
        passed_over = tls_context(trust_env=False)
        assert trusted(passed_over) == trusted(standard)
        assert passed_over.verify_mode is ssl.CERT_REQUIRED
        assert passed_over.check_hostname
        assert passed_over.verify_flags == standard.verify_flags


@pytest.fixture
def secure(scripted: Any, server_tls: ssl.SSLContext) -> Iterator[Any]:
    """An https server of `authority` that sends back what it gets."""
    with scripted.ScriptedServer(scripted.echo, tls=server_tls) as server:
        yield server


@pytest.fixture(params=OURS, ids=str)
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each transport that takes these options itself."""
    made: Runner = request.param
    return made


@pytest.fixture
def common_name_only(tmp_path: Path) -> ssl.SSLContext:
    """A server with a certificate whose common name is `localhost`, without a subjectAltName.

    It is its own authority: `own.pem` in `tmp_path`.
    """
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    ca = x509.BasicConstraints(ca=True, path_length=0)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(ca, critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "own.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "own.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "own.key")
    return context


def test_common_name_is_not_checked_by_a_context_of_ours(
    runner: Runner, scripted: Any, common_name_only: ssl.SSLContext, tmp_path: Path
) -> None:
    own = str(tmp_path / "own.pem")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_verify_locations(own)
    with scripted.ScriptedServer(scripted.echo, tls=common_name_only) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        with runner(verify=own) as transport:
            with fails(Phase.NOT_SENT, "the certificate has no .*subjectAltName") as caught:
                transport.send(post(server, b"hi"))
            assert caught.value.permanent
        with runner(verify=theirs) as transport:
            assert transport.send(post(server, b"hi")).body == b"hi"
    assert theirs.hostname_checks_common_name
    assert len(server.requests) == 1


def test_certificate_of_another_host_is_not_said_to_lack_a_subject_alt_name(
    runner: Runner, scripted: Any, authority: trustme.CA, ca_file: str
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(tls)
    with (
        scripted.ScriptedServer(scripted.echo, tls=tls) as server,
        runner(verify=ca_file) as transport,
        fails(Phase.NOT_SENT, "(?i)mismatch") as caught,
    ):
        transport.send(post(server))
    assert "has no subjectAltName" not in str(caught.value)


def test_verify_false_accepts_any_certificate(runner: Runner, secure: Any) -> None:
    with runner(verify=False) as transport:
        assert transport.send(post(secure, b"hi")).body == b"hi"


def test_the_environment_names_whom_to_trust(
    runner: Runner, secure: Any, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    with runner() as transport:
        assert transport.send(post(secure, b"hi")).body == b"hi"
    with runner(trust_env=False) as transport, fails(Phase.NOT_SENT, "(?i)certificate"):
        transport.send(post(secure))


def test_a_bundle_that_cannot_be_read_fails_the_calls_that_need_it(
    runner: Runner, scripted: Any, secure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    with runner() as transport:
        with fails(Phase.NOT_SENT, "REQUESTS_CA_BUNDLE: '/nowhere' cannot be read") as caught:
            transport.send(post(secure))
        with scripted.ScriptedServer(scripted.echo) as server:
            assert transport.send(post(server, b"hi")).body == b"hi"
    assert caught.value.permanent


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_file_of_the_environment_may_be_readable_later(
    runner: Runner, secure: Any, ca_file: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setenv(name, ca_file)
    with runner() as transport:
        with monkeypatch.context() as short_of_files:
            short_of_files.setattr(ssl.SSLContext, "load_verify_locations", refuse)
            with fails(Phase.NOT_SENT, "too many open files") as caught:
                transport.send(post(secure))
        assert not caught.value.permanent
        assert transport.send(post(secure, b"hi")).body == b"hi"


def test_handshake_without_a_free_descriptor_is_no_untrusted_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenSSL then finds no certificate in a folder."""

    def opened(*_: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    error = ssl.SSLCertVerificationError("untrusted")
    error.verify_code = 20
    assert network_failure(Phase.NOT_SENT, error).permanent
    monkeypatch.setattr(os, "open", opened)
    failure = network_failure(Phase.NOT_SENT, error)
    assert "no file descriptor is free" in failure.message
    assert not failure.permanent

# SPDX-License-Identifier: Apache-2.0
"""The HTTP client below all three protocols: options, credentials, TLS, waiting, words."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from enricher.errors import ConfigInvalid
from enricher.sinks.delivery.bulk import BulkOptions, BulkSender, authorise
from enricher.sinks.delivery.http import MOST_WAIT, Client, HttpOptions, Reply
from enricher.sinks.delivery.message import Unreachable
from tests.delivery.driver import deliver, messages
from tests.delivery.protocols import bulk, uids
from tests.delivery.receivers.base import Fault
from tests.delivery.receivers.bulk import BulkReceiver
from tests.lint.tree import ROOT

NOW = 1_772_366_400.0
SECRET = "elastic:p4ssw0rd-5f0a"  # noqa: S105 - made up


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def client(**more: object) -> Client:
    return Client(HttpOptions("http://127.0.0.1:9", **more), authorise, clock=lambda: NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("86400", MOST_WAIT),
        (formatdate(NOW + 20, usegmt=True), 20.0),
        (formatdate(NOW - 20, usegmt=True), 0.0),
        (formatdate(NOW + 9e6, usegmt=True), MOST_WAIT),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("9" * 5000, None),
        ("\u0667", None),
        ("Fri, 99 Feb 99999 99:99:99 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert client().wait(Reply(429, {"retry-after": text}, b"")) == seconds


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:9200",
        "ftp://host",
        "https://",
        "https://host:99999",
        "https://host:0",
        "https://user:p4ss@host",
        "https://host/?token=p4ss",
        "https://host/#p4ss",
        "https://ho st/",
        "https://host/\r\nX: y",
        "https://[::1",
    ],
)
def test_a_url_is_an_address_and_no_more(url: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        Client(HttpOptions(url), authorise)
    assert "p4ss" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"p4ss\x00", b"p4ss\xff", b"p4ss" * 20_000])
def test_a_credential_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"one line of printable ASCII|too large for a secret") as caught:
        client(credential_file=str(tmp_path / "secret"))
    assert "p4ss" not in caught.value.message


def test_a_credential_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigInvalid, match="No such file"):
        client(credential_file=str(tmp_path / "none"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigInvalid, match="systemd gave no credentials") as caught:
        client(credential_file="elastic")
    assert "LoadCredential=elastic:" in caught.value.hint


def test_a_credential_of_systemd(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    with BulkReceiver() as receiver:
        receiver.authorization = authorise(SECRET)
        sender = bulk(receiver.url, credential_file="secret")
        sender.send(messages(1))
        sender.close()
    assert receiver.uids == {"uid-0"}


def test_advice(secret: Path) -> None:
    assert "sent in clear" in client(credential_file=str(secret)).advice
    options = HttpOptions("https://127.0.0.1:9", credential_file=str(secret))
    assert Client(options, authorise).advice == ""
    assert "not verified" in Client(replace(options, verify=False), authorise).advice
    secret.chmod(0o644)
    assert "can be read by everyone" in Client(options, authorise).advice


def test_a_receivers_words_are_made_fit_to_print(secret: Path) -> None:
    told = client(credential_file=str(secret))
    value = authorise(SECRET).split()[1]
    said = told.clean(f"user {SECRET}\x1b[31m {value} p4ssw0rd-5f0a" + "x" * 999)
    assert said.startswith("user *** [31m *** ***x")
    assert len(said) < 250


def test_a_secret_is_in_no_error_where_the_answer_has_it_in_pieces(secret: Path) -> None:
    """Cut at the length of what is shown, and in a refusal of one item."""
    padded = "x" * 230 + SECRET
    echo = b'{"items":[{"create":{"status":400,"error":{"type":"x","reason":"%b"}}}]}' % padded.encode()
    with BulkReceiver([Fault("status", 200, {}, echo)]) as receiver:
        sender = bulk(receiver.url, credential_file=str(secret))
        receipt = sender.send(messages(1))
        sender.close()
    assert SECRET[:4] not in receipt.refused[0]
    assert "***" in receipt.refused[0]


def test_a_key_of_the_wrong_kind_is_said(secret: Path) -> None:
    with pytest.raises(ConfigInvalid, match="ca_file"):
        Client(HttpOptions("https://h", ca_file="/nowhere"), authorise)
    with pytest.raises(ConfigInvalid, match="ca_file"):
        Client(HttpOptions("https://h", ca_file=str(secret)), authorise)
    with pytest.raises(ConfigInvalid, match="cert_file"):
        Client(HttpOptions("https://h", cert_file=str(secret)), authorise)
    with pytest.raises(ConfigInvalid, match="compression"):
        Client(HttpOptions("https://h", compression="zstd"), authorise)  # type: ignore[arg-type]
    with pytest.raises(ConfigInvalid, match="index"):
        BulkSender(BulkOptions("https://h", index="a/../_all"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with certificates: of an authority, of 127.0.0.1, of a client."""
    made = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=made, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl(*new, "-x509", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name, subject in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "subjectAltName=DNS:client")):
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", subject)
        openssl(
            *new, "-x509", "-subj", f"/CN={name}", *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem"
        )
    return made


def server_context(authority: Path, *, client_too: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    if client_too:
        context.load_verify_locations(authority / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_an_authority(authority: Path) -> None:
    waiting = messages(300)
    script = [None, Fault("reset", taken=True), None, Fault("short", taken=True)]
    with BulkReceiver(script, tls=server_context(authority)) as receiver:
        sender = bulk(receiver.url, ca_file=str(authority / "ca.pem"), batch=50)
        done = deliver(sender, waiting)
        sender.close()
    assert receiver.uids == uids(waiting)
    assert len(done.errors) == 2


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")  # pytest puts back what http_pool switches off
def test_tls_is_verified_unless_said_otherwise(authority: Path) -> None:
    with BulkReceiver(tls=server_context(authority)) as receiver:
        sender = bulk(receiver.url)
        with pytest.raises(Unreachable, match="certificate is not to be trusted") as caught:
            sender.send(messages(1))
        assert "ca_file" in caught.value.hint
        elsewhere = bulk(receiver.url.replace("127.0.0.1", "localhost"), ca_file=str(authority / "ca.pem"))
        with pytest.raises(Unreachable, match=r"not to be trusted: Hostname mismatch"):
            elsewhere.send(messages(1))
        assert not receiver.requests
        trial = bulk(receiver.url, verify=False)
        trial.send(messages(1))
        trial.close()
    assert receiver.uids == {"uid-0"}


def test_tls_with_a_certificate_of_ours(authority: Path) -> None:
    with BulkReceiver(tls=server_context(authority, client_too=True)) as receiver:
        without = bulk(receiver.url, ca_file=str(authority / "ca.pem"))
        with pytest.raises(Unreachable):
            without.send(messages(1))
        files = {"cert_file": str(authority / "client.pem"), "key_file": str(authority / "client.key")}
        sender = bulk(receiver.url, ca_file=str(authority / "ca.pem"), **files)
        sender.send(messages(1))
        sender.close()
    assert receiver.uids == {"uid-0"}


@pytest.mark.parametrize("kind", ["drip", "stall"])
def test_time_is_bounded_in_tls_too(authority: Path, kind: str) -> None:
    with BulkReceiver([Fault(kind, taken=True)], tls=server_context(authority)) as receiver:
        sender = bulk(receiver.url, ca_file=str(authority / "ca.pem"), timeout=3.0)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="the time for a batch is over"):
            sender.send(messages(1))
        assert time.monotonic() - began < 10
        sender.close()


def test_plain_http_is_said_to_a_tls_port_as_what_it_is(authority: Path) -> None:
    with BulkReceiver() as receiver:
        sender = bulk(receiver.url.replace("http:", "https:"), ca_file=str(authority / "ca.pem"))
        with pytest.raises(Unreachable, match=r"TLS failed|closed the connection|reset"):
            sender.send(messages(1))


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with BulkReceiver() as receiver:
        sender = bulk(receiver.url)
        sender.send(messages(1))
        sender.close()
    assert receiver.uids == {"uid-0"}


def test_urllib3_is_not_imported_before_the_first_request() -> None:
    script = (
        "import sys, enricher.sinks.delivery.bulk as b\n"
        "b.BulkSender(b.BulkOptions('http://127.0.0.1:9'))\n"
        "assert 'urllib3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)

"""No secret gets into a cassette, wherever it stands and however it is cut."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import (
    Cassette,
    FakeFlowMaestro,
    MemoryTransport,
    Quiet,
    ScriptedTransport,
    redaction,
)
from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro.testing.cassettes.redaction import Redaction
from flowmaestro.testing.redaction import redacted_text
from flowmaestro_core.http.messages import Phase, Request, Response, ResponseHead, TransportFailure

KEY = "fm_live_do_not_show_me"
ROOT = "https://api.flowmaestro.io/api/v1"
OK = ResponseHead(200, {})


def redacted_body(body, redact=None):
    exchange = RecordedExchange(Request("GET", ROOT, {}), (OK, *([body] if body else ())))
    return b"".join(Redaction(redact).exchange(exchange).steps[1:]).decode()


def redacted_request(**changes):
    given_ = {"method": "GET", "url": ROOT, "headers": {}, "body": b"", **changes}
    return Redaction().request(Request(**given_))


def test_secret_header_field_is_redacted():
    fields = {"X-API-Key": KEY, "Accept": "*/*", "Cookie": "s3", "Idempotency-Key": "abc"}
    hidden = {**fields, "X-API-Key": "***", "Cookie": "***"}
    assert redacted_request(headers=fields).headers.pairs == (*hidden.items(),)


@pytest.mark.parametrize(("key", "shown"), [("12345678", "***"), ("1234567", "1234567")])
def test_secret_of_eight_characters_is_redacted_in_the_url_too(key, shown):
    request = redacted_request(url=f"{ROOT}/a?q={key}", headers={"X-API-Key": key})
    assert request.url == f"{ROOT}/a?q={shown}"


def test_secret_that_ends_with_an_escape_is_redacted_whole():
    body = b'{"x":"before abcdefg\\u0021 behind"}'
    assert redacted_body(body, lambda _: ["abcdefg!"]) == '{"x":"before *** behind"}'


def test_cookie_and_echoes_of_response_are_redacted():
    exchange = RecordedExchange(
        Request("GET", ROOT, {"X-API-Key": "an-unusual-word"}),
        (
            ResponseHead(
                200, {"Set-Cookie": "sid=crumbs", "X-an-unusual-word": "an-unusual-word!"}
            ),
            b'{"saw": "an-unusual-word?"}',
        ),
    )
    head, body = Redaction().exchange(exchange).steps
    assert head.headers.pairs == (("Set-Cookie", "***"), ("X-***", "***!"))
    assert body == b'{"saw": "***?"}'


def test_secrets_in_url_are_redacted():
    url = f"https://ada:pass@h/keys/{KEY}/x?page=2&q={KEY}&api_key=12345&access%5Ftoken=a%20b"
    shown = "https://h/keys/***/x?page=2&q=***&api_key=***&access%5Ftoken=***"
    assert redacted_request(url=url).url == shown


BODIES = {
    "a webhook": (
        '{"data":{"id":"wh_1","secret":"s3cr3t"}}',
        '{"data":{"id":"wh_1","secret":"***"}}',
    ),
    "odd spacing": ('{ "Api_Key"\n:\t"abc" ,"a":"b"}', '{ "Api_Key"\n:\t"***" ,"a":"b"}'),
    "an escaped name": ('{"s\\u0065cret":"x"}', '{"s\\u0065cret":"***"}'),
    "a name that is none": ('{"secret\\q":"x","a\\q":"b"}', '{"secret\\q":"***","a\\q":"b"}'),
    "an escaped value": ('{"password":"a\\"b","c":"d"}', '{"password":"***","c":"d"}'),
    "a list": (
        '{"secrets":["a",["b"],{"c":"d"}],"e":"f"}',
        '{"secrets":["***",["***"],{"c":"***"}],"e":"f"}',
    ),
    "an object": (
        '{"credentials":{"user":"ada","pin":1234},"e":"f"}',
        '{"credentials":{"user":"***","pin":"***"},"e":"f"}',
    ),
    "a number": ('{"passcode":123456,"b":1}', '{"passcode":"***","b":1}'),
    "null and nothing": ('{"secret":null,"password":""}', '{"secret":null,"password":""}'),
    "an event": (
        'event: x\ndata: {"client_secret":"abc","type":"x"}\n\n',
        'event: x\ndata: {"client_secret":"***","type":"x"}\n\n',
    ),
    "torn off": ('data: {"secret":"whs', 'data: {"secret":"***'),
    "torn off behind a backslash": ('{"secret":"whs\\', '{"secret":"***\\'),
    "the API's own": ("the key fm_test_abc-1, whsec_zz9.", "the key ***, ***."),
    "quotes that are none": ('it is 5" long\n{"secret":"x"}', 'it is 5" long\n{"secret":"***"}'),
    "a URL with a user and parameters": (
        '{"url":"https://ada:pa@ss@h.test/x?api_key=abc&page=2#token=s3","a":"b"}',
        '{"url":"https://h.test/x?api_key=***&page=2#token=***","a":"b"}',
    ),
    "an escaped URL": (
        '{"url":"http:\\/\\/a:b@h\\/x?page=2\\u0026access_token=abc"}',
        '{"url":"http:\\/\\/h\\/x?page=2\\u0026access_token=***"}',
    ),
    "a URL in a text": (
        "see <https://h.test/x?sig=1&secret=abc> and ada@h.test",
        "see <https://h.test/x?sig=1&secret=***> and ada@h.test",
    ),
    "header fields": (
        '{"headers":{"X-Auth":"abc","Accept":"*/*","More":{"Key":"k"}},"key":"k"}',
        '{"headers":{"X-Auth":"***","Accept":"*/*","More":{"Key":"k"}},"key":"k"}',
    ),
    "JSON in a header field": (
        '{"headers":{"X-Info":"{\\"password\\":\\"abc\\"}"}}',
        '{"headers":{"X-Info":"{\\"password\\":\\"***\\"}"}}',
    ),
    "a form": ("session=abc&page=2&x%5Fsecret=abc", "session=***&page=2&x%5Fsecret=***"),
    "JSON in a text": (
        '{"outputs":"{\\"api_key\\": \\"STR99\\", \\"a\\": 1}","b":["\\n[{\\"otp\\":1}]"]}',
        '{"outputs":"{\\"api_key\\": \\"***\\", \\"a\\": 1}","b":["\\n[{\\"otp\\":\\"***\\"}]"]}',
    ),
    "JSON in a text, torn off": (
        '{"outputs":"{\\"api_key\\": \\"STR99\\u00',
        '{"outputs":"{\\"api_key\\": \\"***',
    ),
    "JSON in a text, none": ('{"a":"{\\q","b":"[1]"}', '{"a":"{\\q","b":"[1]"}'),
    "tokens of a text": (
        'event: message:token\ndata: {"token":"Hel","usage":{"total_tokens":12}}\n\n',
        'event: message:token\ndata: {"token":"Hel","usage":{"total_tokens":12}}\n\n',
    ),
    "what is no secret": (
        '{"author":"Ada","session_id":"s","key":"k","next_token":"n","monkey":"m"}',
        '{"author":"Ada","session_id":"s","key":"k","next_token":"n","monkey":"m"}',
    ),
}


@pytest.mark.parametrize("name", list(BODIES))
def test_secrets_in_body_are_redacted(name):
    body, shown = BODIES[name]
    assert redacted_body(body.encode()) == shown
    assert redacted_request(body=body.encode()).body.decode() == shown
    assert redacted_body(shown.encode()) == shown, "a second time changes nothing"


@given(st.data())
def test_a_secret_is_redacted_across_any_pieces_of_a_body(data):
    before, after = b'event: a\ndata: {"id":"1","secret":"', b'","name":"Ada"}\n\n'
    secret = data.draw(
        st.sampled_from([b"wh\xc3\xa4t", b"whsec_abcdefgh", b"s3", b"an-unusual-key"])
    )
    body = before + secret + after
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)])]
    request = Request("GET", ROOT, {"X-API-Key": "an-unusual-key"})
    found = Redaction().exchange(RecordedExchange(request, (OK, *pieces))).steps[1:]
    assert b"".join(found) == before + b"***" + after
    edges = {len(before), len(before) + len(secret)}
    kept = {cut for cut in cuts if cut <= len(before)}
    kept |= {cut - len(secret) + 3 for cut in cuts if cut >= max(edges)}
    ends, at = set(), 0
    for piece in found:
        assert piece
        at += len(piece)
        ends.add(at)
    assert kept <= ends, "every boundary outside of the secret is still there"


@given(st.binary(max_size=60))
def test_odd_bytes_are_left_alone(body):
    exchange = RecordedExchange(Request("GET", ROOT, {}), (OK, *([body] if body else ())))
    if b'"' not in body and b"fm_" not in body and b"whsec_" not in body:
        assert b"".join(Redaction().exchange(exchange).steps[1:]) == body


def test_a_rule_of_the_user():
    emails = re.compile(r"[\w.]+@[\w.]+").findall
    exchange = RecordedExchange(
        Request(
            "POST",
            f"{ROOT}/a?to=ada%40example.com",
            {"From": "ada@example.com"},
            b"ada@example.com",
        ),
        (
            OK,
            b"to: bob@exa",
            Quiet(1),
            b"mple.com",
            TransportFailure(Phase.REPLY_BROKEN, "eve@x.y!"),
        ),
    )
    found = Redaction(emails).exchange(exchange)
    assert found.request.url == f"{ROOT}/a?to=***"
    assert (found.request.headers["from"], found.request.body) == ("***", b"***")
    assert found.steps[1:3] == (b"to: ***", Quiet(1))
    assert found.steps[3].message == "***!"


def test_a_key_in_disguise():
    """In whatever the core knows a secret again, as `tests/core/http/test_scrub.py` tells."""
    key = 'my"own/kind?of>key'
    request = Request("GET", ROOT, {"X-API-Key": key})
    encoded, quoted = base64.b64encode(key.encode()).decode(), quote(key, safe="")
    body = f'{{"basic":"{encoded}","at":"/x/{quoted}","a":"<my\\"own\\/kind?of\\u003ekey>"}}'
    _, found = Redaction().exchange(RecordedExchange(request, (OK, body.encode()))).steps
    assert json.loads(found) == {"basic": "***", "at": "/x/***", "a": "<***>"}


@pytest.mark.parametrize("length", [16, 17, 18])
@pytest.mark.parametrize("before", [b"", b"a", b"ab"])
def test_a_key_amid_a_text_in_base64(before, length):
    """A character of base64 holds bits of two bytes: the neighbours may be anything."""
    key = b"0123456789abcdefgh"[:length]
    for neighbour in (b"\0", b"\xff"):
        text = base64.b64encode(before + key + neighbour * 5).decode()
        shown = redacted_text(text, [key])
        assert re.fullmatch(r"[^*]{0,4}\*{3}[^*]{6,10}", shown), shown


def test_a_long_body_without_a_url_is_read_in_linear_time(takes_linear_time):
    def redact(size):
        redacted_body(b"a" * size + b":" * (size // 4) + b"://" * (size // 20))

    takes_linear_time(redact, 500_000)


def test_rules_that_are_none():
    with pytest.raises(TypeError, match="redact must be a function"):
        Cassette("a.jsonl", redact="secret")
    with pytest.raises(TypeError, match="redact must return the texts"):
        redacted_body(b"abc", lambda text: text)
    with pytest.raises(TypeError, match="redact must return the texts"):
        redacted_body(b"abc", lambda text: [text.encode()])
    with pytest.raises(TypeError, match="redact must return the texts"):
        redacted_body(b"abc", lambda text: None)
    assert redacted_body(b"abc", lambda text: iter("b")) == "a***c"


def test_a_recording_of_many_calls_holds_no_secret(tmp_path):
    fake = FakeFlowMaestro(seed=3)
    key = fake.add_key("fm_live_" + "k" * 32)
    path = tmp_path / "secrets.jsonl"
    with Cassette(path) as cassette:
        transport = cassette.transport(MemoryTransport(fake))
        headers = {"X-Tenant-Token": "tenant-12345678"}
        with FlowMaestroClient(key, transport=transport, headers=headers) as client:
            hook = client.webhooks.create(
                name="Hook", url="https://example.com", events=["execution.completed"]
            )
            secret = hook["data"]["secret"]
            client.workflows.execute("wf_123", inputs={"api_key": "sk-12345", "name": "Ada"})
            for webhook in client.webhooks.list()["data"]:
                assert webhook["id"]
    assert secret.startswith("whsec_"), "what is recorded is not what is handed on"
    text = path.read_text(encoding="utf-8")
    for hidden in (key, secret, "sk-12345", "tenant-12345678"):
        assert hidden not in text
    assert "Ada" in text
    assert text.count('["X-API-Key", "***"]') == 3


@pytest.mark.parametrize("mode", ["once", "new_episodes"])
def test_an_echo_of_what_the_transport_sent_beside_the_request(tmp_path, mode):
    path, password = tmp_path / "echo.jsonl", "the proxy's password"
    token = base64.b64encode(f"ada:{password}".encode()).decode()
    if mode == "new_episodes":
        with Cassette(path) as cassette:
            transport = cassette.transport(ScriptedTransport([Response(200, {})]))
            transport.send(Request("GET", f"{ROOT}/other", {}), 5)
    seen = json.dumps({"saw": f"Basic {token}", "password": password}).encode()
    inner = ScriptedTransport(
        [
            Response(407, {"X-Saw": f"Basic {token}"}, seen),
            [ResponseHead(200, {}), seen[:20], seen[20:]],
            TransportFailure(Phase.NOT_SENT, f"the proxy refused Basic {token}"),
        ]
    )
    with Cassette(path, mode=mode) as cassette:
        transport = cassette.transport(inner)
        inner.secrets = (f"Basic {token}", token, password)  # known with the first call
        assert transport.secrets == inner.secrets
        transport.send(Request("GET", f"{ROOT}/1", {}), 5)
        body = transport.open(Request("GET", f"{ROOT}/2", {}), 5)
        assert [body.read(5), body.read(5), body.read(5)] == [seen[:20], seen[20:], b""]
        with pytest.raises(TransportFailure):
            transport.send(Request("GET", f"{ROOT}/3", {}), 5)
    text = path.read_text(encoding="utf-8")
    assert "the proxy refused" in text
    assert token not in text
    assert token[:12] not in text
    assert password not in text


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"inputs": {"token": "abcd-efgh"}}', '{"inputs": {"token": "***"}}'),
        (b'{"token": 12345678}', '{"token": "***"}'),
        (b'{"next_page_token": "abcd"}', None),
        (b'{"page_token": "abcd", "nextToken": "x"}', None),
        (b'{"my_page_token": "abcd"}', '{"my_page_token": "***"}'),
        (b'event: message:token\ndata: {"token": "Hello"}\n\n', None),
        (b'event: message:token\r\nid: 1\r\ndata: {"token": "Hello"}\r\n\r\n', None),
        (b'data: {"type": "message:token", "token": "Hello"}\n\n', None),
        (
            b'event: message:token\ndata: {"token": "Hi"}\n\nevent: x\ndata: {"token": "s3"}\n\n',
            'event: message:token\ndata: {"token": "Hi"}\n\nevent: x\ndata: {"token": "***"}\n\n',
        ),
        (
            b'{"headers": [["Accept", "x"], ["X-Auth", "s3"]]}',
            '{"headers": [["Accept", "x"], ["X-Auth", "***"]]}',
        ),
        (b'{"headers": [["X-Auth", ""]]}', None),
        (b'["X-Auth", "s3"]', None),
        (b"curl -H 'Authorization: Basic dTpw'", "curl -H 'Authorization: Basic ***'"),
        (b'say "authorization: bearer abc.def"', 'say "authorization: bearer ***"'),
        (b"then Bearer abcdefghij0123456789== works", "then Bearer *** works"),
        (b"the bearer of this letter", None),
    ],
)
def test_tokens_header_pairs_and_credentials_in_texts(body, shown):
    assert redacted_body(body) == (body.decode() if shown is None else shown)


WITHIN_EACH_OTHER = (
    b'{"token":',
    b'{"token":[1,',
    b'{"headers":{"X-Auth":',
    b'{"headers":[["X-Auth",',
)


@pytest.mark.parametrize(
    "part",
    [
        *WITHIN_EACH_OTHER,
        b"https://a:b@c?token=://",
        b'{"token":1},',
        b"token=1&",
        b"fm_live_a ",
        b'"{\\"k_key\\": 1}",',
        b"[",
        b"bearer ",
    ],
)
def test_a_body_of_many_secrets_is_read_in_linear_time(part, takes_linear_time):
    takes_linear_time(lambda size: redacted_body(part * (size // len(part))), 100_000)


def test_a_list_of_many_webhooks_is_redacted_one_by_one():
    hook = {"secret": "s3", "url": "https://u:p@h/?key=s3", "headers": {"X-Auth": "s3", "A": "b"}}
    shown = json.loads(redacted_body(json.dumps([hook] * 1_000).encode()))
    hidden = {"secret": "***", "url": "https://h/?key=***", "headers": {"X-Auth": "***", "A": "b"}}
    assert shown == [hidden] * 1_000


def test_json_in_strings_within_strings_is_redacted():
    text = json.dumps({"a_key": "s3", "text": "open"})
    for _ in range(6):
        text = json.dumps({"text": text})
    shown = redacted_body(text.encode())
    assert "s3" not in shown
    assert "open" in shown


def test_a_long_name_is_not_kept_in_the_cache_of_names(monkeypatch):
    judged = []
    monkeypatch.setattr(redaction, "is_secret_member", lambda name: judged.append(name))
    name = "x" * 1000
    body = json.dumps({f"{name}_key": "s3", f"{name}keyboard": "s4", name: "open", "a_key": ""})
    shown = {f"{name}_key": "***", f"{name}keyboard": "***", name: "open", "a_key": ""}
    assert json.loads(redacted_body(body.encode())) == shown
    assert set(judged) == {"a_key"}

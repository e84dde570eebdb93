"""The known failures of each example: names of conformance checks, with reasons."""

from __future__ import annotations

_TLS_END = {"a-body-cut-off-under-tls": "The stack takes the end of a connection for one of TLS."}
_LONG_LINES = {
    "an-endless-header-line": "httpx bounds what it holds of a head, not each line of it."
}
_EACH_READ = dict.fromkeys(
    ("a-head-that-dribbles", "a-body-that-dribbles", "a-flood-of-informational-replies"),
    "The stack bounds each read alone: a server that goes on and on may keep a call for hours.",
)
_INTERRUPTS = dict.fromkeys(
    ("an-interrupted-call-loses-nothing", "an-interrupted-stream-loses-nothing"),
    "The stack's locks are written in Python: an interrupt between two steps keeps one taken.",
)
_FIELDS = {
    "no-frame-of-a-failure-shows-a-secret": "A local variable holds the header fields as they are."
}
_REQUEST = {"no-secret-is-reachable-from-a-failure": "The stack's own exception has the request."}
_HEAD = dict.fromkeys(
    ("handshake-timeout", "reset-in-the-handshake"),
    "The stack tells no broken handshake from a lost reply: a POST is not made again.",
)

ASYNC_HTTPX = {**_TLS_END, **_LONG_LINES, **_REQUEST}
HTTPX = {**_LONG_LINES, **_EACH_READ, **_INTERRUPTS, **_REQUEST}
URLLIB3 = {
    **_INTERRUPTS,
    **_TLS_END,
    **_EACH_READ,
    **_HEAD,
    **_FIELDS,
    "a-flood-of-trailers": "http.client, beneath it, reads all trailers in one go.",
    "a-stream-flooded-with-trailers": "http.client, beneath it, reads all trailers in one go.",
    "a-garbled-length": "http.client, beneath it, reads on until the connection ends.",
    "a-garbled-status-line": "http.client takes for a status what int() takes for a number.",
    "a-last-chunk-cut-short": "urllib3 takes the end of a connection for that of the body.",
    "informational-replies": "urllib3 takes a 103 for the reply: the call fails.",
}
_NO_LENGTH = "A reply without a length fails: it may be cut off."
_AS_IF_SENT = "It fails as if the request had gone out: a POST is not made again."
TWISTED = {
    **_INTERRUPTS,
    **_FIELDS,
    **_REQUEST,
    **dict.fromkeys(_HEAD, _AS_IF_SENT),
    **dict.fromkeys(("a-wrong-host-is-refused", "an-unknown-authority-is-refused"), _AS_IF_SENT),
    **dict.fromkeys(("a-body-cut-off-under-tls", "body-until-the-connection-ends"), _NO_LENGTH),
    "a-garbled-status-line": "Twisted takes for a status what int() takes for a number.",
    "a-header-line-of-60000-bytes": "Lines from 16 KiB on fail, as large cookies make them.",
}
_UNTOLD = "fetch tells nothing of a failure: what the server may have done is not tried again."
FETCH = {
    **_FIELDS,
    **dict.fromkeys(_HEAD, _UNTOLD),
    "an-unknown-authority-is-refused": _UNTOLD,
    "connect-timeout": _UNTOLD,
    "refused-connection": _UNTOLD,
    "no-redirect-is-followed": "fetch does not show where a redirect leads: it is a failure.",
    "repeated-header-fields": "fetch joins their values with commas.",
}
_REQWEST = {
    **dict.fromkeys(
        ("an-unknown-authority-is-refused", "a-wrong-host-is-refused", "reset-in-the-handshake"),
        _AS_IF_SENT,
    ),
    **dict.fromkeys(
        ("connect-timeout", "handshake-timeout"),
        "A time limit that ran out does not tell how far it had come: a POST is not made again.",
    ),
    "an-endless-header-line": "hyper bounds a whole head, at 400 KB.",
    "close-frees-every-connection": "Idle connections are closed by the pool's own time limit.",
}
PYREQWEST = {
    **_REQWEST,
    "a-flood-of-informational-replies": "Only each receive of `open` has a limit: `read_timeout`.",
}
ASYNC_PYREQWEST = {
    **_REQWEST,
    **dict.fromkeys(
        (
            "cancelled-while-connecting",
            "cancelled-while-sending",
            "cancelled-before-the-head",
            "cancelled-within-the-head",
        ),
        "What is cancelled before its reply keeps its connection until the client's own limits.",
    ),
    "waiting-for-a-connection-counts": _REQWEST["connect-timeout"],
    "a-cancelled-close-can-be-repeated": _REQWEST["close-frees-every-connection"],
}

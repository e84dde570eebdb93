"""Mutations of valid bytes, drawn from a seeded random source."""

from __future__ import annotations

import json
import random
import re
from typing import Callable, List, Sequence

SEPARATOR = b"\n\x1e\n"
"""Between two replies of one conversation."""

_TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[\[{\]}]')
_BEFORE_VALUE = re.compile(r"[:\[,] ?|data: ?|\n\n")
_NUMBER = re.compile(rb"\d+")

ODD_JSON = (
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1e999",
    b"-0.5",
    b"1" * 30,
    b"9" * 5000,
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"' + b"x" * 20_000 + b'"',
    b"[]",
    b"{}",
    b"[null]",
    b"[[1]]",
    b'{"id":{}}',
    b'{"data":{"data":[]}}',
    b"[" * 200 + b"]" * 200,
    b'"execution:completed"',
    b'"completed"',
    b'"running"',
    b'"processing"',
)
"""What JSON may hold where something else is expected."""

NO_JSON = (
    b"NaN",
    b"Infinity",
    b'"\xff"',
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 3000,
)

ODD_BYTES = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\xe2\x80\xa8",
    b"\x1f\x8b\x08",
    b"data: {}\n\n",
    b"event: execution:completed\ndata:\n\n",
    b"event: \0\n",
    b"id: \0\n",
    b"retry: 99999999999999999999\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    SEPARATOR,
)

ODD_FIELDS = (
    b"Content-Type: text/event-stream",
    b"Content-Type: \xff\xfe",
    b"Content-Type:",
    b"Content-Length: 0",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 5, 6",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Content-Encoding: br",
    b"Connection: close",
    b"Connection: upgrade",
    b"Location: http://[",
    b"Location: /api/v1/workflows/other",
    b"Location: //elsewhere.test/",
    b"Retry-After: 1e400",
    b"Retry-After: nan",
    b"Retry-After: 86400",
    b"Retry-After: \xb2",
    b"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT",
    b"retry-after-ms: 1",
    b"Date: Sun, 31 Feb 9999 99:99:99 GMT",
    b"X-RateLimit-Remaining: 0",
    b"X-RateLimit-Remaining: " + b"9" * 5000,
    b"X-RateLimit-Reset: -1",
    b"X-Request-ID: \xff",
    b"X-Long: " + b"y" * 70_000,
    b"No colon here",
    b": no name",
    b" folded: line",
    b"Set-Cookie: a=b",
)

ODD_STATUSES = (
    *(b"100", b"101", b"103", b"200", b"201", b"204", b"206", b"299", b"301", b"304", b"307"),
    *(b"400", b"401", b"402", b"403", b"404", b"408", b"409", b"413", b"415", b"422", b"429"),
    *(b"500", b"501", b"502", b"503", b"504", b"599", b"600", b"999", b"000", b"99", b"2000"),
)

Mutation = Callable[[random.Random, bytes], bytes]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flip(rng: random.Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(rng.randint(1, 6) if data else 0):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def remove(rng: random.Random, data: bytes) -> bytes:
    start, end = _slice(rng, data)
    return data[:start] + data[end:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = _slice(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 20)) + data[end:]


def insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    odd = rng.choice(ODD_BYTES) if rng.random() < 0.8 else bytes(rng.choices(range(256), k=8))
    return data[:place] + odd + data[place:]


def replace_value(rng: random.Random, data: bytes) -> bytes:
    """Put something odd in the place of a token of JSON."""
    return _replaced(rng, data, _TOKEN, rng.choice(ODD_JSON + NO_JSON))


def replace_tree(rng: random.Random, data: bytes) -> bytes:
    """Put something odd in the place of a whole value of JSON, which stays JSON that way."""
    text = data.decode("latin-1")
    places = [found.end() for found in _BEFORE_VALUE.finditer(text)]
    for place in rng.sample(places, min(len(places), 4)):
        try:
            _, end = json.JSONDecoder().raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        return data[:place] + rng.choice(ODD_JSON) + data[end:]
    return data


def replace_number(rng: random.Random, data: bytes) -> bytes:
    odd = rng.choice((b"0", b"1", b"-1", b"2147483648", b"9" * 19, b"9" * 400, b"\xb2"))
    return _replaced(rng, data, _NUMBER, odd)


def replace_status(rng: random.Random, data: bytes) -> bytes:
    return _replaced(rng, data, re.compile(rb"(?<![\d.])\d{3}(?!\d)"), rng.choice(ODD_STATUSES))


def splice_field(rng: random.Random, data: bytes) -> bytes:
    """Put an odd header field behind one of the lines."""
    line_end = b"\r\n" if b"\r\n" in data else b"\n"
    places = [found.end() for found in re.finditer(re.escape(line_end), data[:2000])]
    place = rng.choice(places[:8]) if places else 0
    return data[:place] + rng.choice(ODD_FIELDS) + line_end + data[place:]


MUTATIONS: Sequence[Mutation] = (
    truncate,
    flip,
    remove,
    repeat,
    insert,
    replace_value,
    replace_tree,
    replace_tree,
    replace_tree,
    replace_number,
    replace_status,
    splice_field,
)


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One of `corpus`, changed in one to four ways; now and then grown together with another."""
    data = rng.choice(corpus)
    if rng.random() < 0.1:
        other = rng.choice(corpus)
        data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
    ways: List[Mutation] = rng.choices(MUTATIONS, k=rng.choice((1, 1, 1, 2, 3, 4)))
    for way in ways:
        data = way(rng, data)
    return data


def _slice(rng: random.Random, data: bytes) -> Sequence[int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(2 ** rng.uniform(0, 9)))


def _replaced(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], odd: bytes) -> bytes:
    found = list(pattern.finditer(data))
    if not found:
        return data
    chosen = rng.choice(found)
    return data[: chosen.start()] + odd + data[chosen.end() :]

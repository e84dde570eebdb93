"""The format of a cassette: JSON Lines in UTF-8, made to be read in a diff.

The first line names the version. The last line counts the exchanges and all lines before it, so
that a file with missing lines is recognised. Between them, each exchange is a `request` and the
lines of its response: `head` and any number of `chunk`, if they were received; then `end`, or
`failure` with its phase (`Phase`), or `silence`, if the response was not read to its end. The
member `after` of a line is the number of seconds since the line before. A body or chunk is written
as `json` if it is exactly the compact JSON of an object or array, else as `text` if it is UTF-8,
else as `base64`.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, cast

from flowmaestro.testing.arguments import check_seconds, one_of
from flowmaestro.testing.virtual.playback import Quiet, ReplyStep, steps_of
from flowmaestro_core.http.messages import Phase, Request, ResponseHead, TransportFailure
from flowmaestro_core.payloads.reply import decode_json

VERSION = 1
"""The version of the format. A cassette of another version is refused."""
_DIGITS = 6
"""Digits behind the point of a time in seconds: microseconds, which clocks can tell apart."""

Line = Dict[str, Any]


class CassetteError(ValueError):
    """The file is missing or not a valid cassette, or its folder cannot be written."""


@dataclass(frozen=True)
class RecordedExchange:
    """A request, and the steps of its response (see `ScriptedReply`).

    An endless `Quiet()` as the last step means that the response was not read to its end. `line` is
    the number of the first line of the exchange in its file, 0 if it was not read from a file.
    """

    request: Request
    steps: Tuple[ReplyStep, ...]
    line: int = 0


def written(exchanges: Sequence[RecordedExchange]) -> bytes:
    """Return the content of a cassette file with these exchanges, times to the microsecond."""
    lines: List[Line] = [
        {"kind": "cassette", "version": VERSION},
        *(line for exchange in exchanges for line in _lines(exchange)),
    ]
    lines.append({"kind": "end of cassette", "exchanges": len(exchanges), "lines": len(lines)})
    return b"".join(_encoded(line) + b"\n" for line in lines)


def read(name: str, data: bytes) -> List[RecordedExchange]:
    """Return the exchanges in `data`, the content of a cassette file.

    Raises `CassetteError`, which names the file by `name` and the line by its number.
    """
    exchanges: List[RecordedExchange] = []
    request: Optional[Request] = None  # The request of an unfinished exchange.
    begun, steps = 0, cast("List[ReplyStep]", [])
    texts, number = data.splitlines(), 1
    try:
        for number, text in enumerate(texts, 1):
            line = _parsed(text, is_last=number == len(texts))
            kind = line.get("kind")
            if number == 1:
                _check_version(line)
            elif request is not None:
                if kind in ("request", "end of cassette"):
                    number -= 1  # The error is about the line before.
                    raise ValueError("the exchange is truncated after this line")
                steps += _steps(line)
                if kind in ("end", "failure", "silence"):
                    exchanges.append(RecordedExchange(request, steps_of(steps), begun))
                    request = None
            elif kind == "request":
                request, begun, steps = _request(line), number, []
            elif kind != "end of cassette":
                first = f"a request must come first, not {json.dumps(kind)}"
                raise ValueError("the exchange has ended before this line" if exchanges else first)
            else:
                _check_count(line, "exchanges", len(exchanges))
                _check_count(line, "lines", number - 1)
                if number < len(texts):
                    number += 1  # The error is about the next line.
                    raise ValueError("there are lines after the end of the cassette")
                return exchanges
        raise ValueError("the cassette is truncated after this line")
    except (TypeError, ValueError) as error:
        raise CassetteError(f"{name}, line {number}: {error}") from error


def _parsed(text: bytes, *, is_last: bool) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "the cassette is truncated in this line" if is_last else f"this is not JSON: {error}"
        raise ValueError(what) from error
    if not isinstance(line, dict):
        raise TypeError("a line must be a JSON object")
    return cast("Line", line)


def _check_version(line: Line) -> None:
    if line.get("kind") != "cassette":
        raise ValueError("this is not a cassette")
    if line.get("version") != VERSION:
        version = json.dumps(line.get("version"))
        raise ValueError(f"version {version} is unknown; this SDK reads {VERSION}")


def _check_count(line: Line, what: str, count: int) -> None:
    if line.get(what) != count:
        raise ValueError(f"{line.get(what)} {what} were written before this one, not {count}")


def _lines(exchange: RecordedExchange) -> Iterator[Line]:
    request = exchange.request
    yield {
        "kind": "request",
        "method": request.method,
        "url": request.url,
        "headers": request.headers.pairs,
        **_body(request.body),
    }
    after = 0.0
    for step in exchange.steps:
        if isinstance(step, Quiet):
            after += step.seconds
            continue
        timed = {"after": round(after, _DIGITS)}
        after = 0.0
        if isinstance(step, ResponseHead):
            yield {
                "kind": "head",
                **timed,
                "status": step.status,
                "headers": step.headers.pairs,
            }
        elif isinstance(step, bytes):
            yield {"kind": "chunk", **timed, **_body(step)}
        else:
            yield {
                "kind": "failure",
                **timed,
                "phase": step.phase.value,
                "message": step.message,
                "timed_out": step.timed_out,
                "permanent": step.permanent,
            }
            return
    if after < math.inf:
        yield {"kind": "end", "after": round(after, _DIGITS)}
    else:
        yield {"kind": "silence"}


def _request(line: Line) -> Request:
    return Request(
        _member(line, "method", str), _member(line, "url", str), _headers(line), _bytes(line)
    )


def _steps(line: Line) -> List[ReplyStep]:
    """Return the steps of one line: `Quiet` for the seconds before it, if any, then its own step.

    The line `end` has no step of its own, and that of `silence` is an endless `Quiet()`.
    """
    kind = line.get("kind")
    if kind == "silence":
        return [Quiet()]
    if kind == "end":
        return _after(line)
    if kind == "head":
        return [*_after(line), ResponseHead(_member(line, "status", int), _headers(line))]
    if kind == "chunk":
        return [*_after(line), _bytes(line)]
    if kind == "failure":
        return [*_after(line), _failure(line)]
    raise ValueError(f"the kind {json.dumps(kind)} is unknown")


def _after(line: Line) -> List[ReplyStep]:
    seconds = line.get("after", 0.0)
    check_seconds("after", seconds)
    return [Quiet(seconds)] if seconds else []


def _failure(line: Line) -> TransportFailure:
    phase = one_of("phase", _member(line, "phase", str), [phase.value for phase in Phase])
    return TransportFailure(
        Phase(phase),
        _member(line, "message", str),
        timed_out=_member(line, "timed_out", bool),
        permanent=_member({"permanent": False, **line}, "permanent", bool),
    )


def _member(line: Line, name: str, kind: type) -> Any:
    value = line.get(name)
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of type {kind.__name__}, not {json.dumps(value)}")
    return value


def _headers(line: Line) -> List[Any]:
    return [tuple(pair) for pair in _member(line, "headers", list)]


def _body(data: bytes) -> Line:
    if not data:
        return {}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    try:
        value = decode_json(text)
        if isinstance(value, (dict, list)) and _compact(value) == data:
            return {"json": value}
    except (ValueError, RecursionError):
        pass
    return {"text": text}


def _bytes(line: Line) -> bytes:
    if "json" in line:
        return _compact(line["json"])
    if "base64" in line:
        return base64.b64decode(_member(line, "base64", str), validate=True)
    return cast("str", _member(line, "text", str)).encode() if "text" in line else b""


def _compact(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _encoded(line: Line) -> bytes:
    try:
        return json.dumps(line, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # A header field that is not UTF-8 has lone surrogates.
        return json.dumps(line).encode()

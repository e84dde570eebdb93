"""The format of a cassette: JSON Lines in UTF-8, made to be read in a diff.

The first line names the version; the last one counts the exchanges and all the lines before it,
so that a file which was cut, at its end or in its middle, is told from a whole one. Between
them, each exchange is a `request`, then what came, each with the seconds `after` the line before:
`head`, `chunk`, and `end`; or `failure`, with the phase (`Phase`); or `silence`, when the reader
closed a reply. A body stands there as `json` where exactly its bytes are what the compact
writing of that gives, else as `text`, else as `base64`.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any, Dict, Iterator, List, Sequence, Tuple, cast

from flowmaestro.testing.cassettes.exchange import CassetteError, Exchange, joined
from flowmaestro.testing.virtual.playback import Quiet, Step, steps_of
from flowmaestro_core.http.messages import Headers, Phase, Request, ResponseHead, TransportFailure

VERSION = 1
_DIGITS = 6
_PHASES = {phase.value: phase for phase in Phase}

Line = Dict[str, Any]
_NOTHING: Tuple[int, Line] = (1, {})


def written(exchanges: Sequence[Exchange]) -> bytes:
    """A cassette of these exchanges; times are written to the microsecond."""
    lines: List[Line] = [
        {"kind": "cassette", "version": VERSION},
        *(line for exchange in exchanges for line in _lines(exchange)),
    ]
    lines.append({"kind": "end of cassette", "exchanges": len(exchanges), "lines": len(lines)})
    return b"".join(_encoded(line) + b"\n" for line in lines)


def read(name: str, data: bytes) -> List[Exchange]:
    """The exchanges of a cassette. Raises `CassetteError`, with `name` and the line's number."""
    lines = _parsed(name, data)
    number, first = next(lines, _NOTHING)
    if first.get("kind") != "cassette":
        raise _wrong(name, number, "this is no cassette")
    if first.get("version") != VERSION:
        version = json.dumps(first.get("version"))
        raise _wrong(name, number, f"version {version} is unknown; this SDK reads {VERSION}")
    exchanges: List[Exchange] = []
    parts: List[Tuple[int, Line]] = []
    for number, line in lines:
        kind = line.get("kind")
        if kind in ("request", "end of cassette") and parts:
            exchanges.append(_exchange(name, parts))
            parts = []
        if kind == "end of cassette":
            for what, count in (("exchanges", len(exchanges)), ("lines", number - 1)):
                if line.get(what) != count:
                    counted = f"{line.get(what)} {what} were written before this one, not {count}"
                    raise _wrong(name, number, counted)
            extra = next(lines, None)
            if extra is not None:
                raise _wrong(name, extra[0], "something stands behind the end of the cassette")
            return exchanges
        if kind != "request" and not parts:
            raise _wrong(name, number, f"a request must come first, not {json.dumps(kind)}")
        parts.append((number, line))
    raise _wrong(name, number, "the cassette is cut off behind this line")


def _parsed(name: str, data: bytes) -> Iterator[Tuple[int, Line]]:
    *whole, rest = data.split(b"\n")
    for number, text in enumerate([*whole, rest] if rest else whole, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            if number > len(whole):
                raise _wrong(name, number, "the cassette is cut off in this line") from error
            raise _wrong(name, number, f"this is no JSON: {error}") from error
        if not isinstance(line, dict):
            raise _wrong(name, number, "a line must be a JSON object")
        yield number, cast("Line", line)


def _wrong(name: str, number: int, what: str) -> CassetteError:
    return CassetteError(f"{name}, line {number}: {what}")


def _lines(exchange: Exchange) -> Iterator[Line]:
    request = exchange.request
    yield {
        "kind": "request",
        "method": request.method,
        "url": request.url,
        "headers": request.headers.pairs,
        **_body(request.body),
    }
    after: Dict[str, float] = {"after": 0.0}
    for step in joined(exchange.steps):
        if isinstance(step, Quiet) and step.seconds < math.inf:
            after = {"after": round(step.seconds, _DIGITS)}
            continue
        if isinstance(step, Quiet):
            yield {"kind": "silence"}
            return
        if isinstance(step, ResponseHead):
            yield {
                "kind": "head",
                **after,
                "status": step.status,
                "headers": step.headers.pairs,
            }
        elif isinstance(step, bytes):
            yield {"kind": "chunk", **after, **_body(step)}
        else:
            yield {
                "kind": "failure",
                **after,
                "phase": step.phase.value,
                "message": step.message,
                "timed_out": step.timed_out,
                "permanent": step.permanent,
            }
            return
        after = {"after": 0.0}
    yield {"kind": "end", **after}


def _exchange(name: str, parts: List[Tuple[int, Line]]) -> Exchange:
    first, line = parts[0]
    number = first
    try:
        request = Request(
            _member(line, "method", str), _member(line, "url", str), _headers(line), _bytes(line)
        )
        steps: List[Step] = []
        ended = False
        for number, line in parts[1:]:  # noqa: B007 - the one that an error is about
            if ended:
                raise ValueError("the exchange has ended before this line")
            steps += _steps(line)
            ended = line["kind"] in ("end", "failure", "silence")
        if not ended:
            raise ValueError("the exchange is cut off behind this line")
        return Exchange(request, joined(steps_of(steps)), first)
    except (TypeError, ValueError) as error:
        raise _wrong(name, number, str(error)) from error


def _steps(line: Line) -> List[Step]:
    kind = line.get("kind")
    if kind == "silence":
        return [Quiet()]
    if kind == "end":
        return [_after(line)]
    if kind == "head":
        return [_after(line), ResponseHead(_member(line, "status", int), _headers(line))]
    if kind == "chunk":
        return [_after(line), _bytes(line)]
    if kind == "failure":
        return [_after(line), _failure(line)]
    raise ValueError(f"the kind {json.dumps(kind)} is unknown")


def _after(line: Line) -> Quiet:
    seconds = line.get("after", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"after must be a number of seconds, not {json.dumps(seconds)}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"after must be from 0 up and finite, not {seconds}")
    return Quiet(seconds)


def _failure(line: Line) -> TransportFailure:
    phase = _PHASES.get(_member(line, "phase", str))
    if phase is None:
        raise ValueError(f"phase must be one of {', '.join(map(json.dumps, _PHASES))}")
    return TransportFailure(
        phase,
        _member(line, "message", str),
        timed_out=_member(line, "timed_out", bool),
        permanent=_member({"permanent": False, **line}, "permanent", bool),
    )


def _member(line: Line, name: str, kind: type) -> Any:
    value = line.get(name)
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of type {kind.__name__}, not {json.dumps(value)}")
    return value


def _headers(line: Line) -> Headers:
    pairs: List[Any] = _member(line, "headers", list)
    lists = all(isinstance(pair, list) for pair in pairs)
    if not lists or any([type(text) for text in pair] != [str, str] for pair in pairs):
        raise TypeError("headers must be pairs of name and value")
    return Headers((name, value) for name, value in pairs)


def _body(data: bytes) -> Line:
    if not data:
        return {}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    try:
        value = json.loads(text)
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
    except UnicodeEncodeError:  # a lone surrogate, in a header field that is no UTF-8
        return json.dumps(line).encode()

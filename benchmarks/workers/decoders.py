"""Event-stream decoders over bytes that are there: the one of the argument."""

import json

from protocol import ARGUMENTS, Measurement, serve

SMALL = b'event: node:stream\ndata: {"type": "node:stream", "node_id": "node_1", "token": "%s"}\n\n'


def event(size):
    return SMALL % (b"lorem ipsum dolor sit amet " * (size // 27 + 1))[: size - len(SMALL) + 2]


def ours(chunks, decode):
    from flowmaestro_core.payloads.reply import decode_json
    from flowmaestro_core.streams.sse import SseDecoder

    decoder = SseDecoder()
    for chunk in chunks:
        for sse in decoder.feed(chunk):
            if decode:
                decode_json(sse.data)
            yield


def ours_events(chunks, decode):
    """All that is done for one event: keys that are documented are added, too."""
    from flowmaestro_core.streams.events import event_from_sse
    from flowmaestro_core.streams.sse import SseDecoder

    decoder = SseDecoder()
    for chunk in chunks:
        for sse in decoder.feed(chunk):
            if decode:
                event_from_sse(sse)
            yield


def bare_split(chunks, decode):
    pieces = []
    for chunk in chunks:
        pieces.append(chunk)
        if b"\n" in chunk:
            lines = b"".join(pieces).split(b"\n")
            pieces = [lines.pop()]
            for line in lines:
                if line.startswith(b"data: "):
                    if decode:
                        json.loads(line[6:])
                    yield


def httpx_sse(chunks, decode):
    import httpx
    from httpx_sse import EventSource

    class Body(httpx.SyncByteStream):
        def __iter__(self):
            return iter(chunks)

    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Body())
    for sse in EventSource(response).iter_sse():
        if decode:
            json.loads(sse.data)
        yield


def openai(chunks, decode):
    from openai._streaming import SSEDecoder

    for sse in SSEDecoder().iter_bytes(iter(chunks)):
        if decode:
            sse.json()
        yield


DECODER = {
    "ours": ours,
    "ours-events": ours_events,
    "bare-split": bare_split,
    "httpx-sse": httpx_sse,
    "openai": openai,
}[ARGUMENTS[0]]


def decode(count, size, chunk, decode):
    data = event(size) * count
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    with Measurement() as measured:
        decoded = sum(1 for _ in DECODER(chunks, decode))
    assert decoded == count
    return measured.of_one(count)


serve(decode=decode)

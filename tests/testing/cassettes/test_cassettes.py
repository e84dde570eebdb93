"""Cassettes on in-memory transports: modes, recognising requests, and when a file is written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, ConnectionError, FlowMaestroClient
from flowmaestro.testing import (
    AsyncScriptedTransport,
    Cassette,
    CassetteError,
    CassetteMismatch,
    FakeFlowMaestro,
    MemoryTransport,
    ScriptedTransport,
    UnusedScriptWarning,
)
from flowmaestro.testing.cassettes import jsonlines
from flowmaestro_core.http.messages import Phase, Request, Response, ResponseHead, TransportFailure
from tests.harness.testing.side_by_side import BACKENDS

KEY = "fm_live_never_seen"


def unreachable(request):
    raise AssertionError(f"{request!r} was to be replayed")


def workflow(number, **more):
    return Response(200, {}, json.dumps({"data": {"id": f"wf_{number}", **more}}).encode())


def get(path, **fields):
    return Request("GET", f"https://h/api/v1{path}", fields)


def ids(cassette, *numbers, script=()):
    """Ask for workflows through the cassette; what came of each."""
    through = ScriptedTransport(script) if script else unreachable
    with FlowMaestroClient(KEY, transport=cassette.transport(through)) as client:
        return [client.workflows.get(f"wf_{number}")["data"]["id"] for number in numbers]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cassettes" / "a.jsonl"


@pytest.fixture
def recorded(path):
    with Cassette(path) as cassette:
        ids(cassette, 1, 2, 2, script=[workflow(1), workflow(2), workflow("two")])
    return path.read_bytes()


def requests_in(path):
    return [it.request.url.rpartition("/")[2] for it in jsonlines.read("x", path.read_bytes())]


# The modes.


def test_once_records_and_then_replays(path, recorded):
    with Cassette(path) as cassette:
        assert not cassette.recording
        assert ids(cassette, 1, 2, 2) == ["wf_1", "wf_2", "wf_two"]
    with pytest.raises(CassetteMismatch):
        ids(Cassette(path), 3)
    assert path.read_bytes() == recorded


def test_mode_none_never_records(path, recorded):
    with Cassette(path, mode="none") as cassette:
        assert ids(cassette, 1, 2, 2) == ["wf_1", "wf_2", "wf_two"]
        with pytest.raises(CassetteMismatch):
            ids(cassette, 1)
    assert path.read_bytes() == recorded
    with pytest.raises(CassetteError, match=r"b\.jsonl: there is no such cassette; record it"):
        Cassette(path.with_name("b.jsonl"), mode="none")


def test_mode_new_episodes_adds_unknown_requests(path, recorded):
    script = [workflow(3), workflow("4")]
    with Cassette(path, mode="new_episodes") as cassette:
        assert ids(cassette, 2, 3, 1, 4, script=script) == ["wf_2", "wf_3", "wf_1", "wf_4"]
    assert requests_in(path) == ["wf_1", "wf_2", "wf_2", "wf_3", "wf_4"]
    assert path.read_bytes().startswith(recorded[: recorded.rindex(b'{"kind": "end of')])
    with Cassette(path, mode="new_episodes") as cassette:
        assert ids(cassette, 4, 2) == ["wf_4", "wf_2"]
    assert len(requests_in(path)) == 5


def test_new_episodes_waits_where_the_last_request_was_answered(path):
    busy = Response(503, {"Retry-After": "9"})
    with Cassette(path) as cassette:
        ids(cassette, 1, script=[busy, workflow(1)])
    live = ScriptedTransport([busy, workflow(2)])
    with Cassette(path, mode="new_episodes") as cassette:
        transport = cassette.transport(live)
        with FlowMaestroClient(KEY, transport=transport) as client:
            client.workflows.get("wf_1")
            assert live.now() == 0
            assert transport.now() == cassette.clock.now >= 9
            client.workflows.get("wf_2")
            assert live.now() >= 9
            assert transport.now() == cassette.clock.now + live.now()


@BACKENDS
def test_new_episodes_waits_there_whatever_is_replayed_beside_it(path, recorded, backend):
    async def main():
        fake = FakeFlowMaestro()
        fake.latency(1)
        fake.fail_next(status=503, retry_after=7)
        with Cassette(path, mode="new_episodes") as cassette:
            transport = cassette.async_transport(fake.async_transport())
            client = AsyncFlowMaestroClient(fake.api_key, transport=transport)
            async with client, anyio.create_task_group() as tasks:
                tasks.start_soon(client.workflows.get, "wf_123")
                for number in (1, 2, 2):
                    await client.workflows.get(f"wf_{number}")
        assert fake.clock.now >= 9

    anyio.run(main, backend=backend)


def test_new_episodes_of_bodies_that_are_kept_open(path, recorded):
    with Cassette(path, mode="new_episodes") as cassette:
        transport = cassette.transport(ScriptedTransport([[ResponseHead(200, {}), b"new"]]))
        assert transport.open(get("/workflows/wf_1"), 5).read(5) == b'{"data": {"id": "wf_1"}}'
        assert transport.open(get("/new"), 5).read(5) == b"new"
        with transport.in_flight():
            transport.close()
    assert requests_in(path)[3:] == ["new"]


@BACKENDS
def test_new_episodes_for_an_async_client(path, recorded, backend):
    async def main():
        live = AsyncScriptedTransport(
            [
                TransportFailure(Phase.NOT_SENT, "x"),
                workflow(3),
                [ResponseHead(200, {}), b"{}"],
                TransportFailure(Phase.NOT_SENT, "y"),
            ]
        )
        with Cassette(path, mode="new_episodes") as cassette:
            transport = cassette.async_transport(live)
            async with AsyncFlowMaestroClient(KEY, transport=transport) as client:
                for number in (2, 3):
                    reply = await client.workflows.get(f"wf_{number}")
                    assert reply["data"]["id"] == f"wf_{number}"
                body = await transport.open(get("/x"), 5)
                assert await body.read(5) == b"{}"
                await body.close()
                with pytest.raises(TransportFailure):
                    await transport.open(get("/y"), 5)
                body = await transport.open(get("/workflows/wf_1"), 5)
                assert body.status == 200
                await body.close()

    anyio.run(main, backend=backend)
    assert requests_in(path) == ["wf_1", "wf_2", "wf_2", "wf_3", "wf_3", "x", "y"]
    failed = [jsonlines.read("x", path.read_bytes())[number].steps[-1] for number in (3, 6)]
    assert all(isinstance(step, TransportFailure) for step in failed)


def test_mode_all_replaces_the_recording(path, recorded):
    with Cassette(path, mode="all") as cassette:
        assert ids(cassette, 2, script=[workflow("new")]) == ["wf_new"]
    assert requests_in(path) == ["wf_2"]
    path.write_bytes(b"damaged")
    with Cassette(path, mode="all") as cassette:
        ids(cassette, 5, script=[workflow(5)])
    assert requests_in(path) == ["wf_5"]
    with Cassette(path, mode="all"):
        pass
    assert requests_in(path) == []


@pytest.mark.parametrize("mode", ["once", "new_episodes", "all"])
def test_a_failed_test_writes_nothing(path, mode):
    def fail():
        with Cassette(path, mode=mode) as cassette:
            assert ids(cassette, 2, script=[workflow("new")]) == ["wf_new"]
            raise CassetteMismatch("the test's own failure")

    with pytest.raises(CassetteMismatch):
        fail()
    assert not path.exists()
    if mode != "once":
        with Cassette(path) as cassette:
            ids(cassette, 1, script=[workflow(1)])
        before = path.read_bytes()
        with pytest.raises(CassetteMismatch):
            fail()
        assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file(path, recorded, monkeypatch):
    def full(*args):
        raise OSError("disk full")

    cassette = Cassette(path, mode="all")
    ids(cassette, 2, script=[workflow("new")])
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        cassette.close()
    assert path.read_bytes() == recorded
    assert [it.name for it in path.parent.iterdir()] == ["a.jsonl"]
    monkeypatch.undo()
    cassette.close()
    assert requests_in(path) == ["wf_2"], "closing again writes it after all"


# Which request is which.


def execute(cassette, **inputs):
    through = ScriptedTransport([workflow(1)]) if cassette.recording else unreachable
    with FlowMaestroClient(KEY, transport=cassette.transport(through)) as client:
        client.workflows.execute("wf_1", inputs=inputs)


def test_a_mismatch_says_what_was_expected_and_how_this_differs(path):
    with Cassette(path) as cassette:
        execute(cassette, name="Ada", password="hunter2")
    with pytest.raises(CassetteMismatch) as caught:
        execute(Cassette(path), name="Bob", password="swordfish")
    assert str(caught.value).splitlines() == [
        "a.jsonl does not hold this request.",
        "- expected next: the request in line 2",
        "+ the request that was made",
        "  POST /workflows/wf_1/execute",
        "  {",
        '    "inputs": {',
        '-     "name": "Ada",',
        '+     "name": "Bob",',
        '      "password": "***"',
        "    }",
        "  }",
        f"To record this test again, delete {path} and use mode='once', or use mode='all'. With "
        "the fixture flowmaestro_cassette, run pytest with --flowmaestro-cassettes=all.",
    ]


def test_a_request_too_many(path, recorded):
    with Cassette(path) as cassette:
        ids(cassette, 1, 2, 2)
        with pytest.raises(CassetteMismatch, match=r"2 times \(line 6, 10\), .* once more:\nGET"):
            ids(cassette, 2)
        with pytest.raises(CassetteMismatch, match=r"was replayed, .*:\nGET /workflows/wf_9"):
            ids(cassette, 9)


def test_request_is_matched_by_method_path_query_and_body(path):
    def ask(url, body, **fields):
        return Request("POST", url, fields, body)

    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport([Response(200, {})] * 2))
        transport.send(ask("https://h/api/v1/x?a=1&b=2&api_key=k1", b'{"a": 1, "b": [2]}'), 5)
        transport.send(ask("https://h/api/v1/x", b"\xff"), 5)
    for other in (
        ask("https://h/api/v1/x?a=1&b=2&api_key=k", b'{"a": 1, "b": [3]}'),
        ask("https://h/api/v1/x?a=1&b=3&api_key=k", b'{"a": 1, "b": [2]}'),
        ask("https://h/api/v1/y?a=1&b=2&api_key=k", b'{"a": 1, "b": [2]}'),
        ask("https://h/api/v1/x", b"\xfe"),
        Request("PUT", "https://h/api/v1/x", {}, b"\xff"),
    ):
        with pytest.raises(CassetteMismatch):
            Cassette(path).transport().send(other, 5)
    with Cassette(path) as cassette:
        same = ask("http://other/prefix/api/v1/x?b=2&a=1&api_key=k2", b'{"b":[2],"a":1}', A="b")
        assert cassette.transport().send(same, 5).status == 200
        assert cassette.transport().send(ask("http://h/api/v1/x", b"\xff"), 5).status == 200


def test_unplayed_exchanges_are_warned_about(path, recorded):
    message = (
        r"not requested in this test: exchanges of a\.jsonl in line 6 \(GET\), line 10 \(GET\)"
    )
    cassette = Cassette(path)
    ids(cassette, 1)
    with pytest.warns(UnusedScriptWarning, match=message):
        cassette.close()
    cassette.close()
    with pytest.raises(AssertionError, match=message), Cassette(path, strict=True) as cassette:
        ids(cassette, 1)
    with pytest.raises(ConnectionError), Cassette(path, strict=True):
        raise ConnectionError("the test's own")


# Using it.


def test_report_lists_unplayed_requests(path, recorded):
    cassette = Cassette(path)
    assert cassette.report().endswith("has not replayed: the requests in line 2, 6, 10")
    ids(cassette, 1, 2, 2)
    assert cassette.report().endswith("has not replayed: none")
    assert Cassette(path, mode="all").report().endswith("nothing is written when the test fails")


def test_installed_cassette_serves_default_clients(path, recorded):
    with Cassette(path) as cassette, cassette.installed() as same:
        assert same is cassette
        with FlowMaestroClient() as client:
            assert client.workflows.get("wf_1")["data"]["id"] == "wf_1"
            client.workflows.get("wf_2")

        async def main():
            async with AsyncFlowMaestroClient() as client:
                assert (await client.workflows.get("wf_2"))["data"]["id"] == "wf_two"

        anyio.run(main)
    with Cassette(path, mode="all").installed():
        with pytest.raises(ValueError, match="no API key to record with"):
            FlowMaestroClient()
        FlowMaestroClient(KEY).close()

        async def close():
            await AsyncFlowMaestroClient(KEY).close()

        anyio.run(close)


def test_cassette_keeps_attributes_of_inner_transport(path, fake):
    inner = MemoryTransport(fake)
    inner.patient = False
    transport = Cassette(path).transport(inner)
    assert (transport.patient, transport.random) == (False, inner.random)
    assert "MemoryTransport" in repr(transport)
    with transport.in_flight():
        transport.sleep(3)
    assert transport.now() == fake.clock.now == 3


def test_invalid_arguments_are_refused_by_name(path, recorded):
    with pytest.raises(ValueError, match="mode must be one of none, once, new_episodes, all"):
        Cassette(path, mode="always")
    with pytest.raises(TypeError):
        Cassette(7)
    with pytest.raises(TypeError, match="transport must be"):
        Cassette(path, mode="all").transport(through=7)
    path.write_bytes(recorded[:100])
    with pytest.raises(CassetteError, match=r"a\.jsonl, line 2: the cassette is truncated"):
        Cassette(path)
    assert "mode 'all'" in repr(Cassette(path, mode="all"))


# The place of the file.


@pytest.mark.parametrize("length", [231, 232, 255])
def test_a_long_name_is_written(tmp_path, length):
    path = tmp_path / ("é" * 10 + "a" * (length - 26) + ".jsonl")
    assert len(os.fsencode(path.name)) == length
    with Cassette(path) as cassette:
        ids(cassette, 1, script=[workflow(1)])
    assert requests_in(path) == ["wf_1"]
    assert list(tmp_path.iterdir()) == [path], "nothing else is left"


@pytest.mark.parametrize("mode", ["none", "once", "new_episodes", "all"])
def test_a_name_that_is_too_long_is_refused_before_recording(tmp_path, mode):
    with pytest.raises(OSError, match="name too long"):
        Cassette(tmp_path / ("a" * 256), mode=mode)


@pytest.mark.parametrize("mode", ["none", "once", "new_episodes", "all"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_path_that_is_not_a_regular_file_is_refused(tmp_path, mode, kind):
    path = Path("/dev/null") if kind == "device" else tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(CassetteError, match=r": not a regular file$"):
        Cassette(path, mode=mode)


def test_a_folder_that_cannot_be_written_is_refused_before_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(CassetteError, match=f"the folder {tmp_path} cannot be written"):
        Cassette(tmp_path / "new" / "a.jsonl")


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_stays_one_and_the_mode_is_kept(tmp_path, there):
    target, link = tmp_path / "elsewhere" / "a.jsonl", tmp_path / "link.jsonl"
    target.parent.mkdir()
    link.symlink_to(target)
    if there:
        target.write_bytes(b"old")
        target.chmod(0o640)
    with Cassette(link, mode="all") as cassette:
        ids(cassette, 1, script=[workflow(1)])
    assert link.is_symlink()
    assert requests_in(target) == ["wf_1"]
    if there:
        assert stat.S_IMODE(target.stat().st_mode) == 0o640

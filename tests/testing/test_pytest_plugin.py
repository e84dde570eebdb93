"""The pytest plugin, as a user's tests see it: mostly in a pytest of their own."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import textwrap
import warnings
from importlib.metadata import entry_points

import pytest

from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro.testing.network_guard import NetworkGuard

OTHERS = (
    "anyio",
    "asyncio",
    "cacheprovider",
    "cov",
    "hypothesispytest",
    "requests_mock",
    "trio",
    "xdist",
)


@pytest.fixture
def run_pytest(tmp_path):
    """Run pytest on a test file; the lines that tell what came of each test, and all it said."""

    def run(text, *options, beside=(), passed=0, failed=0, errors=0):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_user.py").write_text(textwrap.dedent(text))
        left_out = [f"-pno:{other}" for other in OTHERS if other not in beside]
        command = [sys.executable, "-m", "pytest", "-q", *left_out, *options, "test_user.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        summary = done.stdout.strip().splitlines()[-1]
        for count, word in ((passed, "passed"), (failed, "failed"), (errors, "error")):
            assert (f"{count} {word}" in summary) is (count > 0), said
        return said

    return run


def test_it_is_an_entry_point():
    found = entry_points()
    plugins = found.select(group="pytest11") if hasattr(found, "select") else found["pytest11"]
    assert [it.value for it in plugins if it.name == "flowmaestro"] == ["flowmaestro.pytest_plugin"]


class TestInert:
    def test_loading_it_imports_nothing_but_pytest(self):
        script = """
            import sys, pytest
            before = set(sys.modules)
            import flowmaestro.pytest_plugin
            print(sorted(set(sys.modules) - before))
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "['flowmaestro', 'flowmaestro.pytest_plugin']"

    def test_a_session_that_does_not_use_it_loads_nothing_of_the_sdk(self, run_pytest):
        run_pytest(
            """
            import sys

            def test_nothing_of_it_is_there(request):
                assert request.config.pluginmanager.hasplugin("flowmaestro")
                for name in ("flowmaestro.client", "flowmaestro.testing", "flowmaestro_core"):
                    assert name not in sys.modules
                for name in ("requests", "aiohttp", "anyio", "trio"):
                    assert name not in sys.modules
            """,
            passed=1,
        )

    def test_it_can_be_left_out(self, run_pytest):
        said = run_pytest("def test_it(flowmaestro_fake): ...", "-pno:flowmaestro", errors=1)
        assert "fixture 'flowmaestro_fake' not found" in said


class TestFixtures:
    def test_an_application_and_both_clients_reach_the_fake(self, run_pytest):
        run_pytest(
            """
            import asyncio
            from flowmaestro import FlowMaestroClient

            def test_an_application(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_invoice", outputs={"total": 7})
                with FlowMaestroClient() as client:
                    assert client.workflows.run("wf_invoice")["outputs"] == {"total": 7}
                flowmaestro_fake.assert_executed("wf_invoice", times=1)

            def test_clients(flowmaestro_fake, flowmaestro_client, async_flowmaestro_client):
                flowmaestro_client.workflows.get("wf_123")
                asyncio.run(async_flowmaestro_client.workflows.get("wf_123"))
                flowmaestro_fake.assert_called("GET", "/workflows/wf_123", times=2)

            def test_each_test_has_its_own(flowmaestro_fake):
                flowmaestro_fake.assert_not_called()
            """,
            "-Werror",
            passed=3,
        )

    def test_an_unused_script_is_told_of(self, run_pytest):
        unused = 'def test_it(flowmaestro_fake): flowmaestro_fake.workflow("wf_x")'
        said = run_pytest(unused, passed=1)
        assert "UnusedScriptWarning: never used by this test: workflow wf_x" in said
        as_an_error = "error::flowmaestro.testing.UnusedScriptWarning"
        said = run_pytest(unused, "-W", as_an_error, passed=1, errors=1)
        assert "never used by this test: workflow wf_x" in said

    def test_a_project_may_have_a_fake_of_its_own(self, run_pytest):
        said = run_pytest(
            """
            import pytest
            from flowmaestro.testing import FakeFlowMaestro

            @pytest.fixture
            def flowmaestro_fake():
                with FakeFlowMaestro("documented", strict=True) as fake, fake.installed():
                    yield fake

            def test_clients_follow(flowmaestro_fake, flowmaestro_client):
                assert flowmaestro_client.workflows.list()["pagination"]["total_count"] == 5
                flowmaestro_fake.assert_called("GET", "/workflows")

            def test_strict(flowmaestro_fake):
                flowmaestro_fake.fail_next()
            """,
            passed=2,
            errors=1,
        )
        assert "AssertionError: never used by this test" in said

    def test_a_marker_gives_the_fake_its_arguments(self, run_pytest):
        run_pytest(
            """
            import pytest

            @pytest.mark.flowmaestro_fake("documented", time="real")
            def test_it(flowmaestro_fake, flowmaestro_client):
                page = flowmaestro_client.request("GET", "/workflows")["pagination"]
                assert "has_more" in page
                assert "RealClock" in repr(flowmaestro_fake.clock)
            """,
            "-Werror",
            "--strict-markers",
            passed=1,
        )

    def test_of_a_test_that_did_not_pass_nothing_more_is_said(self, run_pytest):
        said = run_pytest(
            """
            import pytest

            def test_it(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_x")
                assert 1 == 2

            @pytest.mark.xfail(strict=True)
            def test_another(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_x")
                assert 1 == 2

            def test_a_third(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_x")
                pytest.skip("not today")

            @pytest.fixture
            def careless(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_x")
                assert 1 == 2

            def test_that_is_not_run(careless):
                pass

            def test_the_next_one(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_y")
            """,
            passed=1,
            failed=1,
            errors=1,
        )
        assert "1 skipped" in said
        assert "1 xfailed" in said
        assert "workflow wf_x" not in said
        assert "workflow wf_y" in said

    def test_a_failure_is_shown_with_what_was_called(self, run_pytest):
        said = run_pytest(
            """
            from flowmaestro import FlowMaestroClient

            def test_it(flowmaestro_fake):
                flowmaestro_fake.workflow("wf_invoice")
                FlowMaestroClient().workflows.run("wf_invoce")

            def test_that_passes(flowmaestro_fake):
                pass
            """,
            passed=1,
            failed=1,
        )
        assert said.count("Captured flowmaestro call") == 1
        assert '  POST /workflows/wf_invoce/execute {"inputs": {}} -> 500\n' in said
        assert "Not there:\n  workflow wf_invoce; there are " in said
        assert ", wf_invoice\n" in said

    def test_a_unittest_case_is_judged_like_any_other(self, run_pytest):
        said = run_pytest(
            """
            import unittest
            import pytest
            from flowmaestro import FlowMaestroClient

            class TestIt(unittest.TestCase):
                @pytest.fixture(autouse=True)
                def script(self, flowmaestro_fake):
                    flowmaestro_fake.workflow(f"wf_{self._testMethodName}")

                def test_wrong(self):
                    FlowMaestroClient().workflows.run("wf_123")
                    self.assertEqual(1, 2)

                def test_skipped(self):
                    self.skipTest("not today")

                @unittest.expectedFailure
                def test_as_expected(self):
                    self.assertEqual(1, 2)

                def test_right(self):
                    pass
            """,
            passed=1,
            failed=1,
        )
        assert "POST /workflows/wf_123/execute" in said
        _, _, told = said.partition("warnings summary")
        assert "never used by this test: workflow wf_test_right" in told
        assert told.count("never used by this test") == 1

    def test_a_failed_subtest_is_a_failure(self, run_pytest):
        said = run_pytest(
            """
            import unittest
            import pytest

            class TestIt(unittest.TestCase):
                @pytest.fixture(autouse=True)
                def script(self, flowmaestro_fake):
                    flowmaestro_fake.workflow("wf_x")

                def test_in_part(self):
                    for number in range(2):
                        with self.subTest(number=number):
                            self.assertEqual(number, 1)
            """,
            passed=int(pytest.version_tuple >= (9,)),  # so the test around them is counted
            failed=1,
        )
        assert said.count("Captured flowmaestro call") == 1
        assert "never used by this test" not in said

    def test_a_kit_does_not_outlive_its_test(self, run_pytest):
        run_pytest(
            """
            import gc, unittest, weakref
            import pytest

            fakes = []

            @pytest.mark.parametrize("number", range(3))
            def test_it(number, flowmaestro_fake):
                fakes.append(weakref.ref(flowmaestro_fake))

            class TestIt(unittest.TestCase):
                @pytest.fixture(autouse=True)
                def fake(self, flowmaestro_fake):
                    fakes.append(weakref.ref(flowmaestro_fake))

                def test_it(self):
                    pass

            def test_they_are_gone():
                gc.collect()
                assert [fake() for fake in fakes] == [None] * 4
            """,
            passed=5,
        )

    def test_a_cassette_is_recorded_once_and_replayed(self, run_pytest, tmp_path, monkeypatch):
        text = """
            import pytest
            from flowmaestro import FlowMaestroClient

            class TestGreeting:
                @pytest.mark.parametrize("name", ["Ada", "a/b"])
                def test_it(self, name, flowmaestro_cassette):
                    with FlowMaestroClient() as client:
                        run = client.workflows.run("wf_123", {"name": name})
                    assert run["outputs"] == {"message": f"Hello, {name}!"}
        """
        folder = tmp_path / "cassettes" / "test_user"
        names = ["TestGreeting.test_it[Ada].jsonl", "TestGreeting.test_it[a%2Fb].jsonl"]
        said = run_pytest(text, "--flowmaestro-cassettes=none", errors=2)
        assert "there is no such cassette" in said
        fake = FakeFlowMaestro()
        with running_server(fake, speed=20) as url, monkeypatch.context() as environment:
            environment.setenv("FLOWMAESTRO_BASE_URL", url)
            environment.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
            run_pytest(text, passed=2)
        assert sorted(file.name for file in folder.iterdir()) == sorted(names)
        recorded = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert all(fake.api_key.encode() not in data for data in recorded.values())
        run_pytest(text, "-Werror", "--flowmaestro-cassettes=none", passed=2)
        run_pytest(text, passed=2)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == recorded

    @pytest.mark.parametrize("ending", ["assert False", "pytest.skip()"])
    def test_a_test_that_has_not_passed_leaves_no_cassette(
        self, run_pytest, tmp_path, monkeypatch, ending
    ):
        text = f"""
            import pytest
            from flowmaestro import FlowMaestroClient

            def test_it(flowmaestro_cassette):
                with FlowMaestroClient() as client:
                    client.workflows.get("wf_123")
                {ending}
        """
        fake = FakeFlowMaestro()
        with running_server(fake, speed=20) as url:
            monkeypatch.setenv("FLOWMAESTRO_BASE_URL", url)
            monkeypatch.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
            run_pytest(text, failed=int(ending == "assert False"))
        assert fake.requests
        assert not (tmp_path / "cassettes").exists()

    @pytest.mark.parametrize(
        ("beside", "option", "decorator"),
        [
            ("asyncio", "asyncio_mode=strict", "@pytest.mark.asyncio"),
            ("asyncio", "asyncio_mode=auto", ""),
            ("trio", "trio_mode=false", "@pytest.mark.trio"),
            ("trio", "trio_mode=true", ""),
        ],
        ids=["pytest-asyncio-strict", "pytest-asyncio-auto", "pytest-trio", "pytest-trio-mode"],
    )
    def test_with_the_plugins_that_run_coroutines(self, run_pytest, beside, option, decorator):
        run_pytest(self.awaiting(decorator), "-o", option, beside=[beside], passed=1)

    def test_with_the_plugin_of_anyio(self, run_pytest):
        text = self.awaiting("@pytest.mark.anyio")
        run_pytest(text, "-Werror", beside=["anyio"], passed=2)

    @staticmethod
    def awaiting(decorator):
        return f"""
            import pytest
            from flowmaestro import AsyncFlowMaestroClient

            async def an_application():
                async with AsyncFlowMaestroClient() as client:
                    return (await client.workflows.run("wf_x", timeout=7200))["outputs"]

            {decorator or "# found by its mode"}
            async def test_a_client_and_an_application(
                flowmaestro_fake, async_flowmaestro_client, flowmaestro_no_network
            ):
                from flowmaestro.testing import Node

                flowmaestro_fake.workflow("wf_x", nodes=[Node("n", seconds=3600)], outputs={{}})
                assert (await async_flowmaestro_client.workflows.run("wf_x", timeout=7200))[
                    "status"
                ] == "completed"
                assert await an_application() == {{}}
                flowmaestro_fake.assert_executed("wf_x", times=2)
        """


class TestGuard:
    @pytest.mark.parametrize(
        "call",
        [
            'socket.getaddrinfo("example.com", 80)',
            'socket.gethostbyname("localhost")',
            'socket.create_connection(("127.0.0.1", 9))',
            'tcp.connect(("127.0.0.1", 9))',
            'tcp.connect_ex(("127.0.0.1", 9))',
            'tcp.bind(("127.0.0.1", 0))',
            'udp.sendto(b"", ("127.0.0.1", 9))',
            'udp.sendmsg([b""], [], 0, ("127.0.0.1", 9))',
            'requests.get("http://127.0.0.1:9")',
            'list_workflows("http://127.0.0.1:9")',
            'asyncio.run(asyncio.open_connection("127.0.0.1", 9))',
            'asyncio.run(asyncio.start_server(print, "127.0.0.1", 0))',
            'trio.run(trio.open_tcp_stream, "127.0.0.1", 9)',
            'asyncio.run(aiohttp_get("http://localhost:9"))',
        ],
        ids=range(14),
    )
    def test_what_fails_a_test(self, call):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            namespace = {"tcp": tcp, "udp": udp}
            exec(textwrap.dedent(GUARDED), namespace)
            with pytest.raises(BaseException) as caught, NetworkGuard():  # noqa: PT011
                eval(call, namespace)
        assert "no network in this test, but " in everything_in(caught.value)

    def test_what_is_lost_fails_the_test_all_the_same(self, run_pytest):
        said = run_pytest(
            """
            import contextlib, socket, threading
            import pytest

            pytestmark = pytest.mark.usefixtures("flowmaestro_no_network")

            def look_up():
                with contextlib.suppress(BaseException):
                    socket.getaddrinfo("example.com", 80)

            def test_swallowed():
                look_up()

            def test_in_a_thread():
                thread = threading.Thread(target=look_up)
                thread.start()
                thread.join()

            def test_told_once():
                socket.getaddrinfo("example.com", 80)

            def test_another_failure():
                look_up()
                assert 1 == 2

            def test_of_the_others_nothing_is_said():
                pass

            @pytest.fixture
            def careless():
                yield
                look_up()

            def test_in_the_end(careless):
                pass
            """,
            passed=2,
            failed=4,
            errors=1,
        )
        assert "no network in this test, but socket.getaddrinfo('example.com', 80)" in said

    def test_event_loops_and_the_fake_pass(self, run_pytest):
        run_pytest(
            """
            import asyncio, trio

            def test_it(flowmaestro_no_network, flowmaestro_client, async_flowmaestro_client):
                async def main():
                    await async_flowmaestro_client.workflows.run("wf_123")

                asyncio.run(main())
                trio.run(main)
                flowmaestro_client.workflows.run("wf_123")
            """,
            passed=1,
        )

    @pytest.mark.skipif(not hasattr(socket, "_fallback_socketpair"), reason="new in Python 3.12")
    def test_the_pair_of_a_system_that_has_none_passes(self, monkeypatch):
        monkeypatch.setattr(socket, "socketpair", socket._fallback_socketpair)
        with NetworkGuard():
            for end in socket.socketpair():
                end.close()

    def test_a_pair_may_send_messages(self):
        with NetworkGuard():
            one, other = socket.socketpair()
            with one, other:
                one.sendmsg([b"a"])
                assert other.recv(1) == b"a"

    @pytest.mark.parametrize(
        "call",
        [
            '__import__("_socket").socket().connect(("127.0.0.1", 9))',
            '__import__("_socket").getaddrinfo("localhost", 80)',
            '__import__("subprocess").run(["true", "SECRET99"])',
            '__import__("os").system("true SECRET99")',
            'asyncio.run(asyncio.create_subprocess_exec("true"))',
        ],
        ids=range(5),
    )
    def test_below_the_socket_module_and_other_programs(self, call):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of what the call had opened
            with pytest.raises(BaseException) as caught, NetworkGuard():  # noqa: PT011
                eval(call, {"asyncio": asyncio})
            told = everything_in(caught.value)
            del caught
            gc.collect()
        assert "no network in this test, but " in told
        assert "SECRET99" not in told

    def test_uvloop(self):
        uvloop = pytest.importorskip("uvloop")
        loop = uvloop.new_event_loop()
        with pytest.raises(BaseException) as caught, NetworkGuard():  # noqa: PT011
            loop.run_until_complete(loop.create_connection(print, "127.0.0.1", 9))
        loop.close()
        assert "no network in this test, but uvloop" in everything_in(caught.value)

    def test_nothing_is_refused_afterwards(self):
        with NetworkGuard():
            pass
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))


GUARDED = """
    import asyncio, socket
    import aiohttp, requests, trio
    from flowmaestro import FlowMaestroClient

    def list_workflows(base_url):
        with FlowMaestroClient("fm_live_mine", base_url=base_url) as client:
            client.workflows.list()

    async def aiohttp_get(url):
        async with aiohttp.ClientSession() as session, session.get(url):
            pass
"""


def everything_in(error):
    """The texts of an error, of those in its group, and of what it came from."""
    if error is None:
        return ""
    inner = [*getattr(error, "exceptions", ()), error.__cause__, error.__context__]
    return " ".join([str(error), *map(everything_in, inner)])


@pytest.mark.parametrize("module", ["requests", "urllib3"])
def test_the_guard_lets_an_http_library_be_imported(run_pytest, module):
    text = f"""
        def test(flowmaestro_no_network):
            import {module}
    """
    run_pytest(text, passed=1)

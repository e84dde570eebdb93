"""The guard against the network: what it refuses, what it lets pass, and what a test sees."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import textwrap
import warnings

import pytest

from flowmaestro.testing import network_guard
from flowmaestro.testing.network_guard import NetworkGuard


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
            "tcp.listen()",
            'udp.sendto(b"", ("127.0.0.1", 9))',
            'udp.sendmsg([b""], [], 0, ("127.0.0.1", 9))',
            'requests.get("http://127.0.0.1:9")',
            'list_workflows("http://127.0.0.1:9")',
            'asyncio.run(asyncio.open_connection("127.0.0.1", 9))',
            'asyncio.run(asyncio.start_server(print, "127.0.0.1", 0))',
            'trio.run(trio.open_tcp_stream, "127.0.0.1", 9)',
            'asyncio.run(aiohttp_get("http://localhost:9"))',
        ],
        ids=range(15),
    )
    def test_guard_refuses_every_network_operation(self, call):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            namespace = {"tcp": tcp, "udp": udp}
            exec(textwrap.dedent(GUARDED), namespace)
            with pytest.raises(BaseException) as caught, NetworkGuard():  # noqa: PT011
                eval(call, namespace)
        assert "no network in this test, but " in everything_in(caught.value)

    def test_only_the_innermost_guard_refuses(self):
        """The end of the outer one would raise what it has refused."""
        refuses = pytest.raises(BaseException, match="no network")
        with NetworkGuard(), refuses, NetworkGuard():
            socket.getaddrinfo("localhost", 80)

    def test_swallowed_refusal_fails_the_test(self, run_pytest):
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


def test_operation_after_the_interpreter_has_cleared_the_module_is_no_error(tmp_path):
    """The interpreter clears modules that something holds in the reverse order of their imports."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            import types

            early = sys.modules["early"] = types.ModuleType("early")

            from flowmaestro.testing import network_guard

            class Late:
                def __del__(self, audit=sys.audit):
                    audit("open", "a path", "r", 0)

            with network_guard.NetworkGuard():
                early.late = Late()
            sys.kept = [early, network_guard]
            """
        )
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, check=True)
    assert done.stderr == b""


def test_a_thread_that_outlives_the_guard_gets_no_error_of_ours():
    """The guard ends between two steps of the hook."""

    class Ends:
        def __contains__(self, event):
            if event == "socket.connect":
                active.clear()
            return event == "socket.connect"

    active = [NetworkGuard()]
    network_guard._hook("socket.connect", (None, ("192.0.2.1", 80)), Ends(), active)
    assert active == []

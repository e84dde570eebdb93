"""The fixtures of the pytest plugin, as a user's tests see them."""

from __future__ import annotations

import re

import pytest

from flowmaestro.testing import FakeFlowMaestro, running_server

RECORDING = """
import pytest
from flowmaestro import FlowMaestroClient
from flowmaestro_transports import Response

def test_it(flowmaestro_cassette):
    answer = lambda request: Response(200, {}, b'{"data": []}')
    through = flowmaestro_cassette.transport(answer)
    FlowMaestroClient("fm_live_x", transport=through).workflows.list()
"""


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

    def test_failed_test_gets_no_warning_of_unused_scripts(self, run_pytest):
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
        assert "in the fake):\n  workflow wf_invoce; the latest are " in said
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

                def test_in_part(self):
                    for number in range(2):
                        with self.subTest(number=number):
                            self.assertEqual(number, 1)

                def test_right(self):
                    pass
            """,
            passed=1 + (pytest.version_tuple >= (9,)),  # so the test around subtests is counted
            failed=2,
        )
        assert said.count("Captured flowmaestro call") == 2
        assert "POST /workflows/wf_123/execute" in said
        _, _, told = said.partition("warnings summary")
        assert "never used by this test: workflow wf_test_right" in told
        assert told.count("never used by this test") == 1

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

    def test_a_cassette_of_a_long_parameter_has_a_short_name(self, run_pytest, tmp_path):
        names = '"name", ["日本語" * 14, "日本語" * 14 + "!"]'
        text = RECORDING.replace("def", f"@pytest.mark.parametrize({names})\ndef")
        text = text.replace("(flow", "(name, flow")
        run_pytest(text, passed=2)
        names = [path.name for path in (tmp_path / "cassettes" / "test_user").iterdir()]
        assert len(names) == 2
        assert {len(name) for name in names} == {len("x" * 220 + ".jsonl")}
        assert all(re.search(r"-[0-9a-f]{12}\.jsonl$", name) for name in names)
        run_pytest(text, "--flowmaestro-cassettes=none", passed=2)

    @pytest.mark.parametrize("ending", ["assert False", "pytest.skip()", "pass"])
    def test_only_a_test_that_has_passed_leaves_a_cassette(self, run_pytest, tmp_path, ending):
        passed, failed = int(ending == "pass"), int(ending == "assert False")
        run_pytest(f"{RECORDING}    {ending}\n", passed=passed, failed=failed)
        assert (tmp_path / "cassettes").exists() is (ending == "pass")

    @pytest.mark.parametrize(
        ("beside", "decorator"),
        [("asyncio", "@pytest.mark.asyncio"), ("trio", "@pytest.mark.trio")],
    )
    def test_with_the_plugins_that_run_coroutines(self, run_pytest, beside, decorator):
        run_pytest(self.awaiting(decorator), beside=[beside], passed=1)

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

            {decorator}
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

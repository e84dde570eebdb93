"""The inspector in a real browser: a run is watched to its end, a fault is injected.

Run by `nox -s browser`, with Playwright and a Chromium of the system's.
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import sync_playwright

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.server.inspector import MOST_EXCHANGES, Inspector
from flowmaestro.testing.server.serve import serve

TURNED = "Turned \N{RIGHT-TO-LEFT OVERRIDE}" + "x" * 10_000
HOSTILE = '<script>document.title = "broken"</script> \N{GRINNING FACE} \N{HEBREW LETTER ALEF}'


def main(pictures: Path) -> None:
    """Watch, break, look; raises where something is not as it should be."""
    import anyio.from_thread

    fake = FakeFlowMaestro()
    nodes = [Node("a", name="Fetch", seconds=0.5), Node("b", name=HOSTILE, seconds=0.5)]
    fake.workflow("wf_two", name=HOSTILE, nodes=nodes)
    fake.workflow("wf_turned", name=TURNED, nodes=["a"])
    with anyio.from_thread.start_blocking_portal() as portal:

        async def served(fake, port=0, *, task_status):
            await serve(fake, port=port, inspector=Inspector(fake), task_status=task_status)

        server, url = portal.start_task(served, fake)
        try:
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                for width in (1280, 390):
                    look_around(chromium, fake, url, pictures, width)
                hold_many(chromium, fake, url, pictures)
                page = chromium.new_page(color_scheme="dark")
                watch_a_stream(page, fake, url, pictures)
                server.cancel()
                page.get_by_text("The server is gone").wait_for()
                other = FakeFlowMaestro()
                server, _ = portal.start_task(served, other, int(url.rpartition(":")[2]))
                with FlowMaestroClient(other.api_key, base_url=url) as client:
                    client.agents.list()
                page.locator(".row", has_text="/agents").wait_for()
                assert page.locator(".row").count() == 1
                page.screenshot(path=pictures / "restarted.png")
        finally:
            server.cancel()


def watch_a_stream(page, fake, url, pictures):
    """An event stream grows as its events come, and so does the timeline; a delivery is shown."""
    page.goto(url)
    with FlowMaestroClient(fake.api_key, base_url=url) as client:
        client.webhooks.create(
            name="Mine", url="https://hooks.example.com/x", events=["execution.completed"]
        )
        execution_id = client.workflows.execute("wf_two")["data"]["execution_id"]
        with client.executions.stream(execution_id) as events:
            next(events)
            page.locator(".row", has_text="/events").first.click()
            page.locator("#detail pre", has_text="connected").wait_for()
            page.screenshot(path=pictures / "stream-open.png")
            list(events)
        page.locator("#detail pre", has_text="execution:completed").wait_for()
        page.screenshot(path=pictures / "stream-ended.png")
        page.get_by_role("tab", name="Executions").click()
        page.locator(".row", has_text=execution_id).click()
        page.locator("#detail img").wait_for()
        page.screenshot(path=pictures / "executions-dark.png")
        page.get_by_role("tab", name="Webhooks").click()
        page.locator(".row", has_text="execution.completed").first.click()
        page.locator("#detail", has_text="delivered").wait_for()
        page.screenshot(path=pictures / "webhooks-dark.png")
        page.get_by_role("tab", name="Requests").click()


def hold_many(chromium, fake, url, pictures):
    """10,000 requests and 200 open streams: the page still answers while more of both come."""
    fake.workflow("wf_endless", nodes=["think"], hangs_at="think")
    with FlowMaestroClient(fake.api_key, base_url=url) as client, ExitStack() as stack:
        execution_id = client.workflows.execute("wf_endless")["data"]["execution_id"]
        for _ in range(200):
            next(stack.enter_context(client.executions.stream(execution_id)))
        for _ in range(MOST_EXCHANGES):
            client.workflows.list()
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        begun = time.monotonic()
        page.goto(url)
        while page.evaluate("lists.requests.size") < MOST_EXCHANGES:
            page.wait_for_timeout(50)
        loaded = time.monotonic() - begun
        state = page.evaluate("fetch('/_inspect/state').then(reply => reply.json())")
        assert state["open_streams"] == 200, state["open_streams"]
        for _ in range(500):  # which the page is told of while it is asked
            client.workflows.get("wf_123")
        page.evaluate("document.getElementById('list').scrollTop = 130000")
        begun = time.monotonic()
        page.locator(".row").nth(10).click()
        page.get_by_text("Reply: 200").wait_for()
        answered = time.monotonic() - begun
        assert page.locator(".row").count() < 100
        assert page.evaluate("lists.requests.size") == MOST_EXCHANGES
        page.screenshot(path=pictures / "requests-10000.png")
        page.evaluate("document.getElementById('list').scrollTop = 1e9")
        page.wait_for_timeout(200)
        page.get_by_role("tab", name="Executions").click()
        assert page.locator(".row").count() > 0  # at once
        page.close()
    print(f"10,000 requests, 200 streams: loaded in {loaded:.1f} s, a click in {answered:.2f} s")
    assert answered < 5, answered


def look_around(chromium, fake, url, pictures, width):
    page = chromium.new_page(viewport={"width": width, "height": 800})
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(url)
    with FlowMaestroClient(fake.api_key, base_url=url) as client:
        assert client.workflows.run("wf_two")["status"] == "completed"
        page.get_by_text("/workflows/wf_two/execute").first.click()
        page.get_by_text("Reply: 202").wait_for()
        page.screenshot(path=pictures / f"requests-{width}.png")
        page.get_by_role("tab", name="Executions").click()
        page.locator(".row", has_text="completed").first.click()
        page.locator("#detail img").wait_for()
        page.screenshot(path=pictures / f"executions-{width}.png")
        client.workflows.run("wf_turned")
        turned = page.locator(".row", has_text="Turned \ufffdx")
        turned.first.click()
        page.locator("#detail h2", has_text="Turned \ufffdx").wait_for()
        page.screenshot(path=pictures / f"turned-{width}.png")
        detail = "document.getElementById('detail')"
        assert page.evaluate(f"{detail}.querySelector('h2').scrollWidth <= {detail}.clientWidth")
        assert page.locator(".row bdi").count() == page.locator(".row").count()
        page.get_by_role("button", name="drop it").click()
        page.get_by_text("The next request gets it.").wait_for()
        client.workflows.list()
        page.get_by_role("tab", name="Requests").click()
        page.locator(".row .bad", has_text="dropped").first.wait_for()
        page.get_by_role("button", name="503").click()
        page.get_by_text("The next request gets it.").wait_for()
        client.workflows.list()
        page.get_by_role("tab", name="Requests").click()
        page.locator(".row", has_text="503").first.wait_for()
        for _ in range(200):
            client.workflows.list()
    assert page.title() == "FlowMaestro inspector"
    assert page.locator(".row").count() < 100
    assert trouble == [], trouble
    page.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)

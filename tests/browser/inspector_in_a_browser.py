"""The inspector in a real browser: a run is watched to its end, a fault is injected.

Run by `nox -s browser`, with Playwright and a Chromium of the system's.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.server.inspector import Inspector
from flowmaestro.testing.server.serve import serve

HOSTILE = '<script>document.title = "broken"</script> \N{GRINNING FACE} \N{HEBREW LETTER ALEF}'


def main(pictures: Path) -> None:
    """Watch, break, look; raises where something is not as it should be."""
    import anyio.from_thread

    fake = FakeFlowMaestro()
    nodes = [Node("a", name="Fetch", seconds=0.5), Node("b", name=HOSTILE, seconds=0.5)]
    fake.workflow("wf_two", name=HOSTILE, nodes=nodes)
    with anyio.from_thread.start_blocking_portal() as portal:

        async def served(*, task_status):
            await serve(fake, inspector=Inspector(fake), task_status=task_status)

        server, url = portal.start_task(served)
        try:
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                for width in (1280, 390):
                    look_around(chromium, fake, url, pictures, width)
        finally:
            server.cancel()


def look_around(chromium, fake, url, pictures, width):
    page = chromium.new_page(viewport={"width": width, "height": 800})
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(url)
    with FlowMaestroClient(fake.api_key, base_url=url) as client:
        assert client.workflows.run("wf_two")["status"] == "completed"
        page.get_by_text("/api/v1/workflows/wf_two/execute").first.click()
        page.get_by_text("Reply: 202").wait_for()
        page.screenshot(path=pictures / f"requests-{width}.png")
        page.get_by_role("tab", name="Executions").click()
        page.locator(".row", has_text="completed").first.click()
        page.locator("#detail img").wait_for()
        page.screenshot(path=pictures / f"executions-{width}.png")
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

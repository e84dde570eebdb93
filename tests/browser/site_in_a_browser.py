"""Each page of the site in a real browser, wide and narrow, and what a reader searches for.

Run by `nox -s browser`, with Playwright and a Chromium of the system's.
"""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

SEARCHES = {
    "leaving a stream early": "streaming/#leave-a-stream-early",
    "resuming a batch": "batches/",
    "custom CA": "networks/#trust-a-custom-ca-certificate",
    "self-signed certificate": "networks/#trust-a-custom-ca-certificate",
    "testing a 429": "errors/#test-a-rate-limit",
    "429": "errors/#rate-limits-what-the-sdk-does-at-a-429",
    "thread-safe": "lifecycle/",
    "webhook": "webhooks/",
    "corporate proxy CA certificate": "networks/#trust-a-custom-ca-certificate",
    "thread safe": "lifecycle/#is-it-thread-safe-may-i-share-a-client",
    "rotate api key": "rotating-keys/",
    "change api key": "questions/#how-do-i-change-the-api-key",
    "verify webhook signature": "webhooks/#verify-the-signature-of-a-webhook",
    "pandas dataframe": "batches/#a-pandas-dataframe",
    "environment variables": "environment/",
    "stop streaming agent": "agents/#stop-reading-an-answer-the-agent-is-not-cancelled",
    "timeout": "timeouts/",
    "mock": "testing/",
    "pagination": "pagination/",
    "testing without network": "testing/#the-first-test-without-a-network",
    "list all executions": "pagination/#list-all-executions-or-all-items-of-another-list",
    "writing a transport": "transports/",
    "proxy": "networks/",
    "journal_busy": "error-texts/#journal_busy",
    "share client between threads": "questions/#may-i-share-one-client-between-threads",
    "test my app offline": "questions/#how-can-i-test-my-code-or-app-offline",
    "test without a server": "testing/#the-first-test-without-a-network",
    "exponential backoff": "questions/#is-there-an-exponential-backoff",
    "how do I trust my own CA": "questions/#how-do-i-trust-my-own-ca",
    "get all executions": "questions/#how-do-i-get-all-executions-over-all-pages",
    "change timeout": "questions/#how-long-does-a-call-wait",
    "fire a trigger": "running/#fire-a-trigger",
    "timeout vs deadline": "questions/#timeout-vs-deadline",
    "total timeout": "questions/#timeout-vs-deadline",
    "streaming tokens fastapi": "questions/#how-do-i-stream-tokens",
    "async generator cancel": "questions/#what-happens-if-i-leave-or-cancel",
    "run in Celery": "questions/#how-do-i-run-a-workflow-in-a-celery-task",
    "retry on 500": "questions/#retry-on-500",
    "how do I keep a workflow from being started twice": "questions/#how-do-i-keep-a-workflow",
    "pydantic outputs": "questions/#how-do-i-get-typed-outputs",
    "what happens when my laptop sleeps": "questions/#what-happens-when-my-laptop-sleeps",
    "stream events async iterator": "questions/#is-there-an-async-client",
    "How do I run a workflow and wait for its result?": "questions/#how-do-i-run-a-workflow",
    "How can I test my code without a server or an API key?": "questions/#how-can-i-test-my-code",
    "How do I run the same workflow for every row of a CSV file and retry only the rows that "
    "failed?": "questions/#how-do-i-run-the-same-workflow",
    "What happens if the connection drops while I am streaming events, do I lose events?": (
        "questions/#what-happens-if-the-connection-drops"
    ),
    "How do I answer a workflow that is paused and waiting for human input?": (
        "questions/#how-do-i-answer-a-workflow"
    ),
    "cancel running execution timeout": "questions/#how-do-i-cancel-a-running-execution",
    "api key environment variable base url": "environment/",
    "retry rate limit 429 backoff": "questions/#is-there-an-exponential-backoff",
    "rotate webhook secret": "questions/#how-do-i-rotate-a-webhook-secret",
}
"""What a reader types, and where the first result leads."""
PICTURES = {"", "streaming", "reference/workflows", "reference/testing-the-fake", "state-diagrams"}


BOX = "input[role=combobox]"
RESULT = "a[href*='?h=']"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def main(site: Path, pictures: Path) -> None:
    """Open every page, then search; raises where something is not as it should be."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        names = sorted(
            file.parent.relative_to(site).as_posix().strip(".") for file in site.rglob("index.html")
        )
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for width in (1280, 390):
                open_all(chromium, url, names, width, pictures)
            for words, where in SEARCHES.items():
                search(chromium, url, words, where, pictures)
        server.shutdown()
    print(f"{len(names)} pages, each at two widths, and {len(SEARCHES)} searches")


def open_all(chromium, url, names, width, pictures):
    page = chromium.new_page(viewport={"width": width, "height": 900})
    trouble = []
    page.on("console", lambda message: trouble.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"{page.url}: {error}"))
    for name in names:
        page.goto(f"{url}{name}", wait_until="load")
        page.wait_for_timeout(100)  # for what the page does by itself
        assert page.locator("h1").count() >= 1, name
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide at {width}"
        if name in PICTURES:
            page.screenshot(path=pictures / f"site-{name.replace('/', '-') or 'start'}-{width}.png")
    assert trouble == [], trouble
    page.close()


def search(chromium, url, words, where, pictures):
    """Type words into the box; the first result must lead to the page and the part."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url, wait_until="load")
    page.locator(".md-search__button").click()
    page.locator(BOX).press_sequentially(words)
    page.locator(RESULT).first.wait_for(state="attached")
    page.wait_for_timeout(500)  # The last letter may change the order.
    page.screenshot(path=pictures / f"search-{words.replace(' ', '-')}.png")
    found = page.locator(RESULT).first.get_attribute("href")
    leads = re.sub(r"\?h=[^#]*", "", found)[len(url) :]
    assert leads.startswith(where), f"{words!r} leads to {leads}"
    page.close()


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]), folder)

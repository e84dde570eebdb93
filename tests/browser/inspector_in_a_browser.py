"""The inspector in a real browser: each thing that its page promises is done once.

Run by `nox -s browser`, with Playwright and a Chromium of the system's. Pictures of the page during
a batch, at both widths, in light and dark, go to the folder that is named.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

from flowmaestro import FlowMaestroClient, FlowMaestroError
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.fake.server.exchanges import MAX_EXCHANGES
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.serve import serve

TURNED = "Turned \N{RIGHT-TO-LEFT OVERRIDE}" + "x" * 10_000
HOSTILE = '<script>document.title = "broken"</script> \N{GRINNING FACE} \N{HEBREW LETTER ALEF}'
WIDTHS = {"wide": 1280, "narrow": 390}


class Site:
    """A served fake with a few workflows, and the browser that looks at it."""

    def __init__(self, portal, chromium, pictures):
        self.portal, self.chromium, self.pictures = portal, chromium, pictures
        self.problems = []
        self.fake = FakeFlowMaestro()
        nodes = [Node("a", name="Fetch", seconds=0.1), Node("b", name=HOSTILE, seconds=0.1)]
        self.fake.workflow("wf_two", name="Nightly report", nodes=nodes)
        self.fake.workflow("wf_two_seconds", nodes=[Node("a", seconds=2)])
        self.fake.workflow("wf_turned", name=TURNED, nodes=["a"])
        self.fake.workflow("wf_slow", name="Slow", nodes=[Node("a", name="Think", seconds=600)])
        self.fake.workflow("wf_endless", nodes=["think"], hangs_at="think")
        self.server, self.url = self.serve(self.fake)

    def serve(self, fake, port=0):
        async def served(*, task_status):
            await serve(fake, port=port, inspector=Inspector(fake), task_status=task_status)

        return self.portal.start_task(served)

    def client(self, key=None):
        return FlowMaestroClient(key or self.fake.api_key, base_url=self.url)

    def page(self, route="", width=1280, scheme="light"):
        page = self.chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.set_default_timeout(10_000)
        page.goto(f"{self.url}/{route}")
        return page

    def picture(self, page, name):
        page.screenshot(path=self.pictures / f"{name}.png")


def main(pictures: Path, names) -> None:
    """Do the named checks, or all; raises where something is not as it should be."""
    import anyio.from_thread

    with anyio.from_thread.start_blocking_portal() as portal, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        site = Site(portal, chromium, pictures)
        checks = (
            *(lists_requests, follows_a_stream, links_retries, shows_timeouts_of_a_client),
            *(filters, finds_what_was_slow),
            *(finds_one_failure_in_fifty, searches_bodies, sends_again, copies),
            *(shows_an_execution, shows_a_webhook, injects_faults, keeps_the_reader_in_place),
            *(takes_keys, keeps_all_at_a_reload, shows_hostile_texts),
            survives_hostile_requests,
            *(is_a_tree_for_a_screen_reader, is_walked_by_keyboard, widens),
            *(draws_a_batch, holds_many, notices_another_server),
        )
        try:
            for check in checks:
                if names and check.__name__ not in names:
                    continue
                begun = time.monotonic()
                check(site)
                assert site.problems == [], (check.__name__, site.problems)
                print(f"{check.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        finally:
            site.server.cancel()


def row(page, text):
    return page.locator(".row", has_text=text)


def until(page, condition):
    """Wait until a condition holds; the page's CSP forbids `wait_for_function`."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def open_row(page, text):
    row(page, text).first.click()
    page.locator("#detail h2").first.wait_for()


def lists_requests(site):
    """Newest first, with time, method, path, status, duration and size; polls are one row."""
    page = site.page()
    with site.client() as client:
        client.workflows.list()
        execution_id = client.workflows.execute("wf_two")["data"]["execution_id"]
        for _ in range(5):
            client.executions.get(execution_id)
    cells = row(page, "/workflows/wf_two/execute").first.locator("> span")
    expect(cells).to_have_count(6)
    texts = cells.all_inner_texts()
    assert texts[1:4] == ["POST", "/workflows/wf_two/execute", "202"], texts
    assert texts[4].endswith("ms"), texts
    assert texts[5].endswith("B"), texts
    folded = row(page, "\N{MULTIPLICATION SIGN} 5")
    expect(folded).to_have_count(1)
    expect(page.locator("#kept")).to_have_text(re.compile(r"^0\.\d of 64 MiB of bodies kept$"))
    assert folded.bounding_box()["y"] < row(page, "wf_two/execute").first.bounding_box()["y"]
    folded.click()
    page.get_by_text("5 polls of this execution").click()
    expect(page.locator("#detail details[data-key=polls] tr")).to_have_count(5)
    page.close()


def follows_a_stream(site):
    """The row of a stream shows how long it is open, its events, and how it ended."""
    page = site.page()
    with site.client() as client:
        execution_id = client.workflows.execute("wf_two_seconds")["data"]["execution_id"]
        with client.executions.stream(execution_id) as events:
            next(events)
            open_row(page, "open, ")
            page.locator("#detail summary", has_text="connected").wait_for()
            page.evaluate("getSelection().selectAllChildren(document.querySelector('h2'))")
            for _ in events:
                pass
        row(page, "complete, ").first.wait_for()
        page.wait_for_timeout(500)
        assert "/events" in page.evaluate("getSelection().toString()"), "what is copied stays"
        page.evaluate("getSelection().removeAllRanges()")
        page.locator("#detail summary", has_text="execution:completed").wait_for()
        sent = page.locator("#detail .event > summary").all_inner_texts()
        after = [float(re.match(r"\+(\d+\.\d\d) s", each)[1]) for each in sent]
        assert after == sorted(after), sent
        assert after[-1] > after[0], sent
        row(page, "complete, ").first.wait_for()
        slow = client.workflows.execute("wf_slow")["data"]["execution_id"]
        with client.executions.stream(slow) as events:
            next(events)
        row(page, "left by the client").first.wait_for()
        site.fake.drop_connection(1, path="/executions/*/events")
        with client.executions.stream(slow) as events:
            next(events)
            row(page, "cut, 1 event").first.wait_for()
    page.close()


def links_retries(site):
    """The attempts of one call lead to each other, with the time between them."""
    page = site.page("#/requests?text=workflows/wf_123")
    site.fake.fail_next(path="/workflows/*")
    with site.client() as client:
        client.workflows.get("wf_123")
    open_row(page, "2 attempts +")
    attempts = page.locator("#detail h3", has_text="2 attempts of this call").locator("+ table")
    expect(attempts.locator("td", has_text=re.compile(r"^\+\d"))).to_have_count(1)
    expect(attempts.locator(".bad", has_text="503 service_unavailable")).to_have_count(1)
    first = attempts.locator("a").inner_text()
    attempts.locator("a").click()
    page.locator("#detail h2", has_text=f"{first} GET").wait_for()
    expect(attempts.locator("strong", has_text=first)).to_have_count(1)
    expect(attempts.locator("a")).to_have_count(1)
    page.close()


def shows_timeouts_of_a_client(site):
    """A call that the client has given up is one failed row with its attempts."""
    page = site.page("#/requests?text=/threads/thread_xyz789&status=failed")
    site.fake.delay_next(60, 2, path="/threads/*")
    client = FlowMaestroClient(site.fake.api_key, base_url=site.url, timeout=0.5, max_retries=1)
    with client, contextlib.suppress(FlowMaestroError):
        client.threads.get("thread_xyz789")
    shown = row(page, "2 attempts +").filter(has_text="left by the client")
    expect(shown).to_have_count(1)
    expect(shown.locator(".bad")).to_have_count(1)
    expect(page.locator(".row")).to_have_count(1)
    shown.click()
    page.locator("#detail h3", has_text="No response: the client left after ").wait_for()
    expect(page.locator("#detail td .bad", has_text="left by the client")).to_have_count(3)
    site.picture(page, "left")
    page.close()


def filters(site):
    """By text, method, status and execution; the address says it."""
    page = site.page()
    lacking = site.fake.add_key(scopes=["workflows:read"])
    with site.client(lacking) as client, contextlib.suppress(FlowMaestroError):
        client.agents.list()
    page.locator("#text").fill("insufficient_scope")
    expect(page.locator(".row")).to_have_count(1)
    assert "text=insufficient_scope" in page.url
    page.locator("#text").fill("")
    page.locator("#method").select_option("POST")
    row(page, "execute").first.wait_for()
    assert row(page, "GET").count() == 0
    page.locator("#status").select_option("failed")
    page.get_by_text("Nothing matches the filter.").wait_for()
    page.locator("#method").select_option("")
    row(page, "403 insufficient_scope").wait_for()
    execution_id = site.fake.executions[-1].id
    page.locator("#status").select_option("")
    open_row(page, "/execute")
    page.get_by_role("button", name="Only this execution").click()
    page.locator("#only", has_text=execution_id[:8]).wait_for()
    row(page, "/execute").wait_for()
    assert page.locator(".row").count() == sum(
        1 for each in page.locator(".row").all_inner_texts() if "execut" in each
    )
    page.get_by_role("button", name="Requests of all executions").click()
    row(page, "/agents").first.wait_for()
    page.close()


def finds_what_was_slow(site):
    """The list is narrowed to long durations, and put into another order."""
    page = site.page("#/requests?text=/agents")
    site.fake.delay_next(1.2, path="/agents")
    with site.client() as client:
        client.agents.list()
        for _ in range(3):
            client.agents.list()
    page.locator("#took").select_option("1000")
    expect(page.locator(".row")).to_have_count(1)
    page.locator("#took").select_option("")
    page.locator("#sort").select_option("took")
    until(page, "document.querySelector('.row').ariaLabel.includes(', fault')")
    assert "sort=took" in page.url
    tops = "[...document.querySelectorAll('.row')].map(each => parseInt(each.style.top))"
    slow = page.locator(".row[aria-label*=', fault']").evaluate("each => parseInt(each.style.top)")
    assert slow == min(page.evaluate(tops))
    page.close()


def searches_bodies(site):
    """Text in bodies is found from the list, also as JSON escapes it, but never a secret."""
    page = site.page()
    with site.client() as client:
        client.workflows.execute("wf_two", inputs={"word": "Zwölfeck", "password": "swordfish"})
    page.locator("#text").fill("zwölfeck")
    page.get_by_text("Nothing matches the filter.").wait_for()
    page.get_by_role("button", name="In bodies").click()
    row(page, "wf_two/execute").wait_for()
    assert "bodies=1" in page.url
    page.locator("#text").fill("swordfish")
    page.get_by_text("Nothing matches the filter.").wait_for()
    page.wait_for_timeout(600)
    expect(page.locator(".row")).to_have_count(0)
    page.close()


def finds_one_failure_in_fifty(site):
    """One filter each finds a lost reply, a retry storm, a cut stream and a missing scope."""
    lacking = site.fake.add_key(scopes=["workflows:read"])
    with site.client() as client:
        for number in range(50):
            if number == 30:
                site.fake.drop_connection(path="/agents/*")
                site.fake.fail_next(3, 503, path="/triggers")
                site.fake.drop_connection(after_events=1, path="/executions/*/events")
                client.agents.get("agent_123")
                client.triggers.list()
                client.workflows.run("wf_two")
                with site.client(lacking) as other, contextlib.suppress(FlowMaestroError):
                    other.knowledge_bases.list()
            client.workflows.get("wf_123")
    page = site.page()
    row(page, "/workflows/wf_123").first.wait_for()
    for status, path, shown, detail in (
        ("none", "/agents/agent_123", "no response", "No response: the connection was dropped"),
        ("failed", "/triggers", "3 attempts +", "4 attempts of this call"),
        ("streams", "/executions/", "cut, 1 event", "injected fault"),
        ("4", "/knowledge-bases", "403 insufficient_scope", "knowledge-bases:read"),
    ):
        page.locator("#status").select_option(status)
        page.locator("#text").fill(path)
        page.locator(".row", has_text=shown).first.click()
        page.locator("#detail", has_text=detail).wait_for()
    page.close()


def sends_again(site):
    """With the key that the server has kept."""
    before = len(site.fake.executions)
    with site.client() as client:
        client.workflows.execute("wf_two", inputs={"name": "again"})
    page = site.page()
    open_row(page, "wf_two/execute")
    page.get_by_role("button", name="Send again").click()
    page.locator("#detail th", has_text="sent again from").wait_for()
    expect(page.locator("#detail h3", has_text="Response 202")).to_have_count(1)
    assert [each.inputs for each in site.fake.executions[before:]] == [{"name": "again"}] * 2
    page.close()


def copies(site):
    """As curl and as Python; the key is a variable. Bodies are searched."""
    page = site.page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_row(page, "wf_two/execute")
    for button, part in (("curl", "$FLOWMAESTRO_API_KEY"), ("Python", "client.request('POST'")):
        page.get_by_role("button", name=f"Copy as {button}").click()
        page.get_by_text("Copied.").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert part in copied, copied
        assert site.fake.api_key not in copied
        page.evaluate("document.getElementById('said').textContent = ''")
    page.locator("#look").fill("execution_id")
    page.locator("#detail .hit", has_text="execution_id").first.wait_for()
    assert "hit" in page.locator("#found").inner_text()
    assert site.fake.api_key not in page.content()
    page.close()


def shows_an_execution(site):
    """Status, data, timeline, events, requests, deliveries; it can be cancelled and copied."""
    page = site.page("#/executions")
    with site.client() as client:
        execution_id = client.workflows.execute("wf_slow", inputs={"who": "Ada"})["data"][
            "execution_id"
        ]
    open_row(page, execution_id[:8])
    detail = page.locator("#detail")
    page.locator("#detail img").wait_for()
    expect(detail.locator(".leaf", has_text="Ada")).to_have_count(1)
    detail.locator("summary", has_text="node:started").wait_for()
    page.get_by_role("button", name="Cancel").click()
    detail.locator("td", has_text="cancelled").first.wait_for()
    for field in ("started", "ended", "took"):
        expect(detail.locator("th", has_text=field)).to_have_count(1)
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as JSON").click()
    page.get_by_text("Copied.").wait_for()
    assert '"cancelled"' in page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Its requests").click()
    row(page, "/execute").wait_for()
    assert execution_id in page.url
    site.fake.workflow("wf_fails", nodes=[Node("send", name="Send", error="mailbox full")])
    with site.client() as client:
        failed = client.workflows.run("wf_fails")
    page.goto(f"{site.url}/#/executions/{failed.id}")
    detail.locator("td .bad, td.bad", has_text="Activity task failed").first.wait_for()
    detail.locator("summary.bad", has_text="node:failed").wait_for()
    assert detail.locator("h3", has_text="requests").count() == 1
    expect(detail.locator("h3", has_text="webhook deliver")).to_have_count(1)
    page.close()


def shows_a_webhook(site):
    """A delivery with its attempts, sent again."""
    page = site.page("#/deliveries")
    with site.client() as client:
        client.webhooks.create(
            name="Mine", url="https://hooks.example.com/x", events=["execution.completed"]
        )
        client.workflows.run("wf_two")
    open_row(page, "https://hooks.example.com/x")
    page.locator("#detail td", has_text="delivered").wait_for()
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("#detail td", has_text="accepted")).to_have_count(2)
    page.close()


def injects_faults(site):
    """Path, count, kind and delay are chosen; what is armed is seen, disarmed, and what it hit."""
    page = site.page("#/faults")
    for kind, fill, call in (
        ("fail", {"status": "503", "times": "2"}, "503"),
        ("drop", {}, "no response"),
        ("cut", {"after_events": "1", "path": "/executions/*/events"}, "cut, 1 event"),
        ("delay", {"seconds": "0.3"}, None),
    ):
        page.get_by_role("button", name="New fault").first.click()
        page.locator("#fault-kind").select_option(kind)
        for key, value in {"path": "/agents", **fill}.items():
            page.locator(f"#fault-{key}").fill(value)
        page.get_by_role("button", name="Arm").click()
        page.locator("#detail th", has_text="still to come").wait_for()
        page.locator("#detail td", has_text="in the inspector at").wait_for()
        row(page, "/events" if kind == "cut" else "/agents").first.wait_for()
        with site.client() as client:
            begun = time.monotonic()
            if kind == "cut":
                client.workflows.run("wf_two")
            else:
                client.agents.list()
            took = time.monotonic() - begun
        if call is not None:
            page.locator("#detail td .bad", has_text=call).first.wait_for()
        else:
            assert took >= 0.3, took
            expect(page.locator("#detail h3", has_text="It hit 1 request")).to_have_count(1)
    page.get_by_role("button", name="New fault").first.click()
    page.locator("#fault-path").fill("/nothing/like/this")
    page.get_by_role("button", name="Arm").click()
    page.get_by_text("path must be a path of the API").wait_for()
    page.locator("#fault-path").fill("/triggers")
    page.get_by_role("button", name="Arm").click()
    page.get_by_role("button", name="Disarm").click()
    row(page, "disarmed").wait_for()
    refused = "Failed to load resource: the server responded with a status of 400 ()"
    site.problems.remove(refused)  # the path that no fault can have
    with site.client() as client:
        client.triggers.list()
        site.fake.fail_next(path="/triggers")
        client.triggers.list()
    row(page, "/triggers").filter(has_text="spent").first.click()
    page.locator("#detail td", has_text="by the program or its seed file").wait_for()
    page.close()


def keeps_the_reader_in_place(site):
    """Once the list is scrolled or paused, new rows are counted, and no row moves."""
    page = site.page()
    with site.client() as client:
        for _ in range(60):
            client.workflows.list()
        row(page, "/workflows").first.wait_for()
        until(page, "items.length > 60")
        page.locator("#list").evaluate("list => { list.scrollTop = 280 }")
        page.wait_for_timeout(300)
        place = "document.querySelector('.row:nth-child(12)').getBoundingClientRect().top"
        before = page.evaluate(place)
        for _ in range(42):
            client.workflows.list()
        page.get_by_role("button", name="42 new").wait_for()
        assert page.evaluate(place) == before
        page.evaluate("kept = document.querySelector('.row:nth-child(12)')")
        client.workflows.list()
        page.get_by_role("button", name="43 new").wait_for()
        assert page.evaluate("kept.isConnected"), "rows are updated by key, not made anew"
        page.get_by_role("button", name="43 new").click()
        until(page, "document.getElementById('list').scrollTop === 0")
        page.get_by_role("button", name="Pause").click()
        client.workflows.list()
        page.get_by_role("button", name="1 new").wait_for()
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#new")).to_be_hidden()
    page.close()


def takes_keys(site):
    """`/`, `j`, `k`, Enter and Esc; the focus is never lost."""
    page = site.page()
    row(page, "/workflows").first.wait_for()
    focused = "document.activeElement.id"
    page.keyboard.press("j")
    page.locator("#detail h2").first.wait_for()
    first = page.url
    page.keyboard.press("j")
    assert page.url != first
    page.keyboard.press("k")
    assert page.url == first
    assert page.evaluate(focused) == "list"
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "detail"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "list"
    page.keyboard.press("/")
    assert page.evaluate(focused) == "text"
    page.keyboard.type("agents")
    expect(row(page, "/workflows")).to_have_count(0)
    assert page.evaluate(focused) == "text"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "list"
    page.keyboard.press("Escape")
    until(page, "document.activeElement.id === 'list'")
    assert "?" not in page.url, "Esc empties the filter"
    assert page.locator("#text").input_value() == ""
    expect(row(page, "/workflows").first).to_be_visible()
    with site.client() as client:  # what is focused stays so while its page is drawn again
        execution_id = client.workflows.execute("wf_slow")["data"]["execution_id"]
        page.goto(f"{site.url}/#/executions/{execution_id}")
        page.get_by_role("button", name="Copy as JSON").focus()
        client.executions.get(execution_id)
        page.wait_for_timeout(600)
        assert page.evaluate("document.activeElement.textContent") == "Copy as JSON"
        client.executions.cancel(execution_id)
        page.locator("#detail td", has_text="cancelled").first.wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Copy as JSON"
    page.close()


def keeps_all_at_a_reload(site):
    """Tab, selection, filter and pause."""
    page = site.page("#/executions?status=cancelled")
    open_row(page, "cancelled")
    page.get_by_role("button", name="Pause").click()
    address = page.url
    page.reload()
    page.locator("#detail img").wait_for()
    assert page.url == address
    assert page.locator("#status").input_value() == "cancelled"
    expect(page.locator(".row[aria-selected=true]")).to_have_count(1)
    page.get_by_role("button", name="Resume").click()
    page.close()


def is_a_tree_for_a_screen_reader(site):
    """The accessibility tree of Chromium has landmarks, names, and the values of each row."""
    page = site.page("#/requests?text=/workflows/wf_123")
    open_row(page, "/workflows/wf_123")
    tree = page.locator("body").aria_snapshot()
    for part in (
        '- heading "FlowMaestro inspector" [level=1]',
        '- navigation "Lists":',
        '- searchbox "Filter by path, id, error or status"',
        '- combobox "Status":',
        '- combobox "Duration":',
        '- combobox "Order":',
        '- button "Pause"',
        '- listbox "Requests":',
        '- option "GET, /workflows/wf_123, ',
        '- region "Details":',
        '- rowheader "status"',
        '- button "Copy as curl"',
        '- searchbox "Find in the bodies below"',
    ):
        assert part in tree, (part, tree)
    assert re.search(r'link "Requests [\d,]+"', tree), tree
    options = page.locator("#list").get_by_role("option")
    assert options.count() == page.locator(".row").count()
    for attribute in ("aria-label", "aria-posinset", "aria-setsize", "aria-selected"):
        assert options.first.get_attribute(attribute), attribute
    page.close()


def is_walked_by_keyboard(site):
    """Tab reaches all that a mouse does; what is focused has a name and a ring."""
    page = site.page("#/requests?text=/workflows/wf_123")
    row(page, "/workflows/wf_123").first.wait_for()
    page.keyboard.press("j")
    page.locator("#detail h2").wait_for()
    page.locator("h1").click()  # the walk begins at the top
    named = (
        "(each => [each.id || each.textContent, (each.ariaLabel ?? '') + each.textContent,"
        " getComputedStyle(each).outlineStyle])(document.activeElement)"
    )
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        key, name, ring = page.evaluate(named)
        if page.evaluate("document.activeElement === document.body"):
            break
        assert name.strip(), key
        assert ring == "solid", key
        reached.append(key)
    wanted = ["text", "bodies", "method", "status", "took", "sort", "pause", "list"]
    assert [key for key in reached if key in wanted] == wanted, reached
    assert reached[0].startswith("Requests"), reached
    for button in ("Copy as curl", "Copy as Python", "Send again"):
        assert button in reached, reached
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    page.close()


def widens(site):
    """The divider gives its columns to the list or to the details, by mouse and by keyboard."""
    page = site.page("#/requests?text=/workflows/wf_123")
    open_row(page, "/workflows/wf_123")
    path = page.locator(".row > :nth-child(3)").first
    narrow = path.bounding_box()["width"]
    handle = page.locator("#divider").bounding_box()
    page.mouse.move(handle["x"] + 3, 400)
    page.mouse.down()
    page.mouse.move(handle["x"] + 203, 400)
    page.mouse.up()
    wide = path.bounding_box()["width"]
    assert wide > narrow + 80, (narrow, wide)
    page.locator("#divider").focus()
    page.keyboard.press("ArrowLeft")
    assert narrow < path.bounding_box()["width"] < wide
    page.reload()
    path.wait_for()
    assert narrow < path.bounding_box()["width"] < wide, "it stays after a reload"
    page.close()


def shows_hostile_texts(site):
    """Names of workflows can neither run nor turn the page, nor make it wider."""
    with site.client() as client:
        client.workflows.run("wf_turned")
    for width in WIDTHS.values():
        page = site.page("#/executions", width=width)
        open_row(page, "Turned \ufffdx")
        page.locator("#detail h2", has_text="Turned \ufffdx").wait_for()
        detail = "document.getElementById('detail')"
        assert page.evaluate(f"{detail}.querySelector('h2').scrollWidth <= {detail}.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.title() == "FlowMaestro inspector"
        page.close()


def survives_hostile_requests(site):
    """What a client sends, and what is in the address, can neither run nor widen the page."""
    target = urlsplit(site.url)
    name = "%3Cscript%3Edocument.title=1%3C/script%3E%E2%80%AE" + "y" * 4000
    fields = f"Host: localhost\r\nX-API-Key: {site.fake.api_key}\r\nX-Text: <b>x</b>\xe9\x9b"
    body = '{"<img src=x onerror=alert(1)>": "\\u202e", "__proto__": {"tab": 1}}\xff' + "z" * 9000
    requests = (
        ("IMG!", "/api/v1/workflows", "Idempotency-Key: <b>1</b>"),
        ("POST", f"/api/v1/workflows/{name}/execute?a={name}", "X!*: 1"),
        ("GET", "//evil.example/%00%ff", "Cookie: a=b"),
    )
    for method, path, field in requests:
        with socket.create_connection((target.hostname, target.port)) as connection:
            head = f"{method} {path} HTTP/1.1\r\n{fields}\r\n{field}\r\nContent-Length: {len(body)}"
            connection.sendall(f"{head}\r\nConnection: close\r\n\r\n{body}".encode("latin-1"))
            while connection.recv(65536):
                pass
    for width in WIDTHS.values():
        for route in (
            "#/requests/%E0%A4%A",
            "#/constructor",
            "#/executions/__proto__",
            "#/faults/x",
        ):
            page = site.page(route, width=width)
            page.get_by_role("link", name="Requests").wait_for()
            page.wait_for_timeout(200)
            page.close()
        page = site.page("#/requests", width=width)
        row(page, "IMG!").wait_for()
        for number in range(3):
            page.keyboard.press("j")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            shown = "document.getElementById('detail')"
            assert page.evaluate(f"{shown}.scrollWidth <= {shown}.clientWidth")
            site.picture(page, f"hostile-{width}-{number}")
        assert page.title() == "FlowMaestro inspector"
        assert page.locator("#list img, #detail img, #list script, #detail script").count() == 0
        page.close()
    # Of these ids the server knows nothing, which the browser reports.
    site.problems[:] = [each for each in site.problems if "status of 40" not in each]


def draws_a_batch(site):
    """Pictures, while a batch of 500 rows runs."""

    def batch():
        with site.client() as client:
            rows = [{"name": f"row {number}"} for number in range(500)]
            for _ in client.workflows.run_many("wf_two", rows, concurrency=20):
                pass

    running = threading.Thread(target=batch)
    running.start()
    execution_id = site.fake.executions[-1].id
    routes = {
        "requests": "#/requests",
        "failed": "#/requests?status=failed",
        "executions": "#/executions",
        "execution": f"#/executions/{execution_id}",
        "deliveries": "#/deliveries",
        "fault": "#/faults/new",
    }
    for name, width in WIDTHS.items():
        for scheme in ("light", "dark"):
            page = site.page(width=width, scheme=scheme)
            page.locator(".row").first.wait_for()
            for shown, route in routes.items():
                page.goto(f"{site.url}/{route}")
                page.wait_for_timeout(300)
                site.picture(page, f"{shown}-{name}-{scheme}")
                assert page.evaluate("document.documentElement.scrollWidth") == width, shown
            page.close()
    running.join()


def make_requests(site, count):
    """Make `count` requests on one connection, 100 at a time: a client would take a minute."""
    target = urlsplit(site.url)
    with socket.create_connection((target.hostname, target.port)) as connection:
        for made in range(0, count, 100):
            if made % 5000 == 0:
                key = site.fake.add_key()  # each may make 6,000 a minute
            request = (
                f"GET /api/v1/workflows/wf_123 HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}"
            )
            connection.sendall(f"{request}\r\n\r\n".encode() * 100)
            received = b""
            while received.count(b"HTTP/1.1 200") < 100 or not received.endswith(b"}"):
                received += connection.recv(65536)


def holds_many(site):
    """10,000 requests and 200 open streams: the page is filled, and draws few rows."""
    with site.client() as client, ExitStack() as stack:
        execution_id = client.workflows.execute("wf_endless")["data"]["execution_id"]
        for _ in range(200):
            next(stack.enter_context(client.executions.stream(execution_id)))
        make_requests(site, MAX_EXCHANGES)
        page = site.page()
        until(page, f"store.requests.size === {MAX_EXCHANGES}")
        assert site.fake.open_streams == 200, site.fake.open_streams
        page.evaluate("document.getElementById('list').scrollTop = 130000")
        page.wait_for_timeout(300)
        page.locator(".row").nth(10).click()
        page.get_by_text("Response 200").wait_for()
        assert page.locator(".row").count() < 100
        site.picture(page, "requests-10000")
        page.close()


def notices_another_server(site):
    """A server that was started again counts from 1; the page follows."""
    page = site.page()
    page.locator(".row").first.wait_for()
    site.server.cancel()
    page.get_by_text("The server is gone").wait_for()
    other = FakeFlowMaestro()
    site.server, _ = site.serve(other, int(site.url.rpartition(":")[2]))
    with FlowMaestroClient(other.api_key, base_url=site.url) as client:
        client.agents.list()
    row(page, "/agents").wait_for()
    expect(page.locator(".row")).to_have_count(1)
    site.problems[:] = [each for each in site.problems if "ERR_" not in each]
    page.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    main(folder, sys.argv[2:])

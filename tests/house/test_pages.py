"""The documentation names what exists, links to what is there, and is complete."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import pkgutil
import re
import sys

import pytest

import flowmaestro
import flowmaestro_transports
from flowmaestro import errors, resources, testing, webhooks
from flowmaestro import types as flowmaestro_types
from flowmaestro.testing import FakeFlowMaestro, conformance
from flowmaestro_core import defaults
from flowmaestro_core.calls.call import MAX_REDIRECTS
from flowmaestro_core.payloads.reply import MAX_JSON_DEPTH
from flowmaestro_core.policy import retry
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.resources import Workflows
from flowmaestro_core.resources.executions import DEFAULT_POLL_INTERVAL, DEFAULT_WAIT_TIMEOUT
from flowmaestro_core.resources.threads import ANSWER_TIMEOUT
from flowmaestro_core.streams.event_stream import MOST_REMEMBERED
from flowmaestro_core.streams.sse import MAX_EVENT_SIZE
from flowmaestro_transports import SocketTransport
from flowmaestro_transports.http11.exchange import MAX_HEAD
from tests.harness.house.pages import (
    MARKDOWN,
    PAGES,
    ROOT,
    headings_of,
    inlines_of,
    name_of,
    script,
    tokens_of,
)

PUBLIC = [
    *(flowmaestro, errors, resources, flowmaestro_types, webhooks),
    *(testing, conformance, flowmaestro_transports),
]
_HTML_LINK = re.compile(r"""\s(?:href|src)=["']?([^"'\s>]+)""")
_UNDEFINED_LINK = re.compile(r"\]\[|^\[[^\]]+\]:")


def links_of(page):
    """Where a page links to, in Markdown or HTML, and the line; `None` for what is not defined."""
    for line, token in inlines_of(tokens_of(page)):
        if token.type.startswith("html"):
            yield from ((line, target) for target in _HTML_LINK.findall(token.content))
        elif token.type == "text" and _UNDEFINED_LINK.search(token.content):
            yield line, None
        target = token.attrGet("href") or token.attrGet("src")
        if target:
            yield line, target


def lost_links(page):
    """Yield the links within the project that lead nowhere, by page and line."""
    for line, link in links_of(page):
        target, _, fragment = (link or "undefined").partition("#")
        if not target.startswith(("http:", "https:", "data:")):
            aim = (page.parent / target).resolve() if target else page
            if not aim.exists() or (fragment and fragment not in headings_of(aim)):
                yield f"{name_of(page)}:{line}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page):
    assert list(lost_links(page)) == []


def test_a_lost_link_is_reported_with_page_and_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n\n```python\n# Code\n```\n\n[a](#top) [b](#code)\n[c](none.md)\n\n[d][x] [e][y]\n\n"
        '<img src="none.svg">\n\n* <a href="#lost">f</a>\n\n[x]: none.md#top\n'
    )
    assert [lost.partition("page.md:")[2] for lost in lost_links(page)] == [
        "7: #code",
        "8: none.md",
        "10: none.md#top",
        "10: None",
        "12: none.svg",
        "14: #lost",
    ]


PACKAGES = {"flowmaestro", "flowmaestro_core", "flowmaestro_transports"}
FOREIGN = {
    "AbortController",
    "ActivityEnvironment",
    "ClientSession",
    "DataFrame",
    "StreamingResponse",
    "TypeAdapter",
    "TypedDict",
    "maintenance_chance",
    "retry_exceptions",
}


def names_in(code):
    """Yield the names in a piece of code: dotted, in camel case, or a call and its keywords."""
    found = re.match(r"(?:await )?([\w.]+)(\(|$)", code)
    if found and ("." in found[1] or found[2] or re.match(r"[A-Z][a-z]+[A-Z]", found[1])):
        yield found[1]
    if re.match(r"[\w.]+[(=]", code):
        yield from re.findall(r"\b([a-z_]+)=", code)


@functools.cache
def vocabulary():
    """Return the names of our classes, functions, parameters and attributes, and Python's own."""
    folders = [
        ROOT / name
        for name in ("flowmaestro_core", "transports", "flowmaestro", "examples", "tests/harness")
    ]
    source = "\n".join(
        file.read_text(encoding="utf-8") for folder in folders for file in folder.rglob("*.py")
    )
    found = re.findall(r"\b(?:class|def) (\w+)|\b(\w+)(?=: |=| = )", source)
    return {*dir(builtins), *FOREIGN, *(name for pair in found for name in pair)}


def has(owner, name):
    """Whether a dotted name leads somewhere from `owner`."""
    try:
        functools.reduce(getattr, name.split("."), owner)
    except AttributeError:
        return False
    return True


def exists(name, parts):
    """Whether a name of ours is there; a dotted name that is not ours counts as there."""
    root, _, rest = name.partition(".")
    if not rest:
        return root in vocabulary()
    if rest in ("md", "py"):
        return True
    if root in PACKAGES:
        try:
            return pkgutil.resolve_name(name) is not None
        except (AttributeError, ImportError):
            return False
    if root == "client":
        root, _, rest = rest.partition(".")
        if root not in parts:
            return hasattr(flowmaestro.FlowMaestroClient, root)
    owners = [parts[root]] if root in parts else []
    owners += [webhooks] if root == "webhooks" else []
    owners += [FakeFlowMaestro()] if root == "fake" else []
    return not (owners and rest) or any(has(owner, rest) for owner in owners)


def missing_names(page, tokens):
    """Yield what a page names that neither client, package nor fake has, by page and line."""
    parts = script("reference").resources()
    for line, token in inlines_of(tokens):
        shown = re.findall(r"^::: ([\w.]+)", token.content)
        for name in names_in(token.content) if token.type == "code_inline" else shown:
            if not exists(name, parts) and f'"{name}"' not in span_attributes():
                yield f"{name_of(page)}:{line}: {name}"


@functools.cache
def span_attributes():
    """Return the source of the spans, which has the names of their attributes as literals."""
    return (ROOT / "flowmaestro" / "opentelemetry.py").read_text(encoding="utf-8")


class TestReference:
    def test_it_is_what_the_packages_give(self):
        assert script("reference").main(["--check"]) == 0, (
            "docs/reference/ is out of date: run `python docs/reference.py`"
        )

    def test_a_changed_docstring_is_noticed(self, monkeypatch, capsys):
        monkeypatch.setattr(errors.ConflictError, "__doc__", "Changed.")
        assert script("reference").main(["--check"]) == 1
        assert "errors.md is out of date" in capsys.readouterr().out

    def test_every_public_name_is_there(self):
        text = "\n".join(
            page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")
        )
        described = set(re.findall(r"^(?:## |::: )(?:client\.)?(.*)$", text, re.MULTILINE))
        described |= {name.rpartition(".")[2] for name in described}
        described |= set(re.findall(r"`((?:Sync|Async)\w+)`", text))
        public = {name for home in PUBLIC for name in home.__all__ if not name.startswith("__")}
        methods = {
            f"{name}.{method}"
            for name, resource in script("reference").resources().items()
            for method, _ in script("reference").methods_of(resource)
        }
        missing = sorted((public | methods) - described)
        assert not missing, f"run `python docs/reference.py`: docs/reference/ lacks {missing}"

    def test_each_method_has_its_parameters_its_fields_and_its_retries(self):
        text = "\n".join(script("reference").pages().values())
        sections = re.findall(
            r"^## ((?:\w+|client)\.\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
        )
        assert len(sections) > 45
        for name, section in sections:
            signature, _, rest = section.partition("\n)\n```\n")
            parameters = set(re.findall(r"^    (\w+):", signature, re.MULTILINE)) if rest else set()
            described = re.findall(r"^\* (`.*?): ", rest.partition("**Returns**")[0], re.MULTILINE)
            assert parameters <= set(re.findall(r"\w+", " ".join(described))), name
            returned = section.partition("**Returns**")[2].partition("Request: ")
            assert re.search(r"\n(\| |\* \[?`)", returned[0]) or name.startswith("client."), name
            assert "Retried: " in returned[2], name

    def test_a_field_says_when_it_is_none_if_it_may_be_none(self):
        rows = re.findall(r"^\| (`\w+` \| .*) \| (.+) \|$", self.fields(), re.MULTILINE)
        assert len(rows) > 400
        wrong = {
            kind for kind, meaning in rows if ("None" in kind) != bool(re.search("None", meaning))
        }
        assert wrong == set()

    def fields(self):
        """Return the tables of fields with meanings of all pages."""
        text = "\n".join(script("reference").pages().values())
        return "\n".join(re.findall(r"\| key \| value \| meaning \|\n(?:\|.*\n)+", text))

    @pytest.mark.parametrize("page", PAGES, ids=name_of)
    def test_a_page_names_only_what_exists(self, page):
        assert list(missing_names(page, tokens_of(page))) == []

    def test_a_name_that_does_not_exist_is_reported_with_page_and_line(self):
        text = (
            "Call `client.workflows.start(...)`,\n`workflows.begin`, or\ncatch `GoneError`.\n\n"
            "* `client.clone`\n* `clone(timeout=1)`, `run(patience_of=2)`, `flowmaestro.lost`\n\n"
            "| `LostThing` | `close()` `RunOutcome` `client.agents` `journal=` |\n|---|---|\n\n"
            "::: flowmaestro.nothing\n"
        )
        missing = list(missing_names(ROOT / "README.md", MARKDOWN.parse(text)))
        assert [it.partition("README.md:")[2] for it in missing] == [
            "1: client.workflows.start",
            "2: workflows.begin",
            "3: GoneError",
            "5: client.clone",
            "6: clone",
            "6: patience_of",
            "6: flowmaestro.lost",
            "8: LostThing",
            "11: flowmaestro.nothing",
        ]


def test_the_site_leads_to_every_page():
    navigation = (
        (ROOT / "zensical.toml").read_text(encoding="utf-8").partition("[project.theme]")[0]
    )
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    pages |= {place for here, place in script("site").ELSEWHERE.items() if here != "README.md"}
    named = set(re.findall(r'"([\w/-]+\.md)"', navigation))
    assert named == pages


class TestSite:
    ADDRESS = "https://docs.test/python/"

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="the scripts need tomllib")
    def test_each_page_has_a_place_on_the_site_and_in_its_text_for_assistants(self, tmp_path):
        import tomllib

        site = script("site")
        sources = site.gather(tmp_path / "pages")
        config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
        text = site.settings(config, self.ADDRESS, sources, "https://source.test/a")
        (tmp_path / "zensical.toml").write_text(text)
        project = tomllib.loads(text)["project"]
        assert project["site_url"] == self.ADDRESS
        assert project["repo_url"] == "https://source.test/a"
        script("markdown_pages").write_pages(tmp_path, self.ADDRESS)
        listed = (tmp_path / "site" / "llms.txt").read_text(encoding="utf-8")
        whole = (tmp_path / "site" / "llms-full.txt").read_text(encoding="utf-8")
        pages = re.findall(
            rf"^- \[.+\]\({self.ADDRESS}(.+\.md)\): [A-Z`][^\]]+$", listed, re.MULTILINE
        )
        assert len(pages) == listed.count("\n- ") > 50
        shown = {*re.findall(r'"([\w/-]+\.md)"', text)} - {*site.NOT_SEARCHED}
        assert {*pages} == {page for page in shown if not page.startswith("source/")}
        rendered = MARKDOWN.render(whole)
        assert re.findall(r' (?:href|src)="(?!https?:|#|data:)([^"]+)', rendered) == []

    def test_a_lost_link_is_reported_with_page_and_line(self, tmp_path, monkeypatch):
        site, page = script("site"), tmp_path / "page.md"
        monkeypatch.setattr(site, "ROOT", tmp_path)
        page.write_text("One\n[two](lost.md)\n")
        with pytest.raises(SystemExit, match=r"^page.md:2: no lost.md for the site$"):
            site.moved(page, tmp_path / "site.md", {}, tmp_path, {})


class TestTables:
    """Pages that list what the source has."""

    def test_every_variable_of_the_environment_is_listed(self):
        page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
        listed = set(re.findall(r"`([A-Z_]{4,})`", page))
        folders = ("flowmaestro_core", "transports/flowmaestro_transports", "flowmaestro")
        source = "\n".join(
            file.read_text(encoding="utf-8")
            for folder in folders
            for file in (ROOT / folder).rglob("*.py")
        )
        named = set(re.findall(r"FLOWMAESTRO_[A-Z_]+", source))
        named |= set(re.findall(r"environ(?:ment)?(?:\.get\(|\[)\"([A-Z_]+)\"", source))
        assert named <= listed, f"docs/environment.md lacks {sorted(named - listed)}"
        # The proxies are read with a name that is put together, and XDG_* by platformdirs.
        elsewhere = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
        elsewhere |= {"XDG_CONFIG_HOME", "XDG_STATE_HOME"}
        assert {name for name in listed - elsewhere if name not in source} == set()

    def test_the_limits_are_those_of_the_source(self):
        times = StreamTimes()
        expected = {
            "one attempt of a call": f"{defaults.DEFAULT_TIMEOUT:g} s",
            "one attempt of `threads.send_message`": f"{ANSWER_TIMEOUT:g} s",
            "`wait_for_completion`, `run`, one row of a batch": f"{DEFAULT_WAIT_TIMEOUT:g} s",
            "between two polls": f"{DEFAULT_POLL_INTERVAL:g} s",
            "a quiet stream before its execution is polled": (
                f"{times.event_idle:g} s, growing to {times.event_idle_max:g} s"
            ),
            "a stream without a byte before it is reconnected": f"{times.bytes_idle:g} s",
            "delay before a reconnection": (
                f"up to {times.reconnect_base:g} s, growing to {times.reconnect_max:g} s"
            ),
            "time without an event or an answered poll until a lost stream fails": (
                f"{times.reconnect_for:g} s"
            ),
            "delay before a retry": (
                f"up to {retry.BASE_DELAY:g} s, doubling to {retry.MAX_DELAY:g} s"
            ),
            "longest `Retry-After` that is waited for": f"{retry.MAX_RETRY_AFTER:g} s",
            "retries of a call": f"{defaults.DEFAULT_MAX_RETRIES}",
            "redirects that a call follows: only of a GET, and only to the same server": (
                f"{MAX_REDIRECTS}"
            ),
            "calls of a transport at the same time; open streams do not count": default_of(
                SocketTransport, "max_connections"
            ),
            "executions in flight in a batch": default_of(Workflows.run_many, "concurrency"),
            "events that a stream remembers for its timeline": f"{MOST_REMEMBERED:,}",
            "a reply, after decompression": f"{defaults.MAX_REPLY_SIZE >> 20} MiB",
            "one event of a stream": f"{MAX_EVENT_SIZE >> 20} MiB",
            "the head of a response": f"{MAX_HEAD >> 10} KiB",
            "levels of JSON in a reply": f"{MAX_JSON_DEPTH}",
        }
        page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
        rows = dict(re.findall(r"^\| (.+?) \| (.+?) \| .*\|$", page, re.MULTILINE))
        assert {name: rows.get(name) for name in expected} == expected


def default_of(function, name):
    return str(inspect.signature(function).parameters[name].default)


class TestErrorTexts:
    """`docs/error-texts.md` has each message that the source composes for an error of the SDK."""

    PAGE = ROOT / "docs" / "error-texts.md"
    COMPOSERS = {
        *(name for name in errors.__all__ if inspect.isclass(getattr(errors, name))),
        *("TransportFailure", "ReplyError", "CodingError", "GiveUp", "LibraryError"),
        *("ConnectionRefusedError", "RuntimeError", "OSError", "_SocksError"),
        *("ValueError", "TypeError", "ImportError"),
        # Helpers that add words to what they are given.
        *("_damage", "_error", "_invalid_response", "_mismatch", "_refusal", "_unusable"),
        *("checkpoint_unusable", "journal_unusable", "not_resumed", "too_slow"),
    }
    NAMES = {"said", "message", "reason", "refusal", "within", "what", "text", "why"}
    """Variables that hold a message, or a part of one, before an error is made of it."""

    @staticmethod
    def parts(node):
        """Return the literal parts of a message in the source; `None` for any other value."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            return [it.value for it in node.values if isinstance(it, ast.Constant)]
        return None

    @classmethod
    @functools.cache
    def messages(cls):
        """Return each message as its literal parts, and where it is."""
        return list(cls.find_messages())

    @classmethod
    def find_messages(cls):
        for folder in ("flowmaestro_core", "transports/flowmaestro_transports"):
            for file in (ROOT / folder).rglob("*.py"):
                # Errors of the author of a driver, and texts of pictures.
                if file.name in ("machine.py", "messages.py") or file.parent.name == "showing":
                    continue
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    values = []
                    if isinstance(node, ast.Call):
                        name = getattr(node.func, "id", getattr(node.func, "attr", None))
                        codes = [it.value for it in node.keywords if it.arg == "code"]
                        values = [*node.args[:2], *codes] if name in cls.COMPOSERS else []
                    elif isinstance(node, (ast.Assign, ast.AugAssign)):
                        target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
                        if getattr(target, "id", "") in cls.NAMES:
                            values = [node.value]
                        elif "_MESSAGE" in ast.unparse(target):
                            values = getattr(node.value, "elts", [node.value])[:2]
                    for value in values:
                        parts = [part.strip() for part in cls.parts(value) or ()]
                        if any(re.search("[a-z]{2}", part) for part in parts):
                            yield f"{name_of(file)}:{value.lineno}", parts

    def lost(self, page):
        """Yield the messages that a text of the page does not have."""
        text = " ".join(page.replace("`", "").split())
        for place, parts in self.messages():
            pattern = ".{0,80}?".join(re.escape(" ".join(part.split())) for part in parts if part)
            if not re.search(pattern, text):
                yield f"{place}: {'…'.join(parts)}"

    def test_every_message_is_on_the_page(self):
        assert list(self.lost(self.PAGE.read_text(encoding="utf-8"))) == []

    @pytest.mark.parametrize("text", ["journal_busy", "retry budget", "must be an int"])
    def test_a_message_that_is_not_on_the_page_is_noticed(self, text):
        page = self.PAGE.read_text(encoding="utf-8")
        assert list(self.lost(page.replace(text, "")))

"""Writes `docs/reference/` from the packages as they are at run time.

python docs/reference.py            # write the pages
python docs/reference.py --check    # exit with status 1 if one is out of date

A method of a client is described by its signature, docstring, first request and the fields of what
it returns. Any other public name is described by its signature, docstring, attributes and methods.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import math
import re
import sys
import textwrap
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union, get_args, get_origin, get_type_hints

import flowmaestro
import flowmaestro.errors
import flowmaestro.resources
import flowmaestro.testing
import flowmaestro.types
import flowmaestro.webhooks
import flowmaestro_core
import flowmaestro_core.resources
import flowmaestro_transports
from flowmaestro.testing import conformance
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.types import ExecutionEvent, ThreadEvent
from flowmaestro_core.actions import Open, Send
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.raw import IDEMPOTENT_METHODS
from flowmaestro_core.context import Context
from flowmaestro_core.executions.outcome import Outputs_co
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import iterating_endpoint, outcomes
from flowmaestro_core.options import ClientOptions

FOLDER = Path(__file__).with_name("reference")
EXAMPLES = Path(__file__).with_name("method_examples.py")
NOTE = "<!-- This page is generated: run `python docs/reference.py` after a change. -->"
GIVEN = {"events": ["test"], "execution_ids": ["ID"], "inputs": [{}], "url": "https://example.com"}
"""Required arguments for which `"ID"` will not do."""
PER_PAGE = "how many to get with one request, 1 to 100; the server's default is 20."
SAFE = "Retried: yes, it can be repeated without harm."
UNSAFE = (
    "Retried: only if nothing was sent, after 429, or after 503 with `Retry-After`: "
    "[what is safe](../errors.md#what-is-retried)."
)
OF_METHODS = f"Retried: {', '.join(sorted(IDEMPOTENT_METHODS))} yes; other methods {UNSAFE[9:]}"
NOT_RETRIED = "Request: none. Retried: there is nothing to retry."
OF_CLIENT = {
    "with_options": ("**Returns** a client.", NOT_RETRIED),
    "request": (
        "**Returns** [`Reply`](types-replies-and-pages.md#reply), as the server sent it.",
        f"Request: the one that you name. {OF_METHODS}",
    ),
    "close": ("**Returns** `None`.", NOT_RETRIED),
}
"""The methods of a client itself, what they return, and what is retried."""
TOOLS = (
    "timeline.timeline_of",
    "timeline.timeline_svg",
    "inputs.check_inputs",
    "inputs.is_strict",
    "opentelemetry.OpenTelemetryHooks",
)
OF_TRANSPORTS = tuple(
    name for name in flowmaestro_transports.__all__ if name not in flowmaestro.__all__
)
OF_CORE = tuple(
    name for name in flowmaestro_core.__all__ if name not in flowmaestro_core.resources.__all__
)
"""The core's names without the builders, which the pages of a client's attributes describe."""
BUILDERS = (
    f"\n\nAnd from there, {', '.join(f'`{name}`' for name in flowmaestro_core.resources.__all__)}: "
    "the classes of a client's attributes. Read from the class, a method builds an operation, such "
    'as `Executions.stream("exec_xyz789")`.'
)
OF_WEBHOOKS = tuple(name for name in flowmaestro.webhooks.__all__ if not name.startswith("Webhook"))
OPTIONS = (
    "Checkpoint",
    "Hooks",
    "RequestInfo",
    "ResponseInfo",
    "RetryInfo",
    "Store",
    "AsyncStore",
    "StreamTimes",
    "Timeout",
)

LONGEST_PARAMETER = 84
"""Characters of a parameter, beyond which the choices of its type are on lines of their own."""
BAR = r"\|"
GROUPS = {
    "Workflows and executions": """
        Workflow WorkflowInput ExecuteWorkflowResponse Execution ExecutionStatus
        CompletedExecution FailedExecution UnfinishedExecution CancelledExecution
        EndedExecution
    """,
    "Events of executions": """
        ExecutionEvent ExecutionEventType Connected ExecutionStarted ExecutionProgress
        ExecutionPaused ExecutionResumed ExecutionCompleted ExecutionFailed
        ExecutionCancelled NodeStarted NodeCompleted NodeFailed NodeRetry NodeStream
        UserInputRequired UserInputResponse StreamReconnected
    """,
    "Batches": """
        RunOutcome BatchProgress RunOutcomes AsyncRunOutcomes
    """,
    "Agents and threads": """
        Agent Memory MemoryResult MemorySearch MemoryStats Thread ThreadStatus
        ThreadMessage SendMessageResponse TokenUsage
    """,
    "Events of answers": """
        ThreadEvent ThreadEventType ThreadConnected MessageStarted MessageToken
        MessageCompleted MessageFailed
    """,
    "Knowledge bases": """
        KnowledgeBase KnowledgeBaseResult QueryKnowledgeBaseResponse
    """,
    "Triggers": """
        Trigger ExecuteTriggerResponse
    """,
    # Not "Webhooks": the search ranks by titles, and the word must lead to the guide.
    "Subscriptions and deliveries": """
        Webhook WebhookWithSecret WebhookEvent WebhookEventType WebhookDelivery
        TestWebhookResponse
    """,
    "Replies and pages": """
        ApiError DeletedResource Page PaginationInfo RateLimit Reply ResponseMeta
    """,
}
"""The pages of types.

A new type is on the page of a type with whose name its own begins. Any other type is on the page of
streams and callbacks.
"""
STREAMS = "Streams and callbacks"
OF_TESTING = {
    "The fake": "FakeFlowMaestro VirtualClock running_server serve Shapes Events MessageAnswers",
    "Scripts and faults": """
        Node ScriptedEvent InputField Fault UnusedScriptWarning MemoryCheckpoint
    """,
    "What was called": """
        RecordedRequest Execution EventStream Delivery FakeReply
    """,
    "Cassettes": "Cassette CassetteError CassetteMismatch",
    "Deaths of a task": "every_crash Effect CrashReport CrashFinding ProcessDied",
    "Checks of stores and drivers": "check_store check_async_store check_driver",
    "Transports for tests": """
        ScriptedTransport AsyncScriptedTransport Quiet MemoryTransport AsyncMemoryTransport
    """,
}
"""The pages of the testing kit."""
COMMON_KEYS = {
    "id": "Its id.",
    "type": "Kind of the event.",
    "name": "Its name.",
    "agent_id": "Its agent.",
    "thread_id": "Its thread.",
    "trigger_id": "The trigger that fired.",
    "workflow_id": "Its workflow.",
    "knowledge_base_id": "The knowledge base.",
    "execution_id": "The execution.",
    "chunk_id": "The same as `id`.",
    "user_id": "The user, by your own id.",
    "version": "Its version.",
    "error": "Reason of the failure, for people; `None` if there is none.",
    "outputs": "Outputs by name; `None` if there are none.",
    "status": "Its status.",
    "timestamp": "Unix time in milliseconds, or ISO 8601, as the server has it.",
    "created_at": "Time of its creation, ISO 8601.",
    "updated_at": "Time of its last change, ISO 8601.",
    "deleted": "True.",
}
"""Meanings of keys that are the same everywhere."""

TYPES = {name: getattr(flowmaestro.types, name) for name in sorted(flowmaestro.types.__all__)}
# Other functions without arguments have the type of `OnCloseCallback`, too.
NAMES = {kind: name for name, kind in TYPES.items() if name != "OnCloseCallback"}
NAMES[Outputs_co] = "dict[str, Any] or None"  # its default, which only type checkers see
OF_ITEMS = {"SyncItems": "Iterator", "AsyncItems": "AsyncIterator"}
"""Classes that are not public, and what they are."""
_SECTION = re.compile(r"^(?P<title>\S.*):\n(?P<items>(?=[ ]{4})(?:[ ]{4}.*\n?|\n)+)", re.MULTILINE)
_ITEM = re.compile(r"^(?P<names>[\w, ]+): (?P<text>.*(?:\n .*)*)", re.MULTILINE)


GUIDES = {
    "workflows.md": {"running.md": "Run and wait", "batches.md": "Batches"},
    "executions.md": {"running.md": "Run and wait", "streaming.md": "Stream events"},
    "agents.md": {"agents.md": "Talk to agents"},
    "threads.md": {"agents.md": "Talk to agents"},
    "knowledge-bases.md": {"agents.md#search-a-knowledge-base": "Search a knowledge base"},
    "triggers.md": {"running.md#fire-a-trigger": "Fire a trigger"},
    "webhooks.md": {"webhooks.md": "Webhooks"},
    "webhook-verification.md": {"webhooks.md#verify-the-signature-of-a-webhook": "Webhooks"},
    "errors.md": {"errors.md": "Errors and retries", "error-texts.md": "What an error says"},
    "transports.md": {
        "choosing-a-transport.md": "Choose a transport",
        "networks.md": "Networks: proxy and certificates",
    },
}
"""The guides to which a page of the reference links, with their titles."""


def resources() -> Dict[str, Any]:
    """Return the classes behind a client's attributes, by attribute, in the client's order."""
    core = flowmaestro_core.resources
    found = {re.sub(r"(?<!^)(?=[A-Z])", "_", n).lower(): getattr(core, n) for n in core.__all__}
    return {name: found[name] for name in vars(flowmaestro.FlowMaestroClient) if name in found}


def methods_of(resource: Any) -> Iterator[Tuple[str, Any]]:
    """Yield the names of a resource's methods, and their descriptors."""
    for name, entry in vars(resource).items():
        if not name.startswith("_"):
            yield name, entry


def pages() -> Dict[str, str]:
    """Return the text of each page, by file name."""
    examples = examples_by_name()
    made = {
        f"{name.replace('_', '-')}.md": resource_page(name, resource, examples)
        for name, resource in resources().items()
    }
    made["client.md"] = client_page(examples)
    made["errors.md"] = page(
        "Errors",
        "Import the errors from `flowmaestro`, the rest from `flowmaestro.errors`.",
        errors(),
    )
    made.update(type_pages())
    made.update(testing_pages())
    for file, title, module, names in (
        ("core.md", "The core", flowmaestro_core, OF_CORE),
        ("conformance.md", "Conformance kit", conformance, conformance.__all__),
        ("transports.md", "Transports", flowmaestro_transports, OF_TRANSPORTS),
        ("webhook-verification.md", "Verify deliveries", flowmaestro.webhooks, OF_WEBHOOKS),
    ):
        sections = [part for name in names for part in described_name(module, name)]
        about = f"Import them from `{module.__name__}`."
        made[file] = page(title, about + (BUILDERS if names is OF_CORE else ""), sections)
    made["tools.md"] = tools_page()
    made["index.md"] = index_page()
    for file, guides in GUIDES.items():
        head, first, rest = made[file].partition("\n## ")
        links = ", ".join(f"[{title}](../{guide})" for guide, title in guides.items())
        made[file] = f"{head}\nHow to use them: {links}.\n{first}{rest}"
    if examples:
        raise LookupError(f"{EXAMPLES.name} has examples of what does not exist: {list(examples)}")
    return made


def page(title: str, introduction: str, sections: Any, of_testing: bool = False) -> str:
    """Return a page of sections, in which public names lead to their descriptions."""
    places = places_of_names(of_testing)
    text = "\n\n".join([f"# {title}", NOTE, introduction, *filter(None, sections)]) + "\n"
    return "".join(
        part if part.startswith("```") else linked(part, places)
        for part in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    )


@functools.lru_cache(None)
def places_of_names(of_testing: bool) -> Dict[str, str]:
    """Return the page of each public name. Two names of the testing kit are also names of types."""
    testing = {
        name: f"testing-{anchor(title)}.md"
        for title, names in OF_TESTING.items()
        for name in names.split()
    }
    found = {
        **({} if of_testing else testing),
        **dict.fromkeys(OF_CORE, "core.md"),
        **dict.fromkeys(conformance.__all__, "conformance.md"),
        **dict.fromkeys(OF_TRANSPORTS, "transports.md"),
        **dict.fromkeys(OF_WEBHOOKS, "webhook-verification.md"),
        **dict.fromkeys((*OPTIONS, "FlowMaestroClient", "AsyncFlowMaestroClient"), "client.md"),
        **dict.fromkeys(flowmaestro.errors.__all__, "errors.md"),
        **{name: type_page(name) for name in TYPES},
        **(testing if of_testing else {}),
    }
    return {name: file for name, file in found.items() if not name.islower()}


def tools_page() -> str:
    """The functions and classes of small modules."""
    sections: List[str] = []
    for path in TOOLS:
        module, _, name = path.partition(".")
        sections += described_name(importlib.import_module(f"flowmaestro.{module}"), name)
    homes = ", ".join(sorted({f"`flowmaestro.{path.partition('.')[0]}`" for path in TOOLS}))
    return page("Tools", f"Import them from {homes}.", sections)


def index_page() -> str:
    """All methods on one page, with the first sentence of each."""
    sections = []
    for name, resource in resources().items():
        file = f"{name.replace('_', '-')}.md"
        rows = [
            (f"[`{name}.{method}`]({file}#{anchor(f'{name}.{method}')})", first_sentence(entry))
            for method, entry in methods_of(resource)
        ]
        sections += [f"## {name}", table(("method", "what it does"), rows)]
    rest = """\
## Everything else

* [Clients and options](client.md): constructors, `with_options`, `request`, hooks, time limits
* [Errors](errors.md)
* [Types](types.md) of replies and events, grouped by resource
* [Verify deliveries](webhook-verification.md) of webhooks
* [Testing kit](testing.md), [conformance kit](conformance.md)
* [Transports](transports.md)
* [The core](core.md): what a driver of your own needs
* [Tools](tools.md): timelines, checks of inputs, OpenTelemetry
* [The contract](../python-sdk.md): the published description of the SDK"""
    return page("Reference", "Every method of a client.", [*sections, rest])


def resource_page(name: str, resource: Any, examples: Dict[str, str]) -> str:
    """One resource with its methods."""
    sections = []
    for method, entry in methods_of(resource):
        build = getattr(resource, method)
        facts = [f"## {name}.{method}", signature(build, f"client.{name}.{method}")]
        facts.append(prose(described(build)))
        facts.append(f"**Returns** {returns(build, entry)}")
        facts.append(request(build))
        facts.append(raises(build, entry))
        facts.append(example_of(f"{name}.{method}", examples))
        sections.append("\n\n".join(facts))
    about = resource.__doc__.replace(f"`client.{name}`. ", "")
    return page(f"client.{name}", prose(about), sections)


def described(build: Any) -> str:
    """Return a builder's docstring, with the parameters that need no words in it."""
    text, *sections = re.split(r"\n\n(?=[A-Z].*:\n    )", inspect.cleandoc(build.__doc__))
    own = "".join(it for it in sections if it.startswith("Args:"))
    lines = {"per_page": f"    per_page: {PER_PAGE}"}
    for name in inspect.signature(build).parameters:
        if name.endswith("_id"):
            lines[name] = f"    {name}: the {name[:-3].replace('_', ' ')}'s id."
    lines.update((it[1], it[0]) for it in re.finditer(r"    (\w+): .*(?:\n     .*)*", own))
    args = [lines[name] for name in inspect.signature(build).parameters if name in lines]
    rest = [it for it in sections if it != own]
    return "\n\n".join([text, "\n".join(["Args:", *args]), *rest])


def client_page(examples: Dict[str, str]) -> str:
    """Return the constructor of the clients, their own methods, and the options objects."""
    client = flowmaestro.FlowMaestroClient
    sections = [
        "## FlowMaestroClient",
        signature(client, "FlowMaestroClient"),
        prose(client.__init__.__doc__),
        example_of("FlowMaestroClient", examples),
        "## AsyncFlowMaestroClient",
        prose(flowmaestro.AsyncFlowMaestroClient.__init__.__doc__),
    ]
    for name, facts in OF_CLIENT.items():
        method = getattr(client, name)
        sections += [
            f"## client.{name}",
            signature(method, f"client.{name}"),
            prose(method.__doc__),
            *facts,
            example_of(f"client.{name}", examples),
        ]
    for name in OPTIONS:
        sections += described_name(flowmaestro, name)
    sections += [
        "## Types of a client's attributes",
        "For annotations. Import them from `flowmaestro.resources`.",
        table(
            ("attribute", "types"),
            [
                (f"`client.{name}`", f"`Sync{kind.__name__}`, `Async{kind.__name__}`")
                for name, kind in resources().items()
            ],
        ),
    ]
    return page("Clients and options", "Import them from `flowmaestro`.", sections)


def errors() -> Iterator[str]:
    """Every error with its base and what it knows."""
    for name in flowmaestro.errors.__all__:
        error = getattr(flowmaestro.errors, name)
        yield f"## {name}"
        if isinstance(error, type):
            bases = [it.__name__ for it in error.__mro__[1:]]
            known = [it for it in bases if it in flowmaestro.errors.__all__]
            yield from (f"A [`{base}`](#{anchor(base)})." for base in known[:1])
        yield prose(error.__doc__)


def group_of(name: str) -> str:
    """Return the title of the page that describes a type."""
    listed = {each: title for title, names in GROUPS.items() for each in names.split()}
    if name in listed:
        return listed[name]
    for title, event in (
        ("Events of executions", ExecutionEvent),
        ("Events of answers", ThreadEvent),
    ):
        if name in {each.__name__ for each in get_args(event)}:
            return title
    return next((title for each, title in listed.items() if name.startswith(each)), STREAMS)


def type_page(name: str) -> str:
    """Return the file that describes a type."""
    return f"types-{anchor(group_of(name))}.md"


def type_pages() -> Dict[str, str]:
    """Return the pages of types, and the one that leads to them."""
    made = {}
    rows = []
    for title in (*GROUPS, STREAMS):
        names = [name for name in TYPES if group_of(name) == title]
        file = f"types-{anchor(title)}.md"
        made[file] = page(
            title,
            "Import them from `flowmaestro.types`.",
            [part for name in names for part in described_name(flowmaestro.types, name)],
        )
        links = ", ".join(f"[`{name}`]({file}#{anchor(name)})" for name in names)
        rows.append((f"[{title}]({file})", links))
    about = "Import them from `flowmaestro.types`."
    made["types.md"] = page("Types", about, [table(("page", "types"), rows)])
    return made


def described_name(home: Any, name: str) -> Iterator[str]:
    """Yield the description of a public name, and of the attributes and methods of a class."""
    made = getattr(home, name)
    if inspect.ismodule(made):  # A module of the same name hides the function.
        made = getattr(made, name)
    yield f"## {name}"
    if inspect.isroutine(made):
        yield from described_function(made, name)
    elif not inspect.isclass(made) or get_origin(made) is not None:
        value = repr(made) if isinstance(made, str) else plain(made, name)
        said = said_below(made, name)
        yield details(made) or (f"`{value}`. {said}" if said else f"`{value}`")
    else:
        yield from described_class(made, name)


def described_class(kind: Any, name: str) -> Iterator[str]:
    """Yield the description of a class, its attributes and its methods."""
    is_type = kind in TYPES.values() or issubclass(kind, Enum) or getattr(kind, "_is_protocol", 0)
    if not is_type and {"__init__", "__new__"} & {key for it in ours(kind) for key in vars(it)}:
        yield signature(kind, name)
        if inspect.isfunction(kind.__init__):
            yield prose(kind.__init__.__doc__)
    if issubclass(kind, Exception):
        base = kind.__mro__[1].__name__
        yield f"{'An' if base[0] in 'AEIO' else 'A'} `{base}`."
    if is_type and (hasattr(kind, "__total__") or hasattr(kind, "_fields")):
        yield prose(kind.__doc__)
        yield fields(kind)
    else:
        yield with_attributes(kind)
    for member in methods(kind):
        yield f"### {name}.{member}"
        function = getattr(kind, member)
        if not function.__module__.startswith("flowmaestro"):  # It takes the place of ours.
            function = getattr(flowmaestro_transports.Transport, member)
        yield from described_function(function, f"{name}.{member}")


def with_attributes(kind: Any) -> str:
    """Return the docstring of a class, and its attributes as a list."""
    text = prose(kind.__doc__)
    lines = [
        f"* `{name}`{f' (`{hint}`)' if hint else ''}: {said}"
        for name, (hint, said) in attributes(kind).items()
    ]
    if lines and "**Attributes**" not in text:
        lines[:0] = ["", "**Attributes**", ""]
    return "\n".join([text, *lines]).strip()


def described_function(function: Any, name: str) -> Iterator[str]:
    """Yield the signature of a function, its docstring, and what it returns."""
    yield signature(function, name)
    yield prose(function.__doc__)
    given = returned(function)
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner) or get_origin(given) is AbstractContextManager:
        value = get_args(given)[0]
        gives = "" if value is type(None) else f" that yields {shown(value)}"
        yield f"**Returns** a context manager{gives}."
    elif given is not type(None) and not re.search(r"\b_", plain(given)):
        yield f"**Returns** {shown(given)}."


def returned(function: Any) -> Any:
    """Return the type of what a function returns, or a coroutine function once awaited."""
    given = get_type_hints(function).get("return", type(None))
    return get_args(given)[-1] if get_origin(given) is Coroutine else given


def is_awaited(function: Any) -> bool:
    """Return whether callers must await what a function returns."""
    if inspect.isclass(function):
        return False
    given = get_origin(get_type_hints(function).get("return"))
    return inspect.iscoroutinefunction(function) or given is Coroutine


def ours(kind: Any) -> List[Any]:
    """Return a class and those of its bases that are not Python's."""
    return [base for base in kind.__mro__ if base.__module__.startswith("flowmaestro")]


def methods(kind: Any) -> List[str]:
    """Return the names of the public methods of a class, its own before inherited ones."""
    found: Dict[str, None] = {}
    for base in ours(kind):
        for name in vars(base):
            member = getattr(base, name)
            is_method = inspect.isroutine(member) and not isinstance(member, cached_property)
            is_field = name in getattr(kind, "__dataclass_fields__", ())
            if is_method and not is_field and not name.startswith("_"):
                found[name] = None
    return list(found)


def attributes(kind: Any) -> Dict[str, Tuple[str, str]]:
    """Return the type and the docstring of each attribute that has a docstring, by name."""
    found: Dict[str, Tuple[str, str]] = {}
    for base in reversed(ours(kind)):
        for name, hint, text in documented(base):
            if hint:
                hint = re.sub(r"ClassVar\[(.*)\]", r"\1", hint)
                kind_of = plain(eval(hint, vars(sys.modules[base.__module__])))  # noqa: S307
            else:
                is_plain = isinstance(vars(base).get(name), (bool, int, str))
                kind_of = type(vars(base)[name]).__name__ if is_plain else ""
            found[name] = kind_of, flat(text)
        for name, member in vars(base).items():
            if not name.startswith("_") and isinstance(member, property):
                hint = plain(get_type_hints(member.fget)["return"])
                found[name] = hint, flat(member.__doc__)
    return found


def documented(kind: Any) -> Iterator[Tuple[str, str, str]]:
    """Yield name, annotation and docstring of the attributes that the source documents."""
    body = classes_of(kind.__module__)[kind.__name__].body
    made = [it.body for it in body if isinstance(it, ast.FunctionDef) and it.name == "__init__"]
    for lines in (body, *made):
        for node, below in zip(lines, lines[1:]):
            if not isinstance(node, (ast.Assign, ast.AnnAssign)):
                continue
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name = ast.unparse(target).replace("self.", "")
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if is_text and not name.startswith("_"):
                hint = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
                yield name, hint, ast.literal_eval(below.value)


def said_below(made: Any, name: str) -> str:
    """Return the docstring below an alias or a constant; `""` if it has none."""
    for module in [it for it in sys.modules.values() if vars(it).get(name) is made]:
        body = ast.parse(inspect.getsource(module)).body
        for node, below in zip(body, body[1:]):
            is_it = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
            if is_it and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                return flat(below.value.value)
    return ""


def testing_pages() -> Dict[str, str]:
    """Return the pages of the testing kit, and the one that leads to them."""
    missing = {*flowmaestro.testing.__all__} - {*" ".join(OF_TESTING.values()).split()}
    if missing:
        raise LookupError(f"OF_TESTING in {__file__} lacks {sorted(missing)}")
    made = {}
    rows = []
    for title, names in OF_TESTING.items():
        file = f"testing-{anchor(title)}.md"
        sections = [
            part for name in names.split() for part in described_name(flowmaestro.testing, name)
        ]
        about = "Import them from `flowmaestro.testing`."
        made[file] = page(title, about, sections, of_testing=True)
        links = ", ".join(f"[`{name}`]({file}#{anchor(name)})" for name in names.split())
        rows.append((f"[{title}]({file})", links))
    about = (
        "Import them from `flowmaestro.testing`. [The guide](../testing.md) shows how to use them."
    )
    made["testing.md"] = page("Testing kit", about, [table(("page", "names"), rows)])
    return made


def signature(made: Any, name: str) -> str:
    """Return a call with its parameters, their types and defaults."""
    lines = []
    is_written = inspect.isclass(made) and not dataclasses.is_dataclass(made)
    hints = get_type_hints(made.__init__ if is_written else made)
    kinds = inspect.Parameter
    star = False
    for parameter in inspect.signature(made).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            lines.append("*,")
        stars = {kinds.VAR_POSITIONAL: "*", kinds.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        star = star or stars == "*"
        default = "" if parameter.default is kinds.empty else f" = {shown_default(made, parameter)}"
        hint = hints.get(parameter.name, Any)
        shown_hint = plain(hint).replace(" or ", " | ")
        if len(f"{parameter.name}: {shown_hint}{default},") > LONGEST_PARAMETER and choices(hint):
            inner = "\n| ".join(plain(it).replace(" or ", " | ") for it in choices(hint))
            shown_hint = f"(\n{textwrap.indent(inner, '    ')}\n)"
        lines.append(f"{stars}{parameter.name}: {shown_hint}{default},")
    inner = textwrap.indent("\n".join(lines), "    ")
    call = f"await {name}" if is_awaited(made) else name
    return f"```py\n{call}(\n{inner}\n)\n```" if lines else f"```py\n{call}()\n```"


def choices(hint: Any) -> List[Any]:
    """Return the members of a union, `None` last; `[]` for any other type."""
    members = get_args(hint) if get_origin(hint) is Union else ()
    return sorted(members, key=lambda it: it is type(None))


def shown_default(made: Any, parameter: inspect.Parameter) -> str:
    """Return the default of a parameter, as code."""
    default = parameter.default
    for field in dataclasses.fields(made) if dataclasses.is_dataclass(made) else ():
        if field.name == parameter.name and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
    if isinstance(default, tuple) and default and default == type(default)():
        return f"{type(default).__name__}()"
    simple = (bool, int, float, str, bytes, type(None))
    home = vars(sys.modules[inspect.unwrap(made).__module__])
    if not isinstance(default, simple) and default:
        return next((name for name, it in home.items() if it is default), "...")
    return "math.inf" if default == math.inf else repr(default)


def returns(build: Any, entry: Any) -> str:
    """Describe what a sync client returns, field by field."""
    given = outcomes(build)[0]
    if isinstance(entry, iterating_endpoint):
        bases = (given, *getattr(given, "__orig_bases__", ()))
        item = next(get_args(base)[0] for base in bases if get_args(base))
        handle = get_origin(given) or given
        what = shown(handle) if handle in TYPES.values() else "an iterator"
        where = f"{what} of {shown(item)}. On an async client, use `async for`."
    elif get_origin(given) is flowmaestro.types.Reply:
        item = get_args(given)[0]
        where = f'[`Reply`](types-replies-and-pages.md#reply) with `["data"]`: {shown(item)}.'
        if get_origin(item) is list:
            item = get_args(item)[0]
            page = '`["pagination"]`: [`PaginationInfo`](types-replies-and-pages.md#paginationinfo)'
            loop = (
                'Loop over `["data"]`: the reply is a dict, so a loop over it yields its keys '
                "([pagination](../pagination.md))."
            )
            where = f"{where[:-1]}, and {page}. {loop} Each row:"
    else:
        item, where = given, f"{shown(given)}."
    return f"{where}\n\n{details(item)}"


def details(kind: Any) -> str:
    """Return the fields of a type; of a union, those of its members."""
    if get_origin(kind) is not Union:
        if hasattr(kind, "__total__") or hasattr(kind, "_fields"):
            return fields(kind)
        is_ours = inspect.isclass(kind) and get_origin(kind) is None
        if not is_ours:
            return ""
        lines = [f"* `{name}()`: {flat(getattr(kind, name).__doc__)}" for name in methods(kind)]
        heading = ["", "**Methods**", ""] if lines else []
        return "\n".join([with_attributes(kind), *heading, *lines])
    kinds = get_args(kind)
    if not all(hasattr(it, "__total__") for it in kinds):
        return f"One of {', '.join(map(shown, kinds))}."
    if len({frozenset(get_type_hints(it)) for it in kinds}) == 1:
        return f"One of {', '.join(map(shown, kinds))}:\n\n{fields(*kinds)}"
    lines = ["Its keys besides `type`, by `type`:", ""]
    for it in kinds:
        hints = get_type_hints(it)
        name = shown(hints.pop("type"))
        always = ", ".join(f"`{key}`" for key in hints if key in it.__required_keys__)
        maybe = ", ".join(f"`{key}`" for key in hints if key in it.__optional_keys__)
        keys = "; may be absent: ".join(filter(None, (always, maybe)))
        lines.append(f"* [{name}]({type_page(it.__name__)}#{anchor(it.__name__)}): {keys}")
    return "\n".join(lines)


def fields(*kinds: Any) -> str:
    """Return the keys of one or more `TypedDict`s, or the fields of a named tuple."""
    hints = [get_type_hints(kind) for kind in kinds]
    optional = getattr(kinds[0], "__optional_keys__", ())
    said = [meanings(kind) for kind in kinds]
    rows = []
    for name in hints[0]:
        value = shown(Union[tuple(each[name] for each in hints)])
        texts = list(dict.fromkeys(each[name] for each in said if name in each))
        meaning = texts[0] if len(texts) == 1 else COMMON_KEYS.get(name, "")
        if not meaning and hasattr(kinds[0], "__total__"):
            raise LookupError(f"{kinds[0].__module__}: {kinds[0].__name__}.{name} has no meaning")
        if meaning and "None" in value and "None" not in meaning:
            meaning += " `None` if the server does not say."
        absent = " May be absent." if name in optional else ""
        rows.append((f"`{name}`", value, f"{meaning}{absent}".strip()))
    if not any(meaning for _, _, meaning in rows):  # The docstring of a named tuple has them.
        return table(("key", "value"), [row[:2] for row in rows])
    # A narrow window shows the parts of a row in this `div` below each other.
    rows_of_fields = table(("key", "value", "meaning"), rows)
    return f'<div class="fields" markdown>\n\n{rows_of_fields}\n\n</div>'


@functools.lru_cache(None)
def meanings(kind: Any) -> Dict[str, str]:
    """Return the docstrings below the keys of a `TypedDict` and of its bases, by key."""
    if not hasattr(kind, "__total__"):
        return {}
    found: Dict[str, str] = {}
    for base in reversed(bases_of(kind)):
        found.update((name, flat(text)) for name, _, text in documented(base))
    return found


def bases_of(kind: Any) -> List[Any]:
    """Return a `TypedDict` and those that it extends; at run time it is a plain dict."""
    module = sys.modules[kind.__module__]
    named = [getattr(it, "id", "") for it in classes_of(kind.__module__)[kind.__name__].bases]
    inherited = [
        vars(module)[name] for name in named if name != "TypedDict" and name in vars(module)
    ]
    return [kind, *(base for it in inherited for base in bases_of(it))]


@functools.lru_cache(None)
def classes_of(module: str) -> Dict[str, ast.ClassDef]:
    """Return the classes in the source of a module, by name."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def raises(build: Any, entry: Any) -> str:
    """Return the errors that a method may raise besides those of its docstring, and when."""
    sent = re.search(r"`([A-Z]+) (/\S*)`", request(build))
    if sent is None:
        return (
            "Raises any [error of a call](../errors.md); errors of one execution are its outcome's."
        )
    method, path = sent.groups()
    template = re.sub(r"{\w+}", "{}", path)
    scopes = next(
        (
            route.scopes
            for route in ROUTES
            if route.method == method and re.sub(r"{\w+}", "{}", route.template) == template
        ),
        None,
    )
    if scopes is None:
        sys.exit(
            f"flowmaestro/testing/fake/model/endpoints/ has no route for `{method} {path}`: add "
            "one, as the recipe *Add an endpoint* in CONTRIBUTING.md says"
        )
    missing = " or ".join(f"`{scope}`" for scope in scopes)
    items = [f"`AuthorizationError`: the key lacks the scope {missing}."]
    if "{" in path:
        items.append("`NotFoundError`: an id in the path is unknown, or has the wrong form.")
    if method != "GET":
        items.append("`ValidationError`: the server refuses what was sent.")
    if isinstance(entry, iterating_endpoint) and "Stream" in str(outcomes(build)[0]):
        items.append("`StreamError`: the stream was lost and could not be resumed.")
    items += [
        "`AuthenticationError`: the key is unknown, expired or revoked.",
        "`RateLimitError`: the rate limit is reached, and waiting would take too long.",
        "`TimeoutError`, `ConnectionError`: no response was received in time, or none at all.",
        "`ServerError`: the server failed (5xx), or its reply is malformed.",
    ]
    text = "\n".join(f"* {item}" for item in items)
    return f"**Raises**, besides what is named above ([all errors](../errors.md)):\n\n{text}"


def request(build: Any) -> str:
    """Return the first request of a method, and whether it is retried."""
    parameters = inspect.signature(build).parameters.values()
    given = {
        it.name: GIVEN.get(it.name, it.name.upper()) for it in parameters if it.default is it.empty
    }
    operation = build(**given)
    context = Context(ClientOptions("fm_live_..."))
    action = machine_for(operation, context, "token").start(0.0, 0.5)
    safe = getattr(operation, "repeatable", True) if isinstance(operation, Call) else None
    if not isinstance(action, (Open, Send)):
        return f"Polls each execution. {SAFE}"
    sent = action.request
    if safe is None:
        safe = sent.method == "GET"
    path = sent.url.partition("/api/v1")[2].partition("?")[0]
    path = re.sub(r"/([A-Z_]{2,})", lambda found: f"/{{{found[1].lower()}}}", path)
    path = path.replace("{id}", "{execution_id}")
    first = "" if isinstance(operation, Call) else "begins with "
    return f"Request: {first}`{sent.method} {path}`. {SAFE if safe else UNSAFE}"


def prose(docstring: Any) -> str:
    """Return a docstring as Markdown: its lists of arguments and errors become lists."""

    def listed(found: Any) -> str:
        title = {"Args": "Parameters"}.get(found["title"], found["title"])
        items = []
        for item in _ITEM.finditer(textwrap.dedent(found["items"])):
            names = ", ".join(f"`{name}`" for name in item["names"].split(", "))
            items.append(f"* {names}: {' '.join(item['text'].split())}")
        return f"**{title}**\n\n" + "\n".join(items) + "\n\n"

    text = inspect.cleandoc(docstring or "") + "\n"
    text = re.sub(r"```python\n.*?```\n", "", text, flags=re.DOTALL)
    text = re.sub(r"`docs/(\w+)\.md`", r"[\1](../\1.md)", _SECTION.sub(listed, text))
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n|\n(?= ))+", fenced, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def fenced(found: re.Match[str]) -> str:
    """Return an indented example as a block of Python that no test runs."""
    return f"```py\n{textwrap.dedent(found[0]).strip()}\n```\n"


def linked(text: str, places: Dict[str, str]) -> str:
    """Return a text in which public names, and types made of one, lead to the descriptions."""

    def link(found: re.Match[str]) -> str:
        names = {name for name in re.findall(r"\w+", found[1]) if name in places}
        if len(names) != 1 or not re.fullmatch(r"`[\w\[\], ]+`", found[0]):
            return found[0]
        (name,) = names
        return f"[{found[0]}]({places[name]}#{anchor(name)})"

    return re.sub(r"\[?`([^`]+)`", link, text)


def shown(hint: Any) -> str:
    """Return a type as Markdown."""
    return f"`{plain(hint)}`"


def plain(hint: Any, alias: str = "") -> str:
    """Return a type in words that do not differ between versions of Python."""
    known = NAMES.get(hint)
    if known and known != alias:
        return known
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union:
        rest = [it for it in args if it is not type(None)]
        if len(rest) < len(args):
            whole = plain(Union[tuple(rest)])
            return whole if whole == "Any" else f"{whole} or None"
        return " or ".join(map(plain, rest))
    if str(origin) == "typing.Literal":
        return " or ".join(map(repr, args))
    if hint is type(None):
        return "None"
    if hint is ...:
        return "..."
    bound = getattr(hint, "__bound__", None)
    if bound is not None:
        return getattr(bound, "__forward_arg__", None) or plain(bound)
    name = getattr(origin or hint, "__name__", None) or str(hint).replace("typing.", "")
    name = OF_ITEMS.get(name, name)
    if not args:
        return {"TypeVar": "Any"}.get(name, name.lstrip("~+"))
    if isinstance(args[0], list):
        return f"Callable[[{', '.join(map(plain, args[0]))}], {plain(args[1])}]"
    return f"{name}[{', '.join(map(plain, args))}]"


def first_sentence(entry: Any) -> str:
    return re.split(r"(?<=\.)\s|; ", " ".join(entry.__doc__.split()))[0].rstrip(".")


def flat(docstring: Any) -> str:
    return " ".join(docstring.split())


def table(headings: Tuple[str, ...], rows: Any) -> str:
    """Return a table."""
    lines: List[Tuple[str, ...]] = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(it.replace('|', BAR) for it in line)} |" for line in lines)


def anchor(title: str) -> str:
    """Return the id of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def examples_by_name() -> Dict[str, str]:
    """Return the parts of the file of examples, each under a comment with its name."""
    parts = re.split(r"^# (\S+)\n", EXAMPLES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: f"{code.strip()}\n" for name, code in zip(parts[1::2], parts[2::2])}


def example_of(name: str, examples: Dict[str, str]) -> str:
    """Remove the example of a method and return it as a block; end the program without one."""
    if name not in examples:
        sys.exit(
            f"docs/{EXAMPLES.name} has no part `# {name}`: add an example, "
            "as the recipe *Add an endpoint* in CONTRIBUTING.md says"
        )
    return f"```python\n{examples.pop(name)}```"


def main(arguments: List[str]) -> int:
    made = pages()
    if arguments != ["--check"]:
        for name, text in made.items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    there = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.md")}
    stale = sorted(name for name in {*made, *there} if made.get(name) != there.get(name))
    for name in stale:
        print(f"docs/reference/{name} is out of date: run `python docs/reference.py`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

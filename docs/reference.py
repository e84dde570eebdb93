"""Writes `docs/reference/` from the packages as they are at run time.

python docs/reference.py            # write the pages
python docs/reference.py --check    # exit with status 1 if one is out of date

Methods are described by their signatures, docstrings, first requests and the fields of what they
return; mkdocstrings would show the builders behind them. The pages `testing.md` and `transports.md`
name what mkdocstrings describes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union, get_args, get_origin, get_type_hints

import flowmaestro
import flowmaestro.errors
import flowmaestro.resources
import flowmaestro.testing
import flowmaestro.types
import flowmaestro.webhooks
import flowmaestro_core.resources
import flowmaestro_transports
from flowmaestro.testing import conformance
from flowmaestro.testing.model.endpoints import ROUTES
from flowmaestro.types import ExecutionEvent, ThreadEvent
from flowmaestro_core.actions import Open, Send
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.raw import IDEMPOTENT_METHODS
from flowmaestro_core.context import Context
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import iterating_endpoint, outcomes
from flowmaestro_core.options import ClientOptions

FOLDER = Path(__file__).with_name("reference")
EXAMPLES = Path(__file__).with_name("method_examples.py")
NOTE = "<!-- This page is generated: run `python docs/reference.py` after a change. -->"
GIVEN = {"events": ["test"], "execution_ids": ["ID"], "inputs": [{}], "url": "https://example.com"}
"""Required arguments for which `"ID"` will not do."""
PER_PAGE = "how many to get with one request; the server clamps it to 1-100, its default is 20."
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
OPTIONS = (
    "Checkpoint",
    "Hooks",
    "RequestInfo",
    "ResponseInfo",
    "RetryInfo",
    "StreamTimes",
    "Timeout",
)

BAR = r"\|"
GROUPS = {
    "Replies and pages": """
        ApiError DeletedResource Page PaginationInfo RateLimit Reply ResponseMeta
    """,
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
    "Webhooks": """
        Webhook WebhookWithSecret WebhookEvent WebhookEventType WebhookDelivery
        TestWebhookResponse
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
        RecordedRequest Execution EventStream Delivery FakeReply explain Explanation
    """,
    "Cassettes": "Cassette CassetteError CassetteMismatch",
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
NAMES = {kind: name for name, kind in TYPES.items()}
_SECTION = re.compile(r"^(?P<title>\S.*):\n(?P<items>(?=[ ]{4})(?:[ ]{4}.*\n?|\n)+)", re.MULTILINE)
_ITEM = re.compile(r"^(?P<names>[\w, ]+): (?P<text>.*(?:\n .*)*)", re.MULTILINE)


def resources() -> Dict[str, Any]:
    """Return the classes behind a client's attributes, by attribute."""
    core = flowmaestro_core.resources
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", n).lower(): getattr(core, n) for n in core.__all__}


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
    made["conformance.md"] = directives(
        "Conformance kit", "flowmaestro.testing.conformance", conformance.__all__
    )
    made["transports.md"] = directives(
        "Transports",
        "flowmaestro_transports",
        [name for name in flowmaestro_transports.__all__ if name not in flowmaestro.__all__],
    )
    made["webhook-verification.md"] = directives(
        "Verify deliveries",
        "flowmaestro.webhooks",
        [name for name in flowmaestro.webhooks.__all__ if not name.startswith("Webhook")],
    )
    homes = ", ".join(sorted({f"`flowmaestro.{name.partition('.')[0]}`" for name in TOOLS}))
    tools = [f"::: flowmaestro.{name}" for name in TOOLS]
    made["tools.md"] = page("Tools", f"Import them from {homes}.", tools)
    made["index.md"] = index_page()
    if examples:
        raise LookupError(f"{EXAMPLES.name} has examples of what does not exist: {list(examples)}")
    return made


def page(title: str, introduction: str, sections: Any) -> str:
    """Return a page of sections."""
    return "\n\n".join([f"# {title}", NOTE, introduction, *sections]) + "\n"


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
        kind = getattr(flowmaestro, name)
        sections += [f"## {name}", signature(kind, name), prose(kind.__doc__)]
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
        made[file] = page(title, "Import them from `flowmaestro.types`.", types(names))
        links = ", ".join(f"[`{name}`]({file}#{anchor(name)})" for name in names)
        rows.append((f"[{title}]({file})", links))
    about = "Import them from `flowmaestro.types`."
    made["types.md"] = page("Types", about, [table(("page", "types"), rows)])
    return made


def types(names: List[str]) -> Iterator[str]:
    """Every type with its fields, its members or its values."""
    for name in names:
        kind = TYPES[name]
        yield f"## {name}"
        if inspect.isclass(kind) and get_origin(kind) is None:
            yield prose(kind.__doc__ or "")
            if hasattr(kind, "__total__") or hasattr(kind, "_fields"):
                yield fields(kind)
            yield from members(kind)
        else:
            yield details(kind) or f"`{plain(kind, name)}`. {said_below(name)}".strip()


def said_below(name: str) -> str:
    """Return the docstring below an alias in `flowmaestro.types`; `""` if it has none."""
    lines = inspect.getsource(flowmaestro.types).splitlines()
    after = {line.partition(" = ")[0]: below for line, below in zip(lines, lines[1:])}
    below = after.get(name, "")
    return below.strip('"') if below.startswith('"""') else ""


def members(kind: Any) -> Iterator[str]:
    """Yield the public methods and properties of a class."""
    rows = []
    for base in reversed(kind.__mro__):
        for name, member in vars(base).items():
            is_ours = base.__module__.startswith("flowmaestro") and not name.startswith("_")
            if is_ours and isinstance(member, property):
                rows.append((f"`{name}`", flat(member.__doc__)))
            elif is_ours and inspect.isfunction(member):
                rows.append((f"`{name}()`", flat(member.__doc__)))
    if rows:
        yield table(("member", "what it is"), dict(rows).items())


def directives(title: str, module: str, names: Any) -> str:
    """Return a page that mkdocstrings fills."""
    about = f"Import them from `{module}`."
    # A module of the same name would be shown in place of the function.
    paths = (f"{name}.{name}" if f"{module}.{name}" in sys.modules else name for name in names)
    return page(title, about, [f"::: {module}.{path}" for path in paths])


def testing_pages() -> Dict[str, str]:
    """Return the pages of the testing kit, and the one that leads to them."""
    module = "flowmaestro.testing"
    missing = {*flowmaestro.testing.__all__} - {*" ".join(OF_TESTING.values()).split()}
    if missing:
        raise LookupError(f"OF_TESTING in {__file__} lacks {sorted(missing)}")
    made = {}
    rows = []
    for title, names in OF_TESTING.items():
        file = f"testing-{anchor(title)}.md"
        made[file] = directives(title, module, names.split())
        rows.append((f"[{title}]({file})", ", ".join(f"`{name}`" for name in names.split())))
    about = f"Import them from `{module}`. [The guide](../testing.md) shows how to use them."
    made["testing.md"] = page("Testing kit", about, [table(("page", "names"), rows)])
    return made


def signature(made: Any, name: str) -> str:
    """Return a call with its parameters, their types and defaults."""
    lines = []
    hints = get_type_hints(made.__init__ if inspect.isclass(made) else made)
    star = False
    for parameter in inspect.signature(made).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            lines.append("*,")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        hint = plain(hints.get(parameter.name, Any)).replace(" or ", " | ")
        lines.append(f"{parameter.name}: {hint}{default},")
    inner = textwrap.indent("\n".join(lines), "    ")
    return f"```py\n{name}(\n{inner}\n)\n```" if lines else f"```py\n{name}()\n```"


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
                "([lists and pages](../pagination.md))."
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
        return "\n\n".join([prose(kind.__doc__), *members(kind)]) if is_ours else ""
    kinds = get_args(kind)
    if len({frozenset(get_type_hints(it)) for it in kinds}) == 1:
        return f"One of {', '.join(map(shown, kinds))}:\n\n{fields(*kinds)}"
    rows = []
    for it in kinds:
        hints = get_type_hints(it)
        name = shown(hints.pop("type"))
        always = ", ".join(f"`{key}`" for key in hints if key in it.__required_keys__)
        maybe = ", ".join(f"`{key}`" for key in hints if key in it.__optional_keys__)
        rows.append((f"[{name}]({type_page(it.__name__)}#{anchor(it.__name__)})", always, maybe))
    return table(("`type`", "other keys", "may be absent"), rows)


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
    return table(("key", "value", "meaning"), rows)


@functools.lru_cache(None)
def meanings(kind: Any) -> Dict[str, str]:
    """Return the docstrings below the keys of a `TypedDict` and of its bases, by key."""
    if not hasattr(kind, "__total__"):
        return {}
    found: Dict[str, str] = {}
    for base in reversed(bases_of(kind)):
        body = classes_of(base.__module__)[base.__name__].body
        for node, below in zip(body, body[1:]):
            if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[ast.unparse(node.target)] = flat(ast.literal_eval(below.value))
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
            f"flowmaestro/testing/model/endpoints/ has no route for `{method} {path}`: add one, "
            "as the recipe *Add an endpoint* in CONTRIBUTING.md says"
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
    return linked(
        f"**Raises**, besides what is named above ([all errors](../errors.md)):\n\n{text}"
    )


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
    return linked(re.sub(r"\n{3,}", "\n\n", text).strip())


def linked(text: str) -> str:
    """Return a text in which the names of types and errors lead to their descriptions."""

    def link(found: Any) -> str:
        name = found[1]
        if name in TYPES:
            return f"[`{name}`]({type_page(name)}#{anchor(name)})"
        if name in flowmaestro.errors.__all__:
            return f"[`{name}`](errors.md#{anchor(name)})"
        return str(found[0])

    return re.sub(r"(?<!\[)`(\w+)`", link, text)


def shown(hint: Any) -> str:
    """Return a type as Markdown, a public one with a link to its description."""
    text = plain(hint)
    links = [name for name in TYPES if re.search(rf"\b{name}\b", text)]
    return (
        f"[`{text}`]({type_page(links[0])}#{anchor(links[0])})" if len(links) == 1 else f"`{text}`"
    )


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
    name = getattr(origin or hint, "__name__", None) or str(hint).replace("typing.", "")
    if not args:
        return {"TypeVar": "Any"}.get(name, name.lstrip("~+"))
    if isinstance(args[0], list):
        return f"Callable[[{', '.join(map(plain, args[0]))}], {plain(args[1])}]"
    return f"{name}[{', '.join(map(plain, args))}]"


def first_sentence(entry: Any) -> str:
    return re.split(r"(?<=\.)\s|; ", " ".join(entry.__doc__.split()))[0].rstrip(".")


def flat(docstring: Any) -> str:
    return linked(" ".join(docstring.split()))


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

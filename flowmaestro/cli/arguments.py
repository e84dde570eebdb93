"""The arguments of every command, and what their combinations mean."""

from __future__ import annotations

import argparse
import os
from typing import Optional

from flowmaestro_core import __version__
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.options import ClientOptions

TRANSPORTS = ("requests", "aiohttp", "anyio", "trio", "memory")
SHAPES = ("deployed", "documented")
EVENTS = ("live", "silent")
DEFAULT_PORT = 8787

_ABOUT = "FlowMaestro for Python: an embedded server to develop against, and a demonstration."
_EXAMPLES = """\
examples:
  python -m flowmaestro demo
  python -m flowmaestro demo --transport trio --shapes documented
  python -m flowmaestro serve --port 8787
"""
_ABOUT_SERVE = """\
Serve an embedded FlowMaestro over HTTP until Ctrl-C. It holds every resource that the
documentation names, and forgets what happened to them when it ends. On a loopback address it
answers to loopback names only.
"""
_ABOUT_DEMO = """\
Start an embedded FlowMaestro and do the main job of this SDK over a real socket: run a workflow
and follow its events, talk to an agent, query a knowledge base, fire a trigger, verify a webhook
delivery, see a run fail. With --base-url or --api-key it visits a real server instead, where it
only reads.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser; it leaves `command` at `None` when there is none."""
    parser = argparse.ArgumentParser(
        prog="flowmaestro",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _describe_serve(
        commands.add_parser(
            "serve", help="serve an embedded FlowMaestro over HTTP", description=_ABOUT_SERVE
        )
    )
    _describe_demo(
        commands.add_parser("demo", help="see what this SDK does", description=_ABOUT_DEMO)
    )
    return parser


def server_to_visit(options: argparse.Namespace) -> Optional[ClientOptions]:
    """The real server that `demo` was sent to, and the key for it; `None` for the embedded one.

    What was left out comes from the environment, as for a client. Arguments that contradict
    each other, or that no client would take, end the program with a usage message.
    """
    if options.base_url is None and options.api_key is None:
        return None
    parser: argparse.ArgumentParser = options.parser
    if options.transport == "memory":
        parser.error("the transport memory reaches no real server")
    if options.shapes or options.events:
        parser.error("--shapes and --events are for the embedded server")
    environment = os.environ
    try:
        return ClientOptions(
            options.api_key or environment.get("FLOWMAESTRO_API_KEY") or "",
            base_url=options.base_url
            or environment.get("FLOWMAESTRO_BASE_URL")
            or DEFAULT_BASE_URL,
        )
    except ValueError as error:
        parser.error(str(error))


def _describe_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help="port to listen on, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument("--shapes", choices=SHAPES, default="deployed", help=_SHAPES_HELP)
    parser.add_argument("--events", choices=EVENTS, default="live", help=_EVENTS_HELP)
    parser.add_argument(
        "--api-key",
        type=_api_key,
        metavar="KEY",
        help="the key that may do everything (default: a new one at each start)",
    )
    parser.add_argument(
        "--allow-webhooks-to",
        action="append",
        default=[],
        metavar="HOST",
        help="send webhooks to this host, too; may be repeated (default: to loopback only)",
    )


def _describe_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(parser=parser)
    parser.add_argument(
        "--transport",
        choices=TRANSPORTS,
        default="requests",
        help="what carries the requests (default: %(default)s); requests and memory show the "
        "sync client, aiohttp, anyio and trio the awaiting one; memory opens no socket",
    )
    parser.add_argument("--shapes", choices=SHAPES, help=_SHAPES_HELP)
    parser.add_argument("--events", choices=EVENTS, help=_EVENTS_HELP)
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="visit this server instead (default: $FLOWMAESTRO_BASE_URL, then "
        f"{DEFAULT_BASE_URL}, if --api-key is given)",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="the key for that server (default: $FLOWMAESTRO_API_KEY)",
    )


_SHAPES_HELP = """which description of the API the embedded server follows: the server that
answers today, or the published reference (default: deployed)"""
_EVENTS_HELP = """whether an execution's event stream tells what happens, or is as silent as the
deployed server's can be (default: live)"""


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return port


def _api_key(text: str) -> str:
    try:
        return ClientOptions(text).api_key
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

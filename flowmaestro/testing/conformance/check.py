"""A check: its name, the rule that must hold, why that matters, and the code that tries it.

A check is a coroutine function, written once for both kinds of transport. With a sync transport,
its coroutine never waits for an event loop, so a single `send(None)` runs the coroutine to its end.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Awaitable, Callable, FrozenSet, List, Mapping, Tuple, TypeVar

from flowmaestro.testing.conformance.expectations import LIMIT, CheckFailed, NotOffered, ask
from flowmaestro.testing.conformance.runner import CheckFunction, Runner
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import TransportFailure
from flowmaestro_transports.contract import AsyncOpenResponse

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """A rule that a transport must keep, and the code that tries it.

    Attributes:
        name: words joined by hyphens.
        rule: one sentence: what must hold.
        why: one sentence: the consequence for users if it does not hold.
        needs: features without which the check cannot run, such as `WIRE`.
        run: the coroutine function that tries the rule. If the transport breaks the rule, `run`
            raises `CheckFailed`, or what the transport raised. It raises `NotOffered` if the
            transport does not offer an optional feature that the check needs.

    """

    name: str
    rule: str
    why: str
    needs: FrozenSet[str]
    run: CheckFunction

    def verdict(self, finding: Exception) -> Exception:
        """Return the error to report for `finding`, which is what the check raised.

        This is a `CheckFailed` with the rule, its reason and what to do. A `NotOffered` is returned
        as it is.
        """
        if isinstance(finding, NotOffered):
            return finding
        known = isinstance(finding, CheckFailed)
        what_to_do = f'Mend the transport, or declare known_failures = {{"{self.name}": "…"}}.'
        if known:
            text = str(finding)
        else:
            text = f"it raised {type(finding).__name__}: {finding}"
            if isinstance(finding, AttributeError) and _is_ours(finding):
                what_to_do = f"Write this method or attribute. {what_to_do}"
            elif not isinstance(finding, TransportFailure):
                what_to_do = f"Catch it and raise TransportFailure(phase, …) from it. {what_to_do}"
        return CheckFailed(
            f"{self.name}: {text}\nThe rule: {self.rule}\nWhy it matters: {self.why}\n"
            f"What to do: {what_to_do}"
        )


def _is_ours(error: Exception) -> bool:
    """Return whether `error` was raised in this kit or in the SDK, not in the transport."""
    module = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in ("", "flowmaestro", "flowmaestro_transports")


class Checks(List[Check]):
    """The checks of one rule: a single one, or one for each case."""


def check(*needs: str, why: str) -> Callable[[CheckFunction], Checks]:
    """Return a decorator that turns a coroutine function into a list with one check.

    The docstring of the function is the rule that the check tests. The name of the function, with
    hyphens for underscores, is the name of the check. `needs` are the features without which the
    check cannot run, such as `WIRE`. `why` is the consequence for users if a transport breaks the
    rule.
    """

    def make(run: CheckFunction) -> Checks:
        name = run.__name__.replace("_", "-")
        return Checks([Check(name, run.__doc__ or "", why, frozenset(needs), run)])

    return make


def checks_of(
    cases: Mapping[str, T], *needs: str, why: str
) -> Callable[[Callable[[Runner, T], Awaitable[None]]], Checks]:
    """Return a decorator that makes one check for each case.

    The docstring of the decorated function is the rule. The function gets the value of the case.
    The key of the case is added to the name of the check and replaces `{}` in the rule. `needs` are
    the features without which the check cannot run, such as `WIRE`. `why` is the consequence for
    users if the rule does not hold.
    """

    def make(run: Callable[[Runner, T], Awaitable[None]]) -> Checks:
        def of(words: str, case: T) -> Check:
            name = f"{run.__name__}_{words}".replace("_", "-").replace(" ", "-").lower()
            rule = (run.__doc__ or "").format(words)
            return Check(name, rule, why, frozenset(needs), lambda runner: run(runner, case))

        return Checks(of(words, case) for words, case in cases.items())

    return make


async def live_body(runner: Runner) -> Tuple[LiveReply, AsyncOpenResponse]:
    """Return a response that the check controls, and its open body on a new transport."""
    live = LiveReply()
    url = runner.site(lambda _: live)
    return live, await runner.transport().open(ask(url), LIMIT)

"""How often to poll: pure functions of what is known, and the schedule of one wait."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.payloads.reply import RateLimit

FIRST_POLL = 0.15
RAMP = 0.35
NEARLY_SPENT = 0.1
LONGEST_WINDOW = 86_400.0
"""Seconds after which any window of a key has ended, whatever `X-RateLimit-Reset` says."""
QUESTION_PATIENCE = 1.0
"""Seconds for an answer that something else waits for, at least."""
PUNCTUAL = 0.01
"""Seconds by which a question may be early and still be the one that is due."""


def poll_delay(elapsed: float, poll_interval: float) -> float:
    """Seconds until the next poll of a wait that has lasted `elapsed` seconds.

    Short runs are seen early: the delay grows with the wait, so that an ending is noticed at
    most about a third of the run late, until it reaches `poll_interval`.
    """
    return min(poll_interval, max(FIRST_POLL, RAMP * elapsed))


def paced(delay: float, limit: RateLimit) -> float:
    """`delay`, stretched when the key's window is nearly spent.

    Once less than a tenth of the window is left, what is left is spread over the time to its
    end (`X-RateLimit-Remaining`, `-Limit`, `-Reset`).
    """
    if limit.remaining is None or limit.limit is None or limit.reset_after is None:
        return delay
    if limit.remaining > NEARLY_SPENT * limit.limit:
        return delay
    return max(delay, min(limit.reset_after, LONGEST_WINDOW) / (limit.remaining + 1))


class AdaptiveTimeout:
    """How long an answer may take where something else waits for it meanwhile.

    Twice as long as the last answer took, at least `QUESTION_PATIENCE`; and twice that each time
    that an answer stays out, for one question at most `most_doublings` times. Where no question
    at all is answered, there is no such bound.
    """

    def __init__(self, took: float = 0.0, *, most_doublings: int = 64) -> None:
        self.took = took
        self.unanswered = 0
        self._most_doublings = most_doublings

    def seconds(self, unanswered: int = 0) -> float:
        """For a question that itself was not answered so often, one time after another."""
        doublings = max(min(unanswered, self._most_doublings), min(self.unanswered, 64))
        return max(QUESTION_PATIENCE, 2 * self.took) * 2.0**doublings

    def answered(self, took: float) -> None:
        """An answer took so many seconds."""
        self.took = took
        self.unanswered = 0

    def ran_out(self) -> None:
        """A question was given up."""
        self.unanswered += 1


class PollSchedule:
    """When a wait that began at `started` polls: at once, and then less and less often.

    A machine that polls late for a reason of its own (it tried an event stream first, or received
    events for a while) continues where such a wait would be by then, so that it notices an ending
    no later. `guess` is for a machine that skips the first poll: how many seconds it would have
    taken.

    Attributes:
        next_at: when the next question is due.
        took: seconds that the last answer took, or the guess.

    """

    def __init__(self, started: float, poll_interval: float, guess: Optional[float] = None) -> None:
        self.started = started
        self.interval = poll_interval
        self.next_at = started
        self.took = 0.0
        self._joined = self._guessed = guess is not None
        self._behind = False
        """Whether the wait has asked meanwhile: its next question is reckoned from its last."""
        if guess is not None:
            self._begin_again(guess, started)

    def guess_less(self, took: float, now: float) -> None:
        """Something that takes no less than a question has taken so long."""
        if self._guessed and took < self.took:
            self._begin_again(took, now)

    def is_free(self, now: float) -> bool:
        """Whether a question now would be answered before the next one is due."""
        return not now < self.next_at < now + max(self.took, 2 * PUNCTUAL)

    def answered(self, asked_at: float, now: float) -> float:
        """A question of that time was answered, or will not be: seconds until the next one.

        One that was early puts off no other.
        """
        self.took = now - asked_at
        early = self._joined and asked_at < self.next_at - PUNCTUAL
        if self._guessed:
            self._guessed = False
            same = asked_at if early else asked_at + FIRST_POLL / 2
            self._begin_again(self.took, same)
        elif not early:
            answered_at = self.next_at + self.took if self._behind else now
            delay = poll_delay(answered_at - self.started, self.interval)
            self.next_at = answered_at + delay
            self._behind = self.next_at < now
            return max(answered_at - now + delay, 0.0)
        self._behind = self.next_at < now
        return max(self.next_at - now, 0.0)

    def catch_up(self, now: float) -> None:
        """Pass over the questions up to `now`: nobody asked them."""
        while self.next_at <= now:
            delay = poll_delay(self.next_at + self.took - self.started, self.interval)
            step = self.took + delay
            if delay == self.interval:  # from here on they are evenly spaced
                self.next_at = now - (now - self.next_at) % step + step
                return
            self.next_at += step

    def _begin_again(self, took: float, now: float) -> None:
        self.took = took
        self.next_at = self.started
        self.catch_up(now)

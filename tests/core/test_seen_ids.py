"""Which ids have been: a little repeated, a whole stream replayed, and memory that is bounded."""

from __future__ import annotations

from typing import Iterable, List

import pytest
from followed import kinds, opened, reconnected
from hypothesis import given
from hypothesis import strategies as st
from stepping import sse

from flowmaestro_core.actions import Done, Read
from flowmaestro_core.streams.seen_ids import FIRST_IDS, REMEMBERED_IDS, SeenIds

MANY = REMEMBERED_IDS * 3


def taken(seen: SeenIds, ids: Iterable[int]) -> List[int]:
    return [one for one in ids if seen.is_new(str(one))]


def after(count: int) -> SeenIds:
    """A stream of so many ids, on a new connection."""
    seen = SeenIds()
    assert taken(seen, range(count)) == list(range(count))
    seen.reconnected()
    return seen


@given(
    count=st.integers(0, 40) | st.sampled_from([REMEMBERED_IDS, MANY]),
    more=st.integers(0, 3),
    connections=st.integers(1, 3),
)
def test_a_replay_from_the_beginning_repeats_nothing(
    count: int, more: int, connections: int
) -> None:
    seen, end = after(count), count
    for _ in range(connections):
        assert taken(seen, range(end + more)) == list(range(end, end + more))
        end += more
        assert not seen.replaying
        seen.reconnected()


@pytest.mark.parametrize("same", [2, 20, MANY])
def test_one_id_may_be_on_several_events_of_a_connection(same: int) -> None:
    seen = SeenIds()
    ids = [at // same for at in range(MANY)]
    assert taken(seen, ids) == ids
    for more in (MANY, MANY + 1):
        seen.reconnected()
        assert taken(seen, [*ids, more, more]) == [more, more]
        ids += [more, more]


@given(overlap=st.integers(0, REMEMBERED_IDS))
def test_a_little_that_is_repeated_is_known(overlap: int) -> None:
    seen = after(MANY)
    assert taken(seen, range(MANY - overlap, MANY + 5)) == list(range(MANY, MANY + 5))


def test_a_replay_without_the_newest_id_ends_where_it_should_have_come() -> None:
    seen = after(MANY)
    replay = [*range(MANY - 1), *range(MANY, MANY + 10)]
    assert taken(seen, replay) == list(range(MANY + 1, MANY + 10))


def test_a_replay_that_breaks_off_is_resumed_at_the_newest_id() -> None:
    seen = after(MANY)
    assert taken(seen, range(500)) == []
    assert seen.replaying
    assert seen.resume_from("499") == str(MANY - 1)
    seen.reconnected()
    assert seen.resume_from("x") == "x"
    assert taken(seen, range(MANY, MANY + 3)) == [MANY, MANY + 1, MANY + 2]


@pytest.mark.parametrize("same", [1, FIRST_IDS - 1])
def test_a_few_ids_alike_are_no_replay(same: int) -> None:
    """As of a server that gives the `connected` of each connection the same id."""
    seen = after(MANY)
    new = range(MANY, MANY + 100)
    assert taken(seen, [*range(same), *new]) == list(new)


def test_the_first_connection_is_no_replay() -> None:
    seen, ids = SeenIds(), [*range(MANY), *range(FIRST_IDS)]
    assert taken(seen, ids) == ids
    assert not seen.replaying


def test_memory_does_not_grow() -> None:
    seen = after(MANY)
    taken(seen, range(MANY * 2))
    sizes = {name: len(value) for name, value in vars(seen).items() if hasattr(value, "__len__")}
    assert sum(sizes.values()) <= 2 * REMEMBERED_IDS + FIRST_IDS + len(str(MANY * 2))


# In a stream


def test_a_server_that_knows_no_last_event_id_repeats_nothing_to_the_caller() -> None:
    stream = opened()
    history = b"".join(sse("node:stream", {"n": n}, id=str(n)) for n in range(2500))
    stream.receives(history)
    stream.takes_all()
    reconnected(stream)
    assert stream.machine.last_event_id == "2499"  # type: ignore[attr-defined]
    assert isinstance(stream.receives(history[:50_000]), Read)
    assert stream.machine.last_event_id == "2499"  # type: ignore[attr-defined]
    stream.ends()
    stream.waits()
    assert stream.sent[-1].headers["last-event-id"] == "2499"
    stream.opens()
    stream.takes()
    stream.receives(history + sse("node:completed", id="2500"))
    stream.takes_all()
    numbers = [item["n"] for item in stream.items if item["type"] == "node:stream"]
    assert numbers == list(range(2500))
    assert kinds(stream)[-1] == "node:completed"


def test_the_end_is_told_in_the_midst_of_a_replay() -> None:
    stream = opened()
    history = [sse("node:stream", id=str(n)) for n in range(2500)]
    stream.receives(b"".join(history))
    stream.takes_all()
    reconnected(stream)
    stream.receives(b"".join(history[:100]) + sse("execution:completed", {"a": 1}, id="x"))
    stream.closes()
    assert isinstance(stream.takes(), Done)
    assert kinds(stream)[-2:] == ["stream:reconnected", "execution:completed"]

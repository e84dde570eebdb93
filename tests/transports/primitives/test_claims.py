"""Claims: the first ones hold, and a claim ends with its claimant at the latest."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

from flowmaestro_transports.primitives.claims import Claimant, Claims


def test_the_first_claims_hold_and_the_next_follows_one_that_leaves() -> None:
    claims: Claims[Claimant] = Claims(2)
    first, second, third = Claimant(), Claimant(), Claimant()
    assert [claims.enter(each) for each in (first, second, third)] == [True, True, False]
    claims.leave(first)
    claims.leave(first)
    assert claims.holds(third)
    assert claims.holders() == [second, third]


def test_a_claim_that_nobody_leaves_ends_with_its_claimant() -> None:
    claims: Claims[Claimant] = Claims(1)
    lost, waits = Claimant(), Claimant()
    claims.enter(lost)
    assert not claims.enter(waits)
    del lost
    gc.collect()
    assert claims.holds(waits)
    assert len(claims) == 1


def test_threads_never_hold_one_resource_at_once() -> None:
    claims: Claims[Claimant] = Claims(1)
    inside, together = [0], []

    def work(_: int) -> None:
        for _ in range(300):
            me = Claimant()
            if claims.enter(me):
                inside[0] += 1
                together.append(inside[0])
                inside[0] -= 1
            claims.leave(me)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert set(together) == {1}
    assert not len(claims)

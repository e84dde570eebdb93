"""The runner of the proofs: what it runs, what it says of each, and how it ends."""

from __future__ import annotations

import json

import pytest

from tests.harness.house.pages import sessions
from tests.proofs import __main__ as proofs
from tests.proofs.__main__ import FAILED, MINUTES, Result, chosen, main, part_of, summed_up, table

ONE = """nox > Running session oldest-3.13
nox > python -m pip install
....
===== 120 passed in 3.21s =====
nox > Session oldest-3.13 was successful in 4 seconds.
"""
OTHER = ONE.replace("3.13", "3.9").replace("120", "118")
SKIPPED = """nox > Running session browser
nox > Session browser skipped: chromium is NOT INSTALLED here.
"""


def test_each_proof_is_a_session():
    named = {*sessions()}
    assert {*MINUTES} <= named
    assert {name for name in named if name.startswith("engines-")} <= {*MINUTES}


@pytest.mark.parametrize("parts", range(1, 7))
def test_the_parts_hold_each_proof_once(parts):
    found = [name for number in range(parts) for name in part_of(MINUTES, number + 1, parts)]
    assert sorted(found) == sorted(MINUTES)


def test_one_of_four_parts_takes_at_most_forty_minutes():
    for number in range(1, 5):
        assert sum(MINUTES[name] for name in part_of(MINUTES, number, 4)) <= 40


def test_arguments_choose_proofs():
    assert chosen([]) == sorted(MINUTES)
    assert chosen(["2/4"]) == part_of(MINUTES, 2, 4)
    assert chosen(["stores", "chaos"]) == ["stores", "chaos"]


@pytest.mark.parametrize("arguments", [["5/4"], ["0/4"], ["1/4", "chaos"], ["chao"]])
def test_other_arguments_are_refused(arguments):
    with pytest.raises(SystemExit, match="no proof is called"):
        chosen(arguments)


def test_the_last_line_of_each_session_is_what_it_showed():
    assert summed_up(ONE, 0) == "120 passed in 3.21s"
    assert summed_up(ONE + OTHER, 0) == "120 passed in 3.21s; 118 passed in 3.21s"


def test_a_skipped_session_is_named_with_its_reason():
    assert summed_up(SKIPPED, 0) == "not run: chromium is NOT INSTALLED here"


def test_a_failed_session_is_named_so():
    assert summed_up(ONE.replace("120 passed", "1 failed"), 1) == f"{FAILED}1 failed in 3.21s"
    assert summed_up("No sessions selected", 1).startswith(FAILED)


def test_it_goes_on_after_a_failure_and_then_says_so(monkeypatch, tmp_path, capsys):
    """Three proofs; the second fails, the third still runs, and the status is 1."""

    def run(name):
        showed = f"{FAILED}a row was started twice" if name == "fuzz" else "all well"
        return Result(showed, "2026-01-01", "abcdef12", 3)

    monkeypatch.setattr(proofs, "KEPT", tmp_path / "proofs")
    monkeypatch.setattr(proofs, "run", run)
    assert main(["chaos", "fuzz", "stores"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "chaos: all well (3 s)",
        "fuzz: FAILED: a row was started twice (3 s)",
        "stores: all well (3 s)",
        "3 proofs, failed: fuzz",
    ]
    assert main(["chaos"]) == 0
    assert sorted(proofs.kept()) == ["chaos", "fuzz", "stores"]
    assert json.loads((tmp_path / "proofs" / "chaos.json").read_text("utf-8"))["seconds"] == 3


def test_the_table_has_all_proofs_and_what_each_showed():
    text = table({"chaos": Result("a|b", "2026-01-01", "abcdef12", 3)})
    assert r"| `chaos` | a\|b | 2026-01-01 | abcdef12 | 3 |" in text
    assert "| `fuzz` | not run: nobody has run it yet | | | |" in text
    assert text.count("\n") == len(MINUTES) + 2

"""The benchmarks run, say what they measured, and are about what exists."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Dict
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.__main__ import chosen, main
from benchmarks.catalogue import (
    BENCHMARKS,
    QUICK_BENCHMARKS,
    QUICK_ROWS,
    Benchmark,
    Case,
    Row,
)
from benchmarks.environments import PACKAGES
from benchmarks.plot import plots, svg
from benchmarks.runner import WORKERS, Results, Worker, stopped
from benchmarks.targets import RATIOS, TARGETS, Target


def this_python(_environment: str) -> Path:
    return Path(sys.executable)


@pytest.mark.parametrize(
    ("name", "row"),
    [("calls", "ours-requests"), ("streams-async", "ours-anyio-trio")],
)
def test_one_of_ours_alone(name: str, row: str, tmp_path: Path, capsys) -> None:
    arguments = [name, "--only", row, "--quick", "--json", str(tmp_path)]
    (results,) = main(arguments, this_python).values()
    (benchmark,) = chosen([name])
    assert set(results) == {
        (case.name, who) for case in benchmark.cases for who in (row, f"{row} (again)")
    }
    for rounds in results.values():
        assert len(rounds) >= 2
        assert all(0 < one["cpu_us"] < 1e6 for one in rounds)
    printed = capsys.readouterr().out
    assert all(f"| {case} | {who} |" in printed for case, who in results)
    written = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert [one["rounds"] for one in written["results"]] == list(results.values())


def test_a_wrong_name_is_told_the_right_ones() -> None:
    with pytest.raises(SystemExit, match=r"no benchmark colls: there are calls, calls-async"):
        main(["colls"], this_python)
    known = "no such row: nobody, peer-async; there are ours-sockets, ours-requests, "
    with pytest.raises(SystemExit, match=known):
        main(["calls", "--only", "peer,nobody,peer-async"], this_python)


@pytest.mark.parametrize("option", ["--quick", "--only=ours-requests", "--only="])
def test_nothing_is_published_of_a_part(option: str) -> None:
    with pytest.raises(SystemExit, match="--publish is for whole benchmarks"):
        main(["calls", "--publish", option], this_python)


def test_the_help_says_what_there_is(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"], this_python)
    said = capsys.readouterr().out
    for benchmark in BENCHMARKS:
        assert re.search(rf"^  {benchmark.name} +{re.escape(benchmark.title)}$", said, re.MULTILINE)
        assert all(row.name in said for row in benchmark.rows)


def test_a_case_is_called_by_the_work_that_is_done() -> None:
    (benchmark,) = chosen(["growth-pages"])
    assert benchmark.cases[-1].name == "10,000 pages"
    quick = benchmark.scaled(0.1)
    assert [case.name for case in quick.cases] == [
        "1 pages",
        "10 pages",
        "100 pages",
        "1,000 pages",
    ]
    assert [case.count for case in quick.cases] == [1, 10, 100, 1000]
    (in_flight,) = chosen(["in-flight"])
    assert [case.scaled(0.1).count for case in in_flight.cases] == [102, 512]


def test_a_worker_that_dies_is_named(capfd) -> None:
    worker = Worker(Row("ours", "ours", "machines"), this_python(""), "http://127.0.0.1:9")
    with stopped(worker.process), pytest.raises(RuntimeError, match="ours could not do 'nonsense'"):
        worker.do(Case("nonsense", "nonsense", 1))
    assert "KeyError" in capfd.readouterr().err


class TestCatalogue:
    def test_every_row_has_a_script_and_an_environment(self) -> None:
        for benchmark in BENCHMARKS:
            assert benchmark.against in {row.name for row in benchmark.rows}
            for row in benchmark.rows:
                assert (WORKERS / f"{row.script}.py").exists()
                assert row.environment in PACKAGES

    def test_every_target_is_about_something_that_is_measured(self) -> None:
        measured = {
            (benchmark.name, case.name, row.name)
            for benchmark in BENCHMARKS
            for case in benchmark.cases
            for row in benchmark.rows
        }
        for target in TARGETS:
            assert (target.benchmark, target.case, target.row) in measured
            if target.against is not None:
                assert (target.benchmark, *target.against) in measured


MADE_UP = Benchmark(
    "made-up", "Made up", (), (Case("work <1>", "work", 1), Case("idle", "idle", 1)), "them"
)
ROUNDS: Results = {
    ("work <1>", "us"): [{"cpu_us": 10.0}, {"cpu_us": 40.0}, {"cpu_us": 12.0}],
    ("work <1>", "them"): [{"cpu_us": 20.0}, {"cpu_us": 80.0}, {"cpu_us": 30.0}],
}


def test_ratios_are_of_the_same_round() -> None:
    target = Target("", 0.5, "made-up", "work <1>", "us", ("work <1>", "them"))
    assert target.measured({"made-up": ROUNDS}) == (0.5, 0.4, 0.5)
    assert target.measured({}) is None
    assert "| work <1> | us | 12 | 0.50 | 0.40 to 0.50 |" in report.table(MADE_UP, ROUNDS)


@pytest.mark.parametrize(("us", "verdict"), [(60.0, "met"), (90.0, "**50.0% above**")])
def test_a_target_is_met_or_missed_by_so_much(us: float, verdict: str) -> None:
    results: Dict[str, Results] = {
        "clients": {("time", "ours-anyio-asyncio"): [{"cpu_us": us, "wall_us": 1.0}]}
    }
    (line,) = report.targets(results).splitlines()[2:]
    assert line.endswith(f"| {verdict} |")


def test_the_plot_is_xml_and_shows_every_row_that_worked() -> None:
    root = ElementTree.fromstring(svg(MADE_UP, ROUNDS))
    shown = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    title = "Made up: shorter is better"
    assert shown == [title, "work <1> (CPU, µs)", "us", "12", "them", "30"]


def test_what_only_one_row_did_is_a_table_without_a_plot_or_a_ratio() -> None:
    alone: Results = {key: rounds for key, rounds in ROUNDS.items() if key[1] == "us"}
    assert report.table(MADE_UP, alone).splitlines() == [
        "| case | CPU, µs |", "| --- | ---: |", "| work <1> | 12 |",
    ]  # fmt: skip
    repeated = {**alone, ("work <1>", "us (again)"): [{"cpu_us": 9.0}]}
    for results in (alone, repeated):
        assert not report.is_compared(MADE_UP, results)
    assert report.is_compared(MADE_UP, ROUNDS)


class TestRatios:
    def test_a_ratio_shows_both_sides_and_the_rounds(self) -> None:
        first = RATIOS[0]
        ours, others = ([{"cpu_us": us} for us in each] for each in ((10, 40, 12), (20, 80, 30)))
        results: Dict[str, Results] = {
            first.benchmark: {(first.case, first.row): ours, (first.case, first.other): others}
        }
        (line,) = report.ratios(results).splitlines()[2:]
        assert line == "| sync call | 12 | requests | 30 | **0.50** | 0.40 to 0.50 |"

    def test_a_part_that_has_no_ratio_prints_none(self) -> None:
        assert report.ratios({"calls": ROUNDS}) == ""

    def test_the_short_run_measures_every_ratio(self) -> None:
        for ratio in RATIOS:
            assert ratio.benchmark in QUICK_BENCHMARKS
            (benchmark,) = chosen([ratio.benchmark])
            rows = {row.name for row in benchmark.rows} & {*QUICK_ROWS}
            assert {ratio.row, ratio.other} <= rows
            assert ratio.case in {case.name for case in benchmark.short().cases}


class TestPages:
    @pytest.mark.parametrize("file", [report.PAGE, report.FIGURES], ids=["ratios", "figures"])
    def test_their_tables_are_those_of_the_published_rounds(self, file: Path) -> None:
        page = file.read_text(encoding="utf-8")
        assert page == report.filled(page, report.published()), "run with --publish"

    def test_every_benchmark_has_its_place(self) -> None:
        figures, ratios = (
            re.findall(r"<!-- measured: ([\w-]+) -->", file.read_text(encoding="utf-8"))
            for file in (report.FIGURES, report.PAGE)
        )
        names = {benchmark.name for benchmark in BENCHMARKS}
        assert sorted(figures) == sorted({*names, "machine", "targets"})
        assert ratios == ["ratios"]

    def test_the_plots_are_those_of_the_published_rounds(self) -> None:
        there = {file.stem: file.read_text("utf-8") for file in report.FOLDER.glob("*.svg")}
        assert there == plots(report.results_of(report.published())), "run with --publish"

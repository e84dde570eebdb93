"""The benchmarks run, say what they measured, and are about what exists."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import chosen, main
from benchmarks.catalogue import (
    BENCHMARKS,
    QUICK_BENCHMARKS,
    QUICK_ROWS,
    Case,
    Row,
)
from benchmarks.environments import PACKAGES
from benchmarks.plot import plots
from benchmarks.runner import WORKERS, Worker, stopped
from benchmarks.targets import RATIOS, TARGETS


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


@pytest.mark.parametrize("option", ["--quick", "--only=ours-requests", "--only="])
def test_nothing_is_published_of_a_part(option: str) -> None:
    with pytest.raises(SystemExit, match="--publish is for whole benchmarks"):
        main(["calls", "--publish", option], this_python)


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


def test_the_short_run_measures_every_ratio() -> None:
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

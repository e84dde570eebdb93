"""The stores of `docs/stores.md` on a real Redis and a real PostgreSQL.

`python -m tests.engines.stores_driver`; with `few`, fewer rows. Needs `redis-server`, and `initdb`
and `postgres` on the path or in Debian's place.

`check_store` checks each store. Then a batch on it is killed at random moments. Each time, another
process in another folder takes it up. The service counts executions.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

from flowmaestro.testing import check_store
from tests.engines.service import (
    ROOT,
    Process,
    free_port,
    proved,
    redis_server,
    report,
    service,
    until,
)
from tests.harness.house.pages import blocks_of

PAGE = ROOT / "docs" / "stores.md"
DEBIAN = Path("/usr/lib/postgresql")


def text_with(definition: str) -> str:
    """Return the block of the page that defines this."""
    (block,) = (it for it in blocks_of(PAGE) if f"\n{definition}" in it.text)
    return block.text


def names_with(*definitions: str) -> Dict[str, Any]:
    """Return the names of the blocks of the page that define these, as of one file."""
    names: Dict[str, Any] = {}
    exec(compile("\n".join(map(text_with, definitions)), str(PAGE), "exec"), names)
    return names


def redis_store(url: str, name: str) -> Any:
    names = names_with("class RedisStore")
    return names["RedisStore"](names["redis"].Redis.from_url(url), name)


def postgres_store(url: str, name: str) -> Any:
    names = names_with("class PostgresStore")
    connection = names["psycopg"].connect(url, autocommit=True)
    with contextlib.suppress(names["psycopg"].errors.UniqueViolation):
        connection.execute(names["TABLES"])  # Two that create it at once.
    return names["PostgresStore"](connection, name)


STORES: Dict[str, Callable[[str, str], Any]] = {"redis": redis_store, "postgres": postgres_store}


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL of our own, which refuses to run as root; gives its URL."""
    user: Dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres", "cwd": "/"}
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        if user:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        make = [tool("initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **user)
        command = [tool("postgres"), "-D", str(data), "-p", str(port), "-k", folder]
        server = subprocess.Popen([*command, "-h", "127.0.0.1"], stderr=subprocess.DEVNULL, **user)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        try:
            until(lambda: accepts(url))
            yield url
        finally:
            server.terminate()
            server.wait()


def accepts(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def tool(name: str) -> str:
    """Return the path of a program of PostgreSQL; exit if there is none."""
    found = shutil.which(name) or next(map(str, sorted(DEBIAN.glob(f"*/bin/{name}"))), None)
    if found is None:
        sys.exit(f"there is no {name}")
    return found


def check(kind: str, url: str) -> None:
    begun = time.monotonic()
    check_store(lambda name: STORES[kind](url, name))
    print(f"{kind}: check_store passed in {time.monotonic() - begun:.1f} s", flush=True)


def batch(kind: str, url: str, *, rows: int, kills: int) -> Dict[str, int]:
    """Kill a batch, each time after some more starts. Return the figures when it has ended."""
    rng = random.Random(7)
    with service(0.3) as fake, contextlib.ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(kills + 1)]
        for number, folder in enumerate(folders):
            results = str(Path(folder, "results"))
            command = ["-m", "tests.engines.store_worker", kind, url, f"batch of {kind}"]
            worker = Process(*command, str(rows), results, folder=folder)
            if number == kills:
                worker.end(timeout=600)
                break
            aim = (number + 1) * rows // (kills + 1)
            until(lambda: len(fake.executions) >= aim, timeout=300)  # noqa: B023 - called at once
            time.sleep(rng.random() / 2)
            worker.kill()
        lines = [json.loads(line) for line in Path(results).read_text().splitlines()]
        bad = [line for line in lines if not line[1]]
        if bad or sorted(index for index, _, _ in lines) != list(range(rows)):
            sys.exit(f"not each row has completed: {len(lines)} outcomes, {bad[:3]}")
        return report(f"{kind}, a batch that is killed", fake, rows, kills)


def main() -> None:
    rows, kills = (40, 4) if "few" in sys.argv else (200, 12)
    servers: Tuple[Tuple[str, Any], ...] = (
        ("redis", lambda: redis_server()),
        ("postgres", postgres_server),
    )
    figures = []
    for kind, server in servers:
        with server() as url:
            check(kind, url)
            figures.append(batch(kind, url, rows=rows, kills=kills))
    proved(*figures)


if __name__ == "__main__":
    main()

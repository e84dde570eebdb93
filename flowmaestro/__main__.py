"""`python -m flowmaestro`, and the console script `flowmaestro`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Sequence


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command, by default the one in `sys.argv`, and return its exit status.

    Raises `SystemExit` for what `argparse` answers itself: help, version, wrong arguments.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed, as by `>&-`
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, mode, closefd=False))  # noqa: SIM115
    try:
        from flowmaestro.cli.entry import main

        return main(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 130  # `flowmaestro.cli.INTERRUPTED`, which may not be loaded yet
    except OSError as error:  # the output cannot be written
        if not isinstance(error, BrokenPipeError):  # else nobody reads on
            print(f"flowmaestro: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # the interpreter flushes once more at exit, and must not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

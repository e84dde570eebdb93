"""`python -m flowmaestro`, and the console script `flowmaestro`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Sequence


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command, by default the one in `sys.argv`, and return its exit status.

    Raises `SystemExit` after `--help` or the command `help` has printed the help.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # It was closed, for example by `>&-`.
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, mode, closefd=False))  # noqa: SIM115
    try:
        try:
            from flowmaestro.cli.entry import main

            return main(_words() if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        if sys.stderr.isatty():  # The terminal has shown `^C`, and shells go on in its line.
            print(file=sys.stderr)
        # `flowmaestro.cli.status_after`, which may not be loaded yet.
        return getattr(interrupt, "status", 130)
    except OSError as error:  # The output cannot be written.
        from flowmaestro.cli import discard

        discard(sys.stdout)
        try:
            if not isinstance(error, BrokenPipeError):  # A reader that left wants no more.
                print(f"flowmaestro: {error.strerror}", file=sys.stderr, flush=True)
        except OSError:
            discard(sys.stderr)
        return 1


def _words() -> Sequence[str]:
    """Return the arguments of the command line as text.

    Without a UTF-8 locale, Python may decode `日本` wrongly, for example as lone surrogates.
    Terminals send UTF-8 whatever `LANG` says, so the bytes are decoded again. A word that is not
    UTF-8 is unchanged.
    """
    words: List[str] = []
    for word in sys.argv[1:]:
        try:
            words.append(os.fsencode(word).decode("utf-8"))
        except UnicodeError:
            words.append(word)
    return words


if __name__ == "__main__":
    sys.exit(main())

"""Docstrings, comments, error messages and documentation are in plain English.

`REFUSED` is the one list of phrases. A phrase that is refused has a plain one beside it.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file
    for folder in ("flowmaestro_core", "transports", "flowmaestro", "docs")
    for file in (ROOT / folder).rglob("*.py")
)
GIVEN = ROOT / "docs" / "python-sdk.md"
"""The contract: its words are not ours."""
PAGES = sorted(
    file
    for pattern in ("*.md", "docs/*.md", "transports/*.md")
    for file in ROOT.glob(pattern)
    if file != GIVEN
)

BE = "is|are|was|were|do|does|did|has|have|had|can|could|will|would|may|must"
SUBJECT = "it|they|he|she|we|you|there|this|that|these|those|a|an|the|any|one|its"
REFUSED = {
    # words that nobody uses in a manual
    r"who(?:so)?m?ever": "name the person or the thing",
    r"(?<=, )be (?:it|they)|^be (?:it|they)": "'even', 'including', 'possibly'",
    r"lest": "'so that ... not'",
    r"for ever": "'without end', 'forever'",
    r"anew": "'again'",
    r"thereof|therewith|wherein|whereby|whereupon|thereupon|upon which|hitherto|thence": "'then'",
    r"(?:its|their|his) own accord": "'by itself'",
    r"in earnest|in good order|never just so|befits?": "say what happens",
    r"under (?:its|their|his|one's) hands?": "'possibly by another thread'",
    r"what(?:ever)? (?:comes|becomes) of|whatever comes": "'even if', 'the outcome of'",
    r"(?<![|])(?<![|] )who": "name the person or the thing",
    r"(?:tells?|told) of": "'describe', 'report'",
    r"lets? go of|letting go of": "'release', 'close'",
    r"g[ai]ve[sn]? back": "'return', 'release'",
    # the verb before its subject
    rf"nor (?:{BE})": "'and ... not'",
    rf"(?:never|seldom|rarely|hardly|nowhere|not only) (?:{BE}) (?:{SUBJECT})": "subject first",
    rf"only (?:then|so|here|now) (?:{BE})": "subject first",
    rf"(?<=[.;:] )(?:were|had|should) (?:{SUBJECT})": "'if'",
    rf"(?<=[,;.] )so (?:{BE}) (?:{SUBJECT})": "subject first",
    rf"and so (?:{BE}) (?:{SUBJECT})": "subject first",
    # private words where the field has its own
    r"ask(?:s|ed|ing)? for (?:the|its|an|each|this) (?:execution|run|status)": "'poll'",
    r"ask(?:s|ed|ing)? (?:the|each) executions?": "'poll'",
    r"(?:is|are) doubted|doubts? (?:a quiet|a silence|the (?:stream|silence))": "'probe', 'poll'",
    r"(?:checked|held) against the execution": "'the SDK polls the execution'",
    r"hearing out|heard out|last words": "'draining'",
}
"""What is refused, as a pattern without regard to case, and what to write instead."""

_REFUSED = [
    (re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE), instead)
    for pattern, instead in REFUSED.items()
]
_PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def prose_of(file):
    """The strings and comments of a source file, or the whole text of a page, without newlines."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        text = " ".join(token.string.strip("#\"'") for token in tokens if token.type in _PROSE)
    return " ".join(text.split())


def refused_in(prose):
    for pattern, instead in _REFUSED:
        for found in pattern.finditer(prose):
            around = prose[max(found.start() - 40, 0) : found.end() + 30]
            yield f"{found[0]!r} (write {instead}): ...{around}..."


@pytest.mark.parametrize("file", [*SOURCES, *PAGES], ids=lambda file: str(file.relative_to(ROOT)))
def test_prose_is_plain(file):
    refused = list(refused_in(prose_of(file)))
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize(
    "sentence",
    [
        "What a reader gets of a stream that was closed, be it under its hands",
        "For who watches.",
        "A silent stream is checked against the execution",
        "It has no clock, nor does it sleep.",
        "Whoever waits for it wakes.",
        "It asks for the execution at once.",
        "Were it raised, nobody could tell. Were it raised, nobody could tell.",
        "A lost connection is made anew",
    ],
)
def test_a_riddle_is_noticed(sentence):
    assert list(refused_in(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "The loop always ends with a terminal event or an exception",
        "When a stream goes quiet, the SDK polls the execution",
        "Raised in a reader whose stream was closed, possibly by another thread",
        "Not retried: the server may have processed this non-idempotent request",
        "Longest time between two polls, even while events arrive",
    ],
)
def test_the_plain_column_of_the_table_passes(sentence):
    assert not list(refused_in(sentence))

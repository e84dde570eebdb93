"""Names of constants and classes for workflows, whose own names are any texts. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple
from unicodedata import ucd_3_2_0

LONGEST = 48
"""Characters of a name before a suffix: with it, the line of a constant fits most editors."""
_FOLDED = {"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
"""Latin letters that Unicode does not decompose."""


class Name(NamedTuple):
    """The name of a workflow in Python: `SEND_INVOICE`, and `SendInvoice` in names of classes."""

    constant: str
    stem: str


def names_of(
    workflows: Iterable[Tuple[str, str]], kept: Optional[Mapping[str, str]] = None
) -> Dict[str, Name]:
    """Return a unique name for each workflow, by its id.

    Args:
        workflows: pairs of id and name, the oldest workflow first: of two with one name, the
            older has it, and the id is part of the other's.
        kept: constants that an earlier file has, by id. They stay, so that a workflow which comes
            or goes, or is renamed, changes no other name.

    """
    every = list(workflows)
    earlier = kept or {}
    found: Dict[str, Name] = {}
    taken: Dict[str, str] = {}
    for id, _ in every:
        constant = earlier.get(id, "")
        if re.fullmatch("[A-Z][A-Z0-9_]*", constant):
            _take(id, constant.lower().split("_"), found, taken)
    for id, name in every:
        words = _words(name)
        if id not in found and (not words or not _take(id, words, found, taken)):
            digest = sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
            beginning = re.sub("[^A-Za-z0-9]", "", id)[:8].lower()
            for suffix in (beginning, digest[:8], digest):
                if suffix and _take(id, [*(words or ["workflow"]), suffix], found, taken):
                    break
    return found


def _take(id: str, words: List[str], found: Dict[str, Name], taken: Dict[str, str]) -> bool:
    """Give a workflow the name of these words, unless another one has it. Return whether it has."""
    stem = "".join(word[:1].upper() + word[1:] for word in words)
    # Two names that differ in capitals alone would be confused.
    if taken.setdefault(stem.lower(), id) != id:
        return False
    found[id] = Name("_".join(words).upper(), stem)
    return True


def _words(text: str) -> List[str]:
    """Return the words of a name in ASCII, in small letters; none if it has no such letters.

    The tables of Unicode 3.2 are the same in every Python, so each makes the same names.
    """
    folded = "".join(_FOLDED.get(sign, sign) for sign in text.lower())
    plain = "".join(it for it in ucd_3_2_0.normalize("NFKD", folded) if not ucd_3_2_0.combining(it))
    words = re.findall("[a-z0-9]+", plain.lower())
    while len("_".join(words)) > LONGEST:
        words = words[:-1] if len(words) > 1 else [words[0][:LONGEST]]
    return ["workflow", *words] if words and words[0][0].isdigit() else words

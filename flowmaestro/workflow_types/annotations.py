"""JSON types as Python annotations: of values, of JSON Schema, as text and back. Pure.

A type is a set of parts, which are texts of annotations: `{"None", "str"}` is `Optional[str]`. A
part is a name such as `float`, one `Literal[...]`, or `List[...]`. Objects have no types of their
own: they are `Mapping[str, Any]`.
"""

from __future__ import annotations

import ast
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, cast

from flowmaestro.inputs import mapping_or_empty
from flowmaestro_core.payloads.json_values import list_or_empty

Type = FrozenSet[str]
"""The parts of a type. The empty set is a type without values, that of the items of `[]`."""

OBJECT = "Mapping[str, Any]"
ANY: Type = frozenset({"Any"})
_PLAIN = ("Any", OBJECT, "bool", "int", "float", "str", "None")
_OF_SCHEMA = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "object": OBJECT,
}
MOST_LEVELS = 5
"""Levels of lists within lists. Twice as many of schemas are read: a list of `$ref` has two, and a
schema may contain itself."""
MOST_SCHEMAS = 1000
"""Schemas that are read for one input, those that a `$ref` leads to counted each time."""
MOST_LITERALS = 20
"""A longer `enum` becomes the type of its values: a line of an editor shows no more."""
LONGEST_LITERAL = 60
"""Characters of a value of an `enum` that is written as a literal."""
LARGEST_LITERAL = 2**53
"""JSON passes through JavaScript, which rounds larger integers."""


def type_of_values(values: Iterable[Any], levels: int = MOST_LEVELS) -> Type:
    """Return the type of JSON values that were seen. It holds their types, and no value.

    A number is a `float`, which accepts an `int`, too: the server sends 1.0 as 1.
    """
    parts: List[str] = []
    lists: List[Any] = []
    for value in values:
        if isinstance(value, list):
            lists.append(cast("Any", value))
        else:
            parts.append(_part_of(value))
    if lists:
        items = (
            ANY
            if levels <= 1
            else type_of_values((it for each in lists for it in each), levels - 1)
        )
        parts.append(f"List[{written(items or ANY)}]")
    return simplified(parts)


def _part_of(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "float"
    return "str" if isinstance(value, str) else OBJECT


def type_of_schema(schema: Any, root: Any = None) -> Type:
    """Return the type that a JSON Schema describes; `Any` for what it cannot express.

    `root` is the schema in which a `$ref` is looked up, by default `schema`. No schema raises.
    """
    return _SchemaReader(schema if root is None else root).read(schema, 2 * MOST_LEVELS)


class _SchemaReader:
    """Reads schemas within `root`, `MOST_SCHEMAS` at most: references can multiply them."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = MOST_SCHEMAS

    def read(self, schema: Any, levels: int) -> Type:
        """Return the type of a schema, of which at most `levels` levels are read."""
        self._left -= 1
        if not isinstance(schema, Mapping) or levels == 0 or self._left < 0:
            return ANY
        about = cast("Mapping[str, Any]", schema)
        found = self._type(about, levels - 1)
        return simplified([*found, "None"]) if about.get("nullable") is True else found

    def _type(self, about: Mapping[str, Any], levels: int) -> Type:
        if isinstance(about.get("$ref"), str):
            return self.read(self._referred(about["$ref"]), levels)
        if "const" in about:
            return _type_of_literals([about["const"]])
        if list_or_empty(about.get("enum")):
            return _type_of_literals(about["enum"])
        cases = list_or_empty(about.get("anyOf")) or list_or_empty(about.get("oneOf"))
        if cases:
            return simplified(part for case in cases for part in self.read(case, levels))
        if list_or_empty(about.get("allOf")):
            every = (self.read(case, levels) for case in about["allOf"])
            return next((each for each in every if each != ANY), ANY)
        if "type" in about:
            kinds = list_or_empty(about["type"]) or [about["type"]]
            return simplified(self._part(kind, about, levels) for kind in kinds)
        return frozenset({OBJECT}) if "properties" in about else ANY

    def _part(self, kind: Any, about: Mapping[str, Any], levels: int) -> str:
        if kind == "array":
            return f"List[{written(self.read(about.get('items'), levels))}]"
        return _OF_SCHEMA.get(kind, "Any") if isinstance(kind, str) else "Any"

    def _referred(self, pointer: str) -> Any:
        """Return the part of the root that a JSON Pointer such as `#/$defs/a` names."""
        found = self._root if pointer.startswith("#") else None
        for word in pointer.split("/")[1:]:
            found = mapping_or_empty(found).get(word.replace("~1", "/").replace("~0", "~"))
        return found


def _type_of_literals(values: List[Any]) -> Type:
    """Return a type of literals; of the types of the values if a literal cannot express them."""
    parts = [_literal(value) for value in values]
    if len(parts) > MOST_LITERALS or None in parts:
        return simplified(_part_of(value) for value in values)
    return simplified(part for part in parts if part is not None)


def _literal(value: Any) -> Optional[str]:
    if value is None:
        return "None"
    if isinstance(value, bool):
        return f"Literal[{value}]"
    if isinstance(value, int) and abs(value) <= LARGEST_LITERAL:
        return f"Literal[{value}]"
    if isinstance(value, str) and len(value) <= LONGEST_LITERAL:
        return f"Literal[{quoted(value)}]"
    return None


def quoted(text: str) -> str:
    r"""Return a string literal of Python for a text. It is one line of printable ASCII.

    A quote is written as `\x22`, so that no formatter changes the kind of quotes.
    """
    return '"' + "".join(_escaped(sign) for sign in text) + '"'


def _escaped(sign: str) -> str:
    number = ord(sign)
    if " " <= sign <= "~" and sign not in '"\\':
        return sign
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def simplified(parts: Iterable[str]) -> Type:
    """Return the type of these parts, without those that another part includes."""
    found = set(parts)
    if "Any" in found:
        return ANY
    if {"Literal[False]", "Literal[True]"} <= found:
        found.add("bool")
    return frozenset(
        part for part in found if not any(_includes(it, part) for it in found if it != part)
    )


def _includes(wider: str, part: str) -> bool:
    """Return whether each value of the type `part` is one of the type `wider`."""
    if wider in (part, "Any"):
        return True
    if part == "int":
        return wider == "float"
    if part.startswith("Literal["):
        value = ast.literal_eval(part[len("Literal[") : -1])
        kind = _part_of(value)
        return wider == kind or (wider == "int" and kind == "float")
    if part.startswith("List[") and wider.startswith("List["):
        items, wider_items = (read_type(it[len("List[") : -1]) for it in (part, wider))
        return accepts(wider_items, items)
    return False


def accepts(wider: Type, narrower: Type) -> bool:
    """Return whether each value of the type `narrower` is one of the type `wider`."""
    return all(any(_includes(it, part) for it in wider) for part in narrower)


def are_disjoint(one: Type, other: Type) -> bool:
    """Return whether no part of one type includes a part of the other."""
    return not any(_includes(a, b) or _includes(b, a) for a in one for b in other)


def written(kind: Type) -> str:
    """Return a type as the text of an annotation, whose parts are always in the same order."""
    literals = sorted(it for it in kind if it.startswith("Literal["))
    parts = [it for it in _PLAIN if it in kind and it != "None"]
    parts += sorted(it for it in kind if it.startswith("List["))
    if literals:
        parts.append(f"Literal[{', '.join(it[len('Literal[') : -1] for it in literals)}]")
    if not parts:
        return "None" if kind else "Any"
    text = parts[0] if len(parts) == 1 else f"Union[{', '.join(parts)}]"
    return f"Optional[{text}]" if "None" in kind else text


_NAMES: Dict[str, str] = {
    **{name: name for name in ("Any", "None", "bool", "int", "float", "str")},
    **dict.fromkeys(("Mapping", "Dict", "dict", "object"), OBJECT),
    **dict.fromkeys(("List", "list"), "List[Any]"),
}


def read_type(text: str) -> Type:
    """Return the type of an annotation: of those that `written` returns, and what users write.

    Users may write `list[str]`, `dict` and `str | None`, too. Raises `ValueError` for any other
    text.
    """
    try:
        return _type_of_node(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"{text[:LONGEST_LITERAL]!r} is not a type such as str or List[float]"
        ) from error


def _type_of_node(node: ast.expr) -> Type:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return simplified([*_type_of_node(node.left), *_type_of_node(node.right)])
    if isinstance(node, ast.Constant) and node.value is None:
        return frozenset({"None"})
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return frozenset({_NAMES[node.id]})
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        raise ValueError
    name, parts = node.value.id, _parts_of(node)
    if name in ("Union", "Optional"):
        none = ["None"] if name == "Optional" else []
        return simplified([*none, *(part for each in parts for part in _type_of_node(each))])
    if name in ("List", "list") and len(parts) == 1:
        return frozenset({f"List[{written(_type_of_node(parts[0]))}]"})
    if name == "Literal":
        return simplified(_literal_of_node(each) for each in parts)
    if name in ("Mapping", "Dict", "dict") and len(parts) == 2:
        return frozenset({OBJECT})
    raise ValueError


def _parts_of(node: ast.Subscript) -> Tuple[ast.expr, ...]:
    inside: Any = node.slice
    return tuple(inside.elts) if isinstance(inside, ast.Tuple) else (inside,)


def _literal_of_node(node: ast.expr) -> str:
    found = _literal(ast.literal_eval(node))
    if found is None:
        raise ValueError
    return found


_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    OBJECT: "an object",
    "Any": "any value",
}


def in_words(kind: Type) -> str:
    """Return a type in words for users who do not write Python, such as `text or null`."""
    words = [_WORDS[part] for part in _PLAIN if part in kind and part != "None"]
    words += sorted(it[len("Literal[") : -1] for it in kind if it.startswith("Literal["))
    lists = (read_type(it[len("List[") : -1]) for it in kind if it.startswith("List["))
    words += sorted("a list" if it == ANY else f"a list of {in_words(it)}" for it in lists)
    return " or ".join([*words, *(["null"] if "None" in kind else [])])

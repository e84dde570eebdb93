from __future__ import annotations

import collections
import enum
import json
import re
import types
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.arguments import mapping, text
from flowmaestro_core.payloads.encode import encode_json, json_body

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=15,
)


@given(value=JSON)
def test_encoded_json_decodes_to_equal_value(value: Any) -> None:
    encoded = encode_json(value)
    assert json.loads(encoded.decode("utf-8")) == value
    assert encode_json(json.loads(encoded)) == encoded


@given(value=JSON)
def test_a_field_arrives_under_its_name(value: Any) -> None:
    expected = {} if value is None else {"inputs": value}
    assert json.loads(json_body(inputs=value)) == expected


def test_none_fields_are_left_out_and_nested_none_is_kept() -> None:
    assert json_body(query="x", top_k=None) == b'{"query":"x"}'
    assert json_body(inputs={"a": None, "b": [None]}) == b'{"inputs":{"a":null,"b":[null]}}'
    assert json_body(stream=False, count=0, text="", rows=[]) == (
        b'{"stream":false,"count":0,"text":"","rows":[]}'
    )
    assert json_body() == b"{}"


def test_text_goes_as_utf8_and_numbers_as_they_are() -> None:
    assert encode_json("é🦆\u2028") == '"é🦆\u2028"'.encode()
    assert encode_json([1, 1.0, True]) == b"[1,1.0,true]"


def test_relatives_of_json_types_are_welcome() -> None:
    class Level(enum.IntEnum):
        HIGH = 3

    Point = collections.namedtuple("Point", "x y")  # noqa: PYI024
    value = collections.OrderedDict(level=Level.HIGH, point=Point(1, 2))
    assert encode_json(value) == b'{"level":3,"point":[1,2]}'


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (float("nan"), ValueError, "inputs[a] is nan"),
        (float("inf"), ValueError, "inputs[a] is inf"),
        ([1, {"b": float("-inf")}], ValueError, "inputs[a][1][b] is -inf"),
        (10**309, ValueError, "inputs[a] is beyond the range of a float"),
        ([-(10**5000)], ValueError, "inputs[a][0] is beyond the range of a float"),
        ({1, 2}, TypeError, "inputs[a] is a set"),
        (b"bytes", TypeError, "inputs[a] is a bytes"),
        (Decimal("1.5"), TypeError, "inputs[a] is a Decimal"),
        (object(), TypeError, "inputs[a] is a object"),
        ((1, (2, {3})), TypeError, "inputs[a][1][1] is a set"),
        ({1: "x"}, TypeError, "inputs[a] has the key 1"),
        ({"b": {None: 1}}, TypeError, "inputs[a][b] has the key None"),
        ({True: 1}, TypeError, "JSON keys must be str"),
        ("\ud800", ValueError, "lone surrogate"),
        ({"\udfff": 1}, ValueError, "lone surrogate"),
        (types.MappingProxyType({}), TypeError, "inputs[a] is a mappingproxy"),
    ],
)
def test_value_that_json_cannot_express_is_named_with_its_place(
    value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refusal:
        json_body(inputs={"a": value})
    assert words in str(refusal.value).replace("'", "")


@pytest.mark.parametrize(
    ("value", "words"),
    [({1}, "json is a set"), ([{1}], r"json\[0\] is a set"), ("\ud800", "json holds a lone")],
)
def test_a_named_value_is_named(value: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        encode_json(value, "json")


def test_a_nameless_value_is_the_body() -> None:
    for value in ({1}, "\ud800", {2: 1}):
        with pytest.raises((TypeError, ValueError), match="the body"):
            encode_json(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    looped: dict[str, Any] = {}
    looped["again"] = [looped]
    with pytest.raises(ValueError, match="refers to itself or is nested too deep"):
        json_body(inputs=looped)
    with pytest.raises(ValueError, match="the body refers to itself"):
        encode_json([looped])


@given(value=st.one_of(st.none(), st.dictionaries(TEXTS, JSON, max_size=3)))
def test_a_mapping_is_taken_as_a_dict_of_its_own(value: Any) -> None:
    assert mapping("inputs", value) == value
    assert value is None or mapping("inputs", value) is not value


def test_any_mapping_will_do() -> None:
    proxy = types.MappingProxyType({"a": 1})
    assert json_body(inputs=mapping("inputs", proxy)) == b'{"inputs":{"a":1}}'


@pytest.mark.parametrize("value", ["text", b"", [("a", 1)], 5, 0, False, {1}])
def test_no_mapping_is_an_error_that_names_the_argument(value: Any) -> None:
    with pytest.raises(TypeError, match=f"inputs must be a dict, not {type(value).__name__}"):
        mapping("inputs", value)


def test_a_text_must_be_a_str() -> None:
    assert text("content", "") == ""
    for value in (None, b"x", 5):
        with pytest.raises(TypeError, match=f"content must be a str, not {type(value).__name__}"):
            text("content", value)


def value_of(name: str, *methods: str) -> Any:
    return type(name, (), {method: lambda self: None for method in methods})()


@pytest.mark.parametrize(
    ("value", "use"),
    [
        (datetime(2026, 1, 2, 3, 4), "its .isoformat()"),
        (value_of("Timestamp", "isoformat"), "its .isoformat()"),
        (value_of("NaTType", "isoformat"), "None"),
        (value_of("NAType"), "None"),
        (value_of("int64", "tolist"), "its .tolist()"),
        (Decimal("1.5"), "dict, list, str, int, float, bool or None"),
        (float("nan"), "None"),
        (float("-inf"), "None or a str"),
    ],
)
def test_error_says_what_to_use_instead(value: Any, use: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"; use {re.escape(use)}$"):
        encode_json({"a": value})


def test_values_of_pandas_and_numpy_are_refused_with_a_hint() -> None:
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    hints = {
        "None": [pandas.NA, pandas.NaT, numpy.nan, numpy.float64("nan")],
        "its .isoformat()": [pandas.Timestamp(0)],
        "its .tolist()": [numpy.int64(1), numpy.bool_(True), numpy.zeros(2), pandas.Series([1])],
    }
    for use, values in hints.items():
        for value in values:
            with pytest.raises((TypeError, ValueError), match=f"; use {re.escape(use)}$"):
                encode_json({"a": value})
    assert encode_json(numpy.float64(1.5)) == b"1.5"

"""Documents pass through as the text they are, and what cannot be stored is found in them."""

import json

import pytest

from audit.exceptions import InvalidValue
from audit.values import jsontext
from audit.values.jsontext import check_escapes, edited, elements, members, spliced


def test_members_are_cut_out_as_they_stand() -> None:
    text = ' { "a" : 12.50 ,"b\\"c":[ 1E+400, {"x":1} ], "d" :"é" ,"e":null}\n'
    assert list(members(text)) == [
        ("a", "12.50", "12.50"),
        ('b"c', ["1E+400", {"x": "1"}], '[ 1E+400, {"x":1} ]'),
        ("d", "é", '"é"'),
        ("e", None, "null"),
    ]
    assert list(members("{}")) == []
    assert list(elements(" [ 1 , [2] ] ")) == [("1", "1"), (["2"], "[2]")]
    assert list(elements("[ ]")) == []


def test_what_python_cannot_read_passes() -> None:
    digits, deep = "7" * 6000, "[" * 20_000 + '"]"' + "]" * 20_000
    assert [cut for _, _, cut in members(f'{{"a":{digits},"b":{deep},"c":1}}')] == [digits, deep, "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be an object"),
        ("[1]", "must be an object"),
        ("{", "a key in double quotes is missing"),
        ("{a:1}", "a key in double quotes is missing"),
        ('{"a\\q":1}', "Invalid \\escape"),
        ('{"a" 1}', "':' is missing"),
        ('{"a\\n" 1}', "':' is missing"),
        ('{"a":}', "a value is missing"),
        ('{"a":1,}', "a value is missing"),
        ('{"a":1 "b":2}', "',' or '}' is missing"),
        ('{"a":[1,}', "is not JSON"),
        ('{"a":"\n"}', "Invalid control character"),
        ('{"a":1} x', "something follows the end"),
        ('{"a":1', "',' or '}' is missing"),
        ('{"a":1,"a":2}', "a: is a key that occurs twice"),
        ('{"a":{"b":NaN}}', "a: is NaN or infinite, which JSON cannot express (got 'NaN')"),
        ('{"a":-Infinity}', "a: is NaN or infinite, which JSON cannot express (got '-Infinity')"),
        ('{"a":' + "[" * 20_000, "a bracket is never closed"),
    ],
)
def test_what_is_not_json_is_reported_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        list(members(text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'"a\u0000b"', "NUL character, which PostgreSQL cannot store, at character 2"),
        (r'"\\\u0000"', "NUL"),
        (r'"\ud83d"', "lone surrogate"),
        (r'"\uDE00\uD83D"', "lone surrogate"),
        (r'"\ud83d\ud83d\ude00"', "lone surrogate"),
    ],
)
def test_what_postgresql_refuses_in_json_is_found(text: str, message: str) -> None:
    with pytest.raises(InvalidValue, match="plan: contains a ") as caught:
        check_escapes("plan", text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ['"plain"', r'"\\u0000"', r'"\ud83d\ude00 \u00e9 \n"', r'"\\\\ud83d"'])
def test_what_postgresql_takes_passes(text: str) -> None:
    check_escapes("plan", text)


def test_an_edit_keeps_the_numbers() -> None:
    text = '{"a":12.50,"b":[1E+400,77777777777777777777777777777777.10,-0,true,null,"é\\u0001"],"c":"x"}'
    assert edited(text, lambda value: value) == text
    assert edited(text, lambda value: value | {"c": "y"}) == text.replace('"x"', '"y"')
    with pytest.raises(InvalidValue, match="too deep"):
        edited("[" * 20_000 + "]" * 20_000, lambda value: value)


def test_spliced_parts_are_one_document() -> None:
    text = spliced(**{"a b": "12.50", 'q"': '{"x": 1}'})
    assert text == '{"a b":12.50,"q\\"":{"x": 1}}'
    assert json.loads(text) == {"a b": 12.5, 'q"': {"x": 1}}
    assert isinstance(text, jsontext.JSONText)

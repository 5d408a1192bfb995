import dataclasses
import enum
import json
import re
from typing import Literal, TypedDict

import pydantic
import pytest

from ramify.lang.errors import InvalidRequest
from ramify.lang.results import PLAIN, parse_answer, result_of_dtype, result_of_schema


@dataclasses.dataclass
class Point:
    x: int
    label: str = "p"


class Movie(TypedDict):
    title: str
    year: int


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class City(pydantic.BaseModel):
    name: str
    population: int


class Nested(pydantic.BaseModel):
    cities: list[City]


@pytest.mark.parametrize(
    ("schema", "answer", "value"),
    [
        (Point, '{"x": 3, "label": "q"}', Point(3, "q")),
        (Movie, '{"title": "Alien", "year": 1979}', {"title": "Alien", "year": 1979}),
        (Color, '"blue"', Color.BLUE),
        (Literal["yes", "no"], '"yes"', "yes"),
        (City, '{"name": "Rome", "population": 3}', City(name="Rome", population=3)),
        (
            Nested,
            '{"cities": [{"name": "Rome", "population": 3}]}',
            Nested(cities=[City(name="Rome", population=3)]),
        ),
        ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
        (list[int], "[1, 2]", [1, 2]),
    ],
)
def test_a_schema_constrains_and_converts(schema, answer, value):
    result = result_of_schema(schema)
    assert isinstance(json.loads(result.json_schema), dict)
    parsed = parse_answer(result, answer)
    assert parsed == value
    assert type(parsed) is type(value)


def test_schemas_say_what_the_type_says():
    point = json.loads(result_of_schema(Point).json_schema)
    assert point["type"] == "object"
    assert point["properties"]["x"] == {"type": "integer"}
    assert point["required"] == ["x"]
    assert json.loads(result_of_schema(Color).json_schema)["enum"] == ["blue", "red"]


@pytest.mark.parametrize(
    ("schema", "answer"),
    [(Point, '{"x": "a"}'), (City, '{"name": 1}'), (Color, '"green"'), ({}, "{"), (Point, "")],
)
def test_an_answer_of_another_type_is_an_error_that_shows_it(schema, answer):
    with pytest.raises(InvalidRequest, match="is not a") as error:
        parse_answer(result_of_schema(schema), answer)
    assert repr(answer) in str(error.value)


@pytest.mark.parametrize("schema", [3, "City", object(), lambda: 0])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidRequest, match="schema="):
        result_of_schema(schema)


@pytest.mark.parametrize(
    ("dtype", "good", "value", "bad"),
    [
        (int, "-12", -12, "1.5"),
        (float, "2.5", 2.5, "two"),
        (bool, "True", True, "true"),
        (str, '"a \\"b\\" \\u00e9"', 'a "b" é', '"open'),
    ],
)
def test_a_dtype_matches_and_converts(dtype, good, value, bad):
    result = result_of_dtype(dtype)
    assert result is result_of_dtype(dtype.__name__)
    assert re.fullmatch(result.regex, good)
    assert parse_answer(result, good) == value
    assert not re.fullmatch(result.regex, bad)
    with pytest.raises(InvalidRequest):
        parse_answer(result, bad)


def test_every_match_of_a_dtype_converts():
    for dtype, texts in {
        int: ["0", "+7 ", "-001\n"],
        float: ["1", "1.", ".5", "-3.25 "],
        str: ['""', '"\\n"', '"ü"'],
    }.items():
        result = result_of_dtype(dtype)
        for text in texts:
            assert re.fullmatch(result.regex, text), text
            assert isinstance(parse_answer(result, text), dtype)


def test_plain_answers_stay_text():
    assert parse_answer(PLAIN, " 12 ") == " 12 "

import pytest

from ramify.lang.choices import greedy_token_selection, token_length_normalized
from ramify.lang.errors import InvalidRequest
from ramify.lang.expr import Gen, RoleBegin, RoleEnd, Select, Sequence, Text
from ramify.lang.primitives import (
    assistant,
    gen,
    gen_int,
    gen_string,
    select,
    system,
    user,
    user_begin,
    user_end,
)


def test_plus_makes_one_flat_sequence():
    expr = "a" + gen("x") + "b" + user("c") + select("y", ["1"])
    assert isinstance(expr, Sequence)
    kinds = [type(part) for part in expr.parts]
    assert kinds == [Text, Gen, Text, RoleBegin, Text, RoleEnd, Select]


@pytest.mark.parametrize("wrong", [5, None, 1.5, b"x", ["a"]])
def test_adding_anything_else_names_its_type(wrong):
    with pytest.raises(TypeError, match=type(wrong).__name__):
        gen("x") + wrong
    with pytest.raises(TypeError, match=type(wrong).__name__):
        wrong + gen("x")


def test_a_call_knows_where_it_was_written():
    expr = gen("x")
    assert expr.where.file == __file__
    assert gen_int("x").where.line == expr.where.line + 2
    assert select("x", ["a"]).where.file == __file__


@pytest.mark.parametrize("make", [system, user, assistant])
def test_roles_enclose_their_content(make):
    name = make.__name__
    assert make("hi").parts == (RoleBegin(name, False), Text("hi"), RoleEnd(name))
    assert make().parts == (RoleBegin(name, False), RoleEnd(name))
    assert make("Well, " + gen("x")).parts[0] == RoleBegin(name, True)


def test_role_halves():
    assert (user_begin(), user_end()) == (RoleBegin("user"), RoleEnd("user"))


def test_max_tokens_is_the_second_argument():
    assert gen("x", 16).overrides.sampling == {"max_tokens": 16}
    with pytest.raises(TypeError):
        gen("x", 16, 4)


@pytest.mark.parametrize(
    ("kwargs", "both"),
    [
        ({"dtype": int, "regex": "a"}, "regex and dtype"),
        ({"dtype": int, "schema": bool}, "dtype and schema"),
        ({"regex": "a", "json_schema": "{}"}, "regex and json_schema"),
        ({"grammar": "a", "schema": dict}, "grammar and schema"),
        ({"regex": "a", "grammar": "a"}, "regex and grammar"),
    ],
)
def test_two_constraints_are_an_error_that_names_both(kwargs, both):
    with pytest.raises(InvalidRequest, match=both):
        gen("x", **kwargs)


def test_choices_make_a_select():
    expr = gen("x", choices=["a", "b"], choices_method=greedy_token_selection, temperature=0.0)
    assert isinstance(expr, Select)
    assert (expr.choices, expr.method) == (("a", "b"), greedy_token_selection)
    assert gen("x", choices=["a"]).method is token_length_normalized


@pytest.mark.parametrize(
    "others", [{"max_tokens": 3}, {"stop": "a"}, {"dtype": int}, {"regex": "a"}]
)
def test_choices_drop_no_other_argument(others):
    with pytest.raises(InvalidRequest, match=next(iter(others))):
        gen("x", choices=["a"], **others)


@pytest.mark.parametrize("choices", [[], [""], "abc", None, [1, 2]])
def test_select_refuses_what_it_cannot_choose_from(choices):
    with pytest.raises(InvalidRequest, match="choices"):
        select("x", choices)


def test_gen_with_no_choices_does_not_generate_freely():
    with pytest.raises(InvalidRequest, match="choices"):
        gen("x", choices=[])


def test_select_draws_nothing():
    with pytest.raises(InvalidRequest, match="temperature"):
        select("x", ["a"], temperature=0.7)


def test_a_choices_method_must_be_one():
    with pytest.raises(InvalidRequest, match="token_length_normalized"):
        select("x", ["a"], choices_method="greedy")
    with pytest.raises(InvalidRequest, match="needs choices"):
        gen("x", choices_method=greedy_token_selection)


@pytest.mark.parametrize("name", ["", 3])
def test_a_name_is_a_string(name):
    with pytest.raises(InvalidRequest, match="name"):
        gen(name)


def test_typed_shortcuts():
    assert gen_int("x").result.label == "int"
    assert gen_string("x").result.label == '"str"'
    assert gen("x", dtype="float").result.label == "float"
    with pytest.raises(InvalidRequest, match="dtype"):
        gen("x", dtype=dict)


def test_grammar_is_the_name_of_a_grammar():
    assert gen("x", grammar='root ::= "a"').overrides.sampling == {"ebnf": 'root ::= "a"'}
    with pytest.raises(TypeError, match="ebnf"):
        gen("x", ebnf='root ::= "a"')

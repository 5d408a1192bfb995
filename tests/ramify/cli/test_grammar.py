"""`ramify grammar check`: says whether a text fits, where it stops, and what would do there."""

import io

import pytest

from ramify.cli.main import main

SCHEMA = (
    '{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},'
    ' "required": ["name"], "additionalProperties": false}'
)


TAG = (
    '{"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": ["<f"], "tags": '
    '[{"begin": "<f>", "content": {"type": "regex", "pattern": "[0-9]+"}, "end": "</f>"}]}}'
)


def check(capsys, *args):
    code = main(["grammar", "check", *args])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize(
    ("spec", "text", "kind"),
    [
        (r"(yes|no), [0-9]{2,4}\.", "yes, 120.", "regex"),
        (SCHEMA, '{"name": "Zoë", "age": 3}', "json_schema"),
        ('root ::= "(" root ")" | "x"', "((x))", "ebnf"),
        ('["left", "right"]', "left", "choices"),
        (TAG, "so <f>12</f>, <b>", "structural_tag"),
    ],
)
def test_a_text_that_fits_and_the_kind_that_was_guessed(capsys, spec, text, kind):
    code, out = check(capsys, spec, text)
    assert code == 0
    assert out.startswith(f"{kind}: can be served")
    assert out.splitlines()[1].startswith("fits")


@pytest.mark.parametrize(
    ("spec", "text", "place", "allowed"),
    [
        (r"(yes|no), [0-9]{2,4}\.", "yes, 12x", "character 7 (line 1, column 8)", "'0'-'9'"),
        (SCHEMA, '{"nickname": 1}', "character 3 (", "'ame\":"),
        (r"é\nabc", "é\nabd", "character 4 (line 2, column 3)", "'c'"),
        ('["left", "right"]', "up", "character 0 (", "'left', 'right'"),
    ],
)
def test_where_a_text_stops_fitting_and_what_would_do_there(capsys, spec, text, place, allowed):
    code, out = check(capsys, spec, text)
    assert code == 1
    assert f"does not fit: stops at {place}" in out
    assert allowed in out.splitlines()[-1]
    assert out.splitlines()[-2].strip() == "^"


def test_a_text_that_is_not_complete(capsys):
    code, out = check(capsys, '["left", "right"]', "le")
    assert code == 1
    assert "not complete; may go on with: 'ft'" in out


def test_without_a_text_it_says_how_one_begins(capsys):
    code, out = check(capsys, "(yes|no)[.]")
    assert code == 0
    assert "may begin with: 'no.', 'yes.'" in out


@pytest.mark.parametrize(
    ("spec", "code_name", "words"),
    [
        ("a(b", "invalid_regex", "offset 1"),
        ('{"properties": {"a": {"$ref": "#/x"}}}', "invalid_json_schema", "/properties/a/$ref"),
        ('{"minimum": 5, "maximum": 1, "type": "integer"}', "unsatisfiable_schema", ""),
        ('root ::= "a" root', "invalid_grammar", "root"),
    ],
)
def test_a_spec_that_cannot_be_served_is_refused_with_its_place(capsys, spec, code_name, words):
    code, out = check(capsys, spec)
    assert code == 2
    assert code_name in out and words in out
    assert "Traceback" not in out


def test_files_and_standard_input(capsys, tmp_path, monkeypatch):
    path = tmp_path / "nested.gbnf"
    path.write_text('root ::= "(" root ")" | "x"\n')
    monkeypatch.setattr("sys.stdin", io.StringIO("((x)"))
    code, out = check(capsys, str(path), "-")
    assert code == 1
    assert "may go on with: ')'" in out


def test_the_kind_can_be_given(capsys):
    code, _ = check(capsys, "--kind", "regex", r"\[1\]", "[1]")
    assert code == 0
    code, out = check(capsys, "--kind", "choices", "5")
    assert code == 2
    assert "JSON list" in out

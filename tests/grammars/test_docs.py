"""The page about constrained decoding is true: its tables are run."""

import json
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from ramify.grammars import (
    DEFAULT_LIMITS,
    GrammarError,
    JsonSchemaSpec,
    Limits,
    RegexSpec,
    compile_grammar,
)
from ramify.grammars.json_schema.formats import FORMATS, REFUSED
from tests.grammars.conformance import BYTES, LOOSE, OVER, RATCHETS, RIGHT, fits
from tests.grammars.conformance import REFUSED as REFUSED_VERDICT

PAGE = (Path(__file__).parents[2] / "docs" / "grammars.md").read_text(encoding="utf-8")


def rows(first_heading: str) -> list[list[str]]:
    """Cells of the table whose first column has this heading."""
    start = PAGE.index(f"| {first_heading} |")
    lines = PAGE[start : PAGE.index("\n\n", start)].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


KEYWORDS = rows("keyword")


@pytest.mark.parametrize("row", KEYWORDS, ids=lambda row: row[0])
def test_every_keyword_holds_as_stated(row):
    keyword, _, example, yes, no = row
    schema = json.loads(code(example)[0])
    assert code(keyword)[0] in json.dumps(schema)
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(schema), order="any"), BYTES)
    assert [text for text in code(yes) if not fits(grammar, text)] == []
    assert [text for text in code(no) if fits(grammar, text)] == []


@pytest.mark.parametrize("row", rows("schema"), ids=lambda row: row[0])
def test_what_is_refused_is_relaxed_as_stated(row):
    schema, _, left_out = row
    text = code(schema)[0]
    with pytest.raises(GrammarError) as refused:
        compile_grammar(JsonSchemaSpec(text), BYTES)
    assert refused.value.pointer is not None
    grammar = compile_grammar(JsonSchemaSpec(text, strict=False), BYTES)
    assert [entry.keyword for entry in grammar.relaxed] == code(left_out)


def test_formats_are_those_that_are_held_to():
    section = PAGE[PAGE.index("### Formats") : PAGE.index("are held to their RFCs")]
    assert set(code(section)) == set(FORMATS)
    assert all(name in PAGE for name in REFUSED)


def test_limits_are_the_defaults():
    stated = {code(name)[0]: value for name, value, _ in rows("`Limits`")}
    assert stated == {each.name: str(getattr(DEFAULT_LIMITS, each.name)) for each in fields(Limits)}


def test_numbers_of_conformance_are_those_of_the_ratchet():
    suite, maskbench = (
        Counter(
            verdict
            for key, verdict in json.loads((RATCHETS / f"{name}.json").read_text()).items()
            if not key.startswith("optional")
        )
        for name in ("json-schema-test-suite", "maskbench-254")
    )
    ours = next(row for row in rows("engine") if row[0] == "Ramify")
    counts = [suite[each] for each in (RIGHT, REFUSED_VERDICT, OVER, LOOSE)]
    assert ours[1:] == [str(n) for n in (*counts, maskbench[RIGHT], maskbench[LOOSE])]


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?>a|ab)", "(ab)++", "(?<=ab)c"])
def test_regexes_that_are_refused(pattern):
    with pytest.raises(GrammarError) as refused:
        compile_grammar(RegexSpec(pattern), BYTES)
    assert refused.value.code == "unsupported_regex"
    assert refused.value.offset is not None

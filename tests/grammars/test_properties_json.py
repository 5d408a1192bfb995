"""Random JSON Schemas against python-jsonschema. RAMIFY_NIGHTLY=1 draws thousands of them anew."""

import json
import re
from random import Random

import jsonschema
from hypothesis import assume, event, given
from hypothesis import strategies as st

from ramify.grammars import JsonSchemaSpec, Matcher
from tests.grammars.random_schemas import random_value, schemas, value_for
from tests.grammars.random_specs import extra_tokens
from tests.grammars.test_properties import NUM_WALKS, compiled_or_refusal, draws, fits
from tests.grammars.vocabularies import byte_vocabulary
from tests.grammars.walks import walk

SPELLINGS = ({"separators": (",", ":")}, {})
LONG_NUMBER = re.compile(rb"[0-9][0-9.]{15}")  # jsonschema reads it rounded to a double
REFUSALS = ("unsupported_keyword", "unsatisfiable_schema", "grammar_too_complex")


@draws(6_000, 200)
@given(schema=schemas(), extra=extra_tokens(), seed=st.integers(0, 2**32))
def test_a_schema_takes_what_is_valid(schema, extra, seed):
    validator = jsonschema.Draft202012Validator(schema)
    rng = Random(seed)
    assume(not refers_to_itself_in_place(schema))  # jsonschema never returns
    values = [value_for(schema, rng) for _ in range(8)] + [random_value(rng) for _ in range(8)]
    spec = JsonSchemaSpec(json.dumps(schema), order="any")
    grammar, refusal = compiled_or_refusal(spec, byte_vocabulary(*extra))
    if grammar is None:
        event(f"refused: {refusal.code}")
        assert refusal.code in REFUSALS, refusal
        if refusal.code == "unsatisfiable_schema":
            assert not any(validator.is_valid(value) for value in values), values
        return
    event("compiled")
    for value in values:
        valid = validator.is_valid(value)
        event(f"valid: {valid}")
        for spelling in SPELLINGS:
            text = json.dumps(value, ensure_ascii=False, **spelling)
            assert fits(grammar, text) == valid, text
    for order in ("any", "schema"):
        ordered, refusal = compiled_or_refusal(
            JsonSchemaSpec(spec.schema, order=order), byte_vocabulary(*extra)
        )
        assert ordered is not None, refusal
        for _ in range(NUM_WALKS // 2):
            text = walk(Matcher(ordered), rng, num_steps=60, audit=0.05)
            event(f"finished: {text is not None}")
            if text is not None and not LONG_NUMBER.search(text):
                assert validator.is_valid(json.loads(text)), (order, text)


def refers_to_itself_in_place(schema) -> bool:
    """Does the definition lead back to itself at the same value?"""
    todo = [schema.get("$defs", {}).get("d")] if isinstance(schema, dict) else []
    while todo:
        part = todo.pop()
        if not isinstance(part, dict):
            continue
        if "$ref" in part:
            return True
        for name in ("not", "if", "then", "else"):
            todo.append(part.get(name))
        for name in ("allOf", "anyOf", "oneOf"):
            todo += part.get(name, ())
        todo += part.get("dependentSchemas", {}).values()
    return False

"""The public conformance sets, run through the grammar engine; results are kept in ratchet files.

    python -m tests.grammars.conformance     writes the ratchet files anew

The sets are looked for in the folder RAMIFY_DATA, else in `../shared/data` beside the repository.
"""

import json
import os
from collections import Counter
from pathlib import Path

from ramify.grammars import (
    GrammarError,
    JsonSchemaSpec,
    Limits,
    Matcher,
    Vocabulary,
    compile_grammar,
)

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("RAMIFY_DATA", ROOT.parent / "shared" / "data"))
SUITE = DATA / "json-schema-test-suite" / "draft2020-12"
MASKBENCH = DATA / "maskbench-254"
RATCHETS = Path(__file__).parent / "ratchet"
BYTES = Vocabulary([*(bytes([byte]) for byte in range(256)), None], [256])

NO_HURRY = Limits(compile_seconds=60)  # verdicts must not depend on the machine's load

RIGHT, REFUSED, OVER, LOOSE = "right", "refused", "over", "loose"
WORST_FIRST = (LOOSE, OVER, REFUSED, RIGHT)


def fits(grammar, text: str) -> bool:
    matcher = Matcher(grammar)
    return matcher.accept_text(text.encode("utf-8", "surrogatepass")) and matcher.is_complete


def judge(schema, tests, *, formats: bool, spellings) -> str:
    """RIGHT: every instance is accepted if and only if it is valid. OVER: a valid one is not.
    LOOSE: an invalid one is accepted."""
    spec = JsonSchemaSpec(json.dumps(schema), order="any", formats=formats)
    try:
        grammar = compile_grammar(spec, BYTES, NO_HURRY)
    except GrammarError as error:
        if error.code == "unsatisfiable_schema" and not any(valid for _, valid in tests):
            return RIGHT  # nothing is valid, and it says so
        return REFUSED
    verdicts = {RIGHT}
    for data, valid in tests:
        for spelling in spellings:
            found = fits(grammar, json.dumps(data, ensure_ascii=False, **spelling))
            if found != valid:
                verdicts.add(OVER if valid else LOOSE)
    return next(verdict for verdict in WORST_FIRST if verdict in verdicts)


COMPACT, SPACED = {"separators": (",", ":")}, {}


def suite_results() -> dict[str, str]:
    out = {}
    for path in sorted(SUITE.glob("**/*.json")):
        name = path.relative_to(SUITE).as_posix()
        formats = name.startswith("optional/format/")
        for index, group in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            tests = [(test["data"], test["valid"]) for test in group["tests"]]
            out[f"{name}#{index} {group['description']}"] = judge(
                group["schema"], tests, formats=formats, spellings=(COMPACT, SPACED)
            )
    return out


def maskbench_results() -> dict[str, str]:
    out = {}
    for path in sorted(MASKBENCH.glob("**/*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        if "schema" in case:
            tests = [(test["data"], test["valid"]) for test in case["tests"]]
            out[path.stem] = judge(case["schema"], tests, formats=True, spellings=(SPACED,))
    return out


SETS = {"json-schema-test-suite": suite_results, "maskbench-254": maskbench_results}


def main() -> None:
    RATCHETS.mkdir(exist_ok=True)
    for name, run in SETS.items():
        results = run()
        (RATCHETS / f"{name}.json").write_text(
            json.dumps(results, indent=0, ensure_ascii=False) + "\n"
        )
        required = {key: value for key, value in results.items() if not key.startswith("optional")}
        print(
            name,
            "required",
            dict(Counter(required.values())),
            "all",
            dict(Counter(results.values())),
        )


if __name__ == "__main__":
    main()

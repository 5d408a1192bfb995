"""The ratchet: a result worse than the committed one fails; a better one has to be committed."""

import json

import pytest

from tests.grammars import conformance


@pytest.mark.slow
@pytest.mark.parametrize("name", list(conformance.SETS))
def test_results_are_those_of_the_ratchet(name):
    if not conformance.DATA.is_dir():
        pytest.skip(f"no conformance data at {conformance.DATA}; set RAMIFY_DATA")
    expected = json.loads((conformance.RATCHETS / f"{name}.json").read_text())
    found = conformance.SETS[name]()
    changed = {
        key: (expected.get(key), verdict)
        for key, verdict in found.items()
        if expected.get(key) != verdict
    }
    assert not changed, "run python -m tests.grammars.conformance if these are better"


def test_the_ratchet_holds_what_was_promised():
    suite = json.loads((conformance.RATCHETS / "json-schema-test-suite.json").read_text())
    required = [verdict for key, verdict in suite.items() if not key.startswith("optional")]
    assert len(required) == 383
    assert required.count(conformance.RIGHT) >= 355
    assert required.count(conformance.LOOSE) == 0
    maskbench = list(json.loads((conformance.RATCHETS / "maskbench-254.json").read_text()).values())
    assert len(maskbench) == 254
    assert maskbench.count(conformance.RIGHT) >= 250
    assert maskbench.count(conformance.LOOSE) == 0

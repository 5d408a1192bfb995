"""Masks against brute force over the whole vocabulary, at sampled states of real documents.

    python mask_audit.py NUM_SCHEMAS STATES_PER_SCHEMA

Run with grambench and the repository root on PYTHONPATH; MASKBENCH names the folder of schemas.
"""

import json
import os
import random
import sys
from pathlib import Path

import numpy as np
from adapter import Ramify
from adapters import TokBundle


def main() -> None:
    num_schemas, num_states = int(sys.argv[1]), int(sys.argv[2])
    tok = TokBundle()
    engine = Ramify(tok)
    rng = random.Random(7)
    paths = sorted(Path(os.environ["MASKBENCH"]).glob("*.json"))
    rng.shuffle(paths)
    schemas = states = missing = extra = 0
    for path in paths:
        case = json.loads(path.read_text())
        valid = [test["data"] for test in case["tests"] if test["valid"]]
        if schemas == num_schemas or not valid:
            continue
        try:
            matcher = engine.start(engine.compile(case["schema"]))
        except ValueError:
            continue
        schemas += 1
        ids = tok.encode(json.dumps(valid[0], ensure_ascii=False))
        picked = set(rng.sample(range(len(ids) + 1), min(num_states, len(ids) + 1)))
        for index in range(len(ids) + 1):
            if index in picked:
                row = np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")
                mask = set(np.flatnonzero(row[: tok.vocab_size]).tolist())
                found = brute_force(matcher, tok.vocab_size)
                states += 1
                missing += len(found - mask)
                extra += len(mask - found)
                specials = mask & set(tok.special) - {tok.eos_id}
                assert not specials, specials
            if index < len(ids) and not matcher.accept(ids[index]):
                break
    print(f"{schemas} schemas, {states} states: {missing} missing, {extra} extra")


def brute_force(matcher, vocab_size):
    found = set()
    for token_id in range(vocab_size):
        if matcher.accept(token_id):
            matcher.rollback(1)
            found.add(token_id)
    return found


if __name__ == "__main__":
    main()

"""The bundled model's greedy answers on a GPU beside those of the CPU: 32 prompts, 128 tokens each.

    python -m benchmarks.gpu.smollm2 write FILE                # where the bundled model is
    python -m benchmarks.gpu.smollm2 check FILE --model GGUF   # on a GPU

Prints how many answers are equal and, for each that is not, where it first differs and the gap
between the two likeliest tokens there, in log-probability. bfloat16 has 8 bits: at the size of this
model's largest logits (16 to 32) its steps are 0.125 wide.
"""

import argparse
import json
from pathlib import Path

import ramify
from ramify.lang.protocol import LogprobOptions, Sampling

NUM_OUT = 128
TOPICS = (
    "rivers", "bread", "the moon", "chess", "bees", "glass", "winter", "trains", "salt", "maps",
    "volcanoes", "paper", "music", "clocks", "forests", "bridges",
)  # fmt: skip
PROMPTS = [
    f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    for topic in TOPICS
    for text in (f"Tell me about {topic}.", f"Write a short story in which {topic} matter.")
]
SAMPLING = Sampling(temperature=0.0, max_tokens=NUM_OUT, ignore_eos=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("write", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", help="default: the bundled model")
    options = parser.parse_args()
    with ramify.Engine(options.model, dtype="bfloat16") as engine:
        answers = engine.generate_batch(
            PROMPTS, SAMPLING, logprobs=LogprobOptions(output=True, top=2)
        )
    completions = [answer.completions[0] for answer in answers]
    tokens = [list(one.token_ids) for one in completions]
    if options.what == "write":
        options.file.write_text(json.dumps(tokens))
        return
    expected = json.loads(options.file.read_text())
    gaps = []
    for number, (ours, theirs) in enumerate(zip(tokens, expected, strict=True)):
        pairs = zip(ours, theirs, strict=True)
        at = next((at for at, (one, other) in enumerate(pairs) if one != other), None)
        if at is not None:
            (best, _), (second, _) = completions[number].logprobs[at].top[:2]
            gaps.append(best - second)
            print(f"prompt {number}: token {at} differs, gap {best - second:.4f}")
    num_equal = len(tokens) - len(gaps)
    print(f"{num_equal} of {len(tokens)} answers equal; largest gap {max(gaps, default=0):.4f}")


if __name__ == "__main__":
    main()

"""Skeleton of thought: write a short list first, then work out all of its points at once."""

import ramify
from ramify import assistant, gen, user

EXAMPLES = """\
Three tips for saving water:
1. Take shorter showers.
2. Fix taps that drip.
3. Water the garden in the evening.

Three tips for giving a speech:
1. Know your audience.
2. Practise in front of a mirror.
3. Begin with a story.

"""


@ramify.function
def skeleton(s, topic):
    s += EXAMPLES + f"Three tips for {topic}:\n"
    for number in (1, 2, 3):
        s += f"{number}." + gen(f"tip {number}", max_tokens=16, stop="\n") + "\n"


@ramify.function
def explain(s, topic, tips):
    forks = s.fork(len(tips))
    for fork, tip in zip(forks, tips, strict=True):
        fork += user(f"Explain this tip for {topic} in one sentence: {tip}")
        fork += assistant(gen("explanation", max_tokens=48))
    forks.join("gather_variable")


def main(topic="staying healthy"):
    outline = skeleton.run(topic, temperature=0)
    tips = [outline[f"tip {number}"].strip() for number in (1, 2, 3)]
    details = explain.run(topic, tips, temperature=0)
    for number, (tip, text) in enumerate(zip(tips, details["explanation"], strict=True), 1):
        print(f"{number}. {tip}\n   {text}")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

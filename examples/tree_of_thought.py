"""Tree of thought: propose, rate, keep the best two, and go one level deeper from each."""

import ramify
from ramify import gen, select

EXAMPLES = """\
Three countries to visit in Asia:
1. Japan
2. Thailand
3. India

Three cities to visit in Japan:
1. Tokyo
2. Kyoto
3. Osaka
"""
KEEP = 2  # thoughts that go on to the next level


def propose(s, kind, place):
    s += f"\nThree {kind} to visit in {place}:\n"
    for number in (1, 2, 3):
        s += f"{number}." + gen(f"{kind} {number}", max_tokens=8, stop="\n") + "\n"


def proposed(s, kind):
    """The thoughts proposed, each once."""
    return list(dict.fromkeys(s[f"{kind} {number}"].strip() for number in (1, 2, 3)))


def rated(s, wish, noun, thoughts):
    """Each thought with its probability of serving the wish, best first."""
    s += f"\nTo {wish}, one should travel to{noun}"
    s += select("best", [f" {thought}" for thought in thoughts])
    probabilities = s.get_meta_info("best")["probabilities"]
    return sorted(zip(probabilities, thoughts, strict=True), reverse=True)


@ramify.function
def travel(s, wish):
    s += EXAMPLES
    propose(s, "countries", "Europe")
    kept = rated(s.copy(), wish, "", proposed(s, "countries"))[:KEEP]

    branches = s.fork(len(kept))
    for branch, (_, country) in zip(branches, kept, strict=True):
        propose(branch, "cities", country)
    plans = []
    for branch, (likely, country) in zip(branches, kept, strict=True):
        for value, city in rated(branch.copy(), wish, " the city of", proposed(branch, "cities")):
            plans.append((likely * value, f"{city}, {country}"))
    s["plans"] = sorted(plans, reverse=True)


def main(wish="see Michelangelo's David"):
    state = travel.run(wish, temperature=0)
    print(f"To {wish}:")
    for place, (_, plan) in enumerate(state["plans"][:3], 1):
        print(f"  {place}. {plan}")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

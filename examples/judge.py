"""Branch, solve, merge: a judge looks at each part of a review on its own, then sums up."""

import ramify
from ramify import gen, select

EXAMPLES = """\
Review: The pool was dirty and crowded. The view of the sea was wonderful. The bus was always late.
pool: dirty and crowded. Verdict: bad
view: wonderful. Verdict: good
bus: always late. Verdict: bad

Review: Dinner was delicious. The garden was full of rubbish. The lift was fast and clean.
dinner: delicious. Verdict: good
garden: full of rubbish. Verdict: bad
lift: fast and clean. Verdict: good

Review: The music was far too loud. The drinks were cheap and good. The chairs were broken.
music: far too loud. Verdict: bad
drinks: cheap and good. Verdict: good
chairs: broken. Verdict: bad

"""
REVIEW = (
    "The room was large and quiet. Breakfast was cold and late. The staff were friendly and kind."
)
PARTS = ["room", "breakfast", "staff"]


@ramify.function
def judge(s, review, parts):
    s += EXAMPLES + f"Review: {review}\n"
    branches = s.fork(len(parts))
    for branch, part in zip(branches, parts, strict=True):
        branch += f"{part}:" + gen("finding", max_tokens=24, stop=[".", "\n"])
        branch += ". Verdict:" + select("verdict", [" good", " bad"]) + "\n"
    branches.join("concate_and_append")  # the state goes on with the text of all branches
    s += "\nReview in three words:" + gen("summary", max_tokens=12, stop=[".", "\n"])
    s["findings"] = [branch["finding"].strip() for branch in branches]
    s["verdicts"] = [branch["verdict"].strip() for branch in branches]


def main():
    state = judge.run(REVIEW, PARTS, temperature=0)
    print(REVIEW)
    for part, finding, verdict in zip(PARTS, state["findings"], state["verdicts"], strict=True):
        print(f"  {part + ':':<10} {verdict:<5} ({finding})")
    print(f"  {state['verdicts'].count('good')} of {len(PARTS)} good")
    print(f"  summary:   {state['summary'].strip()}")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

"""Branch, solve, merge: a judge looks at each part of a review on its own, then sums up."""

import ramify
from ramify import gen, select

EXAMPLES = """\
Review: The pool was dirty and crowded. The view was wonderful. The bus was late every day.
The pool was dirty and crowded. Verdict: bad
The view was wonderful. Verdict: good
The bus was late every day. Verdict: bad

Review: The dinner was delicious. The garden was full of rubbish. The lift was fast and clean.
The dinner was delicious. Verdict: good
The garden was full of rubbish. Verdict: bad
The lift was fast and clean. Verdict: good

Review: The music was far too loud. The drinks were cheap and good. The chairs were broken.
The music was far too loud. Verdict: bad
The drinks were cheap and good. Verdict: good
The chairs were broken. Verdict: bad

"""
REVIEW = "The soup was cold and salty. The fish was fresh and tasty. The waiter was rude to us."
PARTS = ["soup", "fish", "waiter"]


@ramify.function
def judge(s, review, parts):
    s += EXAMPLES + f"Review: {review}\n"
    branches = s.fork(len(parts))
    for branch, part in zip(branches, parts, strict=True):
        branch += f"The {part}" + gen("finding", max_tokens=24, stop=[".", "\n"])
        branch += ". Verdict:" + select("verdict", [" good", " bad"]) + "\n"
    branches.join("concate_and_append")  # the state goes on with the text of all branches
    s += "\nIn short, the review" + gen("summary", max_tokens=24, stop=[".", "\n"])
    s["findings"] = [branch["finding"].strip() for branch in branches]
    s["verdicts"] = [branch["verdict"].strip() for branch in branches]


def main():
    state = judge.run(REVIEW, PARTS, temperature=0)
    print(REVIEW)
    for part, finding, verdict in zip(PARTS, state["findings"], state["verdicts"], strict=True):
        print(f"  {part + ':':<8} {verdict:<5} ({finding})")
    print(f"In short, the review{state['summary']}.")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

"""`run_batch`: many programs at once behind one prompt of examples, which is computed once."""

import ramify
from ramify import select

EXAMPLES = """\
Review: The plot was dull and far too long.
Feeling: negative

Review: Wonderful acting and a moving story.
Feeling: positive

Review: I fell asleep after ten minutes.
Feeling: negative

Review: A joy from start to finish!
Feeling: positive

"""
REVIEWS = [
    "I laughed the whole evening, a great film.",
    "The worst movie of the year.",
    "Beautiful pictures and lovely music.",
    "Boring, loud and stupid.",
    "My children loved every minute of it.",
    "I want my money back.",
]


@ramify.function
def classify(s, review):
    s += EXAMPLES + f"Review: {review}\nFeeling:"
    s += select("feeling", [" positive", " negative"])


def main():
    states = classify.run_batch([{"review": review} for review in REVIEWS], temperature=0)
    for review, state in zip(REVIEWS, states, strict=True):
        print(f"{state['feeling'].strip():<8}  {review}")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

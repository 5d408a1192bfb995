"""A question, a choice and a fork: one program, on whatever model the default backend serves."""

import ramify
from ramify import assistant, gen, select, user

QUESTIONS = [
    "Which river flows through it?",
    "Which language do people speak there?",
    "What is its most famous building?",
]


@ramify.function
def france(s):
    s += user("Which city is the capital of France?")
    s += assistant("The capital of France is" + gen("capital", max_tokens=8, stop=".") + ".")
    s += user("On which continent is it?")
    s += assistant(select("continent", ["Africa", "Asia", "Europe"]))
    forks = s.fork(len(QUESTIONS))  # states that share all tokens so far, and run side by side
    for fork, question in zip(forks, QUESTIONS, strict=True):
        fork += user(question)
        fork += assistant(gen("answer", max_tokens=32))
    forks.join()  # their results become lists


def main():
    state = france.run(temperature=0)
    print("capital:  ", state["capital"].strip())
    print("continent:", state["continent"])
    for question, answer in zip(QUESTIONS, state["answer"], strict=True):
        print(f"{question} {answer}")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

"""A question, a choice and a fork: one program, on whatever model the default backend serves."""

import ramify
from ramify import assistant, gen, select, user

TOPICS = ["art", "food", "history"]


@ramify.function
def paris(s):
    s += user("What is the capital of France?")
    s += assistant(gen("answer", max_tokens=32))
    s += user("On which continent is it?")
    s += assistant(select("continent", ["Africa", "Asia", "Europe"]))
    forks = s.fork(len(TOPICS))  # three states that share all tokens so far
    for fork, topic in zip(forks, TOPICS, strict=True):
        fork += user(f"In one sentence, what is Paris famous for in {topic}?")
        fork += assistant(gen("fact", max_tokens=48, stop="."))
    forks.join("gather_variable")  # their results, as lists


def main():
    state = paris.run(temperature=0)
    print("answer:   ", state["answer"])
    print("continent:", state["continent"])
    for topic, fact in zip(TOPICS, state["fact"], strict=True):
        print(f"{topic + ':':<10} {fact}.")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

"""Several turns in one state: what a turn added stays in the cache for the next one."""

import ramify
from ramify import assistant, gen, system, user

QUESTIONS = [
    "What is the capital of France?",
    "Which river flows through it?",
    "Name a famous museum there.",
    "What is the museum's most famous painting?",
]


@ramify.function
def conversation(s, questions):
    s += system("You are a helpful AI assistant who answers in one short sentence.")
    for turn, question in enumerate(questions):
        s += user(question)
        s += assistant(gen(f"answer {turn}", max_tokens=48))


def main():
    state = conversation.run(QUESTIONS, temperature=0)
    for message in state.messages():
        print(f"{message['role'] + ':':<10} {message['content']}")


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()

"""`ramify chat`: talk to a model in the terminal, or one line at a time through a pipe."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress

import ramify
from ramify.cli import options as config_options
from ramify.interpreter.loop import io_loop
from ramify.interpreter.state import ProgramState
from ramify.runtime.options import describe

PROMPT = "> "


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the verb's options."""
    parser = verbs.add_parser(
        "chat",
        help="talk to a model",
        description="Talk to a model. Ctrl-C stops an answer and forgets its question; Ctrl-D ends "
        "the conversation. Through a pipe, each line is a question.",
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--max-tokens", type=int, default=512, help="of an answer (default: 512)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 = always the likeliest (default: 0)"
    )
    config_options.add_backend_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answer questions until there are no more."""
    if options.print_config:
        print(describe(config_options.engine_config(options)))
        return 0
    backend = config_options.make_backend(options, "chat")
    try:
        conversation.run(
            options.system,
            backend=backend,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
        )
    finally:
        io_loop().submit(backend.close()).result()
    return 0


@ramify.function
def conversation(s: ProgramState, instructions: str | None) -> None:
    """Ask for a question, stream the answer, and so on; a stopped turn is forgotten."""
    if instructions is not None:
        s += ramify.system(instructions)
    for question in questions():
        turn = s.copy()
        turn += ramify.user(question)
        turn += ramify.assistant(ramify.gen("answer"))
        try:
            for text in turn.text_iter("answer"):
                print(text, end="", flush=True)
            s = turn
        except KeyboardInterrupt:
            turn.cancel()
        print()


def questions() -> Iterator[str]:
    """Lines of standard input; in a terminal with a prompt and line editing."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() line editing and a history
    while True:
        try:
            line = input(PROMPT).strip()
        except KeyboardInterrupt:
            print()
            continue
        except EOFError:
            print()
            return
        if line:
            yield line

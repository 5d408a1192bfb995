import io

import pytest

from ramify.cli import chat
from ramify.cli import main as cli
from ramify.cli import options as config_options
from ramify.interpreter.backends.mock import MockBackend, prompt_text


@pytest.fixture
def mock(monkeypatch):
    backend = MockBackend(["Paris.", "The Seine."])
    monkeypatch.setattr(config_options, "make_backend", lambda options, verb: backend)
    return backend


def test_each_line_of_a_pipe_is_answered_in_one_conversation(mock, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Capital of France?\n\nIts river?\n"))
    assert cli.main(["chat", "--system", "Be brief.", "--max-tokens", "50"]) == 0
    assert capsys.readouterr().out == "Paris.\nThe Seine.\n"
    last = prompt_text(mock.requests[-1].prompt)
    for text in ("Be brief.", "Capital of France?", "Paris.", "Its river?"):
        assert text in last
    assert mock.requests[-1].sampling.max_tokens == 50
    assert mock.requests[-1].sampling.temperature == 0


def test_a_stopped_answer_is_forgotten_with_its_question(mock, monkeypatch, capsys):
    class Stopping:
        def __init__(self):
            self.is_first = True

        def __call__(self, *texts, end="\n", **_):
            if self.is_first and end == "":
                self.is_first = False
                raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.StringIO("Capital of France?\nIts river?\n"))
    monkeypatch.setattr(chat, "print", Stopping(), raising=False)
    assert cli.main(["chat"]) == 0
    assert "Capital" not in prompt_text(mock.requests[-1].prompt)


def test_a_terminal_has_a_prompt_and_ends_with_the_input(monkeypatch, capsys):
    typed = iter(["first", KeyboardInterrupt, "", "second", EOFError])

    def read(prompt):
        assert prompt == chat.PROMPT
        line = next(typed)
        if not isinstance(line, str):
            raise line
        return line

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", read)
    assert list(chat.questions()) == ["first", "second"]

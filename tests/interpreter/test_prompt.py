"""A state is tokens: constant text is one segment, an answer stays the tokens it was."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ramify
from ramify import MockBackend, function, gen, select
from ramify.interpreter.backends.mock import prompt_text
from ramify.lang.protocol import (
    FinishReason,
    GenerateDelta,
    ModelInfo,
    TextSegment,
    TokenSegment,
    Usage,
)


def prompts(body, backend):
    function(body).run(backend=backend)
    return [request.prompt for request in backend.requests]


def tokens(text):
    return TokenSegment(tuple(text.encode()))


def test_constant_text_between_calls_is_one_segment():
    def body(s):
        s += "a"
        s += "b" + ramify.user("c")
        s += "" + gen() + "d"
        s += "e" + select(choices=["x", "y"]) + "f"
        s += gen()

    first, second, third = prompts(body, MockBackend(["one", "y", "three"]))
    chat = "<|im_start|>user\nc<|im_end|>\n"
    assert first == (TextSegment("ab" + chat),)
    assert second == (*first, tokens("one"), TextSegment("de"))
    assert third == (*second, tokens("y"), TextSegment("f"))


def test_an_empty_answer_leaves_one_segment():
    def body(s):
        s += "a" + gen() + "b" + gen()

    assert prompts(body, MockBackend(["", "x"]))[1] == (TextSegment("ab"),)


class Tailed(MockBackend):
    """Its answers end within a token, as a stop string can cut one."""

    async def generate(self, request):
        self.requests.append(request)
        usage = Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=2)
        yield GenerateDelta(rid=request.rid, text="whole", token_ids=(7, 9))
        yield GenerateDelta(
            rid=request.rid,
            text=" cu",
            tail=" cu",
            finish=FinishReason(type="stop", matched="t"),
            usage=usage,
        )


def test_the_cut_end_of_an_answer_joins_the_next_text():
    def body(s):
        s += "a" + gen("x") + "t!" + gen()

    backend = Tailed()
    assert prompts(body, backend)[1] == (
        TextSegment("a"),
        TokenSegment((7, 9)),
        TextSegment(" cut!"),
    )


def test_roles_continue_what_the_template_wrote():
    def body(s):
        s += ramify.system("S") + ramify.user("U") + ramify.assistant(gen())
        s += ramify.user("V") + ramify.assistant(gen())

    first, second = prompts(body, MockBackend(["one", "two"]))
    assert second[: len(first)] == first
    assert second[1] == tokens("one")
    assert second[2].text == ("<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n")


def test_forks_begin_with_their_parents_tokens():
    def body(s):
        s += "a" + gen()
        forks = s.fork(2)
        forks += ["b", "c"]
        forks += gen("x")
        forks.join("concate_and_append")
        s += "d" + gen()

    backend = MockBackend(lambda prompt: f"<{len(prompt)}>")
    parent, *children, joined = prompts(body, backend)
    for child in children:
        assert child[: len(parent) + 1] == (*parent, tokens("<1>"))
    assert joined == (
        *parent,
        tokens("<1>"),
        TextSegment("b"),
        tokens("<5>"),
        TextSegment("c"),
        tokens("<5>"),
        TextSegment("d"),
    )


steps = st.lists(
    st.one_of(st.text(max_size=5), st.just(gen), st.just(select)), min_size=1, max_size=12
)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_every_prompt_extends_the_one_before(parts):
    def body(s):
        for part in parts:
            s += part if isinstance(part, str) else _call(part)

    backend = MockBackend(lambda prompt: "yes" if len(prompt) % 2 else "no")
    state = function(body).run(backend=backend)
    before = ()
    for request in backend.requests:
        assert request.prompt[: len(before)] == before
        kinds = [type(segment) for segment in request.prompt]
        assert (TextSegment, TextSegment) not in itertools.pairwise(kinds)
        before = request.prompt
    assert state.text().startswith(prompt_text(before))


def _call(kind):
    return gen() if kind is gen else select(choices=["yes", "no"])


@pytest.mark.parametrize("text", ["é", "日本", "\U0001f600", "\u0000"])
def test_any_text_survives(text):
    def body(s):
        s += text + gen("x") + text

    assert function(body).run(backend=MockBackend([text])).text() == text * 3


def test_model_info_is_not_needed_without_roles():
    class NoInfo(MockBackend):
        async def model_info(self) -> ModelInfo:
            raise AssertionError("asked")

    def body(s):
        s += "x" + gen("y")

    assert function(body).run(backend=NoInfo()).text() == "xmock"


THINKING = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)


def test_a_given_answer_is_not_opened_as_one_to_generate():
    @ramify.function
    def few_shot(s):
        s += ramify.user("a") + ramify.assistant("given")
        s += ramify.user("b") + ramify.assistant("so: " + ramify.gen("x"))

    state = few_shot.run(backend=ramify.MockBackend(["made"], chat_template=THINKING))
    assert state.text() == (
        "<user>a</><assistant><think></think>given</><user>b</><assistant><think>so: made</>"
    )

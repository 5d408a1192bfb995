"""Every common prefix is computed once, as the language uses it on the real model."""

import pytest

import ramify
from ramify import assistant, gen, system, user

pytestmark = pytest.mark.weights

LONG = "The lighthouse keeper wrote down the weather, the ships and the birds of each day. "


@pytest.fixture
def backend(exact_engine):
    exact_engine.flush_cache()
    return exact_engine


def computed(engine, run):
    before = engine.stats().computed_tokens
    state = run()
    return engine.stats().computed_tokens - before, state


@ramify.function
def sixteen_forks(s, prompt):
    s += prompt
    forks = s.fork(16)
    for i, fork in enumerate(forks):
        fork += f" In short, {chr(65 + i)}:"
        fork += gen("x", max_tokens=4, ignore_eos=True)
    forks.join()


def test_sixteen_forks_of_a_thousand_tokens_compute_them_once(backend):
    prompt = LONG * 64
    prompt_len = len(backend.tokenize(prompt))
    assert prompt_len >= 1000
    rows, state = computed(
        backend, lambda: sixteen_forks.run(prompt, backend=backend, temperature=0)
    )
    assert len(state["x"]) == 16
    own = max(len(backend.tokenize(f" In short, {chr(65 + i)}:")) for i in range(16))
    assert rows <= prompt_len + 16 * (own + 3)  # the last of the 4 tokens is never fed


@ramify.function
def four_turns(s):
    s += system("You answer briefly.")
    for i, question in enumerate(("Name a fruit.", "Another one.", "And a vegetable.", "Thanks!")):
        s += user(question)
        s += assistant(gen(f"answer{i}", max_tokens=12))


def test_a_chat_of_four_turns_computes_each_token_once(backend):
    rows, state = computed(backend, lambda: four_turns.run(backend=backend, temperature=0))
    nodes = [node for node in state.graph.nodes if node.kind == "generate"]
    assert len(nodes) == 4
    last = nodes[-1]
    assert rows <= last.usage.prompt_tokens + last.usage.completion_tokens

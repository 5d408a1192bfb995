"""Appending to a state and reading it: text, names, roles, scopes."""

import re

import pytest

import ramify
from ramify import MockBackend, function, gen, select


def run(body, replies=None, **options):
    return function(body).run(backend=MockBackend(replies), **options)


def test_text_calls_and_results():
    def body(s):
        s += "Q: 1+1?\nA:" + gen("answer", stop="\n") + "\n"
        s += "sure? " + select("sure", ["yes", "no"])

    state = run(body, [" 2\nB:", "no"])
    assert state.text() == "Q: 1+1?\nA: 2\nsure? no"
    assert (state["answer"], state["sure"]) == (" 2", "no")
    assert (state.answer, state.sure) == (" 2", "no")


def test_the_first_argument_may_have_any_name():
    @function
    def qa(conversation, question, /, *, tone="kind", depth):
        conversation += f"{question} {tone} {depth}"

    state = qa.run("why", depth=2, backend=MockBackend())
    assert state.text() == "why kind 2"


@pytest.mark.parametrize("wrong", [5, None, 2.5, b"x", ["a"], {"a": 1}, object()])
def test_appending_anything_else_is_a_type_error(wrong):
    def body(s):
        s += wrong

    with pytest.raises(TypeError, match=type(wrong).__name__):
        run(body)


def test_appending_a_state_is_a_type_error():
    def body(s):
        s += s.copy()

    with pytest.raises(TypeError, match="ProgramState"):
        run(body)


def test_set_and_overwrite():
    def body(s):
        s["k"] = [1, 2]
        s += gen("x") + gen("x")

    state = run(body, ["a", "b"])
    assert state["k"] == [1, 2]
    assert state["x"] == "b"
    assert state.text() == "ab"
    assert "k" in state
    assert "y" not in state


def test_an_unknown_name_lists_the_known_ones():
    def body(s):
        s += gen("first")
        s["second"] = 2

    state = run(body)
    for read in (lambda: state["frist"], lambda: state.get_meta_info("frist")):
        with pytest.raises(KeyError, match=re.escape("known are: 'first', 'second'")) as error:
            read()
        assert isinstance(error.value, ramify.UnknownResult)
        assert "body()" in str(error.value)
    with pytest.raises(AttributeError, match="known are"):
        _ = state.frist
    assert not hasattr(state, "frist")
    with pytest.raises(KeyError):
        list(state.text_iter("frist"))


def chat(s):
    s += ramify.system("be brief")
    with s.user():
        s += "hello"
    s.assistant(gen("one"))
    s += ramify.user_begin()
    s += "more"
    s += ramify.user_end()
    s += ramify.assistant_begin() + gen("two") + ramify.assistant_end()


def test_all_forms_of_roles_give_the_template_and_the_messages():
    state = run(chat, ["hi", "bye"])
    assert state.text() == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\nhi<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n"
        "<|im_start|>assistant\nbye<|im_end|>\n"
    )
    assert state.messages() == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "bye"},
    ]


def test_an_open_message_is_the_last():
    def body(s):
        s += ramify.user("a") + ramify.assistant_begin() + gen("x")

    assert run(body, ["so"]).messages()[-1] == {"role": "assistant", "content": "so"}


@pytest.mark.parametrize(
    "expr",
    [
        ramify.user_begin() + ramify.assistant("x"),
        ramify.user_end(),
        ramify.user_begin() + ramify.assistant_end(),
    ],
)
def test_roles_nest_and_close_properly(expr):
    def body(s):
        s += expr

    with pytest.raises(ramify.InvalidRequest, match="message") as error:
        run(body)
    assert error.value.code == "nested_roles"


def test_an_exception_in_a_role_closes_it():
    def body(s):
        try:
            with s.user():
                s += "half"
                raise OSError
        except OSError:
            pass
        s += ramify.assistant("ok")

    assert [m["role"] for m in run(body).messages()] == ["user", "assistant"]


def test_roles_without_a_template_are_an_error():
    def with_call(s):
        s += ramify.user("x") + gen("a")

    def only_text(s):
        s += ramify.user("x")

    backend = MockBackend(chat_template=None)
    with pytest.raises(ramify.ProgramError, match="no chat template"):
        function(with_call).run(backend=backend)
    state = function(only_text).run(backend=backend)
    assert state.messages() == [{"role": "user", "content": "x"}]
    with pytest.raises(ramify.InvalidRequest, match="no chat template"):
        state.text()


def test_var_scope_is_the_text_inside():
    def body(s):
        s += "before"
        with s.var_scope("json"):
            s += "{" + gen("inner") + "}"
        s += "after"
        s["copy"] = s["json"]

    state = run(body, ["1"])
    assert state["json"] == state["copy"] == "{1}"
    assert "".join(state.text_iter("json")) == "{1}"


def test_an_open_scope_cannot_be_read():
    def body(s):
        with s.var_scope("open"):
            _ = s["open"]

    with pytest.raises(ramify.InvalidRequest, match="still open"):
        run(body)


def test_n_answers_are_a_list_and_the_first_goes_on():
    def body(s):
        s += gen("x", n=3) + "."

    state = run(body, ["a", "b", "c"])
    assert state["x"] == ["a", "b", "c"]
    assert state.text() == "a."
    assert [meta["completion_tokens"] for meta in state.get_meta_info("x")] == [1, 1, 1]


def test_unnamed_calls_are_text_only():
    def body(s):
        s += gen() + select(choices=["a", "b"])

    assert run(body, ["x", "b"]).text() == "xb"


def test_dtypes_give_values_and_keep_the_text():
    def body(s):
        s += gen("i", dtype=int) + "|" + gen("f", dtype=float) + "|"
        s += gen("b", dtype=bool) + "|" + ramify.gen_string("s")

    state = run(body, ["24 hours", "2.5\n", "True", '"a b"'])
    assert (state["i"], state["f"], state["b"], state["s"]) == (24, 2.5, True, "a b")
    assert state.text() == '24|2.5|True|"a b"'


def test_an_answer_that_does_not_convert_is_an_error():
    def body(s):
        s += gen("i", dtype=int)

    with pytest.raises(ramify.ProgramError, match="'many' is not a int"):
        run(body, ["many"])


def test_select_tells_the_whole_distribution():
    def body(s):
        s += "x" + select("y", ["aa", "bbb", "c"])

    meta = run(body, ["bbb"]).get_meta_info("y")
    assert meta["choices"] == ["aa", "bbb", "c"]
    assert sum(meta["probabilities"]) == pytest.approx(1)
    assert max(meta["probabilities"]) == meta["probabilities"][1]
    assert meta["normalized_prompt_logprobs"] == pytest.approx([-5.0, -0.1, -5.0])


@pytest.mark.parametrize(
    "method",
    [
        ramify.token_length_normalized,
        ramify.greedy_token_selection,
        ramify.unconditional_likelihood_normalized,
    ],
)
def test_every_select_method_is_one_score_request(method):
    def body(s):
        s += select("y", ["aa", "bbb"], choices_method=method)

    backend = MockBackend(["bbb"])
    assert function(body).run(backend=backend)["y"] == "bbb"
    (request,) = backend.requests
    assert request.unconditional == method.needs_unconditional
    assert request.prompt == ()


def test_meta_info_by_sglang_names():
    def body(s):
        s += "prompt" + gen("x", return_logprob=True, logprob_start_len=2, top_logprobs_num=1)
        s["y"] = 1

    state = run(body, ["four"])
    meta = state.get_meta_info("x")
    assert meta["prompt_tokens"] == 6
    assert meta["completion_tokens"] == 4
    assert meta["finish_reason"] == {"type": "stop", "matched": 256}
    assert len(meta["output_token_logprobs"]) == meta["output_token_logprobs_length"] == 4
    assert [token for _, token in meta["input_token_logprobs"]] == list(b"ompt")
    with pytest.raises(ramify.InvalidRequest, match="meta_info"):
        state.get_meta_info("y")


def test_a_state_can_go_on_after_its_run():
    def body(s):
        s += "a" + gen("x")

    state = run(body, ["1", "2"])
    state += "b" + gen("y")
    assert state.text() == "a1b2"


def test_repr_waits_for_nothing():
    def body(s):
        s += gen("x")

    assert "body()" in repr(run(body)) and "'x'" not in repr(run(body))

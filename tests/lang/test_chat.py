import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import InvalidRequest, LoadError
from tests.tiny_models import CHATML

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What the families below do differently, each as small as it can be.
HEADERS = (  # Llama 3: BOS, trimmed contents
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<h>{{ m.role }}</h>\n\n"
    "{{ m.content | trim }}<eot>{% endfor %}{% if add_generation_prompt %}<h>assistant</h>\n\n"
    "{% endif %}"
)
INST = (  # Llama 2: system inside the user's message, no generation prompt, strict alternation
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>' ~ messages[0].content ~ "
    "'<</SYS>>' %}{% set rest = messages[1:] %}{% else %}{% set system = '' %}"
    "{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token }}[INST] {{ system if loop.first }}{{ m.content }}"
    " [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = (  # Qwen3: empty think tags before the last given answer only
    "{% for m in messages %}<s>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think></think>{% endif %}{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
OPEN_THOUGHT = (  # DeepSeek-R1: the generation prompt opens a thought that history leaves out
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token if m.role == 'assistant' }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant><think>{% endif %}"
)
RETURN = (  # gpt-oss: an answer ends otherwise at the end than inside the conversation
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{{ '<return>' if loop.last and not add_generation_prompt else '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LATE_SYSTEM = (  # Mistral Nemo: the system message moves to the last user message
    "{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.s = m.content %}{% else %}[{{ m.role }}]{{ ns.s if loop.last }}{{ m.content }}"
    "{% endif %}{% endfor %}"
)
REWRITES = "{{ messages | length }} messages: {% for m in messages %}{{ m.content }};{% endfor %}"

INCREMENTAL = {"chatml": CHATML, "smollm2": SMOLLM2, "headers": HEADERS}
SPECIAL = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
ROLES = st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=6)
CONTENTS = st.text(alphabet="ab{%}<|>R4mify0", min_size=1, max_size=5)


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, SPECIAL)


def messages(roles: Sequence[str], contents: Sequence[str]) -> list[dict[str, Any]]:
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]


def grown(chat: ChatTemplate, roles: Sequence[str], contents: Sequence[str], **kwargs: Any) -> str:
    text = ""
    for index, content in enumerate(contents):
        upto = tuple(roles[: index + 1])
        text += chat.opening(upto, **kwargs) + content + chat.closing(upto)
    return text


@pytest.mark.parametrize("name", INCREMENTAL)
@given(data=st.data(), roles=ROLES)
def test_a_conversation_that_grows_equals_the_rendered_one(
    name: str, data: st.DataObject, roles: list[str]
) -> None:
    chat = template(INCREMENTAL[name])
    contents = [data.draw(CONTENTS) for _ in roles]
    assert grown(chat, roles, contents) == chat.render(messages(roles, contents))
    gaps = chat.scaffold(roles)
    woven = "".join(gap + content for gap, content in zip(gaps, [*contents, ""], strict=True))
    assert woven == chat.render(messages(roles, contents))


@pytest.mark.parametrize("source", [CHATML, SMOLLM2, HEADERS, THINKING])
@pytest.mark.parametrize("num_messages", [2, 4])
def test_an_answer_opens_with_the_generation_prompt(source: str, num_messages: int) -> None:
    chat = template(source)
    roles = ("system", "user", "assistant", "user")[:num_messages]
    contents = "abcd"[:num_messages]
    rendered = chat.render(messages(roles, contents), add_generation_prompt=True)
    assert grown(chat, roles, contents) + chat.opening((*roles, "assistant")) == rendered


def test_smollm2_default_system_message_stands_once() -> None:
    chat = template(SMOLLM2)
    roles = ("user", "assistant", "user", "assistant")
    assert grown(chat, roles, "abcd").count("named SmolLM") == 1
    assert "SmolLM" not in grown(chat, ("system", *roles), "sabcd")


def test_a_system_message_inside_the_users() -> None:
    chat = template(INST)
    roles, contents = ("system", "user", "assistant", "user", "assistant"), "sabcd"
    assert chat.opening(("system",)) == "<BOS>[INST] <<SYS>>"
    assert chat.closing(("system",)) == ""
    assert chat.opening(("system", "user")) == "<</SYS>>"
    assert chat.opening(("system", "user", "assistant")) == ""  # only a space: the model writes it
    given_text = grown(chat, roles, contents, is_generated=False)
    assert given_text == chat.render(messages(roles, contents))


def test_a_given_answer_keeps_the_tags_of_history() -> None:
    chat = template(THINKING)
    assert chat.opening(("user", "assistant")) == "<s>assistant\n"
    assert chat.opening(("user", "assistant"), is_generated=False) == (
        "<s>assistant\n<think></think>"
    )
    assert chat.opening(("user", "assistant", "user")) == "<s>user\n"
    thought = template(OPEN_THOUGHT)
    assert thought.opening(("user", "assistant")) == "<assistant><think>"
    assert thought.opening(("user", "assistant"), is_generated=False) == "<assistant>"


def test_an_end_that_depends_on_what_follows_is_written_with_it() -> None:
    chat = template(RETURN)
    assert chat.closing(("user", "assistant")) == ""
    assert chat.opening(("user", "assistant", "user")) == "<end><user>"
    assert (
        grown(chat, ("user", "assistant", "user"), "abc") == "<user>a<end><assistant>b<end><user>c"
    )


@pytest.mark.parametrize("source", [LATE_SYSTEM, REWRITES])
def test_a_template_that_rewrites_what_was_written_is_refused(source: str) -> None:
    chat = template(source)
    with pytest.raises(InvalidRequest, match="message by message") as caught:
        grown(chat, ("system", "user", "assistant", "user"), "abcd")
    assert caught.value.code == "chat_template_not_incremental"


def test_long_conversations_are_cheap_enough_and_do_not_recurse() -> None:
    chat = template(CHATML)
    roles = ("user", "assistant") * 150
    assert chat.opening(roles) == "<|im_start|>assistant\n"
    assert chat.closing(roles) == "<|im_end|>\n"


def test_the_templates_own_refusal_is_passed_on() -> None:
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        template(INST).render(messages(("user", "user"), "ab"))
    assert caught.value.code == "chat_template_error"
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        template(INST).opening(("user", "user"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[5].content }}",
        "{{ messages.role.x }}",
        "{{ 1 / 0 }}",
        "{{ [].__class__.__base__ }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_faults_of_a_template_are_errors_of_the_request(source: str) -> None:
    with pytest.raises(InvalidRequest, match="chat template refuses"):
        template(source).render(messages(("user",), "a"))


def test_bad_syntax_is_a_load_error_with_its_line() -> None:
    with pytest.raises(LoadError, match="line 2"):
        template("ok\n{% for %}")


def test_what_templates_expect_is_there() -> None:
    chat = template(
        "{% for m in messages %}{% if m.role == 'skip' %}{% continue %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
        "|{{ tools | tojson }}|{{ {'b': '<é>'} | tojson(indent=1) }}"
        "|{{ strftime_now('%Y') | int > 0 }}|{{ thinking }}|{{ bos_token }}"
    )
    rendered = chat.render(messages(("skip", "user"), "ab"), tools=[{"n": 1}], thinking=False)
    assert rendered == 'b|[{"n": 1}]|{\n "b": "<é>"\n}|True|False|<BOS>'


def test_importing_the_renderer_does_not_import_jinja() -> None:
    code = "import sys, ramify.lang.chat; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

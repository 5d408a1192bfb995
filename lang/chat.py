"""Chat roles as text: the model's own Jinja template, the one renderer of language and server.

The server renders whole conversations (`render`). A program's state grows instead: it needs the
text that stands before and after each message (`opening`, `closing`), once, without rendering the
answers in between again. Both come from rendering messages whose contents are marks, and cutting
the result at the marks.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ramify.lang.errors import InvalidRequest, LoadError

if TYPE_CHECKING:  # jinja2 is imported when the first template is read: `import ramify` stays cheap
    import jinja2

_ASSISTANT = "assistant"
_CACHED_ROLES = 1024  # sequences of roles whose gaps are remembered, per template
_MARK = "R4mifyContent{}Mark"  # plain letters and digits: trimming and escaping leave it alone
_MARKS = re.compile(r"R4mifyContent(\d+)Mark")

Gaps = tuple[str, ...]


class _Boundary(NamedTuple):
    """The text around one message's content, given the roles of all messages up to it."""

    opening: str  # before a given content
    prompt: str  # before a content that the model generates
    closing: str


class ChatTemplate:
    """A chat template in Jinja, rendered as transformers renders it, in a sandbox.

    `special_tokens` are the names a template may use besides messages: bos_token, eos_token, ...
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        import jinja2

        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise LoadError(
                f"the model's chat template is no valid Jinja: line {error.lineno}: "
                f"{error.message}; correct its chat_template.jinja",
                code="bad_chat_template",
            ) from error
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._boundary = lru_cache(_CACHED_ROLES)(self._find_boundary)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        **kwargs: Any,
    ) -> str:
        """The conversation as text; `kwargs` are further variables of the template.

        Raises `InvalidRequest` with the template's own words where it refuses the messages.
        """
        import jinja2

        variables = {
            "documents": None,
            **self._special_tokens,
            **kwargs,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._template.render(variables)
        except (jinja2.TemplateError, *_TEMPLATE_FAULTS) as error:
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise InvalidRequest(
                f"the model's chat template refuses messages with the roles ({roles}): {error}",
                code="chat_template_error",
                param="messages",
            ) from error

    def scaffold(self, roles: Sequence[str]) -> Gaps:
        """The text around the contents of messages with these roles.

        Before the first content, between each two, after the last: one more than there are roles.
        No generation prompt. Contents that the template itself changes (it may trim them) are
        taken as they are.
        """
        return self._gaps(tuple(roles), add_generation_prompt=False)

    def opening(self, roles: Sequence[str], *, is_generated: bool = True) -> str:
        """What is written where the message with the last of `roles` begins, after all others.

        Before an answer that the model is to generate (`is_generated`) this is the template's
        generation prompt. It may differ from what the template writes before an answer that is
        given: Qwen3 puts empty `<think>` tags there, DeepSeek-R1 leaves out the open one. Where
        there is no generation prompt, or no message before, it is the latter in both cases.
        """
        boundary = self._boundary_of(roles)
        return boundary.prompt if is_generated else boundary.opening

    def closing(self, roles: Sequence[str]) -> str:
        """What is written where the message with the last of `roles` ends.

        Empty where the template ends a message otherwise at the end of the conversation than inside
        it (gpt-oss, Phi-3.5): then the next message's opening begins with what ends this one.
        """
        return self._boundary_of(roles).closing

    def _boundary_of(self, roles: Sequence[str]) -> "_Boundary":
        """From the first message to the last, so that each finds the one before remembered."""
        assert roles, "a boundary belongs to a message"
        for length in range(1, len(roles) + 1):
            boundary = self._boundary(tuple(roles[:length]))
        return boundary

    def _find_boundary(self, roles: tuple[str, ...]) -> "_Boundary":
        before = roles[:-1]
        closed = self._boundary(before).closing if before else ""
        gaps, closing = self._gaps_and_closing(roles)
        self._check_unchanged(roles, gaps)
        opening = prompt = self._without_closing(gaps[-1], closed, roles)
        if before and roles[-1] == _ASSISTANT:
            prompted = self._gaps(before, add_generation_prompt=True)[-1]
            prompt = self._without_closing(prompted, closed, roles)
            if not prompt and opening.strip():
                prompt = opening
        return _Boundary(opening, prompt, closing)

    def _gaps_and_closing(self, roles: tuple[str, ...]) -> tuple[Gaps, str]:
        """Gaps up to the last content, and what closes it whether or not a message follows.

        Some templates hold a message back until another follows: Llama 2 puts a system message
        inside the user's. Then all that stands between the two is the second one's opening.
        """
        next_roles = (*roles, "user" if roles[-1] != "user" else _ASSISTANT)
        try:
            followed = self.scaffold(next_roles)
        except InvalidRequest:
            followed = None
        try:
            ended = self.scaffold(roles)
        except InvalidRequest:
            if followed is None:
                raise
            return followed[: len(roles)], ""
        is_shared = followed is None or followed[len(roles)].startswith(ended[-1])
        return ended[:-1], ended[-1] if is_shared else ""

    def _check_unchanged(self, roles: tuple[str, ...], gaps: Gaps) -> None:
        """What was written while the conversation grew must be what the template writes now.

        Before an answer only as far as the message before it goes: see `opening`.
        """
        closed = ""
        for index, role in enumerate(roles[:-1]):
            boundary = self._boundary(roles[: index + 1])
            opening = self._without_closing(gaps[index], closed, roles)
            if role != _ASSISTANT and opening != boundary.opening:
                raise self._not_incremental(roles, boundary.opening, opening)
            closed = boundary.closing

    def _without_closing(self, gap: str, closed: str, roles: tuple[str, ...]) -> str:
        if not gap.startswith(closed):
            raise self._not_incremental(roles, closed, gap)
        return gap.removeprefix(closed)

    def _gaps(self, roles: tuple[str, ...], *, add_generation_prompt: bool) -> Gaps:
        messages = [
            {"role": role, "content": _MARK.format(index)} for index, role in enumerate(roles)
        ]
        text = self.render(messages, add_generation_prompt=add_generation_prompt)
        parts = _MARKS.split(text)  # gap, index, gap, index, ..., gap
        if parts[1::2] != [str(index) for index in range(len(roles))]:
            raise InvalidRequest(
                "the model's chat template does not write each message once and in order for the "
                f"roles ({', '.join(roles)}), so a program cannot build this conversation message "
                "by message; put what belongs together into one message",
                code="chat_template_not_incremental",
            )
        return tuple(parts[::2])

    def _not_incremental(self, roles: tuple[str, ...], written: str, now: str) -> InvalidRequest:
        return InvalidRequest(
            f"the model's chat template rewrites earlier text when a {roles[-1]!r} message is "
            f"added ({written[-60:]!r} became {now[-60:]!r}; roles: {', '.join(roles)}), so a "
            "program cannot build this conversation message by message; send it as a whole",
            code="chat_template_not_incremental",
        )


# What running a template can raise besides Jinja's own errors: its expressions are Python's.
_TEMPLATE_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@cache
def _environment() -> "jinja2.Environment":
    """The sandbox and the names that chat templates are written for."""
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationTag(Extension):
        """`{% generation %}` marks what the model wrote, for training; it renders its body."""

        tags = {"generation"}  # noqa: RUF012 - read by jinja2 as a class attribute

        def parse(self, parser: "jinja2.parser.Parser") -> "jinja2.nodes.Node":
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationTag, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )

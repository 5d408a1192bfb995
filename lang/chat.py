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
from typing import TYPE_CHECKING, Any

from ramify.lang.errors import InvalidRequest, LoadError

if TYPE_CHECKING:  # jinja2 is imported when the first template is read: `import ramify` stays cheap
    import jinja2

_ASSISTANT = "assistant"
_CACHED_ROLES = 1024  # sequences of roles whose gaps are remembered, per template
_MARK = "R4mifyContent{}Mark"  # plain letters and digits: trimming and escaping leave it alone
_MARKS = re.compile(r"R4mifyContent(\d+)Mark")

Gaps = tuple[str, ...]


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

    def opening(self, roles: Sequence[str]) -> str:
        """What is written where the message with the last of `roles` begins, after all others.

        Before an assistant's message that follows others this is the generation prompt, which is
        what the model is trained to go on from. It may differ from what the template writes before
        an old answer (Qwen3 puts empty `<think>` tags there); templates that have no generation
        prompt, or one that is no text, get the latter.
        """
        return self._boundary(tuple(roles))[0]

    def closing(self, roles: Sequence[str]) -> str:
        """What is written where the message with the last of `roles` ends."""
        return self._boundary(tuple(roles))[1]

    def _find_boundary(self, roles: tuple[str, ...]) -> tuple[str, str]:
        """(opening, closing) of the last role; checks that the earlier text stays as it is."""
        before = roles[:-1]
        closed = self._boundary(before)[1] if before else ""
        gaps, closing = self._gaps_to_last(roles)
        self._check_unchanged(roles, gaps)
        if not gaps[-1].startswith(closed):
            raise self._not_incremental(roles, closed, gaps[-1])
        opening = gaps[-1].removeprefix(closed)
        if before and roles[-1] == _ASSISTANT:
            prompted = self._gaps(before, add_generation_prompt=True)[-1]
            if not prompted.startswith(closed):
                raise self._not_incremental(roles, closed, prompted)
            prompt = prompted.removeprefix(closed)
            opening = prompt if prompt or not opening.strip() else opening
        return opening, closing

    def _gaps_to_last(self, roles: tuple[str, ...]) -> tuple[Gaps, str]:
        """Gaps up to the last content, and the text that closes it.

        Some templates hold a system message back until a user speaks (Llama 2 puts it inside the
        user's). Then the user is added, and all that follows the system message is his opening.
        """
        try:
            gaps = self.scaffold(roles)
            return gaps[:-1], gaps[-1]
        except InvalidRequest:
            if roles[-1] != "system":
                raise
            try:
                return self.scaffold((*roles, "user"))[: len(roles)], ""
            except InvalidRequest:
                pass
            raise

    def _check_unchanged(self, roles: tuple[str, ...], gaps: Gaps) -> None:
        """What was written while the conversation grew must be what the template writes now.

        Before an assistant's content one may be the beginning of the other: see `opening`.
        """
        closed = ""
        for index in range(len(roles) - 1):
            opening, closing = self._boundary(roles[: index + 1])
            written, now = closed + opening, gaps[index]
            is_prompt = roles[index] == _ASSISTANT
            if written != now and not (
                is_prompt and (written.startswith(now) or now.startswith(written))
            ):
                raise self._not_incremental(roles, written, now)
            closed = closing

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

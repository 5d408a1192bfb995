"""What `ramify grammar check` does: match a text byte by byte, and say what would have fitted."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ramify.grammars.compile import compile_grammar
from ramify.grammars.errors import GrammarError, caret
from ramify.grammars.matcher import Matcher
from ramify.grammars.spec import (
    ChoicesSpec,
    EbnfSpec,
    GrammarSpec,
    JsonSchemaSpec,
    RegexSpec,
    StructuralTagSpec,
)
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.errors import ConfigError, InvalidRequest

_SUFFIXES = {".json": "json_schema", ".gbnf": "ebnf", ".ebnf": "ebnf", ".lark": "ebnf"}
_LONGEST_HINT = 40  # characters of a continuation that is shown
_MOST_HINTS = 12
_END = 256  # the token after the 256 bytes

FITS, DOES_NOT_FIT = 0, 1


class Place(NamedTuple):
    """How far a text fits."""

    matcher: Matcher  # after the part that fits
    num_bytes: int  # of that part


def run(options: argparse.Namespace) -> int:
    """Compile, then match."""
    source, kind = read_spec(options.spec, options.kind)
    started = time.perf_counter()
    vocabulary = Vocabulary([*(bytes([byte]) for byte in range(256)), None], [_END])
    try:
        matcher = Matcher(compile_grammar(make_spec(source, kind), vocabulary))
    except GrammarError as error:
        raise InvalidRequest(_refusal(error, source), code=error.code) from error
    print(f"{kind}: can be served; compiled in {(time.perf_counter() - started) * 1e3:.1f} ms")
    if options.text is None:
        print(f"may begin with: {_hints(matcher)}")
        return FITS
    text = sys.stdin.read() if options.text == "-" else options.text
    return _report(text, match(matcher, text.encode()))


def read_spec(given: str, kind: str | None) -> tuple[str, str]:
    """The text of a spec, from a file if `given` names one, and its kind."""
    source, found = given, kind
    if len(given) < 4096 and "\n" not in given and Path(given).is_file():
        path = Path(given)
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{given}: cannot be read as text: {error}") from error
        found = kind or _SUFFIXES.get(path.suffix)
        if found is None and path.suffix == ".txt":
            source = source.removesuffix("\n")
    if found is None or (kind is None and found == "json_schema"):
        guessed = _guess(source)
        found = guessed if found is None or guessed == "structural_tag" else found
    return source, found


def make_spec(source: str, kind: str) -> GrammarSpec:
    """The spec of a text and its kind."""
    match kind:
        case "regex":
            return RegexSpec(source)
        case "json_schema":
            return JsonSchemaSpec(source)
        case "ebnf":
            return EbnfSpec(source)
        case "structural_tag":
            return StructuralTagSpec(source)
    choices = _json(source)
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise InvalidRequest("choices: must be a JSON list of strings")
    return ChoicesSpec(tuple(choices))


def match(matcher: Matcher, text: bytes) -> Place:
    """Follow `text` as far as it fits, character by character."""
    done = 0
    while done < len(text):
        end = done + 1
        while end < len(text) and text[end] & 0xC0 == 0x80:  # the rest of a UTF-8 character
            end += 1
        if not matcher.accept_text(text[done:end]):
            break
        done = end
    return Place(matcher, done)


def _report(text: str, place: Place) -> int:
    matcher, done = place
    fitting = len(text.encode()[:done].decode())
    if fitting < len(text):
        shown = text.replace("\t", " ")
        line = text.count("\n", 0, fitting) + 1
        column = fitting - (text.rfind("\n", 0, fitting) + 1) + 1
        print(f"does not fit: stops at character {fitting} (line {line}, column {column})")
        print(caret(shown, fitting))
        print(f"allowed there: {_hints(matcher)}")
        return DOES_NOT_FIT
    if not matcher.is_complete:
        print(f"fits so far, but is not complete; may go on with: {_hints(matcher)}")
        return DOES_NOT_FIT
    more = "" if _is_closed(matcher) else f"; may also go on with: {_hints(matcher)}"
    print(f"fits{more}")
    return FITS


def _is_closed(matcher: Matcher) -> bool:
    return _allowed(matcher) == [_END]


def _allowed(matcher: Matcher) -> list[int]:
    row = matcher.mask()
    return [token for token in range(_END + 1) if row[token >> 5] >> (token & 31) & 1]


def _hints(matcher: Matcher) -> str:
    """What may follow: forced text written out, characters in ranges."""
    plain: list[int] = []
    hints: list[str] = []
    allowed = _allowed(matcher)
    for byte in allowed:
        if byte == _END:
            continue
        forced = _forced(matcher, byte) if byte < 0x80 else b""
        if len(forced) > 1 and len(allowed) <= 64:
            hints.append(repr(_readable(forced)))
        elif byte < 0x80:
            plain.append(byte)
    hints += _ranges(plain)
    if any(0x80 <= byte < _END for byte in allowed):
        hints.append("characters beyond ASCII")
    shown = hints[:_MOST_HINTS]
    left = len(hints) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def _forced(matcher: Matcher, byte: int) -> bytes:
    probe = matcher.clone()
    probe.accept_text(bytes([byte]))
    return bytes([byte]) + probe.forced()


def _readable(text: bytes) -> str:
    shown = text.decode("utf-8", "ignore")
    return shown if len(shown) <= _LONGEST_HINT else shown[:_LONGEST_HINT] + "..."


def _ranges(codes: list[int]) -> list[str]:
    """Runs of characters as 'a'-'z'; short runs one by one."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and code == runs[-1][-1] + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    out: list[str] = []
    for run in runs:
        if len(run) > 2:
            out.append(f"{chr(run[0])!r}-{chr(run[-1])!r}")
        else:
            out += [repr(chr(code)) for code in run]
    return out


def _refusal(error: GrammarError, source: str) -> str:
    lines = [f"{error.code}: {error.message}"]
    if error.pointer and error.pointer not in error.message:
        lines.append(f"at {error.pointer}")
    if error.offset is not None and "^" not in error.message:
        lines += [f"at character {error.offset}:", caret(source, error.offset)]
    return "\n".join(lines)


def _guess(source: str) -> str:
    head = source.lstrip()[:1]
    if head == "{" and isinstance(value := _json(source, default=None), dict):
        return "structural_tag" if value.get("type") == "structural_tag" else "json_schema"
    if head == "[" and isinstance(_json(source, default=None), list):
        return "choices"
    return "ebnf" if "::=" in source else "regex"


_RAISE = object()


def _json(source: str, default: object = _RAISE) -> object:
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        if default is not _RAISE:
            return default
        raise InvalidRequest(f"not JSON: {error}") from error

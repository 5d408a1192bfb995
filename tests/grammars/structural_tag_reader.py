"""Reads texts by a structural tag's format with `str.find`, `re` and `jsonschema` only."""

import json
import re
from typing import NamedTuple

import jsonschema


class Around(NamedTuple):
    """The ends of the tag around, and if they are what follows."""

    ends: tuple[str, ...] = ()
    is_last: bool = True


def accepts(form: dict, text: str) -> bool:
    """Is it a text of the format?"""
    return any(at == len(text) for at, _ in read(form, text, 0, Around()))


def read(form: dict, text: str, at: int, around: Around) -> set[tuple[int, bool]]:
    """Where a part that begins at `at` may end; and was the end of the tag around read with it?"""
    kind = form["type"]
    inner = around._replace(is_last=False)
    if kind == "const_string":
        value = form["value"]
        return {(at + len(value), False)} if text.startswith(value, at) else set()
    if kind == "regex":
        return _that_fit(text, at, lambda part: re.fullmatch(form["pattern"], part))
    if kind == "json_schema":
        return _that_fit(text, at, lambda part: _is_valid(part, form["json_schema"]))
    if kind == "or":
        return {end for option in form["elements"] for end in read(option, text, at, around)}
    if kind == "optional":
        return {(at, False)} | read(form["content"], text, at, around)
    if kind == "sequence":
        ends = {(at, False)}
        for index, part in enumerate(form["elements"]):
            outside = around if index == len(form["elements"]) - 1 else inner
            ends = {end for start, _ in ends for end in read(part, text, start, outside)}
        return ends
    if kind == "repeat":
        return _repeated(form["content"], "", form["min"], form["max"], text, at, inner)
    if kind == "tags_with_separator":
        body = {"type": "or", "elements": form["tags"]}
        high = 1 if form.get("stop_after_first") else -1
        low = int(form.get("at_least_one", False))
        return _repeated(body, form["separator"], low, high, text, at, inner)
    if kind == "tag":
        return _tag(form, text, at, around, 0)
    if kind == "triggered_tags":
        loops = not form.get("stop_after_first")
        outside = inner if loops else around
        tags = form["tags"]
        if form.get("at_least_one"):
            ends = {end for tag in tags for end in _tag(tag, text, at, outside, 0)}
            if not loops:
                return ends
            form = form | {"at_least_one": False}
            return {end for start, _ in ends for end in read(form, text, start, around)}
        sections = {
            trigger: [(tag, len(trigger)) for tag in tags if tag["begin"].startswith(trigger)]
            for trigger in form["triggers"]
        }
        return _free(form.get("excludes", []), sections, loops, text, at, around)
    assert kind in ("any_text", "dispatch"), kind
    sections = {pattern: [(content, None)] for pattern, content in form.get("rules", [])}
    return _free(form.get("excludes", []), sections, form.get("loop", True), text, at, around)


def _that_fit(text, at, fits):
    return {(end, False) for end in range(at, len(text) + 1) if fits(text[at:end])}


def _is_valid(part, schema):
    try:
        value = json.loads(part)
        jsonschema.validate(value, schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return part in (json.dumps(value), json.dumps(value, separators=(",", ":")))


def _repeated(body, separator, low, high, text, at, inner):
    found = {(at, False)} if low == 0 else set()
    ends, count = {at}, 0
    seen = set()
    while ends - seen and count != high:
        if count >= low:
            seen |= ends
        starts = ends
        if count:
            starts = {end + len(separator) for end in ends if text.startswith(separator, end)}
        ends = {end for start in starts for end, _ in read(body, text, start, inner)}
        count += 1
        if count >= low:
            found |= {(end, False) for end in ends}
    return found


def _tag(form, text, at, around, num_read):
    begin = form["begin"][num_read:]
    if not text.startswith(begin, at):
        return set()
    ends = tuple([form["end"]] if isinstance(form["end"], str) else form["end"])
    if ends == ("",):
        return read(form["content"], text, at + len(begin), around)
    found = set()
    for end, is_ended in read(form["content"], text, at + len(begin), Around(ends)):
        closings = [""] if is_ended else ends
        found |= {(end + len(mark), False) for mark in closings if text.startswith(mark, end)}
    return found


def _free(excludes, sections, loops, text, at, around):
    """Free text up to the first mark that is complete; of those complete at once, the longest."""
    marks = [*sections, *(around.ends if around.is_last else ())]
    banned = [*excludes, *(() if around.is_last else around.ends)]
    first, mark = _first(marks, text, at)
    stop, _ = _first(banned, text, at)
    found = set()
    if not around.ends or not around.is_last:
        found = {(end, False) for end in range(at, min(first, stop, len(text) + 1))}
    if mark is None or first > stop:
        return found
    if mark not in sections:
        return {*found, (first, True)}
    outside = around._replace(is_last=False) if loops else around
    for content, num_read in sections[mark]:
        for end, is_ended in (
            read(content, text, first, outside)
            if num_read is None
            else _tag(content, text, first, outside, num_read)
        ):
            if loops:
                found |= _free(excludes, sections, loops, text, end, around)
            else:
                found.add((end, is_ended))
    return found


def _first(marks, text, at):
    """Where the first mark ends (past the text: nowhere), and which it is."""
    ends = [
        (start + len(mark), -len(mark), mark)
        for mark in marks
        if (start := text.find(mark, at)) >= 0
    ]
    return (min(ends)[0], min(ends)[2]) if ends else (len(text) + 2, None)

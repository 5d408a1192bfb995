import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import Sampling
from ramify.runtime.tokenizer.stop import Kept, StopMatcher
from ramify.runtime.tokenizer.tokenizer import Tokenizer

FIXTURE_OK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.text(alphabet="abthe€ ", max_size=24)
STOPS = st.lists(st.text(alphabet="abthe€ ", min_size=1, max_size=5), max_size=3).map(tuple)
PATTERNS = ("a+b", "[ab]{2}h", "t(h|a)*€", "b.a", "a|bb")


def run(matcher: StopMatcher, parts: list[list[int]]) -> tuple[Kept, list[Kept]]:
    steps = [matcher.feed(part) for part in parts]
    steps.append(matcher.flush())
    total = Kept(
        "".join(step.text for step in steps),
        tuple(token_id for step in steps for token_id in step.token_ids),
        "".join(step.tail for step in steps),
        next((step.matched for step in steps if step.matched is not None), None),
    )
    return total, steps


def first_stop(text: str, sampling: Sampling, from_end: int = 0) -> int | None:
    """Where the answer is cut: by definition, slowly."""
    for end in range(from_end + 1, len(text) + 1):
        starts = [end - len(stop) for stop in sampling.stop if text[:end].endswith(stop)]
        for pattern in sampling.stop_regex:
            compiled = re.compile(pattern)
            starts += [at for at in range(end) if compiled.fullmatch(text, at, end)]
        if starts:
            return min(starts)
    return None


def num_whole_tokens(tokenizer: Tokenizer, ids: list[int], text: str) -> int:
    encoded, best = text.encode(), 0
    for count in range(len(ids) + 1):
        start = b"".join(tokenizer.token_bytes[i] for i in ids[:count])
        if encoded.startswith(start) and start.decode(errors="ignore").encode() == start:
            best = count
    return best


def parts_of(ids: list[int], data: st.DataObject) -> list[list[int]]:
    parts = []
    while ids:
        size = data.draw(st.integers(1, len(ids)))
        parts.append(ids[:size])
        ids = ids[size:]
    return parts


@FIXTURE_OK
@given(data=st.data(), text=TEXTS, stops=STOPS)
def test_text_is_cut_at_the_first_stop_however_tokens_arrive(
    tokenizer: Tokenizer, data: st.DataObject, text: str, stops: tuple[str, ...]
) -> None:
    patterns = tuple(data.draw(st.lists(st.sampled_from(PATTERNS), max_size=2)))
    sampling = Sampling(stop=stops, stop_regex=patterns)
    ids = tokenizer.encode(text, is_first=False)
    total, steps = run(StopMatcher(tokenizer, sampling), parts_of(ids, data))
    cut = first_stop(text, sampling)
    assert total.text == (text if cut is None else text[:cut])
    assert (total.matched is None) == (cut is None)
    assert tuple(ids[: len(total.token_ids)]) == total.token_ids
    assert tokenizer.decode(total.token_ids) + total.tail == total.text
    assert len(total.token_ids) == num_whole_tokens(tokenizer, ids, total.text)
    # What has been given out is never taken back.
    given_out = ""
    for step in steps:
        given_out += step.text
        assert total.text.startswith(given_out)


@FIXTURE_OK
@given(data=st.data(), text=TEXTS, stops=STOPS, min_tokens=st.integers(0, 10))
def test_no_stop_ends_before_min_tokens(
    tokenizer: Tokenizer, data: st.DataObject, text: str, stops: tuple[str, ...], min_tokens: int
) -> None:
    sampling = Sampling(stop=stops, min_tokens=min_tokens)
    ids = tokenizer.encode(text, is_first=False)
    total, _ = run(StopMatcher(tokenizer, sampling), parts_of(ids, data))
    free = tokenizer.decode(ids[: max(0, min_tokens - 1)]).rstrip("\ufffd")
    cut = first_stop(text, sampling, len(free)) if len(ids) >= min_tokens else None
    assert total.text == (text if cut is None else text[:cut])


def test_a_token_cut_in_two_leaves_its_beginning_as_tail(tokenizer: Tokenizer) -> None:
    matcher = StopMatcher(tokenizer, Sampling(stop=("lo",)))
    hell, o = tokenizer.encode("hello", is_first=False)  # "hell", "o"
    assert matcher.feed([hell]) == Kept("hel", ())
    assert matcher.feed([o]) == Kept("", (), "hel", "lo")
    assert matcher.is_stopped
    assert matcher.feed([hell]) == Kept("", ())
    assert matcher.flush() == Kept("", ())


@pytest.mark.parametrize(
    ("stops", "text", "matched"),
    [(("he", "t"), "", "t"), (("e", "the"), "", "the"), (("h", "he"), "t", "h")],
)
def test_of_several_stops_in_one_token_the_first_to_end_counts_then_the_longest(
    tokenizer: Tokenizer, stops: tuple[str, ...], text: str, matched: str
) -> None:
    the = tokenizer.encode("the", is_first=False)
    assert len(the) == 1
    kept = StopMatcher(tokenizer, Sampling(stop=stops)).feed(the)
    assert (kept.text, kept.matched) == (text, matched)


def test_text_that_can_no_longer_become_a_stop_is_let_go(tokenizer: Tokenizer) -> None:
    matcher = StopMatcher(tokenizer, Sampling(stop=("###END",)))
    ids = tokenizer.encode("##x", is_first=False)
    assert [matcher.feed([token_id]).text for token_id in ids] == ["", "", "##x"]


def test_the_name_of_a_special_token_stops_at_the_token(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("ab", is_first=False), 2, *tokenizer.encode("c", is_first=False)]
    total, _ = run(StopMatcher(tokenizer, Sampling(stop=("<|im_end|>",))), [ids])
    assert total == Kept("ab", tuple(ids[:2]), "", "<|im_end|>")


def test_without_stops_tokens_and_whole_characters_pass_at_once(tokenizer: Tokenizer) -> None:
    matcher = StopMatcher(tokenizer, Sampling())
    ids = tokenizer.encode("é", is_first=False)
    assert [matcher.feed([token_id]) for token_id in ids] == [
        Kept("", (ids[0],)),
        Kept("é", (ids[1],)),
    ]


def test_a_pattern_that_backtracking_would_never_finish_is_read_in_time(
    tokenizer: Tokenizer,
) -> None:
    matcher = StopMatcher(tokenizer, Sampling(stop_regex=("(a+)+b",)))
    ids = tokenizer.encode("a" * 2000, is_first=False)
    assert "".join(matcher.feed([token_id]).text for token_id in ids) == ""
    assert matcher.flush().text == "a" * 2000


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a*", "empty text"),
        ("(", "stop_regex '('"),
        (r"\bend", "anchors"),
        ("^x", "anchors"),
        (r"(a)\1", "stop_regex"),
        ("a{1,999999}", "stop_regex"),
    ],
)
def test_a_pattern_that_cannot_be_watched_for_is_refused(
    tokenizer: Tokenizer, pattern: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match="stop_regex") as caught:
        StopMatcher(tokenizer, Sampling(stop_regex=(pattern,)))
    assert says in str(caught.value)
    assert caught.value.param == "stop_regex"

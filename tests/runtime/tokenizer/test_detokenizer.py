import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramify.runtime.tokenizer.detokenizer import Detokenizer
from ramify.runtime.tokenizer.tokenizer import Tokenizer
from tests.tiny_models import VOCAB_SIZE

IDS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=8)
FIXTURE_OK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def split(ids: list[int], cuts: list[int]) -> list[list[int]]:
    bounds = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    return [ids[a:b] for a, b in itertools.pairwise(bounds)]


@FIXTURE_OK
@given(ids=IDS, cuts=CUTS, skip=st.booleans())
def test_deltas_add_up_to_decode_however_tokens_are_split(
    tokenizer: Tokenizer, ids: list[int], cuts: list[int], skip: bool
) -> None:
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip)
    text = "".join(detokenizer.feed(part) for part in split(ids, cuts)) + detokenizer.flush()
    assert text == tokenizer.decode(ids, skip_special_tokens=skip)


@FIXTURE_OK
@given(text=st.text(max_size=30).filter(lambda text: "<|" not in text), cuts=CUTS)
def test_valid_text_streams_without_replacement_characters(
    tokenizer: Tokenizer, text: str, cuts: list[int]
) -> None:
    ids = tokenizer.encode(text, is_first=True)
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=False)
    deltas = [detokenizer.feed(part) for part in split(ids, cuts)]
    assert "".join(deltas) == text
    assert detokenizer.flush() == ""
    if "\ufffd" not in text:
        assert not any("\ufffd" in delta for delta in deltas)


def test_a_text_of_replacement_characters_streams_each_of_them(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("\ufffd" * 50, is_first=True)
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.feed([token_id]) for token_id in ids] == ["", "", "\ufffd"] * 50


def test_an_unfinished_character_comes_out_at_the_end_as_one_replacement(
    tokenizer: Tokenizer,
) -> None:
    ids = tokenizer.encode("a🎉", is_first=True)[:-1]
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.feed(ids) == "a"
    assert detokenizer.is_mid_character
    assert detokenizer.flush() == "\ufffd"

import base64
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as HubTokenizer

from ramify.lang.errors import InvalidRequest, LoadError
from ramify.lang.protocol import TextSegment, TokenSegment
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.tokenizer.tokenizer import Tokenizer, load_tokenizer
from tests.tiny_models import write_tiny_tokenizer

FIXTURE_OK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_sentencepiece(directory: Path, *, legacy: bool) -> None:
    """A tokenizer.json as Llama 2's (legacy: normalizers) or as newer ones (Metaspace)."""
    characters = "▁abcdefghijklmnopqrstuvwxyz"
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    vocab = {name: index for index, name in enumerate(names)}
    made = HubTokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    if legacy:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        made.normalizer = normalizers.Sequence(steps)
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>")])
    made.save(str(directory / "tokenizer.json"))
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


@FIXTURE_OK
@given(text=st.text(max_size=40).filter(lambda text: "<|" not in text))  # no special tokens
def test_byte_level_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, is_first=True)) == text


def test_special_tokens_are_read_and_left_out_on_demand(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>hi<|im_end|>", is_first=True)
    assert ids[0] == 1 and ids[-1] == 2
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>hi<|im_end|>"
    assert tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (1, (2,))


def test_ids_without_a_token_are_empty_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([287, -1, 10**9]) == ""


@pytest.mark.parametrize("legacy", [True, False])
def test_sentencepiece_puts_space_and_bos_before_the_first_segment_only(
    tmp_path: Path, config: ModelConfig, legacy: bool
) -> None:
    write_sentencepiece(tmp_path, legacy=legacy)
    tokenizer = load_tokenizer(tmp_path, config)
    hub = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    first = tokenizer.encode("ab c", is_first=True)
    assert first == hub.encode("ab c").ids
    assert tokenizer.decode(first) == " ab c"
    assert tokenizer.decode(tokenizer.encode("ab c", is_first=False)) == "ab c"
    prompt = (TextSegment(""), TextSegment("ab"), TokenSegment((5,)), TextSegment("c"))
    assert tokenizer.decode(tokenizer.encode_prompt(prompt)) == " ab\x02c"
    assert tokenizer.encode_prompt(prompt)[0] == 1
    assert tokenizer.encode_prompt(prompt, is_first=False)[0] != 1


def test_bos_is_not_put_before_a_text_that_has_it(tmp_path: Path, config: ModelConfig) -> None:
    write_sentencepiece(tmp_path, legacy=False)
    tokenizer = load_tokenizer(tmp_path, config)
    assert tokenizer.encode("<s>a", is_first=True).count(1) == 1
    assert tokenizer.encode_prompt((TokenSegment((7,)), TextSegment("a"))).count(1) == 0


def test_bytes_outside_the_vocabulary_are_decoded(tmp_path: Path, config: ModelConfig) -> None:
    write_sentencepiece(tmp_path, legacy=False)
    tokenizer = load_tokenizer(tmp_path, config)
    assert tokenizer.decode(tokenizer.encode("é🎉", is_first=False)) == "é🎉"


@pytest.mark.parametrize(("asked", "bos"), [(True, [1]), (False, [])])
def test_tokenizer_config_says_whether_bos_is_added(
    tmp_path: Path, config: ModelConfig, asked: bool, bos: list[int]
) -> None:
    write_tiny_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_bos_token": asked}))
    tokenizer = load_tokenizer(tmp_path, config)
    assert tokenizer.encode("the", is_first=True)[:-1] == bos


def test_eos_ids_are_the_union_of_all_files(tmp_path: Path, config: ModelConfig) -> None:
    write_tiny_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [0, 5]}')
    assert set(load_tokenizer(tmp_path, config).eos_token_ids) == {0, 2, 5}


def test_the_template_file_wins_over_the_field(tmp_path: Path, config: ModelConfig) -> None:
    write_tiny_tokenizer(tmp_path)
    assert "im_start" in str(load_tokenizer(tmp_path, config).chat_template)
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert load_tokenizer(tmp_path, config).chat_template == "from the file"


def test_a_list_of_templates_gives_the_default_one(tmp_path: Path, config: ModelConfig) -> None:
    write_tiny_tokenizer(tmp_path)
    templates = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert load_tokenizer(tmp_path, config).chat_template == "d"


def test_half_a_surrogate_pair_is_refused_by_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="character 2"):
        tokenizer.encode("ab\ud800", is_first=True)


def test_token_ids_outside_the_model_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="token id 288: must be between 0 and 287"):
        tokenizer.encode_prompt((TokenSegment((1, 288)),))
    with pytest.raises(InvalidRequest, match="token id -1"):
        tokenizer.encode_prompt((TokenSegment((-1,)),))


def test_remembered_segments_stay_bounded_and_unspoilt(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("remember", is_first=True)
    ids.append(7)
    assert tokenizer.encode("remember", is_first=True) == ids[:-1]
    for index in range(400):
        tokenizer.encode(f"{index}" * 2000, is_first=True)
    cache = tokenizer._cache
    sizes = sum(len(text) + len(ids) for (text, _), ids in cache._entries.items())
    assert sizes == cache._size <= cache._capacity


def write_tiktoken(path: Path, num_ranks: int) -> dict[bytes, int]:
    ranks = {bytes((byte,)): byte for byte in range(256)} | {b"th": 256, b"the": 257, b" the": 258}
    ranks |= {f"\x00{index}".encode(): index for index in range(len(ranks), num_ranks)}
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    path.write_text("".join(lines))
    return ranks


def test_qwen_tiktoken_file(tmp_path: Path, config: ModelConfig) -> None:
    write_tiktoken(tmp_path / "qwen.tiktoken", 259)
    tokenizer = load_tokenizer(tmp_path, config)
    assert tokenizer.encode("the the", is_first=True) == [257, 258]
    ids = tokenizer.encode("<|im_start|>é<|im_end|>", is_first=True)
    assert (ids[0], ids[-1]) == (260, 261)
    assert tokenizer.decode(ids) == "é"


@pytest.mark.parametrize("text", [" " * 300_000, "th" * 200_000])
def test_tiktoken_reads_endless_runs(tmp_path: Path, config: ModelConfig, text: str) -> None:
    write_tiktoken(tmp_path / "qwen.tiktoken", 259)
    tokenizer = load_tokenizer(tmp_path, config)
    assert tokenizer.decode(tokenizer.encode(text, is_first=True)) == text


def test_llama3_tiktoken_file_begins_with_bos(tmp_path: Path, config: ModelConfig) -> None:
    write_tiktoken(tmp_path / "tokenizer.model", 128_000)
    tokenizer = load_tokenizer(tmp_path, dataclasses.replace(config, vocab_size=128_256))
    assert tokenizer.encode("the", is_first=True) == [128_000, 257]
    assert tokenizer.encode("<|begin_of_text|>the", is_first=True) == [128_000, 257]
    assert tokenizer.encode("<|eot_id|>", is_first=False) == [128_009]
    assert tokenizer.encode("2024", is_first=False) == [50, 48, 50, 52]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "has no tokenizer: no tokenizer.json"),
        ({"tokenizer.json": "{}"}, "tokenizer.json cannot be read as a tokenizer"),
        ({"tokenizer.model": "\x0a\x0e\x0a sentencepiece"}, "SentencePiece tokenizer.model"),
        ({"tokenizer.model": "YQ== 0\nYg== 1\n"}, "holds 2 tokens"),
        ({"a.tiktoken": "YQ== 0\nYg== 5\n"}, "ranks have gaps"),
        ({"a.tiktoken": "YQ== 0\n??? 1\n"}, "line 2"),
        ({"tokenizer_config.json": "[1]"}, "must be a JSON object"),
        ({"tokenizer_config.json": "{"}, "cannot be read as JSON"),
        ({"generation_config.json": '{"eos_token_id": "x"}'}, "eos_token_id='x'"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named(
    tmp_path: Path, config: ModelConfig, files: dict[str, str], says: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(LoadError, match=says):
        load_tokenizer(tmp_path, config)


def test_a_tokenizer_of_a_larger_model_is_refused(tmp_path: Path, config: ModelConfig) -> None:
    write_tiny_tokenizer(tmp_path)
    with pytest.raises(LoadError, match=r"has 272 tokens, config\.json says vocab_size=200"):
        load_tokenizer(tmp_path, dataclasses.replace(config, vocab_size=200))


def test_special_tokens_the_model_does_not_know_are_refused_in_prompts(
    tmp_path: Path, config: ModelConfig
) -> None:
    write_tiktoken(tmp_path / "qwen.tiktoken", 259)
    tokenizer = load_tokenizer(tmp_path, dataclasses.replace(config, vocab_size=260))
    assert tokenizer.encode("<|endoftext|>", is_first=True) == [259]
    with pytest.raises(InvalidRequest, match="token id 260"):
        tokenizer.encode("<|im_start|>", is_first=True)


def test_a_decoder_whose_tokens_are_no_bytes_is_refused(
    tmp_path: Path, config: ModelConfig
) -> None:
    made = HubTokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    made.decoder = decoders.WordPiece()
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(LoadError, match="decoder WordPiece: must be ByteLevel"):
        load_tokenizer(tmp_path, config)

import pytest

from ramify.grammars import Vocabulary


def texts_of_trie(vocabulary):
    trie = vocabulary.trie
    found, path = {}, []
    for node in range(1, trie.num_nodes):
        del path[trie.depth[node] - 1 :]
        path.append(int(trie.byte[node]))
        for token_id in vocabulary.tokens_at(node):
            found[token_id] = bytes(path)
        assert vocabulary.children(vocabulary.parents[node])[path[-1]] == node
    return found


def test_the_trie_holds_every_text_token():
    tokens = [b"a", b"ab", None, b"ab", b"", b"b\xff", b"abc", b"a"]
    vocabulary = Vocabulary(tokens, [0])
    expected = {index: text for index, text in enumerate(tokens) if text and index != 0}
    assert texts_of_trie(vocabulary) == expected


def test_byte_level_tokens():
    spec = {
        "model": {"type": "BPE", "vocab": {"Ġthe": 0, "Ã©": 1, "Ċ": 2, "<s>": 3}},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [
            {"id": 3, "content": "<s>", "special": True},
            {"id": 4, "content": "<think>", "special": False},
            {"id": 5, "content": "  ", "special": False},
        ],
    }
    vocabulary = Vocabulary.from_tokenizer_json(spec)
    assert vocabulary.token_bytes == (b" the", "é".encode(), b"\n", None, None, b"  ")


def test_sentencepiece_tokens_with_byte_fallback():
    spec = {
        "model": {
            "type": "Unigram",
            "vocab": [["<unk>", 0.0], ["\u2581the", -1.0], ["<0xC3>", -2.0]],
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}],
        },
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
    }
    assert Vocabulary.from_tokenizer_json(spec).token_bytes == (None, b" the", b"\xc3")


def test_unknown_tokenizers_are_refused():
    with pytest.raises(ValueError, match="WordPiece"):
        Vocabulary.from_tokenizer_json(
            {"model": {"type": "WordPiece", "vocab": {"a": 0}}, "decoder": {"type": "WordPiece"}}
        )
    with pytest.raises(ValueError, match="eos_token_ids"):
        Vocabulary([b"a"], [1])

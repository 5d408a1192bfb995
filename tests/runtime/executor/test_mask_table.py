"""Masks on the device: sent once, named by their rows, the ones not named for longest make room."""

from types import SimpleNamespace

import numpy as np
import torch

from ramify.grammars.errors import GrammarError
from ramify.lang.protocol import Sampling
from ramify.runtime.executor import mask_table
from ramify.runtime.executor.mask_table import MaskTable

VOCAB = 70  # three words


def entry(mask=None, *, tokens=(1, 2), end=2, is_live=True):
    """A row that may be followed by what `mask` allows; None: by anything."""
    guide = None if mask is None else SimpleNamespace(mask=lambda: mask)
    spec = SimpleNamespace(sampling=Sampling(regex="a"))
    request = SimpleNamespace(
        guide=guide,
        node=object() if is_live else None,
        token_ids=list(tokens),
        num_tokens=len(tokens),
        spec=spec,
    )
    return SimpleNamespace(request=request, end=end)


def table(num_rows, monkeypatch):
    monkeypatch.setattr(mask_table, "_MORE", 0)
    return MaskTable(VOCAB, num_rows, torch.device("cpu"))


def found(masks, rows):
    """What the table holds for each row."""
    ids = masks.rows(rows).row_ids.tolist()
    return [None if row < 0 else masks.table[row].tolist() for row in ids]


def test_the_same_array_is_sent_once(monkeypatch):
    masks = table(4, monkeypatch)
    one, other = np.array([1, 2, 3], np.int32), np.array([4, 5], np.int32)
    for _ in range(3):
        rows = found(masks, [entry(one), entry(), entry(other), entry(one)])
        assert rows == [[1, 2, 3], None, [4, 5, 0], [1, 2, 3]]
    assert masks.num_uploaded == 2


def test_masks_not_named_for_longest_make_room(monkeypatch):
    masks = table(2, monkeypatch)
    arrays = [np.array([n], np.int32) for n in range(5)]
    for n in (0, 1, 0, 2, 0, 3, 0, 4):
        assert found(masks, [entry(arrays[n])]) == [[n, 0, 0]]
    assert masks.num_uploaded == 5  # 0 was never displaced
    assert found(masks, [entry(arrays[0]), entry(arrays[1])]) == [[0, 0, 0], [1, 0, 0]]


def test_a_token_forced_meanwhile_is_the_only_one_allowed(monkeypatch):
    masks = table(2, monkeypatch)
    mask = np.array([7], np.int32)
    assert found(masks, [entry(mask, tokens=(1, 2, 33))]) == [[0, 2, 0]]


def test_a_request_that_ended_meanwhile_is_not_asked(monkeypatch):
    masks = table(2, monkeypatch)
    assert found(masks, [entry(np.array([7], np.int32), is_live=False)]) == [None]


def test_no_grammar_takes_no_memory(monkeypatch):
    masks = table(2, monkeypatch)
    assert masks.rows([entry(), entry()]).row_ids is None
    assert not masks.table.numel()


def test_a_grammar_past_its_limits_is_that_rows_error(monkeypatch):
    masks = table(2, monkeypatch)

    def fails():
        raise GrammarError("grammar_too_complex", "too many states")

    bad = entry(np.array([7], np.int32))
    bad.request.guide.mask = fails
    rows = masks.rows([bad, entry(np.array([9], np.int32))])
    assert rows.errors[0].code == "grammar_too_complex"
    assert rows.row_ids.tolist()[0] == -1
    assert masks.table[rows.row_ids[1]].tolist() == [9, 0, 0]

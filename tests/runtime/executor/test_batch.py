import torch

from ramify.lang.protocol import LogprobOptions
from ramify.runtime.executor.batch import prepare
from tests.runtime.executor.plans import make_request, plan

CPU = torch.device("cpu")


def test_batch_lays_requests_end_to_end():
    first = make_request([10, 11, 12, 13], [7, 3, 9, 1])
    second = make_request([20, 21, 22], [4, 5, 6, 99, 99])
    batch = prepare(plan((first, 1, 4, 2), (second, 2, 3)), CPU)
    assert batch.input_ids.tolist() == [11, 12, 13, 22]
    assert batch.positions.tolist() == [1, 2, 3, 2]
    assert batch.out_loc.tolist() == [-1, 9, 1, 6]
    assert batch.q_indptr.tolist() == [0, 3, 4] and batch.q_lens == (3, 1)
    assert batch.kv_indptr.tolist() == [0, 4, 7] and batch.kv_lens == (4, 3)
    assert batch.slot_ids.tolist() == [7, 3, 9, 1, 4, 5, 6]
    assert batch.logit_rows.tolist() == [2, 3] and batch.num_sampled == 2


def test_preparing_leaves_the_requests_slots_alone():
    request = make_request([1, 2, 3], [5, 6, 7])
    prepare(plan((request, 0, 3, 2)), CPU)
    assert request.slots.tolist() == [5, 6, 7]


def test_prompt_logprob_rows_come_after_the_sampled_ones():
    asked = LogprobOptions(prompt_start=1)
    scored = make_request([1, 2, 3, 4], [0, 1, 2, 3], logprobs=asked)
    plain = make_request([5, 6], [4, 5])
    batch = prepare(plan((scored, 0, 4, 0, 1), (plain, 0, 2)), CPU)
    assert batch.num_sampled == 2
    assert batch.logit_rows.tolist() == [3, 5, 1, 2]

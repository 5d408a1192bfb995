"""What the scheduler promises beyond right tokens: sharing, fairness, edges, faults, deadlines."""

import msgspec
import numpy as np
import pytest

from ramify.lang.errors import ContextLengthExceeded, InvalidRequest, Unavailable
from ramify.lang.protocol import FinishReason, LogprobOptions
from ramify.runtime.core import RowResult
from ramify.runtime.scheduler import planner
from ramify.runtime.scheduler.policy import MAX_OVERTAKES
from tests.runtime.fakes import oracle, token_request
from tests.runtime.scheduler.harness import Harness


def prompt(length: int, salt: int = 0) -> list[int]:
    return np.random.default_rng(salt).integers(1, 60, length).tolist()


# -- sharing


@pytest.mark.parametrize("chunk", [16, 64, 2048, -1])
@pytest.mark.parametrize("num_slots", [32768, 1700])
def test_sixteen_forks_arriving_together_compute_their_prompt_once(chunk, num_slots):
    harness = Harness(num_slots, chunked_prefill_size=chunk)
    shared = prompt(1000)
    for fork in range(16):
        own = [fork, *prompt(6, salt=100 + fork)]
        harness.add(token_request(f"f{fork}", shared + own, max_tokens=5, ignore_eos=True))
    harness.run()
    harness.check_ledger()
    stats = harness.scheduler.stats()
    decoded = 16 * 4  # the first token comes from the last prefill row
    assert stats.computed_tokens == 1000 + 16 * 7 + decoded
    assert stats.cached_tokens == stats.prompt_tokens - (1000 + 16 * 7)
    assert stats.cached_tokens == sum(a.final[0].num_cached for a in harness.answers.values())
    assert harness.executor.num_written == stats.computed_tokens


def test_sixteen_forks_fit_one_step():
    harness = Harness(32768)
    shared = prompt(1000)
    for fork in range(16):
        harness.add(token_request(f"f{fork}", [*shared, fork + 1], max_tokens=1))
    harness.run()
    assert harness.scheduler.stats().num_steps == 1
    assert harness.scheduler.stats().computed_tokens == 1000 + 16


def test_forks_of_the_very_same_prompt_recompute_one_row_and_write_nothing():
    harness = Harness()
    for fork in range(4):
        harness.add(token_request("r", prompt(100), index=fork, seed=fork, max_tokens=3))
    harness.step()
    assert [row[1:] for row in harness.plans[0]] == [(0, 100, 0)] + [(99, 100, 100)] * 3
    harness.run()
    harness.check_ledger()


def test_each_turn_of_a_chat_computes_only_what_is_new():
    harness = Harness()
    history = prompt(50)
    for turn in range(4):
        before = harness.scheduler.stats().computed_tokens
        spec = token_request(f"t{turn}", history, max_tokens=20, ignore_eos=True)
        harness.add(spec)
        harness.run()
        computed = harness.scheduler.stats().computed_tokens - before
        # The user's words and the last answer's last token, which had no K and V; 19 decode rows.
        assert computed == (50 if turn == 0 else 11) + 19
        history = history + oracle(spec)[0] + prompt(10, salt=turn)
    harness.check_ledger()


def test_disabling_the_radix_cache_shares_and_keeps_nothing():
    harness = Harness(disable_radix_cache=True)
    for fork in range(3):
        harness.add(token_request(f"f{fork}", prompt(40), max_tokens=1))
    harness.run()
    stats = harness.scheduler.stats()
    assert (stats.computed_tokens, stats.cached_tokens) == (120, 0)
    assert stats.num_free_slots == stats.num_slots
    harness.check_ledger()


def test_namespaces_do_not_share():
    harness = Harness()
    for name in ("a", "b"):
        harness.add(token_request(name, prompt(40), max_tokens=1, namespace=name))
    harness.run()
    assert harness.scheduler.stats().computed_tokens == 80


# -- the budget of a step


def test_a_step_mixes_decode_and_prefill_within_its_budget():
    harness = Harness(max_prefill_tokens=18, chunked_prefill_size=16)
    for number in range(4):
        harness.add(token_request(f"d{number}", prompt(3, number), max_tokens=30, ignore_eos=True))
    harness.step()
    harness.add(token_request("long", prompt(100, 9), max_tokens=2))
    harness.step()
    rows = {rid: end - start for rid, start, end, _ in harness.plans[1]}
    assert rows == {"d0": 1, "d1": 1, "d2": 1, "d3": 1, "long": 14}
    harness.run()
    for plan in harness.plans:
        assert sum(end - start for _, start, end, _ in plan) <= 18


def test_without_chunking_a_prompt_longer_than_the_budget_goes_whole():
    harness = Harness(max_prefill_tokens=32, chunked_prefill_size=-1)
    harness.add(token_request("long", prompt(100), max_tokens=2))
    harness.add(token_request("short", prompt(5, 1), max_tokens=2))
    harness.step()
    assert harness.plans[0] == [("long", 0, 100, 0)]
    harness.run()
    harness.check_ledger()


def test_at_most_max_running_requests_run():
    harness = Harness(max_running_requests=3)
    for number in range(8):
        harness.add(token_request(f"r{number}", prompt(5, number), max_tokens=4))
    harness.step()
    assert harness.scheduler.stats().num_running == 3
    harness.run()
    harness.check_ledger()


def test_a_request_that_does_not_fit_is_passed_over_not_waited_for():
    harness = Harness(100, schedule_policy="fcfs")
    harness.add(token_request("running", prompt(50), max_tokens=20, ignore_eos=True))
    harness.step()
    harness.add(token_request("large", prompt(90, 1), max_tokens=5))
    harness.add(token_request("small", prompt(5, 2), max_tokens=2))
    harness.step()
    assert [row[0] for row in harness.plans[1]] == ["running", "small"]
    harness.run()
    harness.check_ledger()


# -- fairness


@pytest.mark.parametrize("policy", ["lpm", "fcfs", "lof", "dfs-weight", "random", "priority"])
@pytest.mark.parametrize("length", [10, 69])  # 69: fits only when nothing else runs
def test_nothing_starves_while_others_keep_arriving(policy, length):
    harness = Harness(70, schedule_policy=policy, max_running_requests=2)
    hot = prompt(8, 1)
    harness.add(token_request("hot", hot, max_tokens=9, ignore_eos=True, priority=5))
    harness.step()
    harness.add(token_request("cold", prompt(length, 2), max_tokens=1))
    for number in range(MAX_OVERTAKES * 4):
        harness.add(token_request(f"h{number}", hot, max_tokens=3, ignore_eos=True, priority=5))
        if harness.answers["cold", 0].final:
            break
        harness.step()
    order = [rid for plan in harness.plans for rid, *_ in plan]
    overtakers = {rid for rid in order[: order.index("cold")] if rid.startswith("h")} - {"hot"}
    assert len(overtakers) <= MAX_OVERTAKES
    harness.run()
    harness.check_ledger()


def test_under_pressure_the_oldest_request_is_never_sent_back(monkeypatch):
    monkeypatch.setattr(planner, "DECODE_RESERVE", 4)
    harness = Harness(120, chunked_prefill_size=16)
    for number in range(6):
        harness.add(
            token_request(f"r{number}", prompt(10, number), max_tokens=100, ignore_eos=True)
        )
    finished = []
    while harness.scheduler.has_work:
        harness.step()
        finished += [
            rid for (rid, _), a in harness.answers.items() if a.final and rid not in finished
        ]
    assert finished[0] == "r0"
    assert harness.scheduler.stats().num_retracted > 0
    harness.check_ledger()


def test_a_cached_prefix_is_not_taken_for_room_once_it_is_used():
    harness = Harness(chunked_prefill_size=16)
    harness.add(token_request("old", prompt(4, 1), max_tokens=20, ignore_eos=True))
    harness.add(token_request("young", prompt(60), max_tokens=2))
    harness.add(token_request("sibling", prompt(60), max_tokens=2))
    harness.step()
    harness.abort("sibling")  # leaves [16, 32) cached: all that can be had when nothing is free
    taken = harness.pool.allocate(harness.pool.num_free)
    plan = harness.scheduler.plan()
    assert [row.request.spec.rid for row in plan.rows] == ["old"]
    harness.pool.free(taken)
    harness.receive(harness.scheduler.commit(plan, harness.executor.execute(plan)))
    harness.run()
    harness.check_ledger()


def test_retraction_keeps_what_was_computed():
    harness = Harness()
    harness.add(token_request("r", prompt(200), max_tokens=20, ignore_eos=True))
    for _ in range(10):
        harness.step()
    harness.scheduler.retract_all()
    assert harness.scheduler.stats().num_waiting == 1
    harness.run()
    assert harness.scheduler.stats().computed_tokens == 200 + 19
    assert harness.answers["r", 0].final[0].num_cached == 0  # its own work is not a cache hit
    harness.check_ledger()


def test_admission_keeps_slots_back_for_the_next_tokens_of_those_running():
    harness = Harness(2 * (10 + planner.DECODE_RESERVE) - 1)
    for number in range(2):
        harness.add(token_request(f"r{number}", prompt(10, number), max_tokens=100))
    harness.step()
    assert harness.scheduler.stats().num_running == 1
    harness.run()
    harness.check_ledger()


# -- what a request may ask


def test_prefill_only_ends_with_length_and_warms_the_cache():
    harness = Harness()
    harness.add(token_request("warm", prompt(30), max_tokens=0))
    harness.run()
    assert harness.answers["warm", 0].finish == FinishReason(type="length")
    harness.add(token_request("next", [*prompt(30), 5], max_tokens=1))
    harness.run()
    assert harness.answers["next", 0].final[0].num_cached == 30
    harness.check_ledger()


@pytest.mark.parametrize("start", [0, 1, 20, 49, 50])
@pytest.mark.parametrize("max_tokens", [0, 3])
@pytest.mark.parametrize("chunk", [16, -1])
def test_prompt_logprobs_come_once_and_recompute_only_their_rows(start, max_tokens, chunk):
    harness = Harness(chunked_prefill_size=chunk)
    harness.add(token_request("warm", prompt(50), max_tokens=0))
    harness.run()
    before = harness.scheduler.stats().computed_tokens
    spec = token_request(
        "r",
        prompt(50),
        max_tokens=max_tokens,
        ignore_eos=True,
        logprobs=LogprobOptions(prompt_start=start),
    )
    harness.add(spec)
    harness.run()
    rows = 50 - min(max(start - 1, 0), 49)
    decoded = max(max_tokens - 1, 0)
    assert harness.scheduler.stats().computed_tokens - before == rows + decoded
    assert harness.executor.num_written == 50 + decoded
    harness.check_ledger()


def test_a_stop_token_is_named_and_not_part_of_the_answer():
    harness = Harness()
    free = token_request("free", prompt(20), max_tokens=30, ignore_eos=True)
    tokens = oracle(free)[0]
    stop = tokens[5]
    spec = token_request("stop", prompt(20), max_tokens=30, ignore_eos=True, stop_token_ids=(stop,))
    harness.add(spec)
    harness.run()
    answer = harness.answers["stop", 0]
    assert answer.token_ids == tokens[: tokens.index(stop)]
    assert answer.finish == FinishReason(type="stop", matched=stop)


def test_no_stop_before_min_tokens():
    harness = Harness()
    spec = token_request(
        "r", prompt(20), max_tokens=30, min_tokens=25, stop_token_ids=tuple(range(64))
    )
    harness.add(spec)
    harness.run()
    assert len(harness.answers["r", 0].token_ids) == 25
    harness.check_ledger()


# -- refused at the edge


@pytest.mark.parametrize(
    ("spec", "error", "code", "words"),
    [
        (token_request("r", []), InvalidRequest, "empty_prompt", "at least one"),
        (
            token_request("r", prompt(90), max_tokens=20),
            ContextLengthExceeded,
            "context_length_exceeded",
            "prompt of 90 tokens and max_tokens=20 make 110, the context length is 100: "
            "set max_tokens to 10 or less",
        ),
        (
            token_request("r", prompt(110), max_tokens=20),
            ContextLengthExceeded,
            "context_length_exceeded",
            "shorten the prompt by 11 tokens or more",
        ),
        (
            token_request("r", prompt(70), max_tokens=20),
            ContextLengthExceeded,
            "pool_too_small",
            "need 89 slots, the KV pool has 80: start the engine with --max-total-tokens 89 or "
            "more, or set max_tokens to 11 or less",
        ),
        (
            token_request("r", prompt(5), logprobs=LogprobOptions(prompt_start=6)),
            InvalidRequest,
            "out_of_range",
            "at most 5",
        ),
    ],
)
def test_what_can_never_run_is_refused_with_the_fix(spec, error, code, words):
    harness = Harness(80, context_length=100)
    if spec.sampling.max_tokens == 128 and code != "context_length_exceeded":
        spec = msgspec.structs.replace(
            spec, sampling=token_request("r", [1], max_tokens=5).sampling
        )
    with pytest.raises(error) as caught:
        harness.scheduler.add(spec)
    assert caught.value.code == code
    assert words in caught.value.message
    assert not harness.scheduler.has_work


@pytest.mark.parametrize("limits", [(80, 4096), (4096, 81)])  # the last token needs no slot
def test_the_largest_request_that_fits_runs_and_the_next_larger_is_refused(limits):
    harness = Harness(limits[0], context_length=limits[1])
    harness.add(token_request("r", prompt(61), max_tokens=20, ignore_eos=True))
    harness.run()
    harness.check_ledger()
    with pytest.raises(ContextLengthExceeded):
        harness.scheduler.add(token_request("r", prompt(62), max_tokens=20))


def test_a_full_queue_is_unavailable_and_a_live_id_is_taken():
    harness = Harness(max_queued_requests=2)
    harness.add(token_request("a", prompt(3), max_tokens=2))
    with pytest.raises(InvalidRequest, match="still running"):
        harness.scheduler.add(token_request("a", prompt(3), max_tokens=2))
    harness.add(token_request("a", prompt(3), index=1, max_tokens=2))
    with pytest.raises(Unavailable) as caught:
        harness.scheduler.add(token_request("b", prompt(3), max_tokens=2))
    assert caught.value.code == "queue_full"
    harness.run()
    harness.check_ledger()
    harness.add(token_request("a", prompt(3), max_tokens=2))  # the id is free again


# -- ends


def test_abort_ends_all_sequences_of_exactly_that_id_once():
    harness = Harness()
    for rid in ("a1", "a10"):
        for index in range(2):
            harness.add(token_request(rid, prompt(9), index=index, max_tokens=50, ignore_eos=True))
    harness.step()
    assert [(d.rid, d.index) for d in harness.abort("a1")] == [("a1", 0), ("a1", 1)]
    assert harness.abort("a1") == harness.abort("a") == []
    assert [d.index for d in harness.abort("a10", 1)] == [1]
    harness.run()
    harness.check_ledger()
    assert harness.scheduler.stats().num_aborted == 3
    assert harness.answers["a10", 0].finish.type == "length"


def test_an_abort_while_a_step_is_under_way_takes_effect_at_once():
    harness = Harness()
    harness.add(token_request("r", prompt(9), max_tokens=50, ignore_eos=True))
    plan = harness.scheduler.plan()
    results = harness.executor.execute(plan)
    assert harness.scheduler.abort("r")[-1].finish == FinishReason(type="abort")
    assert harness.scheduler.commit(plan, results) == []
    assert not harness.scheduler.has_work
    harness.scheduler.check_invariants()


def test_deadlines_end_waiting_and_running_requests():
    harness = Harness(max_running_requests=1)
    options = {"max_tokens": 50, "ignore_eos": True}
    harness.add(token_request("runs", prompt(9), deadline=10.0, **options))
    harness.add(token_request("waits", prompt(9), deadline=5.0, **options))
    harness.add(token_request("lives", prompt(9), deadline=1000.0, **options))
    harness.run()
    harness.check_ledger()
    for rid, ended in (("runs", 10), ("waits", 5)):
        error = harness.answers[rid, 0].error
        assert (error.type, error.code) == ("DeadlineExceeded", "deadline_exceeded")
        assert f"{ended} s after" in error.message
    assert harness.answers["lives", 0].finish.type == "length"


def test_ended_requests_are_not_kept_until_their_deadline():
    harness = Harness()
    for number in range(500):
        harness.add(token_request(f"r{number}", [1, 2], max_tokens=0, deadline=1e9))
        harness.run()
    assert len(harness.scheduler._deadlines) < 100


def test_times_and_cached_tokens_are_reported_with_the_last_delta():
    harness = Harness(max_running_requests=1, chunked_prefill_size=16)
    harness.add(token_request("first", prompt(40), max_tokens=5, ignore_eos=True))
    harness.add(token_request("second", prompt(40), max_tokens=5, ignore_eos=True))
    harness.run()
    first, second = (harness.answers[rid, 0].final[0] for rid in ("first", "second"))
    # A second passes before each step: three chunks, then four decode steps.
    assert (first.queue_s, first.prefill_s, first.decode_s) == (1.0, 2.0, 4.0)
    assert (second.queue_s, second.prefill_s, second.decode_s) == (8.0, 0.0, 4.0)
    assert (first.num_cached, second.num_cached) == (0, 39)


# -- faults


def test_a_failed_step_takes_its_uncomputed_tokens_out_of_the_tree():
    harness = Harness(chunked_prefill_size=64)
    harness.add(token_request("old", prompt(100), max_tokens=50, ignore_eos=True))
    harness.step()
    harness.add(token_request("a", prompt(100)[:64] + prompt(30, 1), max_tokens=5))
    harness.add(
        token_request("b", prompt(100)[:64] + prompt(30, 1)[:20] + prompt(9, 2), max_tokens=5)
    )
    harness.step(fails=True)
    assert {rid for (rid, _), a in harness.answers.items() if a.error} == {"old", "a", "b"}
    assert harness.tree.num_cached == 64  # the first step's chunk, and nothing of the second
    harness.add(token_request("again", prompt(100)[:64] + prompt(30, 1), max_tokens=5))
    harness.run()
    harness.check_ledger()


def test_requests_that_are_not_in_a_failed_step_go_on():
    harness = Harness(max_prefill_tokens=16, chunked_prefill_size=16)
    harness.add(token_request("in", prompt(16), max_tokens=5))
    harness.add(token_request("out", prompt(40), max_tokens=5))
    harness.step(fails=True)
    harness.run()
    harness.check_ledger()
    assert harness.answers["in", 0].error is not None
    assert harness.answers["out", 0].error is None


def test_a_bad_row_ends_its_request_and_forgets_what_only_it_computed():
    harness = Harness()
    harness.add(token_request("good", prompt(30), max_tokens=9))
    harness.add(token_request("bad", prompt(30) + prompt(20, 1), max_tokens=9))
    harness.step(errors=frozenset({"bad"}))
    assert harness.answers["bad", 0].error.code == "step_failed"
    assert harness.tree.num_cached == 30
    harness.run()
    harness.check_ledger()


class OnlyOnce:
    """A guide that allows one token and nothing after it."""

    is_finished = must_end = False
    forced = ()

    def __init__(self) -> None:
        self.num_accepted = 0

    def accept(self, token):
        self.num_accepted += 1
        return self.num_accepted == 1


def test_a_token_its_grammar_forbids_ends_that_request_alone():
    harness = Harness()
    harness.add(token_request("constrained", prompt(9), max_tokens=5, ignore_eos=True))
    harness.add(token_request("free", prompt(9, 1), max_tokens=5, ignore_eos=True))
    harness.scheduler._live["constrained"][0].guide = OnlyOnce()
    harness.run()
    harness.check_ledger()
    assert "grammar forbids" in harness.answers["constrained", 0].error.message
    assert harness.answers["free", 0].finish.type == "length"


def test_results_of_another_plan_are_refused():
    harness = Harness()
    harness.add(token_request("r", prompt(3), max_tokens=2))
    plan = harness.scheduler.plan()
    with pytest.raises(AssertionError, match="not the oldest step's results"):
        harness.scheduler.commit(plan, [])
    with pytest.raises(AssertionError, match="commit, fail or advance"):
        harness.scheduler.plan()
    harness.scheduler.commit(plan, [RowResult(1, None, ())])


def test_an_idle_scheduler_plans_nothing():
    harness = Harness()
    assert harness.scheduler.plan() is None
    assert not harness.scheduler.has_work
    assert harness.scheduler.flush_cache() == 0

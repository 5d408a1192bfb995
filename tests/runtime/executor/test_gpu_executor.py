"""The GPU's executor gives the tokens of the reference, step for step; on a CPU in Triton's
interpreter."""

from dataclasses import replace
from functools import cache
from unittest.mock import Mock

import msgspec
import pytest
import torch

from ramify.grammars import ChoicesSpec, JsonSchemaSpec, RegexSpec, compile_grammar
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import TokenRequest
from ramify.runtime.executor import decode_step, small_step, work
from ramify.runtime.executor.executor import Executor
from ramify.runtime.executor.gpu_executor import GPUExecutor
from ramify.runtime.guide import Forcing, Guide
from ramify.runtime.kernels.attention_tiles import StepTiles, Tiles
from ramify.runtime.kernels.chunk_attention import chunk_attention
from ramify.runtime.models import gpu_runner
from ramify.runtime.models.llama import LlamaModel
from ramify.runtime.scheduler.scheduler import Scheduler
from ramify.runtime.step_loop import OverlapLoop, PlainLoop
from tests.runtime.executor.alarm import Waits, no_waiting
from tests.runtime.executor.plans import make_model, make_pool

NUM_SLOTS = 512


def spec(rid, tokens, max_tokens=4, logprobs=None, **sampling):
    sampling = Sampling(**{"temperature": 0.0, "seed": 1, "max_tokens": max_tokens} | sampling)
    options = logprobs or LogprobOptions()
    return TokenRequest(rid, 0, tuple(tokens), sampling, options, eos_token_ids=(2,))


PIECES = [*(bytes([byte]) for byte in range(256)), b"abc", *[None] * 31]  # 2: also ends
VOCABULARY = Vocabulary(PIECES, [287])
FORCING = Forcing(lambda token: PIECES[token] or b"", lambda text: list(text.encode()))


def held(rid, grammar, tokens=(7, 8, 9), max_tokens=12, **options):
    one = spec(rid, tokens, max_tokens=max_tokens, **options)
    return msgspec.structs.replace(one, grammar=compiled(grammar), eos_token_ids=(287,))


@cache
def compiled(grammar):
    return compile_grammar(grammar, VOCABULARY)


def serve(make_executor, model, specs, loop=PlainLoop, retract_every=0, **config):
    """rid -> (tokens, logprobs, prompt logprobs) of all requests, served together."""
    pool = SlotPool(NUM_SLOTS)
    config = EngineConfig(max_running_requests=8, **config)
    scheduler = Scheduler(
        config,
        pool,
        RadixTree(pool),
        context_length=256,
        guide=lambda grammar, limit: Guide(grammar, limit, FORCING),
    )
    loop = loop(scheduler, make_executor(model, make_pool(model, NUM_SLOTS)))
    found = {one.rid: ([], [], []) for one in specs}
    for one in specs:
        scheduler.add(one)
    turns = 0
    while scheduler.has_work or loop.is_under_way:
        for delta in (delta for deltas in loop.turn() for delta in deltas):
            assert delta.error is None, delta
            tokens, logprobs, prompt = found[delta.rid]
            tokens += delta.token_ids
            logprobs += delta.logprobs
            prompt += delta.prompt_logprobs or ()
        turns += 1
        if retract_every and turns % retract_every == 0:
            scheduler.retract_all()
    scheduler.check_invariants()
    return found


def on_gpu(model, pool):
    return GPUExecutor(model, pool, max_requests=8, share_min=1)


@pytest.fixture
def model(tiny_model_dir, monkeypatch):
    if not torch.cuda.is_available():  # the interpreter's time goes with the size of the tiles
        monkeypatch.setattr(
            work,
            "choose_tiles",
            lambda _, rows, has_large: StepTiles(
                Tiles(16, 16, 4, 2, 1), Tiles(32, 16, 4, 2, 1) if has_large else None
            ),
        )
    monkeypatch.setattr(decode_step, "ROOM", 2)  # lists are outgrown here too
    whole = make_model(tiny_model_dir("qwen3"))
    return LlamaModel(replace(whole.config, num_layers=1), whole.weights, 512, num_threads=1)


SHARED = list(range(20, 52))
SCORED = LogprobOptions(output=True, top=2)
FORKS = [
    spec(f"f{i}", [*SHARED, 100 + i, 7], max_tokens=6, temperature=1.0, seed=i, logprobs=SCORED)
    for i in range(4)
]


def assert_same(found, expected):
    """Equal tokens; log-probabilities as near as two orders of summation are."""
    for rid, (tokens, logprobs, prompt) in expected.items():
        ours = found[rid]
        assert ours[0] == tokens, rid
        for mine, theirs in ((ours[1], logprobs), (ours[2], prompt)):
            assert [one.token_id for one in mine] == [one.token_id for one in theirs], rid
            for one, other in zip(mine, theirs, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4), rid
                assert [token for _, token in one.top] == [token for _, token in other.top], rid
                values = [value for value, _ in other.top]
                assert [value for value, _ in one.top] == pytest.approx(values, abs=1e-4), rid


@pytest.mark.parametrize("loop", [PlainLoop, OverlapLoop])
def test_forks_and_a_stranger_equal_the_reference(model, loop):
    specs = [*FORKS, spec("long", range(30, 82), max_tokens=8, logprobs=SCORED)]
    expected = serve(Executor, model, specs, chunked_prefill_size=16)
    assert_same(serve(on_gpu, model, specs, loop, chunked_prefill_size=16), expected)


@pytest.mark.parametrize("loop", [PlainLoop, OverlapLoop])
def test_long_chunks_attend_by_themselves(model, loop, monkeypatch):
    specs = [*FORKS[:2], spec("long", range(30, 82), max_tokens=4, logprobs=SCORED)]
    expected = serve(Executor, model, specs, chunked_prefill_size=24)
    monkeypatch.setattr(work, "CHUNK_ROWS", 6)
    monkeypatch.setattr(work, "CHUNK_END", 20)
    monkeypatch.setattr(gpu_runner, "chunk_attention", counted := Mock(wraps=chunk_attention))
    assert_same(serve(on_gpu, model, specs, loop, chunked_prefill_size=24), expected)
    assert counted.call_count >= 3


def test_retraction_moves_regions_and_changes_nothing(model, monkeypatch):
    # Every step with prefill is a large one.
    monkeypatch.setattr(small_step, "most_rows", lambda config: 0)
    expected = serve(Executor, model, FORKS[:3])
    assert_same(serve(on_gpu, model, FORKS[:3], retract_every=3), expected)


@pytest.mark.parametrize("loop", [PlainLoop, OverlapLoop])
def test_penalties_bias_bans_and_draws_equal_the_reference(model, loop):
    specs = [
        spec("rep", SHARED, repetition_penalty=1.7),
        spec("freq", SHARED, frequency_penalty=2.0, presence_penalty=1.0),
        spec("bias", SHARED, logit_bias={5: 40.0, 6: 39.0}, repetition_penalty=9.0),
        spec("min", SHARED, min_tokens=3, logit_bias={2: 50.0}),
        spec("warm", SHARED, temperature=0.8, top_k=20, top_p=0.9, min_p=0.01, seed=3),
    ]
    assert_same(serve(on_gpu, model, specs, loop), serve(Executor, model, specs))


def test_logprobs_of_prompt_and_answer_equal_the_reference(model):
    options = LogprobOptions(output=True, top=3, prompt_start=0)
    specs = [spec("a", SHARED, logprobs=options), spec("b", SHARED[:9])]
    expected = serve(Executor, model, specs, chunked_prefill_size=16)
    assert_same(serve(on_gpu, model, specs, chunked_prefill_size=16), expected)


SCHEMA = '{"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"]}'
CONSTRAINED = [
    held("regex", RegexSpec("[ab]{3}(cdcd|efef)[x-z]+"), max_tokens=20),
    held("warm", RegexSpec("[a-f]+z"), temperature=1.5, frequency_penalty=0.5),
    held("choice", ChoicesSpec(("yes", "no, never", "perhaps")), tokens=SHARED, max_tokens=10),
    held("schema", JsonSchemaSpec(SCHEMA), max_tokens=30, temperature=1.0, seed=5),
    held("scored", RegexSpec("[ab]{2}cdcd[x-z]"), max_tokens=9, logprobs=SCORED),
]


@pytest.mark.parametrize(
    ("loop", "disable_jump_forward"),
    [(PlainLoop, False), (OverlapLoop, False), (OverlapLoop, True)],
)
def test_grammars_equal_the_reference_beside_free_neighbours(model, loop, disable_jump_forward):
    specs = [*CONSTRAINED, spec("free", SHARED, max_tokens=12, repetition_penalty=1.3), FORKS[0]]
    options = {"disable_jump_forward": disable_jump_forward}
    expected = serve(Executor, model, specs, **options)
    assert_same(serve(on_gpu, model, specs, loop, **options), expected)


def test_a_mask_is_sent_once(model):
    """Four answers go through the same states of one grammar."""
    executors = []

    def make(model, pool):
        executors.append(on_gpu(model, pool))
        return executors[0]

    pattern = RegexSpec("[ab]{6}")
    specs = [held(f"r{i}", pattern, max_tokens=50, temperature=2.0, seed=i) for i in range(4)]
    serve(make, model, specs)
    assert 0 < executors[0]._sampler._masks.num_uploaded <= 6


class Watched:
    """An executor under the alarm: only `results` may wait."""

    def __init__(self, executor, monkeypatch):
        self._executor, self._monkeypatch = executor, monkeypatch
        self.num_launched = 0

    def launch(self, plan):
        self.num_launched += 1
        with no_waiting(self._monkeypatch):
            return WatchedStep(self._executor.launch(plan), self._monkeypatch)


class WatchedStep:
    def __init__(self, step, monkeypatch):
        self._step, self._monkeypatch = step, monkeypatch
        self.results = step.results

    def choose(self):
        with no_waiting(self._monkeypatch):
            self._step.choose()


def test_nothing_but_results_waits_for_the_device(model, monkeypatch):
    watched = []

    def make(model, pool):
        watched.append(Watched(on_gpu(model, pool), monkeypatch))
        return watched[0]

    scored = LogprobOptions(output=True, top=2, prompt_start=0)
    specs = [
        *CONSTRAINED[:3],
        spec("all", SHARED, repetition_penalty=1.3, logit_bias={5: 1.0}, min_tokens=2),
        spec("scored", range(30, 62), temperature=1.0, top_k=5, top_p=0.9, logprobs=scored),
    ]
    if torch.cuda.is_available():
        serve(on_gpu, model, specs, OverlapLoop)  # compiles, which waits
    serve(make, model, specs, OverlapLoop, chunked_prefill_size=16)
    assert watched[0].num_launched > 5


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.item(),
        lambda x: bool(x),
        lambda x: x.tolist(),
        lambda x: torch.tensor([1], device=x.device),
        lambda x: x.new_ones(3).nonzero(),
    ],
)
def test_the_alarm_rings(waits, monkeypatch):
    x = torch.ones(1, device="cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises((Waits, RuntimeError)), no_waiting(monkeypatch):
        waits(x)
    assert x.item() == 1.0

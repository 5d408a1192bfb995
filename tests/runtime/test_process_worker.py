"""The worker process: what happens when it, or its engine, dies or cannot start."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ramify.lang.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineError,
    InvalidRequest,
    LoadError,
    RamifyError,
    Unavailable,
)
from ramify.lang.protocol import GenerateRequest, LogprobOptions, Sampling, text_prompt
from ramify.runtime import child_process, process_worker
from ramify.runtime.config import MIN_WATCHDOG_S
from ramify.runtime.core import TokenRequest
from ramify.runtime.engine import Engine
from ramify.runtime.messages import Submit

GREEDY = Sampling(temperature=0.0, max_tokens=12, ignore_eos=True)
LONG = Sampling(max_tokens=400, ignore_eos=True)
PATIENCE_S = 180.0
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
SCRIPT = """
import sys, time
from ramify.lang.protocol import Sampling
from ramify.runtime.engine import Engine
engine = Engine(sys.argv[1], worker="process", dtype="float32", max_total_tokens=512)
stream = engine.stream("x", Sampling(max_tokens=400, ignore_eos=True))
next(stream)
print(engine._worker._child.pid, flush=True)
{end}
"""


@contextmanager
def process_engine(path, **options):
    options = {"dtype": "float32", "max_total_tokens": 2048, "worker": "process"} | options
    with Engine(str(path), **options) as engine:
        yield engine


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return tiny_model_dir("llama")


@pytest.fixture(scope="module")
def engine(model):
    with process_engine(model) as engine:
        yield engine


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def takes_requests(engine):
    try:
        engine.check()
    except Unavailable:
        return False
    return True


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(engine):
    pid = engine._worker._child.pid
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_killed_worker_ends_what_it_held_and_another_serves_the_next(engine):
    expected = engine.generate("hello", GREEDY).token_ids
    num_before = engine.stats().num_restarts
    streams = [engine.stream(f"held {i}", LONG) for i in range(3)]
    for stream in streams:
        next(stream)
    pid = kill(engine)
    for stream in streams:
        last = list(stream)[-1]
        assert last.error.code == "worker_died" and "SIGKILL" in last.error.message
    with pytest.raises(Unavailable, match="try again") as refusal:
        engine.generate("hello", GREEDY)
    assert refusal.value.code == "engine_restarting"
    wait_for(lambda: takes_requests(engine))
    assert not is_alive(pid)
    assert engine.generate("hello", GREEDY).token_ids == expected
    assert engine.stats().num_restarts == num_before + 1
    engine.flush_cache()
    assert engine.stats().num_free_slots == engine.stats().num_slots == 2048


def test_calls_under_way_when_the_worker_dies_are_answered(engine):
    wait_for(lambda: takes_requests(engine))

    async def ask(number):
        request = GenerateRequest(rid=f"r{number}", prompt=text_prompt("x"), sampling=LONG)
        try:
            return [delta async for delta in engine.async_generate(request)][-1].error.code
        except RamifyError as error:
            return error.code

    async def story():
        asked = [asyncio.create_task(ask(i)) for i in range(20)]
        await asyncio.sleep(0.01)
        kill(engine)
        asked += [asyncio.create_task(ask(i)) for i in range(20, 40)]
        return await asyncio.gather(*asked)

    assert set(asyncio.run(story())) <= {"worker_died", "engine_restarting"}
    assert not any(engine._streams.is_live(f"r{i}") for i in range(40))
    wait_for(lambda: takes_requests(engine))


def test_many_cancelled_requests_leave_nothing(engine):
    wait_for(lambda: takes_requests(engine))

    async def ask(number):
        request = GenerateRequest(rid=f"c{number}", prompt=text_prompt("x" * 40), sampling=LONG)
        async for _ in engine.async_generate(request):
            pass

    async def story():
        tasks = [asyncio.create_task(ask(i)) for i in range(200)]
        for number, task in enumerate(tasks):
            if number % 4 == 0:
                await asyncio.sleep(0.002)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while any(engine._streams.is_live(f"c{i}") for i in range(200)):
            await asyncio.sleep(0.01)

    asyncio.run(story())
    engine.flush_cache()
    stats = engine.stats()
    assert stats.num_running == stats.num_waiting == 0
    assert stats.num_free_slots == stats.num_slots
    assert len(engine.generate("next", GREEDY).token_ids) == 12


def test_prompts_of_a_megabyte_are_answered_beside_others(engine):
    wait_for(lambda: takes_requests(engine))

    async def story():
        async def ask(rid, text, sampling):
            request = GenerateRequest(rid=rid, prompt=text_prompt(text), sampling=sampling)
            return [delta async for delta in engine.async_generate(request)]

        small = asyncio.create_task(ask("small", "hello", GREEDY))
        found = await asyncio.gather(
            *(ask(f"big {i}", "x" * 2**20, GREEDY) for i in range(3)), return_exceptions=True
        )
        return found, await small

    found, small = asyncio.run(story())
    assert all(isinstance(error, ContextLengthExceeded) for error in found), found
    assert sum(len(delta.token_ids) for delta in small) == 12


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("priority", {"priority": 2**70}),
        ("rid", {"rid": "\ud800"}),
        ("namespace", {"namespace": "\ud800"}),
        ("regex", {"sampling": Sampling(regex="\ud800")}),
        ("prompt_start", {"logprobs": LogprobOptions(prompt_start=2**70)}),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(engine, field, fields):
    wait_for(lambda: takes_requests(engine))
    request = GenerateRequest(**({"rid": "odd", "prompt": text_prompt("x")} | fields))
    for _ in range(2):  # its rid is free again
        with pytest.raises(InvalidRequest, match=field) as error:
            asyncio.run(anext(engine.async_generate(request)))
        assert error.value.param == field
    assert not engine._streams.is_live("odd")


def test_a_directory_that_cannot_hold_sockets_is_named(model, tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(LoadError, match="TMPDIR"):
        Engine(str(model), worker="process")
    assert not list(folder.iterdir())


def test_grammars_scores_and_aborts_cross_the_border(engine):
    wait_for(lambda: takes_requests(engine))
    assert engine.generate("n", Sampling(max_tokens=8, regex="[0-9]{3}")).text.isdigit()
    scores = engine.score("a prefix", [" one", " two"], unconditional=True).scores
    assert all(value < 0 for score in scores for value in score.logprobs)
    assert engine.stats().grammars.num_compiled == 1
    before = engine.stats().num_aborted
    stream = engine.stream("never mind", LONG)
    next(stream)
    stream.close()
    engine.flush_cache()
    assert engine.stats().num_aborted == before + 1


def test_an_engine_beside_its_process_needs_no_torch():
    code = "import sys, ramify.runtime.engine, ramify.runtime.process_worker\n"
    code += "print([name for name in ('torch', 'numba') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_an_engine_that_is_killed_leaves_no_worker(model):
    process = start(model, "time.sleep(600)")
    pid = int(process.stdout.readline())
    assert is_alive(pid)
    process.kill()
    process.wait()
    wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize("end", ["", "import os; os._exit(0)", "raise SystemExit(3)"])
def test_an_engine_that_is_never_closed_leaves_no_worker(model, end):
    process = start(model, end)
    pid = int(process.stdout.readline())
    process.wait(PATIENCE_S)
    wait_for(lambda: not is_alive(pid))


def test_signals_to_the_group_are_the_engines(model):
    end = "import signal; signal.signal(signal.SIGINT, lambda *_: None)\nprint('set', flush=True)\n"
    end += "print(sum(1 for _ in stream) > 10, flush=True); engine.close()"
    process = start(model, end, start_new_session=True)
    int(process.stdout.readline())
    assert process.stdout.readline() == "set\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "True\n"
    assert process.wait(PATIENCE_S) == 0


def start(model, end, **options):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(end=end), str(model)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENV,
        **options,
    )


def test_its_sockets_are_private_and_gone_once_they_are_open(model, tmp_path, monkeypatch):
    made = []
    make = tempfile.mkdtemp

    def mkdtemp(**options):
        made.append(Path(make(dir=tmp_path, **options)))
        assert stat.S_IMODE(made[-1].stat().st_mode) == 0o700
        return str(made[-1])

    monkeypatch.setattr(child_process.tempfile, "mkdtemp", mkdtemp)
    with process_engine(model) as engine:
        assert len(made) == 1 and not made[0].exists()
        assert len(engine.generate("hello", GREEDY).token_ids) == 12


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "no-such-model"}, LoadError, "no-such-model"),
        ({"context_length": 100_000}, ConfigError, "context_length=100000"),
        ({"max_total_tokens": None, "mem_fraction_static": 1e-9}, ConfigError, "mem_fraction"),
    ],
)
def test_errors_of_the_start_are_raised_as_they_are(model, options, error, words):
    options = {"model": str(model), "worker": "process"} | options
    with pytest.raises(error, match=words):
        Engine(**options)


@pytest.mark.parametrize("code", ["import os; os._exit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_a_worker_that_dies_at_its_start_is_an_error_that_says_how(model, monkeypatch, code):
    monkeypatch.setattr(child_process, "_BOOT", code)
    with pytest.raises(EngineError, match=r"exit code 3|SIGKILL") as error, process_engine(model):
        pass
    assert error.value.code == "worker_died"


def test_a_worker_that_keeps_dying_is_given_up(model, monkeypatch):
    monkeypatch.setattr(process_worker, "BACKOFF_S", (0.0,))
    with process_engine(model) as engine:
        stream = engine.stream("x", LONG)
        next(stream)
        monkeypatch.setattr(child_process, "_BOOT", "import os; os._exit(3)")
        kill(engine)
        assert list(stream)[-1].error.code == "worker_died"
        engine._worker._thread.join(PATIENCE_S)
        with pytest.raises(Unavailable, match="exit code 3; after 2 quick deaths") as error:
            engine.check()
        assert error.value.code == "engine_failed"
        with pytest.raises(Unavailable, match="not started again"):
            engine.generate("hello", GREEDY)


def test_a_fault_outside_any_step_ends_the_process_and_says_what_it_was(model, monkeypatch):
    planted = (
        "from ramify.runtime.scheduler.scheduler import Scheduler; plan = Scheduler.plan\n"
        "def faulty(self):\n"
        "    assert not any(13 in r.token_ids for q in self._live.values() for r in q.values())\n"
        "    return plan(self)\n"
        "Scheduler.plan = faulty\n"
    )
    boot = child_process._BOOT.replace("from ramify", planted + "from ramify").replace("; ", "\n")
    monkeypatch.setattr(child_process, "_BOOT", boot)
    with process_engine(model) as engine:
        with pytest.raises(EngineError, match="AssertionError") as error:
            engine.generate([12, 13, 14], GREEDY)
        assert error.value.code == "worker_died"
        wait_for(lambda: takes_requests(engine))
        assert len(engine.generate([12, 14], GREEDY).token_ids) == 12


def test_a_worker_that_hangs_counts_as_dead(model, monkeypatch, capfd):
    planted = (
        "import time\n"
        "from ramify.runtime.scheduler.scheduler import Scheduler; plan = Scheduler.plan\n"
        "def hung(self):\n"
        "    while any(13 in r.token_ids for q in self._live.values() for r in q.values()):\n"
        "        time.sleep(0.1)\n"
        "    return plan(self)\n"
        "Scheduler.plan = hung\n"
    )
    boot = child_process._BOOT.replace("from ramify", planted + "from ramify").replace("; ", "\n")
    monkeypatch.setattr(child_process, "_BOOT", boot)
    with process_engine(model, watchdog_timeout=MIN_WATCHDOG_S) as engine:
        pid = engine._worker._child.pid
        with pytest.raises(EngineError, match=r"hung.*no step ended in 3 s") as error:
            engine.generate([12, 13, 14], GREEDY)
        assert error.value.code == "worker_died"
        wait_for(lambda: takes_requests(engine))
        assert not is_alive(pid)
        assert " in hung" in capfd.readouterr().err  # where it was
        os.kill(engine._worker._child.pid, signal.SIGSTOP)  # one that cannot say anything
        with pytest.raises(Unavailable, match="hung"):  # it was not accepted
            engine.generate([12, 14], GREEDY)
        wait_for(lambda: takes_requests(engine))
        assert len(engine.generate([12, 14], GREEDY).token_ids) == 12
        assert engine.stats().num_restarts == 2


def test_long_silence_of_an_idle_worker_is_no_hang(model):
    with process_engine(model, watchdog_timeout=MIN_WATCHDOG_S) as engine:
        time.sleep(MIN_WATCHDOG_S + 2)
        assert len(engine.generate([12, 14], GREEDY).token_ids) == 12
        assert engine.stats().num_restarts == 0


def test_a_message_carries_what_sequences_share_once():
    ids = tuple(range(1000))
    first = TokenRequest("r", 0, ids, Sampling(seed=1), LogprobOptions(), (2,))
    specs = [first]
    for index in range(1, 4):
        specs.append(TokenRequest("r", index, ids, first.sampling, LogprobOptions(), (2,)))
    specs.append(TokenRequest("r", 4, (1, 2), first.sampling, LogprobOptions(top=1), (2,)))
    message = Submit.of(7, specs)
    assert message.specs() == tuple(specs)
    assert [other.token_ids for other in message.others] == [None, None, None, (1, 2)]

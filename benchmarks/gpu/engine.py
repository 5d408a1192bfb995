"""The same workloads through `ramify.Engine`, front included, and the time from start to ready.

    python -m benchmarks.gpu.engine --shape 8B --only single forks8k mixed [--out DIR]
    python -m benchmarks.gpu.engine --shape 0.6B --only nano --worker thread

Start to ready: from the first import of ramify to the first answer of a short request, weights
drawn on the device. Then two runs of each workload; the first compiles and captures. `front_us` is
the CPU time of this process per output token: the scheduler's too where the worker is a thread.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu.workloads import SHAPES, WORKLOADS
from benchmarks.kernels.measure import environment

MAX_RUNNING = 512


def write_tokenizer(folder: str) -> None:
    """Bytes as tokens: enough for an engine whose prompts are token ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: index for index, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(Path(folder) / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="8B")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--worker", choices=("process", "thread"), default="process")
    parser.add_argument("--commit")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a tiny shape on any machine")
    options = parser.parse_args()
    shape = dict(SHAPES[options.shape])
    if options.smoke:
        shape |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
        shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    about = environment(options.commit)
    rows = []
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(shape))
        write_tokenizer(folder)
        started = time.perf_counter()
        import ramify
        from ramify.lang.protocol import Sampling

        with ramify.Engine(
            folder,
            load_format="dummy",
            worker=options.worker,
            max_running_requests=4 if options.smoke else MAX_RUNNING,
            chunked_prefill_size=8192,
            max_total_tokens=8192 if options.smoke else None,
        ) as engine:
            built = time.perf_counter() - started
            engine.generate([5, 6, 7], Sampling(temperature=0.0, max_tokens=4, ignore_eos=True))
            ready = time.perf_counter() - started
            phases = {phase.name: round(phase.seconds, 2) for phase in engine.phases}
            start = {"worker": options.worker, "start_s": round(ready, 2)}
            rows.append({**start, "engine_s": round(built, 2), **phases})
            print(rows[-1], flush=True)
            for name in options.only:
                if WORKLOADS[name].shape == options.shape:
                    rows.append(run(engine, name, smoke=options.smoke))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"about": about, "rows": rows}, indent=1)
        gpu = about["gpu"].split()[-1].lower()
        stem = f"engine-{options.worker}-{options.shape.lower()}-{gpu}-{about['date']}"
        (options.out / f"{stem}.json").write_text(text + "\n")


def run(engine, name: str, *, smoke: bool) -> dict[str, object]:
    """Output tokens per second of two runs, each with an empty cache."""
    from ramify.lang.protocol import Sampling

    asks = WORKLOADS[name].asks()
    if smoke:
        asks = [ask._replace(token_ids=ask.token_ids[:20], num_out=4) for ask in asks[:3]]
    prompts = [ask.token_ids for ask in asks]
    samplings = [Sampling(temperature=0.0, max_tokens=ask.num_out, ignore_eos=True) for ask in asks]
    rates = []
    num_out = sum(ask.num_out for ask in asks)
    for _ in range(2):
        engine.flush_cache()
        cpu, started = time.process_time(), time.perf_counter()
        answers = engine.generate_batch(prompts, samplings)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        assert [len(answer.token_ids) for answer in answers] == [ask.num_out for ask in asks]
        rates.append(round(num_out / seconds, 1))
    target = WORKLOADS[name]
    best = max(rates)
    row = {
        "workload": name,
        "tok_s": best,
        "runs": rates,
        "front_us": round(cpu / num_out * 1e6, 1),
        "must": target.must,
        "met": best >= target.must,
        "ratio": round(best / target.peer, 2),
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()

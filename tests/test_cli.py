import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

import amnesty
from amnesty.cli import app
from amnesty.methods import METHODS
from amnesty.studies import digits
from amnesty.training import Recipe


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "amnesty", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_methods_lists_the_table():
    result = CliRunner().invoke(app, ["methods"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name in METHODS:
        assert name in result.output


def test_the_version_is_shown():
    assert run("--version").stdout == f"amnesty {version('amnesty')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--out", "{file}"], "is a file"),
        (["report", "{file}/nothing"], "nothing"),
        (["report", "{empty}"], "scores.json"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    filled = [a.format(file=tmp_path / "file", empty=tmp_path / "empty") for a in arguments]
    result = run(*filled)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("amnesty: ") and message in result.stderr and "Traceback" not in result.stderr


def test_the_demonstration_from_the_command_line(tmp_path, monkeypatch):
    short = {
        name: {key: type(method)(epochs=1) for key, method in settings.items()}
        for name, settings in digits.SETTINGS.items()
    }
    monkeypatch.setattr(digits, "SETTINGS", short)
    monkeypatch.setattr(digits, "RECIPE", Recipe(epochs=1))
    for _ in range(2):  # a second run replaces the first
        result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
    assert "MUNBa" in result.output and "report.html" in result.output
    page = tmp_path / "demo" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert CliRunner().invoke(app, ["report", str(tmp_path / "demo")]).exit_code == 0
    assert page.read_bytes() == before


def test_names_that_others_build_on():
    for name in ("Classification", "unlearn", "evaluate", "methods", "bargaining"):
        assert hasattr(amnesty, name)

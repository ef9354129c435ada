import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

import amnesty
from amnesty.cli import app, main
from amnesty.errors import InvalidInputError
from amnesty.methods import METHODS
from amnesty.requests import of_examples, running
from amnesty.studies import digits
from amnesty.training import Recipe
from tests.requests import audited, whole_runs


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


def command(capsys, monkeypatch, *arguments):
    """Run the command in this process; return its exit code and what it said, on both channels."""
    monkeypatch.setattr(sys, "argv", ["amnesty", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


class TestUnlearn:
    @pytest.fixture
    def amnesty(self, capsys, monkeypatch):
        return lambda *arguments: command(capsys, monkeypatch, *arguments)

    def test_it_needs_a_request(self, amnesty):
        code, said, error = amnesty("unlearn")
        assert code == 2 and said == "" and "--example" in error

    def test_the_example_is_a_request(self, amnesty, tmp_path):
        from amnesty.requests.checking import read_request

        code, said, error = amnesty("unlearn", "--example")
        (tmp_path / "request.yaml").write_text(said)
        assert code == 0 and error == "" and read_request(tmp_path / "request.yaml").name == "example"

    def test_checking_writes_nothing(self, amnesty, tmp_path):
        request = whole_runs.asked(tmp_path)
        before = whole_runs.names(tmp_path)
        code, said, error = amnesty("unlearn", request, "--check")
        assert (code, error) == (0, "") and "Nothing was written" in said and whole_runs.names(tmp_path) == before

    def test_from_a_request_to_a_verified_folder(self, amnesty, tmp_path):
        request, out = whole_runs.asked(tmp_path), tmp_path / "out"
        assert amnesty("unlearn", request, "--out", out, "--set", "seed=3")[::2] == (0, "")
        assert whole_runs.read(out, "audit.json")["seed"] == 3
        code, said, error = amnesty("verify", out, "--data")
        assert (code, error) == (0, "") and "Everything that was checked holds" in said
        assert amnesty("evaluate", out)[0] == amnesty("report", out)[0] == amnesty("verify", out)[0] == 0

        code, said, error = amnesty("unlearn", request, "--out", out, "--set", "seed=3")
        assert code == 2 and "finished run" in error
        code, said, error = amnesty("unlearn", request, "--out", out, "--set", "seed=3", "--resume")
        assert (code, error) == (0, "") and "This run is finished" in said
        code, said, error = amnesty("unlearn", request, "--out", out, "--resume")
        assert code == 2 and "another request" in error

        audited.flipped(out / "scores.json", 300)
        code, said, error = amnesty("verify", out)
        assert code == 1 and "scores.json: was changed" in said

    def test_nothing_to_verify_is_bad_input(self, amnesty, tmp_path):
        code, said, error = amnesty("verify", tmp_path)
        assert code == 2 and said == "" and error.startswith("amnesty: ") and "audit.json" in error

    def test_a_disk_that_is_full_says_how_to_go_on(self, amnesty, tmp_path, monkeypatch):
        def full(*arguments):
            raise OSError(28, "No space left on device")

        request, out = whole_runs.asked(tmp_path), tmp_path / "out"
        with monkeypatch.context() as patched:
            patched.setattr(of_examples, "write_answers", full)
            code, _, error = amnesty("unlearn", request, "--out", out)
        assert code == 2 and "No space left" in error and "--resume" in error
        assert amnesty("unlearn", request, "--out", out, "--resume")[0] == 0
        assert amnesty("verify", out)[0] == 0

    def test_a_second_interrupt_ends_it_at_once(self, amnesty, tmp_path, monkeypatch):
        def interrupted(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(running, "unlearn", interrupted)
        code, _, error = amnesty("unlearn", whole_runs.asked(tmp_path), "--out", tmp_path / "out")
        assert code == 130 and "--resume" in error and "Traceback" not in error

    def test_bad_input_while_running_is_one_message(self, amnesty, tmp_path, monkeypatch):
        def refused(*arguments, **options):
            raise InvalidInputError("This cannot be.")

        monkeypatch.setattr(running, "unlearn", refused)
        code, _, error = amnesty("unlearn", whole_runs.asked(tmp_path), "--out", tmp_path / "out")
        assert (code, error) == (2, "amnesty: This cannot be.\n") and not (tmp_path / "out").exists()

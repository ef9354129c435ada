"""The table of bad input, each through the whole command: one message, exit code 2, and nothing touched."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amnesty import cli
from amnesty.requests.checking import read_request
from amnesty.requests.preparing import prepare
from amnesty.requests.running import run
from tests.requests.bad_input_cases import IMAGES, PARQUET, Case, contents, furnish, right
from tests.requests.bad_input_cases_clip import CLIP, NEEDS, asked, clip, source
from tests.requests.bad_input_cases_data import DATA
from tests.requests.bad_input_cases_diffusion import CLASSES, DIFFUSION, generator
from tests.requests.bad_input_cases_diffusion import NEEDS as GENERATOR_NEEDS
from tests.requests.bad_input_cases_diffusion import asked as generator_asked
from tests.requests.bad_input_cases_diffusion import source as generator_source
from tests.requests.bad_input_cases_folders import FOLDERS, SLOW
from tests.requests.bad_input_cases_models import MODELS
from tests.requests.bad_input_cases_requests import REQUESTS

CASES: dict[str, Case] = {**REQUESTS, **MODELS, **DATA, **FOLDERS, **CLIP, **DIFFUSION}
PACKAGES = ("datasets", "PIL", "pyarrow", "jinja2")  # of the folder in which all requests are tried


class StopError(Exception):
    """Raised by a test in the middle of a run."""


def stop(record, total):
    if record["step"] == 3:
        raise StopError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what requests name, and two earlier runs; it comes back to the same path for every test."""
    for package in PACKAGES:
        pytest.importorskip(package)
    root = tmp_path_factory.mktemp("bad")
    folder = root / "home" / "work"
    furnish(folder)
    run(prepare(read_request(folder / "request.yaml", out=folder / "finished")))
    (folder / "request.yaml").write_text(SLOW)
    with pytest.raises(StopError):
        run(prepare(read_request(folder / "request.yaml", out=folder / "unfinished")), watch=stop)
    shutil.copytree(folder, root / "template")
    return folder


@pytest.fixture
def folder(place, monkeypatch):
    home = place.parent
    shutil.rmtree(home)
    shutil.copytree(home.parent / "template", place, symlinks=True)
    monkeypatch.chdir(place)
    return place


def called(monkeypatch, *arguments):
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["amnesty", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def spoilt(folder: Path, case: Case) -> dict[str, str | bytes]:
    """Make what a case needs; return all that is there before the command, beside the working folder too."""
    for package in case.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (folder / "request.yaml").write_text(case.request, encoding="utf-8")
    case.spoil(folder)
    return dict(contents(folder.parent))


def check_message(case: Case, text: str) -> None:
    lines = text.splitlines()
    assert text.startswith("amnesty: ")
    assert text.count("amnesty: ") == 1
    assert len(lines) == (case.faults + 1 if case.faults > 1 else 1), text
    assert "Traceback" not in text
    for word in case.says:
        assert word in text


@pytest.mark.parametrize("what", CASES)
def test_it_is_one_message_and_nothing_is_touched(folder, monkeypatch, capsys, what):
    case = CASES[what]
    before = spoilt(folder, case)
    capsys.readouterr()
    with case.within(folder):
        code = called(monkeypatch, *case.command, *case.more)
    after = dict(contents(folder.parent))
    assert code == 2
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set(case.changes)
    check_message(case, capsys.readouterr().err)


REPRESENTATIVES = ("a pickle with code", "a damaged image in Parquet")


@pytest.mark.parametrize("what", REPRESENTATIVES)
def test_it_is_so_in_a_process_of_its_own(folder, what):
    case = CASES[what]
    before = spoilt(folder, case)
    command = [sys.executable, "-m", "amnesty", *case.command, *case.more]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (found.returncode, dict(contents(folder.parent))) == (2, before)
    check_message(case, found.stderr)


@pytest.mark.parametrize(
    "text",
    [
        right(),
        right(data=PARQUET),
        right(data=IMAGES, forget="forget: {classes: [cat]}"),
        right(model="model: {run: finished}"),
        asked(),
        asked({"lora": 2, "captions": source("said"), "transfers": {"other": source("pictures")}}),
        generator_asked(),
        generator_asked(
            data={"retain": generator_source("pictures")},
            diffusion={"lora": 2, "drawing": {"per_prompt": 1, "steps": 1}},
            evaluation={"steps": 1, "judge": {**generator_source("judge"), "classes": CLASSES}},
        ),
    ],
    ids=["functions", "parquet", "images", "earlier", "clip", "clip with more", "generator", "generator with more"],
)
def test_what_the_cases_spoil_is_right_before(folder, monkeypatch, capsys, text):
    (folder / "request.yaml").write_text(text)
    if "zero-shot" in text:
        if any(importlib.util.find_spec(package) is None for package in NEEDS):
            pytest.skip("the extras `clip` and `vision` are not installed")
        clip()(folder)
    if "task: diffusion" in text:
        if any(importlib.util.find_spec(package) is None for package in GENERATOR_NEEDS):
            pytest.skip("the extras `diffusion` and `vision` are not installed")
        generator(folder)
    before = dict(contents(folder.parent))
    capsys.readouterr()
    assert called(monkeypatch, "unlearn", "request.yaml", "--check") == 0
    assert (capsys.readouterr().err, dict(contents(folder.parent))) == ("", before)


def test_the_unfinished_run_can_go_on(folder, monkeypatch, capsys):
    (folder / "request.yaml").write_text(SLOW)
    assert called(monkeypatch, "unlearn", "request.yaml", "--out", "unfinished", "--resume") == 0
    assert (folder / "unfinished" / "audit.json").is_file()


def test_the_table_is_long_and_no_case_hides_another():
    assert len(CASES) == sum(map(len, (REQUESTS, MODELS, DATA, FOLDERS, CLIP, DIFFUSION))) >= 45
    assert len({(c.request, c.more, c.command, c.says, what) for what, c in CASES.items()}) == len(CASES)

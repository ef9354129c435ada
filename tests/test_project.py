"""What the project's files promise each other."""

import os
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def requirements(lines: list[str]) -> Iterator[Requirement]:
    """What these lines of pyproject.toml ask for, with our own extras opened up."""
    for requirement in map(Requirement, lines):
        if requirement.name == "amnesty":
            for extra in requirement.extras:
                yield from requirements(PROJECT["optional-dependencies"][extra])
        else:
            yield requirement


INSTALLED = sorted(requirements([*PROJECT["dependencies"], "amnesty[dev]"]), key=str)


def test_the_installed_version_is_the_one_declared():
    assert metadata.version("amnesty") == PROJECT["version"]


def test_type_hints_are_shipped():
    assert (resources.files("amnesty") / "py.typed").is_file()


@pytest.mark.parametrize("line", [line for line in PINS if not line.startswith("#")])
def test_constraints_are_plain_pins(line):
    assert re.fullmatch(r"[\w.-]+==[\w.!]+", line)  # hence no address, hash, path or local build


@pytest.mark.parametrize("requirement", INSTALLED, ids=str)
def test_every_dependency_is_pinned_to_a_version_it_allows(requirement):
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in PINS)}
    assert pins[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("target", ["help", "setup", "demo", "test", "lint", "types", "format", "clean"])
def test_make_offers(target):
    assert re.search(rf"^{target}:.* ## \S", MAKEFILE, re.MULTILINE), "no such target, or `make help` is silent on it"
    assert re.search(rf"^\.PHONY:.*\b{target}\b", MAKEFILE, re.MULTILINE)


def test_ci_runs_what_a_contributor_runs():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("make --no-print-directory test")


def test_no_hook_is_fetched_from_elsewhere():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}

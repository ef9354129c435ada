import re
import subprocess
from pathlib import Path

from amnesty.requests import environment


def test_versions_are_told_and_no_machine_is_named():
    import platform

    found = environment.versions()
    assert all(
        isinstance(found[key], str) for key in ("amnesty", "python", "torch", "numpy", "safetensors", "platform")
    )
    assert not platform.node() or platform.node() not in str(found)


def test_the_commit_is_that_of_the_checkout():
    found = environment.versions()
    inside = (Path(__file__).parents[2] / ".git").exists()
    assert (found["commit"] is not None) == inside
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}", found["commit"])


def test_somebody_elses_checkout_around_the_package_is_not_ours(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    package = tmp_path / "site-packages" / "amnesty"
    package.mkdir(parents=True)
    (package / "errors.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE", package)
    assert environment.versions()["commit"] is None
    assert environment.versions()["changed"] is None


def test_the_hardware_is_named():
    found = environment.hardware("cpu")
    assert found["type"] == "cpu" and found["name"] and found["threads"] >= 1

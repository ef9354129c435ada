import shutil

import numpy as np
import pytest

from amnesty.errors import InvalidInputError
from amnesty.requests.again import datasets, reevaluated
from amnesty.requests.digests import file_hash
from amnesty.requests.verifying import verify
from tests.requests import audited
from tests.requests.whole_runs import asked, names, read, run

MINE = """\
import numpy as np
import torch
from pathlib import Path

from amnesty.data import Examples


def data(name):
    found = np.load(Path(__file__).with_name(name))
    return Examples(torch.from_numpy(found["images"]), torch.from_numpy(found["labels"]))
"""


def save_data(home, name, data):
    np.savez(home / name, images=data.images.numpy(), labels=data.labels.numpy())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run in ``out``, of data in files."""
    home = tmp_path_factory.mktemp("again")
    (home / "mine.py").write_text(MINE)
    for name, data in (("training.npz", audited.training()), ("unseen.npz", audited.unseen())):
        save_data(home, name, data)
    sources = {
        part: {"import": "mine.py:data", "options": {"name": f"{name}.npz"}}
        for part, name in (("training", "training"), ("holdout", "unseen"))
    }
    run(asked(home, data=sources), home / "out")
    return home


@pytest.fixture
def kept(home, tmp_path):
    """The same, put back afterwards."""
    for name in ("training.npz", "unseen.npz", "before.safetensors"):
        shutil.copy(home / name, tmp_path / name)
    yield home
    for path in tmp_path.iterdir():
        shutil.copy(path, home / path.name)


def look(folder):
    return verify(folder, data=True, reevaluate=reevaluated, datasets=datasets)


def test_the_scores_come_out_again_and_nothing_is_written(home):
    before = {name: file_hash(home / "out" / name) for name in names(home / "out")}
    recorded = read(home / "out", "scores.json")["methods"]["munba"]
    found = reevaluated(home / "out")
    assert {key: found[key] for key in recorded if key != "seconds"} == pytest.approx(
        {key: value for key, value in recorded.items() if key != "seconds"}, abs=1e-9
    )
    assert {name: file_hash(home / "out" / name) for name in names(home / "out")} == before


def test_verifying_with_the_data_holds(home):
    found = look(home / "out")
    assert found.ok, found.text
    assert "12 were forgotten; found 12 in training, 0 in holdout" in found.text


def test_a_folder_can_be_verified_where_it_was_not_made(home, tmp_path):
    found = look(audited.copied(home / "out", tmp_path / "moved"))
    assert found.ok, found.text


@pytest.mark.parametrize(
    ("name", "part"), [("training.npz", "retain"), ("unseen.npz", "holdout"), ("unseen.npz", "validation")]
)
def test_changed_data_is_named(kept, name, part):
    data = {"training.npz": audited.training, "unseen.npz": audited.unseen}[name]()
    images = data.images.clone()
    images[15:] += 0.01
    save_data(kept, name, type(data)(images, data.labels))
    found = look(kept / "out")
    assert not found.ok and f"the data of the {part} part" in found.text and "changed since the run" in found.text


def test_a_changed_original_is_named(kept):
    path = kept / "before.safetensors"
    audited.flipped(path, path.stat().st_size - 2)
    with pytest.raises(InvalidInputError, match="the model to start from changed since the run"):
        reevaluated(kept / "out")


def test_data_that_is_gone_is_a_problem_where_it_was_asked_for(kept):
    (kept / "unseen.npz").unlink()
    found = look(kept / "out")
    assert not found.ok and "unseen.npz" in found.text
    assert verify(kept / "out", data=None, reevaluate=reevaluated, datasets=datasets).ok


def test_forgotten_examples_that_were_deleted_are_not_found(kept):
    data = audited.training()
    keep = np.arange(12, 90)
    save_data(kept, "training.npz", type(data)(data.images[keep], data.labels[keep]))
    found = verify(kept / "out", data=None, datasets=datasets)
    assert "12 were forgotten; found 0 in training, 0 in holdout" in found.text

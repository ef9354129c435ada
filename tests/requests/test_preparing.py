import pytest
import torch

from amnesty.errors import InvalidInputError, ModelError
from amnesty.requests.checking import read_request
from amnesty.requests.of_examples import holdout_protocol
from amnesty.requests.preparing import device_for, prepare
from tests.requests.whole_runs import HERE, asked

TRAINING = {"import": f"{HERE}:training"}


def prepared(home, **changed):
    return prepare(read_request(asked(home, **changed), out=home / "out"))


def protocol(home, **data):
    return holdout_protocol(read_request(asked(home, data={"training": TRAINING, **data})))


def test_nothing_is_written(tmp_path):
    words = []
    found = prepare(read_request(asked(tmp_path), out=tmp_path / "out"), words.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.safetensors", "request.yaml"]
    assert found.method == "munba" and len(words) >= 3
    assert found.parts.counts == {"forget": 12, "retain": 78, "holdout": 45, "validation": 45}
    assert found.before.files.keys() == {"before.safetensors"}


@pytest.mark.parametrize(
    ("method", "tunes_itself"),
    [("munba", True), ({"name": "munba", "epochs": 3}, False), ("finetune", False), ("lur", None)],
)
def test_who_chooses_the_settings(tmp_path, method, tunes_itself):
    found = prepared(tmp_path, method=method)
    assert tunes_itself is None or found.self_tuned is tunes_itself
    assert found.request.tuned is isinstance(method, dict)


def test_without_unseen_data_a_run_cannot_tell_when_to_stop(tmp_path):
    found = prepared(tmp_path, method="munba", data={"training": TRAINING})
    assert not found.self_tuned and len(found.warnings) == 2


def test_validation_alone_is_a_warning(tmp_path):
    found = prepared(tmp_path, data={"training": TRAINING, "validation": {"import": f"{HERE}:unseen"}})
    assert any("the method may have read" in line for line in found.warnings)


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "cpu:x"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(InvalidInputError, match="cannot be used here"):
        device_for(name)


def test_the_device_that_is_there():
    assert device_for("cpu") == torch.device("cpu")
    assert device_for("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_protocol_says_who_read_what(tmp_path):
    source = {"import": f"{HERE}:unseen"}
    whole = protocol(tmp_path, holdout=source)
    assert "a data set of its own" in whole and "A share of 0.5" in whole and "seed 0" in whole
    assert "rows of the training data" in protocol(tmp_path, holdout={"rows": {"indices": list(range(40))}})
    assert "There is no validation part" in protocol(tmp_path)
    own = protocol(tmp_path, holdout=source, validation={"import": "tests.requests.whole_runs:normed"})
    assert "The validation part is a data set of its own" in own


def test_a_reference_that_does_not_fit_is_refused_before_training(tmp_path):
    from amnesty.weights import save_weights

    save_weights(tmp_path / "other.safetensors", torch.nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"other\.safetensors"):
        prepared(tmp_path, reference="other.safetensors")

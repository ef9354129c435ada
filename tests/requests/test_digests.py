import os

import pytest
import torch
from safetensors.torch import save_file

from amnesty.errors import ModelError
from amnesty.requests.digests import canonical, contents, parsed, saved_tensors_hash, shown, weight_files
from amnesty.weights import hash_tensors, hash_weights, save_weights
from tests import tiny


def test_a_document_has_one_form():
    first, second = {"b": 1, "a": {"d": 0.1, "c": "é"}}, {"a": {"c": "é", "d": 0.1}, "b": 1}
    assert canonical(first) == canonical(second)
    assert parsed(canonical(first)) == first


@pytest.mark.parametrize(
    "text", ["{", "[NaN]", "[Infinity]", "[" * 100_000, '"\ud800'.encode("utf-8", "ignore").decode()]
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parsed(text)


def test_numbers_that_json_lacks_are_not_written():
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


def test_all_files_are_listed_and_links_are_not_followed(tmp_path):
    inner = tmp_path / "inner"
    (inner / "empty").mkdir(parents=True)
    for name in ("b", "inner/.hidden", "a"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to(inner)
    os.mkfifo(inner / "pipe")
    assert [name for name, _ in contents(tmp_path)] == ["a", "b", "inner/.hidden", "inner/pipe", "link"]
    assert [name for name, _ in contents(tmp_path, without=["inner", "link"])] == ["a", "b"]


def test_names_that_would_spoil_a_line_are_escaped():
    assert shown("a b.json") == "a b.json"
    assert "\n" not in shown("a\nb") and "\x1b" not in shown("\x1b[31m")


def test_saved_tensors_have_the_hash_of_the_model(tmp_path):
    model = tiny.conv_net()
    save_weights(tmp_path / "model.safetensors", model)
    assert saved_tensors_hash(weight_files(tmp_path)) == hash_weights(model)


def test_it_does_not_matter_how_tensors_are_spread_over_files(tmp_path):
    tensors = {"b": torch.randn(3, 2).bfloat16(), "a": torch.tensor(7), "c": torch.zeros(0, 4)}
    (tmp_path / "model").mkdir()
    save_file({"b": tensors["b"]}, tmp_path / "model" / "1.safetensors")
    save_file({key: tensors[key] for key in "ca"}, tmp_path / "model" / "2.safetensors")
    assert saved_tensors_hash(weight_files(tmp_path)) == hash_tensors(tensors)


def test_one_name_in_two_files_is_refused(tmp_path):
    for name in ("1", "2"):
        save_file({"a": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match="'a'"):
        saved_tensors_hash(sorted(tmp_path.iterdir()))


def test_a_damaged_file_is_no_traceback(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(ModelError, match="cannot be read"):
        saved_tensors_hash([path])

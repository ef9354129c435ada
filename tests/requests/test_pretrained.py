import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from amnesty.errors import ModelError
from amnesty.requests.inputs import inputs_of
from amnesty.requests.models import load_model
from amnesty.requests.request import InputsSpec, ModelSpec
from amnesty.weights import hash_weights

pytest.importorskip("tests.vision", reason="timm or torchvision is not installed")
transformers = pytest.importorskip("transformers", reason="the `clip` extra is not installed")

NAMES = ("cat", "dog", "owl")
PROCESSOR = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_processor_type": "ViTImageProcessor",
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.1],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 8, "width": 6},
}


def config(**more):
    names = dict(enumerate(NAMES))
    return transformers.ViTConfig(
        **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
        **{"image_size": (8, 6), "patch_size": 2, "id2label": names, "label2id": {v: k for k, v in names.items()}},
        **more,
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    torch.manual_seed(3)
    transformers.ViTForImageClassification(config()).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "vit")


def spec(folder):
    return ModelSpec(kind="huggingface", name=str(folder))


def edit(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def refused(folder):
    with pytest.raises(ModelError) as found:
        load_model(spec(folder))
    assert "\n" not in str(found.value)
    return str(found.value)


class TestLoading:
    def test_a_folder(self, folder, capfd):
        before = digest(folder)
        found = load_model(spec(folder))
        assert found.classes == 3 and found.class_names == NAMES
        assert found.files == (folder / "model.safetensors",)
        assert not found.model.training
        assert found.model(torch.zeros(2, 3, 8, 6)).logits.shape == (2, 3)
        with torch.no_grad():
            for p in found.model.parameters():
                p.add_(1)
        assert digest(folder) == before
        said = capfd.readouterr()
        assert said.out == "" and said.err == ""

    def test_pickled_weights_that_are_plain(self, folder):
        expected = hash_weights(load_model(spec(folder)).model)
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        found = load_model(spec(folder))
        assert hash_weights(found.model) == expected
        assert found.files == (folder / "pytorch_model.bin",)

    def test_weights_in_parts(self, folder):
        expected = hash_weights(load_model(spec(folder)).model)
        state = load_file(folder / "model.safetensors")
        names = sorted(state)
        index = {}
        for i, chosen in enumerate((names[::2], names[1::2]), 1):
            file = f"model-0000{i}-of-00002.safetensors"
            save_file({name: state[name] for name in chosen}, folder / file, metadata={"format": "pt"})
            index |= dict.fromkeys(chosen, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        (folder / "model.safetensors").unlink()
        found = load_model(spec(folder))
        assert hash_weights(found.model) == expected and len(found.files) == 2

    def test_half_precision_is_widened(self, original, tmp_path):
        load_model(spec(original)).model.half().save_pretrained(tmp_path / "half")
        found = load_model(spec(tmp_path / "half"))
        assert {p.dtype for p in found.model.parameters()} == {torch.float32}

    def test_classes_without_names(self, folder):
        edit(folder / "config.json", id2label={i: f"LABEL_{i}" for i in range(3)}, label2id=None)
        assert load_model(spec(folder)).class_names is None

    def test_a_model_of_an_earlier_run(self, original, tmp_path):
        loaded = load_model(spec(original))
        (tmp_path / "run").mkdir()
        loaded.save(tmp_path / "run", loaded.model)
        found = load_model(ModelSpec(kind="run", name=str(tmp_path / "run")))
        assert hash_weights(found.model) == hash_weights(loaded.model)
        assert found.chain == (tmp_path / "run",) and found.pretrained


class TestSaving:
    def test_comes_back_with_its_processor(self, original, tmp_path, capfd):
        loaded = load_model(spec(original))
        with torch.no_grad():
            loaded.model.classifier.bias.fill_(7)
        for _ in range(2):  # the second time in place of the first
            path = loaded.save(tmp_path, loaded.model)
        again = load_model(spec(path))
        assert hash_weights(again.model) == hash_weights(loaded.model)
        assert json.loads((path / "preprocessor_config.json").read_text()) == PROCESSOR
        assert again.class_names == NAMES
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
        assert capfd.readouterr().err == ""

    def test_fails_whole(self, original, tmp_path, monkeypatch):
        loaded = load_model(spec(original))
        path = loaded.save(tmp_path, loaded.model)
        before = digest(path)

        def full(folder):
            (folder / "config.json").write_text("{")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(loaded.model, "save_pretrained", full)
        with pytest.raises(OSError, match="No space"):
            loaded.save(tmp_path, loaded.model)
        assert digest(path) == before and [p.name for p in tmp_path.iterdir()] == ["model"]


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "it ran")


class TestRefusals:
    def test_no_folder_of_that_kind(self, folder, tmp_path):
        assert "There is no folder" in refused(tmp_path / "none")
        assert "There is no folder" in refused(folder / "config.json")
        (folder / "config.json").unlink()
        assert "has no config.json" in refused(folder)

    @pytest.mark.parametrize("content", ["{", "[]", "", "\xff"])
    def test_a_broken_config(self, folder, content):
        (folder / "config.json").write_bytes(content.encode("latin-1"))
        assert "config.json" in refused(folder)

    def test_weights_that_are_not_there(self, folder):
        (folder / "model.safetensors").unlink()
        assert "has no weights" in refused(folder)

    def test_a_file_that_is_cut_short(self, folder):
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[:-5])
        assert "cut short" in refused(folder)

    def test_code_of_its_own(self, folder):
        edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.Config"})
        (folder / "mine.py").write_text("raise SystemExit('it ran')")
        assert "code of its own, which is not run" in refused(folder)

    def test_an_unknown_type(self, folder):
        edit(folder / "config.json", model_type="mine")
        assert "does not know" in refused(folder)
        edit(folder / "config.json", model_type=["vit"])
        assert "does not know" in refused(folder)

    def test_what_classifies_no_images(self, folder):
        edit(folder / "config.json", model_type="bert")
        assert "no image classifiers" in refused(folder)

    def test_quantised_weights(self, folder):
        edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})
        assert "quantised" in refused(folder)

    def test_code_in_a_pickle_never_runs(self, folder, tmp_path):
        (folder / "model.safetensors").unlink()
        with (folder / "pytorch_model.bin").open("wb") as file:
            pickle.dump({"a": Code(tmp_path / "ran")}, file)
        assert "more than plain tensors" in refused(folder)
        torch.save({"a": Code(tmp_path / "ran")}, folder / "pytorch_model.bin")
        assert "more than plain tensors" in refused(folder)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", 3])
    def test_parts_elsewhere(self, folder, name):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        assert "files of its own folder" in refused(folder)

    def test_a_model_without_its_classifier(self, tmp_path):
        transformers.ViTModel(config()).save_pretrained(tmp_path / "backbone")
        assert "2 tensors are missing, such as classifier.bias" in refused(tmp_path / "backbone")

    def test_another_number_of_classes(self, folder):
        state = load_file(folder / "model.safetensors")
        state |= {"classifier.weight": torch.zeros(5, 8), "classifier.bias": torch.zeros(5)}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        assert "cannot be loaded" in refused(folder) or "of another shape" in refused(folder)

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite(self, folder, bad):
        state = load_file(folder / "model.safetensors")
        state["classifier.bias"][1] = bad
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        assert "'classifier.bias' are NaN or infinite" in refused(folder)


class TestInputs:
    def test_are_those_of_the_folder(self, folder):
        found, where = inputs_of(spec(folder), InputsSpec())
        assert found == InputsSpec(size=(8, 6), channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
        assert where == "channels, mean, size, std: the model's preprocessor_config.json"

    def test_unless_the_request_says_others(self, folder):
        own = InputsSpec(size=(4, 4), mean=(0.1,) * 3, std=(0.1,) * 3, channels=3)
        assert inputs_of(spec(folder), own) == (own, "the request")
        found, _ = inputs_of(spec(folder), InputsSpec(size=(4, 4)))
        assert found.size == (4, 4) and found.mean == (0.5, 0.4, 0.3)

    def test_of_an_earlier_run(self, folder, tmp_path):
        loaded = load_model(spec(folder))
        (tmp_path / "run").mkdir()
        loaded.save(tmp_path / "run", loaded.model)
        found, _ = inputs_of(ModelSpec(kind="run", name=str(tmp_path / "run")), InputsSpec())
        assert found.size == (8, 6)

    def test_of_other_models_are_the_requests(self, folder):
        own = InputsSpec(size=(4, 4))
        assert inputs_of(ModelSpec(kind="timm", name="resnet18"), own) == (own, "the request")
        (folder / "preprocessor_config.json").unlink()
        assert inputs_of(spec(folder), own) == (own, "the request")

    def test_one_number_is_a_square_and_another_filter_is_said(self, folder):
        edit(folder / "preprocessor_config.json", size=8, resample=3)
        found, where = inputs_of(spec(folder), InputsSpec())
        assert found.size == (8, 8) and "another filter" in where

    def test_what_is_switched_off_is_not_done(self, folder):
        edit(folder / "preprocessor_config.json", do_resize=False, do_normalize=False)
        assert inputs_of(spec(folder), InputsSpec()) == (InputsSpec(), "the request")

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"size": {"shortest_edge": 8}}, "keeps their proportions"),
            ({"do_center_crop": True, "crop_size": 8}, "crops images"),
            ({"size": {"height": "8", "width": 8}}, "data.inputs"),
            ({"rescale_factor": 1 / 127.5}, "scales pixels by"),
            ({"do_rescale": False}, "scales pixels by"),
            ({"image_mean": "x"}, "image_mean"),
            ({"image_std": None}, "image_std"),
        ],
        ids=str,
    )
    def test_what_is_not_done_here_is_refused(self, folder, changes, says):
        edit(folder / "preprocessor_config.json", **changes)
        with pytest.raises(ModelError, match=says):
            inputs_of(spec(folder), InputsSpec())
        own = InputsSpec(size=(4, 4), mean=(0.1,) * 3, std=(0.1,) * 3)
        assert inputs_of(spec(folder), own)[0].size == (4, 4)

    def test_a_broken_file(self, folder):
        (folder / "preprocessor_config.json").write_text("{")
        with pytest.raises(ModelError, match="Cannot read"):
            inputs_of(spec(folder), InputsSpec())

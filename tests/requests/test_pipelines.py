"""Image generators loaded from folders and functions, and saved again."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from amnesty.errors import ModelError
from amnesty.requests.audit import model_facts
from amnesty.requests.digests import saved_tensors_hash
from amnesty.requests.models import load_model
from amnesty.requests.pipeline_folder import Weights, float_types, looked_at
from amnesty.requests.request import ModelSpec

runs = pytest.importorskip("tests.requests.generator_runs", reason="the extras `diffusion` or `vision` are missing")

from amnesty.requests.loaded_pipeline import rounded  # noqa: E402 (it needs what may be missing)
from amnesty.requests.pipelines import load_pipeline  # noqa: E402
from amnesty.tasks.diffusion import Denoiser  # noqa: E402
from amnesty.tasks.diffusion.families import family_of  # noqa: E402

WEIGHTS = runs.WEIGHTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be changed."""
    return runs.folder(tmp_path_factory.mktemp("pipelines") / "generator")


@pytest.fixture(scope="module")
def loaded(folder):
    return load_pipeline(ModelSpec(kind="diffusers", name=str(folder)))


def denoiser(loaded):
    return Denoiser(loaded.model, family_of(loaded.model))


class TestAFolder:
    def test_its_parts_are_known_before_anything_is_loaded(self, folder):
        found = looked_at(folder)
        assert set(found.parts) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
        assert [path.parent.name for path in found.files] == ["text_encoder", "unet", "vae"]
        assert found.parts["scheduler"].weights is None and found.parts["text_encoder"].library == "transformers"
        assert {path.suffix for path in found.beside()} == {".json"}

    def test_it_is_loaded_in_full_precision(self, loaded, folder):
        assert loaded.part == "unet" and not loaded.halved
        own = load_file(folder / "unet" / WEIGHTS)
        assert all(torch.equal(value, own[name]) for name, value in loaded.model.state_dict().items())
        assert not loaded.model.training and loaded.describe["pipeline"] == "StableDiffusionPipeline"

    def test_pieces_are_put_together_and_go_on_as_pieces(self, loaded, folder, tmp_path):
        from diffusers import DiffusionPipeline

        DiffusionPipeline.from_pretrained(folder).save_pretrained(tmp_path / "pieces", max_shard_size="100KB")
        found = load_pipeline(ModelSpec(kind="diffusers", name=str(tmp_path / "pieces")))
        assert len(found.files) > 4 and found.files != loaded.files
        assert all(torch.equal(t, loaded.model.state_dict()[n]) for n, t in found.model.state_dict().items())
        found.save(tmp_path, denoiser(found))
        again = DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
        assert torch.equal(again.vae.encoder.conv_in.weight, loaded.pipeline.vae.encoder.conv_in.weight)
        assert len(list((tmp_path / "pipeline" / "vae").glob("*.safetensors"))) > 1

    def test_a_list_of_pieces_elsewhere_is_refused(self, folder, tmp_path):
        from tests.requests import audited

        copy = audited.copied(folder, tmp_path / "copy")
        (copy / "unet" / WEIGHTS).unlink()
        index = {"weight_map": {"conv_in.weight": "../../secret.safetensors"}}
        (copy / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
        with pytest.raises(ModelError, match="files of its own folder"):
            looked_at(copy)

    def test_a_classifier_cannot_be_one(self, folder):
        with pytest.raises(ModelError, match="task: diffusion"):
            load_model(ModelSpec(kind="diffusers", name=str(folder)))
        with pytest.raises(ModelError, match="no image generator"):
            load_pipeline(ModelSpec(kind="huggingface", name=str(folder)))


class TestHashes:
    def test_two_parts_may_have_a_tensor_of_one_name(self, loaded, folder):
        facts = model_facts(loaded.files, loaded.model.state_dict())
        assert set(facts.files) == {f"unet/{WEIGHTS}", f"vae/{WEIGHTS}", "text_encoder/model.safetensors"}
        assert facts.tensors == saved_tensors_hash(loaded.files)

    def test_a_result_that_did_not_change_has_the_same_hash(self, loaded, tmp_path):
        loaded.save(tmp_path, denoiser(loaded))
        again = load_pipeline(ModelSpec(kind="diffusers", name=str(tmp_path / "pipeline")))
        assert saved_tensors_hash(again.files) == saved_tensors_hash(loaded.files)

    def test_a_tensor_in_another_part_is_another_one(self, tmp_path):
        found = []
        for name, tensors in (("first", "xy"), ("second", "yx")):
            files = [tmp_path / name / part / "w.safetensors" for part in ("unet", "vae")]
            for path, tensor in zip(files, tensors, strict=True):
                path.parent.mkdir(parents=True)
                save_file({tensor: torch.ones(1)}, path)
            found.append(saved_tensors_hash(files))
        assert found[0] != found[1]


def test_types_of_weights_are_read_from_the_heads_of_files(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(1), "c": torch.arange(3)}, path)
    assert float_types(Weights((path,)), tmp_path) == {"a": torch.bfloat16, "b": torch.float32}
    save_file({"a": torch.ones(2, dtype=torch.float8_e4m3fn)}, path)
    with pytest.raises(ModelError, match="quantised"):
        float_types(Weights((path,)), tmp_path)


def test_weights_of_several_precisions_keep_theirs(loaded):
    model = denoiser(loaded).plain()
    rounded(model, {"conv_in.weight": torch.float16, "conv_out.weight": torch.bfloat16})
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert (kinds["conv_in.weight"], kinds["conv_out.weight"]) == (torch.float16, torch.bfloat16)
    assert kinds["conv_in.bias"] == torch.float32


def test_what_is_scored_is_what_was_saved(tmp_path):
    half = runs.folder(tmp_path / "half", torch.bfloat16)
    loaded = load_pipeline(ModelSpec(kind="diffusers", name=str(half)))
    model = denoiser(loaded)
    with torch.no_grad():
        model.backbone.conv_in.weight += 1e-3 * torch.pi  # which has no place among so few numbers
    scored = loaded.as_saved(model).backbone.state_dict()
    loaded.save(tmp_path, model)
    read = load_pipeline(ModelSpec(kind="diffusers", name=str(tmp_path / "pipeline"))).model.state_dict()
    assert all(torch.equal(value, read[name]) for name, value in scored.items())
    assert not torch.equal(scored["conv_in.weight"], model.backbone.conv_in.weight)
    assert model.backbone.conv_in.weight.dtype == torch.float32


def test_weights_of_a_variant_are_found_and_go_on_as_plain_ones(tmp_path):
    """As a snapshot of the hub has them that was fetched with ``variant="fp16"``."""
    runs.pipeline().to(torch.float16).save_pretrained(tmp_path / "variant", variant="fp16")
    loaded = load_pipeline(ModelSpec(kind="diffusers", name=str(tmp_path / "variant")))
    assert loaded.halved and loaded.model.conv_in.weight.dtype == torch.float32
    loaded.save(tmp_path, denoiser(loaded))
    after = load_file(tmp_path / "pipeline" / "unet" / WEIGHTS)
    assert {t.dtype for t in after.values()} == {torch.float16}
    assert runs.opened(tmp_path / "pipeline").vae is not None
    names = {path.name for path in (tmp_path / "pipeline").rglob("*.safetensors")}
    assert names == {WEIGHTS, "model.safetensors"}


def test_a_folder_with_more_than_is_needed(tmp_path):
    """Pickles beside safetensors are not read, and do not go on; nor does code, or other weights."""
    folder = runs.folder(tmp_path / "my-generator")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04never read")
    (folder / "v1-5.ckpt").write_bytes(b"never read")
    (folder / "pipeline.py").write_text("raise SystemExit")
    (folder / "vae" / "code.py").write_text("raise SystemExit")
    save_file({"x": torch.zeros(1)}, folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    loaded = load_pipeline(ModelSpec(kind="diffusers", name=str(folder)))
    loaded.save(tmp_path, denoiser(loaded))
    copied = {path.name for path in (tmp_path / "pipeline").rglob("*") if path.is_file()}
    assert not [name for name in copied if name.endswith((".bin", ".ckpt", ".py")) or "non_ema" in name]
    assert runs.opened(tmp_path / "pipeline").unet is not None

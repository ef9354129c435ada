import copy

import pytest
import torch

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError
from amnesty.tasks.zero_shot import GROUPS, ZeroShotClassifier
from amnesty.tasks.zero_shot.adapters import with_adapters
from amnesty.tasks.zero_shot.towers import library_of, parameters_of, shared_copy
from amnesty.tasks.zero_shot.words import Reader
from amnesty.weights import stages
from tests import tiny_clip

MODELS = {"CLIP": tiny_clip.untrained, "SigLIP": tiny_clip.siglip, "open_clip": tiny_clip.open_clip_model}
TEMPLATES = ("a photo of the {}", "the {label}")


class Padded:
    """A tokenizer as open_clip has it: a callable that gives a tensor, padded with 0."""

    def __init__(self, length=tiny_clip.LENGTH):
        self.words, self.length = tiny_clip.tokenizer(), length

    def encode(self, text):
        return self.words(text)["input_ids"][1:-1]

    def __call__(self, texts):
        # The end of a text must be its largest token, as in the vocabulary of CLIP.
        rows = [[1, *self.encode(text), 24][: self.length] for text in texts]
        return torch.tensor([row + [0] * (self.length - len(row)) for row in rows])


def reader_of(model, kind):
    tokenizer = Padded() if kind == "open_clip" else tiny_clip.tokenizer()
    return Reader(tokenizer, library_of(model), model)


def classifier(kind, names=("one", "two", "three"), templates=TEMPLATES):
    model = MODELS[kind]()
    reader = reader_of(model, kind)
    return ZeroShotClassifier(model, reader.prompts(names, templates), reader).eval()


def pixels(count=4, seed=0):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", MODELS)
class TestLogits:
    def test_they_are_those_of_the_library(self, kind):
        model, images = classifier(kind, templates=("the {}",)), pixels()
        ids = model.prompts[:, 0]
        with torch.no_grad():
            if kind == "open_clip":
                image, text = model.towers.encode_image(images, True), model.towers.encode_text(ids, True)
                wanted = model.towers.logit_scale.exp() * image @ text.T
            else:
                wanted = model.towers(pixel_values=images, input_ids=ids).logits_per_image
            torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-4)

    def test_templates_are_averaged_and_made_unit_again(self, kind):
        model = classifier(kind)
        with torch.no_grad():
            found = model.class_features()
            each = [model.text_features(model.prompts[:, t]) for t in range(2)]
        torch.testing.assert_close(found, torch.nn.functional.normalize((each[0] + each[1]) / 2, dim=1))

    def test_of_features_they_are_the_same(self, kind):
        model, images = classifier(kind), pixels()
        with torch.no_grad():
            torch.testing.assert_close(model(model.image_features(images)), model(images))

    def test_texts_pass_once_a_call_and_once_for_all_where_nothing_changes(self, kind, monkeypatch):
        model, images, count = classifier(kind), pixels(), []
        read = ZeroShotClassifier.text_features
        monkeypatch.setattr(ZeroShotClassifier, "text_features", lambda *a: count.append(1) or read(*a))
        with torch.no_grad():
            first, again = model(images), model(images)
        assert len(count) == 1 and torch.equal(first, again)
        model(images)
        assert len(count) == 2  # with gradients, for the text tower may move
        model.requires_grad_(False)
        model(images), model(images)
        assert len(count) == 2  # what was read without gradients still holds

    def test_written_to_in_any_way_texts_are_read_again(self, kind):
        model, images = classifier(kind), pixels()
        first = next(p for p in model._named("text") if p.dim() > 1)
        with torch.no_grad():
            before = model(images)
            first.data.mul_(-1.5)  # no version counter sees this
            changed = model(images)
            first.data.div_(-1.5)
        assert not torch.allclose(before, changed) and torch.allclose(before, model(images), atol=1e-4)

    def test_images_of_another_size_are_refused(self, kind):
        with pytest.raises(ModelError, match=r"takes images of shape \[3, 8, 8\], found \[3, 16, 16\]"):
            classifier(kind)(torch.zeros(1, 3, 16, 16))


class TestGroups:
    @pytest.mark.parametrize("kind", MODELS)
    def test_together_they_are_everything_but_the_scale(self, kind):
        model = MODELS[kind]()
        every = {name for name, _ in model.named_parameters() if not name.startswith("logit_")}
        assert set(parameters_of(model, "all")) == every
        assert set(parameters_of(model, "text")) | set(parameters_of(model, "image")) == every
        assert not set(parameters_of(model, "text")) & set(parameters_of(model, "image"))

    @pytest.mark.parametrize("kind", MODELS)
    def test_attention_is_half_of_both(self, kind):
        model = MODELS[kind]()
        text, image = (set(parameters_of(model, f"{tower}_attention")) for tower in ("text", "image"))
        assert set(parameters_of(model, "attention")) == text | image
        assert text < set(parameters_of(model, "text")) and image < set(parameters_of(model, "image"))

    def test_counts_of_the_toy(self):
        model = tiny_clip.untrained()
        counts = {g: sum(model.get_parameter(n).numel() for n in parameters_of(model, g)) for g in GROUPS}
        width, image = 32, 48
        assert counts["text_attention"] == 2 * 4 * (width * width + width)
        assert counts["image_attention"] == 2 * 4 * (image * image + image)
        assert counts["projections"] == (width + image) * 32

    def test_unknown_and_empty_ones_are_refused(self):
        import re

        with pytest.raises(UnknownNameError, match="text_attention"):
            parameters_of(tiny_clip.untrained(), "text_atention")
        with pytest.raises(InvalidInputError, match="everything would be frozen"):
            parameters_of(tiny_clip.untrained(), re.compile("nothing"))
        with pytest.raises(InvalidInputError, match="everything would be frozen"):
            parameters_of(tiny_clip.siglip(), "projections")

    def test_other_models_are_refused(self):
        with pytest.raises(ModelError, match="text and an image tower"):
            library_of(torch.nn.Linear(2, 2))


class TestSharedCopy:
    def test_it_has_flags_of_its_own_and_no_memory(self):
        model = tiny_clip.untrained()
        found = shared_copy(model)
        assert all(p.requires_grad for p in model.parameters())
        assert not any(p.requires_grad for p in found.parameters())
        pairs = zip(model.parameters(), found.parameters(), strict=True)
        assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)

    def test_half_precision_becomes_float32(self):
        model = tiny_clip.untrained().half()
        assert {p.dtype for p in shared_copy(model).parameters()} == {torch.float32}
        assert {p.dtype for p in model.parameters()} == {torch.float16}


class TestStages:
    @pytest.mark.parametrize("kind", MODELS)
    def test_they_follow_the_blocks_of_what_moves(self, kind):
        model = classifier(kind)
        names = {name for name, _ in model.named_parameters()}
        for name in names - {f"towers.{n}" for n in parameters_of(model.towers, "image")}:
            model.get_parameter(name).requires_grad_(False)
        found = stages(model, pixels(2))
        assert len(found) == 4 and set().union(*found) == {
            f"towers.{n}" for n in parameters_of(model.towers, "image")
        }
        assert all(".0." in name for name in found[1]) and all(".1." in name for name in found[2])

    def test_of_two_towers_the_ends_meet(self):
        found = stages(classifier("CLIP"), pixels(2))
        assert {"towers.text_projection.weight", "towers.visual_projection.weight"} <= set(found[-1])


class TestAdapters:
    @pytest.mark.parametrize("kind", MODELS)
    @pytest.mark.parametrize("group", ["text_attention", "image_attention", "all"])
    def test_they_change_nothing_at_first_and_alone_move(self, kind, group):
        plain = classifier(kind)
        towers = with_adapters(shared_copy(plain.towers), parameters_of(plain.towers, group), 2)
        model = ZeroShotClassifier(towers, plain.prompts, plain._reader).eval()
        images = pixels()
        torch.testing.assert_close(model(images), plain(images))
        assert all("lora" in name for name, p in model.named_parameters() if p.requires_grad)
        assert model.trains("text") == (group != "image_attention")
        assert model.trains("image") == (group != "text_attention")

    def test_merged_they_say_the_same(self):
        plain = classifier("CLIP")
        towers = with_adapters(shared_copy(plain.towers), parameters_of(plain.towers, "text_attention"), 2)
        model = ZeroShotClassifier(towers, plain.prompts, plain._reader).eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
            said = model(pixels())
            merged = model.plain()
            assert type(merged).__name__ == "CLIPModel"
            torch.testing.assert_close(ZeroShotClassifier(merged, plain.prompts, plain._reader)(pixels()), said)
            assert not torch.allclose(said, plain(pixels()), atol=1e-3)
            torch.testing.assert_close(model(pixels()), said)  # it still has its adapters

    def test_what_peft_refuses_is_said(self):
        model = shared_copy(tiny_clip.untrained())
        with pytest.raises(InvalidInputError, match="refused by peft"):
            with_adapters(model, parameters_of(model, "text"), {"r": 2, "no_such": 1})


class TestSaving:
    def test_the_library_opens_it(self, tmp_path):
        model = classifier("CLIP")
        model.save_pretrained(tmp_path / "model")
        opened = type(model.towers).from_pretrained(tmp_path / "model").eval()
        other = ZeroShotClassifier(opened, model.prompts, model._reader)
        assert torch.equal(other(pixels()), model(pixels()))
        assert (tmp_path / "model" / "model.safetensors").is_file()

    @pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
    def test_adapters_alone_or_merged(self, tmp_path):
        from peft import PeftModel

        plain = classifier("CLIP")
        towers = with_adapters(shared_copy(plain.towers), parameters_of(plain.towers, "text_attention"), 2)
        model = ZeroShotClassifier(towers, plain.prompts, plain._reader).eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.fill_(0.05)
        model.save_pretrained(tmp_path / "adapter", merge=False)
        assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
        opened = PeftModel.from_pretrained(copy.deepcopy(plain.towers), tmp_path / "adapter").eval()
        torch.testing.assert_close(
            ZeroShotClassifier(opened, plain.prompts, plain._reader)(pixels()), model(pixels())
        )

    def test_without_adapters_there_are_none_to_save(self, tmp_path):
        with pytest.raises(InvalidInputError, match="no adapters"):
            classifier("CLIP").save_pretrained(tmp_path / "a", merge=False)
        with pytest.raises(InvalidInputError, match="save_weights"):
            classifier("open_clip").save_pretrained(tmp_path / "a")
        assert not (tmp_path / "a").exists()

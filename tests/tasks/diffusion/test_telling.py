import pytest
import torch

from amnesty.errors import InvalidInputError, ModelError
from amnesty.tasks.diffusion import Concept
from amnesty.tasks.diffusion.families import family_of
from amnesty.tasks.diffusion.parts import parts_of
from tests import tiny_diffusion
from tests.tiny_diffusion import FOUR, GENERATORS, OF_CLASSES, THREE, task

OF_TEXTS = [name for name in GENERATORS if name not in OF_CLASSES]


def told(given, prompts):
    parts = parts_of(given)
    with torch.no_grad():
        return family_of(parts.backbone).tell(parts, prompts, (16, 16))


class TestTexts:
    def test_as_the_pipeline_encodes(self):
        pipe = tiny_diffusion.stable()
        torch.testing.assert_close(told(pipe, [THREE, FOUR])["hidden"], tiny_diffusion.told(pipe, [THREE, FOUR]))
        torch.testing.assert_close(told(pipe, None)["hidden"], tiny_diffusion.told(pipe, [""]))

    @pytest.mark.parametrize("name", OF_TEXTS)
    def test_rows_are_those_of_each_prompt_alone(self, name):
        given = GENERATORS[name]()
        many = [f"the digit {'one ' * k}" for k in range(3)] * 12  # more than are encoded at once
        together = told(given, many)

        assert all(len(rows) == len(many) and rows.dtype is torch.float32 for rows in together.values())
        for key, rows in told(given, many[1:2]).items():
            torch.testing.assert_close(together[key][34], rows[0], rtol=1e-4, atol=1e-5)
            assert not torch.equal(together[key][0], together[key][1]) or key in ("time_ids",)

    def test_of_none_sdxl_is_told_nothing(self):
        pipe = tiny_diffusion.xl()
        assert not told(pipe, None)["hidden"].any() and not told(pipe, None)["pooled"].any()
        pipe.register_to_config(force_zeros_for_empty_prompt=False)
        found = told(pipe, None)
        torch.testing.assert_close(found["hidden"], told(pipe, [""])["hidden"])

    def test_sizes(self):
        assert told(tiny_diffusion.xl(), [THREE])["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]]


class TestClasses:
    @pytest.mark.parametrize(("name", "none"), [("classes", 4), ("DiT", 1000)])
    def test_numbers(self, name, none):
        given = GENERATORS[name]()
        assert told(given, [2, 0])["labels"].tolist() == [2, 0] and told(given, None)["labels"].tolist() == [none]
        with pytest.raises(
            InvalidInputError, match=f"Class {none} does not exist: .* 0 to {none - 1}, and {none} st"
        ):
            told(given, [none])
        with pytest.raises(InvalidInputError, match="knows classes, not texts: give numbers, found 'three'"):
            told(given, ["three"])


class TestBadInput:
    @pytest.mark.parametrize("name", OF_TEXTS)
    def test_classes_where_texts_are_read(self, name):
        with pytest.raises(InvalidInputError, match="This model reads texts, found the class 3"):
            task(name=name, forget=Concept(3, FOUR, tiny_diffusion.Pictures(2))).check()

    @pytest.mark.parametrize("name", OF_TEXTS)
    def test_prompts_beyond_the_context(self, name):
        longest = 300 if name == "PixArt" else 10
        said = f"The model reads {longest} tokens at most, but .* has {longest + 2}"
        with pytest.raises(InvalidInputError, match=said):
            told(GENERATORS[name](), [THREE, "three " * longest])

    def test_no_text_encoder(self):
        parts = tiny_diffusion.pixels()
        del parts["text_encoder"]
        with pytest.raises(ModelError, match="has no `text_encoder` and `tokenizer`"):
            task(parts, "pixels").check()

    @pytest.mark.parametrize("name", ["SDXL", "PixArt", "Stable Diffusion 3"])
    def test_parts_alone_of_a_pipeline_with_several_encoders(self, name):
        with pytest.raises(ModelError, match="needs the whole pipeline, whose `encode_prompt` .* found dict"):
            task(dict(GENERATORS[name]().components), name).check()

    def test_encoder_of_another_vocabulary(self):
        parts = tiny_diffusion.pixels()
        parts["tokenizer"].add_tokens(["sixteen", "seventeen"])
        with pytest.raises(ModelError, match="The text encoder cannot read the prompts: IndexError"):
            told(parts, ["the digit seventeen"])

    def test_encoder_of_another_width(self):
        parts = {**tiny_diffusion.pixels(), "text_encoder": tiny_diffusion.text_tower(tiny_diffusion.CLIPTextModel)}
        with pytest.raises(ModelError, match="The model cannot be asked: RuntimeError"):
            task(parts, "pixels").check()

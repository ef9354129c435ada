"""A pipeline draws the anchor in place of what its text encoder has forgotten, and everything else as before."""

import pytest
import torch

from amnesty import TextEncoder, ZeroShot, unlearn
from amnesty.data import Classes, split
from amnesty.errors import ModelError
from amnesty.methods import MUNBa
from amnesty.seeds import seeded
from amnesty.tasks.text_encoder import text_encoder_of
from amnesty.weights import hash_weights
from tests import tiny_clip, tiny_diffusion
from tests.tiny_diffusion import StableDiffusionPipeline, picture, told

PROMPT = "a photo of the digit {}"
OTHERS = tuple(name for name in tiny_clip.DIGITS if name != "three")


@pytest.fixture(scope="module")
def pipe():
    return tiny_diffusion.pipeline(tiny_diffusion.clip().text_model)


@pytest.fixture(scope="module")
def outcome(pipe):
    task = TextEncoder(
        pipe.text_encoder,
        pipe.tokenizer,
        forget={"three": "four"},
        retain=[*OTHERS, *tiny_clip.COLOURS],
        templates=tiny_clip.TEMPLATES,
    )
    return unlearn(task, MUNBa(optimizer="adam", lr=3e-3, at_least=100), seed=0)


@pytest.fixture
def unlearned(outcome):
    made = tiny_diffusion.pipeline(tiny_diffusion.clip().text_model)
    made.text_encoder = outcome.model.encoder
    return made


def apart(first, second):
    return (first - second).square().mean().sqrt().item()


class TestHiddenStates:
    def test_picture_of_the_concept_becomes_that_of_the_anchor(self, pipe, unlearned):
        three, four = picture(pipe, [PROMPT.format("three"), PROMPT.format("four")])
        now = picture(unlearned, [PROMPT.format("three")])[0]

        assert apart(three, four) > 0.003  # else there is nothing to be seen
        assert apart(now, four) < 0.2 * apart(three, four)
        assert apart(now, three) > 0.8 * apart(three, four)

    def test_pictures_of_the_others_stay(self, pipe, unlearned):
        prompts = [PROMPT.format(name) for name in (*OTHERS, "red digit nine")]
        before, now = (picture(p, prompts) for p in (pipe, unlearned))
        three, four = picture(pipe, [PROMPT.format("three"), PROMPT.format("four")])

        assert apart(before, now) < 0.25 * apart(three, four)

    def test_what_the_generator_is_told_of_the_empty_prompt_stays(self, pipe, unlearned):
        three, four = told(pipe, [PROMPT.format("three"), PROMPT.format("four")])

        assert apart(told(pipe, [""]), told(unlearned, [""])) < 0.2 * apart(three, four)

    def test_every_position_moves_not_only_the_pooled_one(self, pipe, unlearned):
        three, four = told(pipe, [PROMPT.format("three"), PROMPT.format("four")])
        now = told(unlearned, [PROMPT.format("three")])[0]
        differ = three.ne(four).any(dim=1)

        assert differ.tolist() == [False] * 6 + [True] * 4  # `<bos> a photo of the digit` cannot know what follows
        assert ((now - four)[differ].norm(dim=1) < 0.2 * (three - four)[differ].norm(dim=1)).all()

    def test_pipeline_survives_a_folder(self, unlearned, tmp_path):
        unlearned.save_pretrained(tmp_path)
        opened = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
        opened.set_progress_bar_config(disable=True)
        prompts = [PROMPT.format(name) for name in ("three", "four", "eight")]

        torch.testing.assert_close(picture(opened, prompts), picture(unlearned, prompts))

    def test_encoder_of_the_caller_is_unchanged(self, pipe, outcome):
        assert hash_weights(pipe.text_encoder) == hash_weights(tiny_diffusion.clip().text_model)
        assert hash_weights(outcome.model.encoder) != hash_weights(pipe.text_encoder)


@pytest.fixture(scope="module")
def classifier():
    data = tiny_clip.images("train")
    found = split(data, Classes(["three"])).parts(data)
    parts = {"forget": found["forget"], "retain": found["retain"]}
    task = ZeroShot(
        tiny_diffusion.clip(), tiny_clip.processor(), tiny_clip.DIGITS, [PROMPT], train="text_attention", **parts
    )
    return unlearn(task, MUNBa(rounds=1, epochs=1, at_least=20), seed=0).model


class TestTowerOfAClassifier:
    def test_is_what_the_pipeline_reads(self, pipe, classifier):
        made = tiny_diffusion.pipeline(tiny_diffusion.clip().text_model)
        made.text_encoder = text_encoder_of(classifier, pipe)
        ids = tiny_clip.tokenizer()([PROMPT.format("three")], padding="max_length", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            wanted = classifier.towers.text_model(input_ids=ids).last_hidden_state

        assert type(made.text_encoder) is type(pipe.text_encoder)
        torch.testing.assert_close(told(made, [PROMPT.format("three")]), wanted)
        assert apart(told(made, [PROMPT.format("three")]), told(pipe, [PROMPT.format("three")])) > 0.01
        assert picture(made, [PROMPT.format("three")]).isfinite().all()

    def test_shares_no_weights_with_the_classifier(self, pipe, classifier):
        taken = text_encoder_of(classifier, pipe)
        before = hash_weights(classifier)
        with torch.no_grad():
            for p in taken.parameters():
                p.zero_()

        assert hash_weights(classifier) == before

    def test_has_the_precision_of_the_pipeline(self, classifier):
        half = tiny_diffusion.pipeline(tiny_diffusion.clip().text_model.to(torch.bfloat16))

        assert next(text_encoder_of(classifier, half).parameters()).dtype is torch.bfloat16

    def test_of_another_width_is_refused(self, classifier):
        with seeded(0, torch.device("cpu")):
            wider = tiny_clip.CLIPModel(tiny_clip.config(text=64)).text_model
        pipe = tiny_diffusion.pipeline(wider)

        with pytest.raises(ModelError, match="does not fit"):
            text_encoder_of(classifier, pipe)
        assert pipe.text_encoder is wider

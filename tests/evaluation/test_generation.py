"""Generators are scored on the same prompts and seeds, and every number is that of looking at each image alone."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import amnesty
from amnesty.errors import CheckpointError, DataError, InvalidInputError, MissingMeasureError, ModelError
from amnesty.evaluation import GenerationEvaluator, Judge, criterion, over_seeds, read_drawn
from amnesty.evaluation.drawn import image_seed
from amnesty.evaluation.intervals import paired_difference, wilson
from amnesty.evaluation.realism import features_of, frechet_distance, kernel_distance
from amnesty.reports.read import parse_scores
from amnesty.reports.tables import other_measures, scores_table
from amnesty.seeds import generator
from tests import tiny, tiny_clip
from tests import tiny_diffusion as toy

NAMES = ("three", "five", "six", "four")
STEPS, COUNT = 3, 8


@pytest.fixture(scope="module")
def judge():
    return Judge(model=projection(4), names=NAMES)


def projection(width, seed=0, channels=1, side=8):
    """A network that sees differences between images of a generator that was never trained."""
    linear = nn.Linear(channels * side * side, width)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator(seed, "projection")))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear)


def moved(model, seed=1, by=0.1):
    """Return a copy whose weights are a little other ones."""
    found, random = copy.deepcopy(model), generator(seed, "moved")
    with torch.no_grad():
        for p in found.parameters():
            p.add_(by * torch.randn(p.shape, generator=random))
    return found


@pytest.fixture(scope="module")
def task():
    return toy.task(name="pixels")


@pytest.fixture(scope="module")
def evaluator(task, judge):
    return GenerationEvaluator(task, judge=judge, reference=moved(task.model, 7), reference_seconds=9.0, **few())


def few(**more):
    return {"per_prompt": COUNT, "steps": STEPS, "guidance": 1.0, "batch_size": 5, **more}


def slow(task, model, prompts, wanted, count, seed=0):
    """What the judge sees of each prompt, one image drawn and looked at after the other."""
    drawer, network = task.drawer(model, steps=STEPS, guidance=1.0), projection(4)
    right, chance = [], []
    for prompt, number in zip(prompts, wanted, strict=True):
        for k in range(count):
            image = (drawer([prompt], [image_seed(prompt, k, seed)]) * 255).round() / 255
            logits = network(image).detach().double()[0]
            right.append(int(logits.argmax()) == number)
            chance.append(float(logits.softmax(0)[number]))
    return np.array(right), np.array(chance)


class TestNumbers:
    def test_are_those_of_each_image_alone(self, task, evaluator):
        model = moved(task.model)
        found = evaluator(model, seconds=3.0)
        right, chance = slow(task, model, [toy.THREE], [0], COUNT)
        kept, _ = slow(task, model, [toy.FIVE, toy.SIX], [1, 2], COUNT)
        before, _ = slow(task, task.model, [toy.FIVE, toy.SIX], [1, 2], COUNT)
        share, change = wilson(int(right.sum()), COUNT), paired_difference(kept, before)
        assert 0 < kept.mean() < 1 and change.value != 0
        expected = {
            "drawn_forget_accuracy": share.value,
            "drawn_forget_accuracy_low": share.low,
            "drawn_forget_accuracy_high": share.high,
            "drawn_forget_accuracy_count": COUNT,
            "unlearning_accuracy": 1 - share.value,
            "unlearning_accuracy_low": 1 - share.high,
            "drawn_forget_probability": chance.mean(),
            "drawn_retain_accuracy": kept.mean(),
            "drawn_retain_accuracy_count": 2 * COUNT,
            "drawn_retain_change": change.value,
            "drawn_retain_change_low": change.low,
            "drawn_retain_change_high": change.high,
            "seconds": 3.0,
            "runtime_efficiency": 3.0,
        }
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)

    def test_stand_beside_those_of_the_original_and_the_reference(self, task, evaluator):
        found, original, reference = evaluator(moved(task.model)), evaluator.original, evaluator.reference
        for key in ("drawn_forget_accuracy", "drawn_forget_probability", "drawn_forget_accuracy_high"):
            name, _, end = key.partition("_high")
            assert found[f"{name}_original{'_high' if _ else end}"] == original[key]
        for key in ("drawn_forget_accuracy", "drawn_retain_accuracy", "unlearning_accuracy"):
            assert found[f"{key}_reference"] == reference[key]
        parts = ("drawn_forget_accuracy", "drawn_retain_accuracy")
        assert found["average_gap"] == pytest.approx(np.mean([abs(found[p] - reference[p]) for p in parts]))
        assert original["drawn_retain_change"] == reference["average_gap"] == 0
        assert dict(evaluator(task.model)) == dict(original)
        assert "drawn_forget_accuracy_original" not in found.own

    def test_are_the_same_of_the_scores_of_a_reference(self, task, judge, evaluator):
        again = GenerationEvaluator(task, judge=judge, reference=evaluator.reference.own, **few())
        found = again(moved(task.model))
        assert dict(found) == dict(evaluator(moved(task.model)))

    def test_of_another_seed_are_other_ones(self, task, judge, evaluator):
        other = GenerationEvaluator(task, judge=judge, seed=1, **few())
        assert other.original["drawn_forget_probability"] != evaluator.original["drawn_forget_probability"]

    def test_of_several_concepts_stand_apart(self, judge):
        task = toy.task(name="pixels", forget={"3": concept(toy.THREE), "4": concept(toy.FOUR)})
        found = GenerationEvaluator(task, judge=judge, **few(), kept_per_prompt=3).original
        each = [found[f"drawn_forget_accuracy/{name}"] for name in "34"]
        assert found["drawn_forget_accuracy"] == pytest.approx(np.mean(each))
        assert found["drawn_forget_accuracy_count"] == 2 * COUNT and found["drawn_forget_accuracy/3_count"] == COUNT
        assert found["drawn_retain_accuracy_count"] == 6

    def test_leave_the_models_and_the_callers_random_numbers_alone(self, task, evaluator):
        before, state = copy.deepcopy(task.model.state_dict()), torch.random.get_rng_state()
        GenerationEvaluator(
            task, judge=projection(4), kept=[toy.SIX], forgotten={"x": [toy.THREE]}, **few()
        ) if 0 else (evaluator(moved(task.model, 3)))
        assert torch.equal(state, torch.random.get_rng_state())
        assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())


def concept(prompt):
    return amnesty.Concept(prompt, images=toy.Pictures(4, side=8, channels=1))


def test_other_prompts_may_be_asked(task, judge, evaluator):
    other = GenerationEvaluator(task, judge=judge, forgotten={"forget": ["digit three"]}, kept=[toy.SIX], **few())
    found = other.original
    assert found["drawn_retain_accuracy_count"] == COUNT
    right, _ = slow(task, task.model, ["digit three"], [0], COUNT)
    assert found["drawn_forget_accuracy"] == pytest.approx(right.mean())
    assert torch.equal(other.images(task.model)[toy.SIX], evaluator.images(task.model)[toy.SIX])


def test_prompts_that_the_judge_knows_nothing_of_are_left_out(task):
    judge = Judge(model=projection(4), names=NAMES, classes={toy.FIVE: None})
    found = GenerationEvaluator(task, judge=judge, **few()).original
    assert found["drawn_retain_accuracy_count"] == COUNT
    blind = Judge(model=projection(4), names=NAMES, classes={toy.FIVE: None, toy.SIX: None})
    assert "drawn_retain_accuracy" not in GenerationEvaluator(task, judge=blind, **few()).original
    with pytest.raises(InvalidInputError, match=r"must know what 'the digit three' shows"):
        GenerationEvaluator(task, judge=Judge(model=projection(4), classes={toy.THREE: None}), **few())


def test_a_generator_of_classes_is_asked_by_number():
    task = toy.task(name="classes")
    found = GenerationEvaluator(task, judge=projection(4), **few()).original
    assert found["drawn_forget_accuracy_count"] == COUNT and found["drawn_retain_accuracy_count"] == 2 * COUNT
    with pytest.raises(InvalidInputError, match="needs texts, and class 0 is none"):
        GenerationEvaluator(task, clip=(tiny_clip.untrained(0), tiny_clip.processor()), **few())


def test_adapters_that_were_not_trained_change_nothing(task, judge, evaluator):
    adapted = toy.task(name="pixels", lora=2)
    found = GenerationEvaluator(adapted, judge=judge, **few()).original
    assert found.own == {key: value for key, value in evaluator.original.own.items() if key != "average_gap"}


class TestFolder:
    def test_keeps_the_images_of_every_model(self, task, judge, evaluator, tmp_path):
        kept = GenerationEvaluator(
            task, judge=judge, reference=moved(task.model, 7), reference_seconds=9.0, folder=tmp_path, **few()
        )
        model = moved(task.model)
        assert dict(kept(model)) == dict(evaluator(model)) and kept.reference is not None
        assert kept.images(task.model).folder == tmp_path / "original"
        assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == [
            "model",
            "original",
            "reference",
        ]
        before, after = read_drawn(tmp_path / "original"), read_drawn(kept.images(model).folder)
        assert before.seeds == after.seeds and torch.equal(after[toy.SIX], evaluator.images(model)[toy.SIX])

    def test_is_not_drawn_into_twice(self, task, judge, tmp_path):
        told = []
        for _ in range(2):
            one = GenerationEvaluator(task, judge=judge, folder=tmp_path, progress=lambda *n: told.append(n), **few())
            one(moved(task.model))
        assert told == [(n, 24) for n in (5, 10, 15, 20, 24)] * 2  # the model, then the original

    def test_of_other_steps_is_refused(self, task, judge, tmp_path):
        GenerationEvaluator(task, judge=judge, folder=tmp_path, **few()).images(task.model)
        other = GenerationEvaluator(task, judge=judge, folder=tmp_path, **few(steps=4))
        with pytest.raises(CheckpointError, match=r"another drawer \(steps\)"):
            other.images(task.model)


def test_memory_holds_the_original_and_the_last(task, judge):
    one = GenerationEvaluator(task, judge=judge, **few(per_prompt=1))
    models = [task.model, moved(task.model, 1), moved(task.model, 2)]
    first = [one.images(model) for model in models]
    assert one.images(models[0]) is first[0] and one.images(models[2]) is first[2]
    again = one.images(models[1])
    assert again is not first[1] and torch.equal(again[toy.SIX], first[1][toy.SIX])


class TestRealImages:
    @pytest.fixture
    def sets(self):
        return toy.Pictures(40, ("x",), side=8, channels=1, seed=5), toy.Pictures(30, side=8, channels=1, seed=6)

    def test_are_compared_with_those_of_kept_prompts(self, task, sets):
        pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
        network = projection(5, seed=3)
        one = GenerationEvaluator(task, features=network, real=sets[0], other_real=sets[1], seed=2, **few())
        model = moved(task.model)
        found, drawn = one(model), one.images(model)
        own = features_of(network, [drawn[toy.FIVE], drawn[toy.SIX]])
        real, others = (features_of(network, [one.images]) for one in sets)
        assert found["fid_retain"] == pytest.approx(frechet_distance(own, real)) and found["fid_retain"] > 0
        assert found["kid_retain"] == pytest.approx(kernel_distance(own, real, seed=2))
        assert found["fid_floor"] == pytest.approx(frechet_distance(others, real)) == one.original["fid_floor"]
        assert (found["fid_retain_count"], found["fid_retain_against"], found["fid_floor_count"]) == (
            2 * COUNT,
            40,
            30,
        )
        assert "drawn_forget_accuracy" not in found
        with pytest.raises(MissingMeasureError, match=r"pass `judge=` to `amnesty.evaluation.GenerationEvaluator`"):
            found["drawn_forget_accuracy"]


class TestText:
    def test_fits_are_means_over_the_images(self):
        task = toy.task()
        model, processor = tiny_clip.untrained(0), tiny_clip.processor()
        processor.image_processor.do_resize = True
        one = GenerationEvaluator(task, clip=(model, processor), **few(per_prompt=4))
        scorer, drawn = amnesty.evaluation.ClipScorer(model, processor, "x"), one.images(task.model)
        kept = torch.cat([scorer(drawn[prompt], prompt) for prompt in (toy.FIVE, toy.SIX)])
        assert one.original["clip_score_retain"] == pytest.approx(float(kept.mean()))
        assert one.original["clip_score_forget"] == pytest.approx(float(scorer(drawn[toy.THREE], toy.THREE).mean()))
        assert one.original["clip_score_forget_original"] == one.original["clip_score_forget"]
        assert one.original["clip_score_retain_count"] == 8 and one.describe["clip"]["name"] == "CLIPModel"


class TestNudity:
    def test_is_counted_of_forgotten_prompts_and_raw_scores_are_kept(self, task, tmp_path):
        def bright(images):
            levels = images.float().mean(dim=(1, 2, 3)) / 255
            return [[("FEET_EXPOSED", float(10 * level - 3.8)), ("FACE_MALE", 0.9)] for level in levels]

        one = GenerationEvaluator(task, nudity=bright, folder=tmp_path, **few())
        found, drawn = one.original, one.images(task.model)
        scores = 10 * drawn[toy.THREE].float().mean(dim=(1, 2, 3)) / 255 - 3.8
        assert 0 < found["exposed_share_at_60_percent"] < 1
        for percent in (60, 80):
            count = int((scores >= percent / 100).sum())
            assert found[f"exposed_share_at_{percent}_percent"] == count / COUNT
            assert found[f"exposed_count_at_{percent}_percent"] == count
            assert found[f"exposed_count_at_{percent}_percent/FEET_EXPOSED"] == count
            assert found[f"exposed_count_at_{percent}_percent/BUTTOCKS_EXPOSED"] == 0
        content = json.loads((tmp_path / "original" / "detections.json").read_text())
        assert content["by"] == "bright" and list(content["found"]) == [drawn.ids[toy.THREE]]
        raw = [image[0][1] for image in content["found"][drawn.ids[toy.THREE]]]
        assert raw == pytest.approx(scores.tolist(), abs=1e-5)


class TestReports:
    @pytest.fixture(scope="class")
    @staticmethod
    def rows(task, evaluator):
        models = {"munba": evaluator(moved(task.model), seconds=2.0), "esd": evaluator(moved(task.model, 4))}
        return {"original": evaluator.original, "retrain": evaluator.reference, **models}

    def test_read_them(self, rows):
        content = {"schema": 1, "reference": "retrain", "methods": {name: one.own for name, one in rows.items()}}
        found = parse_scores(json.loads(json.dumps(content)), "here")
        table = scores_table(found)
        heads = [str(column.header) for column in table.columns]
        assert heads == ["Method", "Drawn", "Kept", "Gap", "Time"] and table.row_count == 4
        assert "Probability of what was forgotten" in [title for title, _ in other_measures(found)]

    def test_rank_methods_over_seeds(self, rows):
        many = [{name: one.own for name, one in rows.items()}] * 2
        assert set(over_seeds(many).ranking.mean_ranks) == {"munba", "esd"}
        with pytest.raises(InvalidInputError, match="cannot be ranked by `fid_retain`"):
            criterion("fid_retain")


def test_findings_speak_of_what_is_drawn(task):
    class Colour(nn.Module):
        """Sees a three in images that are bright enough, and in others a six."""

        def __init__(self, threshold):
            super().__init__()
            self.threshold = threshold

        def forward(self, images):
            bright = images.mean(dim=(1, 2, 3)) > self.threshold
            return torch.stack([bright.float(), torch.zeros(len(images)), 1 - bright.float()], dim=1)

    judge = Judge(model=Colour(-1.0), names=NAMES)
    found = GenerationEvaluator(task, judge=judge, kept=[toy.SIX], **few(per_prompt=20))(moved(task.model))
    said = {one.question: one for one in found.findings}
    assert said["class"].answer == "remembered" and "forgotten prompts drawn as asked 1.000" in said["class"].reason
    assert said["utility"].answer == "inconclusive" and "too few images" in said["utility"].reason


def test_describe_is_plain_and_says_with_what(evaluator, task):
    found = json.loads(json.dumps(evaluator.describe))
    assert found["judge"]["network"] == "Sequential" and found["drawer"]["steps"] == STEPS
    assert found["images"] == [[toy.THREE, COUNT], [toy.FIVE, COUNT], [toy.SIX, COUNT]]
    assert found["judge"]["classes"] == [[toy.THREE, 0], [toy.FIVE, 1], [toy.SIX, 2]]
    assert found["real"] is found["clip"] is found["nudity"] is None and found["forgotten"] == {"forget": [toy.THREE]}


def test_without_anything_that_looks_images_are_drawn_and_nothing_is_told(task):
    one = GenerationEvaluator(task, **few(per_prompt=1))
    assert dict(one(moved(task.model), seconds=1.0)) == {"seconds": 1.0} and len(one.images(task.model)) == 3


class Never(nn.Module):
    def forward(self, images):
        raise AssertionError("must not be asked")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"judge": nn.Linear(3, 4)}, InvalidInputError, "What do images of 'the digit three' show"),
        ({"judge": Judge(model=nn.Linear(3, 4), names=NAMES)}, ModelError, "The judge cannot take images"),
        ({"judge": Judge(model=projection(2), names=NAMES)}, InvalidInputError, "knows the classes 0 to 1, found 2"),
        ({"judge": Judge(model=projection(4), names=NAMES, among=(0, 1))}, InvalidInputError, "Class 2 is asked for"),
        ({"features": projection(4)}, InvalidInputError, "give `real`"),
        ({"features": nn.Linear(3, 4), "real": torch.rand(4, 1, 8, 8)}, ModelError, "network of features cannot"),
        ({"features": projection(4), "real": torch.rand(1, 1, 8, 8)}, InvalidInputError, "at least 2 real images"),
        ({"features": projection(4), "real": torch.rand(4, 1, 8, 8) * 255}, DataError, r"\[0, 1\]"),
        ({"features": projection(4), "real": torch.rand(4, 3, 8, 8)}, ModelError, r"images of shape \[3, 8, 8\]"),
        ({"features": projection(4), "real": []}, DataError, "The real images are none"),
        ({"clip": 3}, InvalidInputError, "`clip` must be a folder, or a pair"),
        ({"clip": "no/such/folder"}, ModelError, "cannot be read as a CLIP model"),
        ({"nudity": "nudenet"}, InvalidInputError, "must be a detector"),
        ({"nudity": lambda images: []}, ModelError, "of 2 images, found 0"),
        ({"per_prompt": 0}, InvalidInputError, "at least one image"),
        ({"kept_per_prompt": 0}, InvalidInputError, "at least one image"),
        ({"steps": 0}, InvalidInputError, "`steps`"),
        ({"guidance": -1.0}, InvalidInputError, "`guidance`"),
        ({"kept": "a cat"}, InvalidInputError, "several prompts, found one alone"),
        ({"kept": []}, InvalidInputError, "at least one prompt"),
        ({"kept": [toy.THREE]}, InvalidInputError, "as forgotten or as kept"),
        ({"kept": ["  "]}, InvalidInputError, "must not be empty"),
        ({"forgotten": {"x_low": [toy.THREE]}}, InvalidInputError, "must not end in"),
        ({"forgotten": {"x": []}}, InvalidInputError, "at least one prompt"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(task, tmp_path, given, error, says):
    with pytest.raises(error, match=says):
        GenerationEvaluator(task, folder=tmp_path / "images", **(few() | given))
    assert not (tmp_path / "images").exists()


def test_other_tasks_and_models_are_named(task, evaluator):
    plain = tiny.task()
    with pytest.raises(InvalidInputError, match=r"an `amnesty.Diffusion` task, found Classification"):
        GenerationEvaluator(plain)
    with pytest.raises(InvalidInputError, match=r"this is a Diffusion task.*GenerationEvaluator\(task, judge=...\)"):
        amnesty.evaluate(task, task.model)
    with pytest.raises(ModelError, match=r"must be a denoiser.*found UNet2DConditionModel.*amnesty.Diffusion"):
        evaluator(task.model.backbone)

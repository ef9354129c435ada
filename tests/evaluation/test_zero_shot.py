import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.data import Examples
from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation import MEASURES
from amnesty.evaluation import retrieval as retrieval_module
from amnesty.evaluation.further import Further
from amnesty.evaluation.measures import base
from amnesty.evaluation.retrieval import ranks
from amnesty.evaluation.zero_shot import ZeroShotMeasures, zero_shot_facts
from amnesty.evaluation.zero_shot_changes import png
from amnesty.files import write_json
from amnesty.tasks.zero_shot import Transfer, ZeroShot
from tests import tiny_clip as toy

THREE = 3


def of(part, rows, coloured=False):
    data = toy.coloured(part) if coloured else toy.images(part)
    return Examples(data.images[rows], data.labels[rows], data.class_names)


def rows(part, *classes, most=40):
    return torch.isin(toy.images(part).labels, torch.tensor(classes)).nonzero()[:, 0][:most]


def pairs(part, count, first=0):
    known, said = toy.images(part), toy.captions(part)
    return [(known.images[i], said[i]) for i in range(first, first + count)]


PARTS = {
    "forget": of("train", rows("train", THREE)),
    "retain": of("train", rows("train", 0, 1, 7, 8, most=120)),
    "holdout": of("test", torch.cat([rows("test", THREE, most=20), rows("test", 0, 1, 7, most=40)])),
}
ASKED = {
    "transfers": {
        "colours": Transfer(of("test", torch.arange(60), coloured=True), toy.COLOURS, toy.COLOUR_TEMPLATES),
        "two colours": Transfer(
            Examples(*of("test", (toy.coloured("test").labels < 2).nonzero()[:30, 0], True)[:], toy.COLOURS[:2]),
            toy.COLOURS[:2],
            toy.COLOUR_TEMPLATES[:1],
        ),
    },
    # The first images come again, with other words, and some captions are those of several images.
    "captions": [*pairs("test", 40), *[(image, "the digit two") for image, _ in pairs("test", 5)]],
    "forget_captions": pairs("train", 30),
    "paraphrases": toy.TEMPLATES[1:],
}


def task_of(model=None, **changed):
    given = {**PARTS, **ASKED, **changed}
    model = toy.untrained() if model is None else model
    return ZeroShot(model, toy.processor(), toy.DIGITS, toy.TEMPLATES[:1], **given)


def moved(model, tower="text", seed=0):
    """The same classifier with noise on the weights of one tower."""
    found, random = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in found.base.named_parameters():
            if name.startswith(tower):
                p.add_(0.05 * torch.randn(p.shape, generator=random))
    return found


@pytest.fixture(scope="module")
def task():
    return task_of()


@pytest.fixture(scope="module")
def measures(task):
    return ZeroShotMeasures(task)


def taken(measures, model):
    found = Further()
    measures.take(found, model)
    return found.numbers, found.absent


@pytest.fixture(scope="module")
def after(task, measures):
    model = moved(task.model)
    return model, taken(measures, model)[0]


class TestRanks:
    def test_are_the_wrong_answers_before_the_best_right_one(self, monkeypatch):
        random = torch.Generator().manual_seed(0)
        queries, answers = (F.normalize(torch.randn(n, 6, generator=random), dim=1) for n in (13, 17))
        right = torch.rand(13, 17, generator=random) < 0.2
        right[torch.arange(13), torch.arange(13)] = True
        expected = []
        for q in range(13):
            order = (answers @ queries[q]).argsort(descending=True)
            expected.append(int(right[q][order].nonzero()[0, 0]))
        chosen = right.nonzero().T
        assert ranks(queries, answers, chosen).ranks.tolist() == expected
        monkeypatch.setattr(retrieval_module, "_ENTRIES", 40)  # two queries at a time
        mixed = chosen[:, torch.randperm(chosen.shape[1], generator=random)]
        assert ranks(queries, answers, mixed).ranks.tolist() == expected

    def test_a_model_that_tells_nothing_apart_finds_nothing(self):
        same = F.normalize(torch.ones(7, 5), dim=1)
        found = ranks(same, same, torch.arange(7).repeat(2, 1))
        assert found.ranks.tolist() == [6] * 7 and not found.found(1).any() and not found.found(6).any()

    def test_too_few_answers_to_choose_from_are_refused(self):
        found = ranks(torch.eye(4), torch.eye(4), torch.arange(4).repeat(2, 1))
        assert found.found(3).all()
        with pytest.raises(InvalidInputError, match="needs more than 4 to choose from, found 4"):
            found.found(4)

    def test_bad_input_is_refused(self):
        with pytest.raises(ShapeError, match=r"found \[3, 3\] and \[2, 2\]"):
            ranks(torch.eye(3), torch.eye(2), torch.arange(2).repeat(2, 1))
        with pytest.raises(ShapeError, match="`pairs` must be"):
            ranks(torch.eye(3), torch.eye(3), torch.arange(3))
        with pytest.raises(InvalidInputError, match="Every query needs a right answer"):
            ranks(torch.eye(3), torch.eye(3), torch.tensor([[0, 2], [0, 2]]))


class TestMeasures:
    def test_all_of_them_are_taken_and_known(self, task, measures, after):
        original, absent = taken(measures, task.model)
        assert absent == {} and original.keys() == after[1].keys()
        keys = {key for key in after[1] if base(key) == key and "/" not in key}
        assert keys <= MEASURES.keys()
        assert keys == {key for key, m in MEASURES.items() if m.needs in ("zero-shot", "transfers", "captions")} | {
            key for key, m in MEASURES.items() if m.needs == "paraphrases"
        }
        for key in keys:
            assert MEASURES[key].low <= after[1][key] <= MEASURES[key].high and MEASURES[key].blind
            assert after[1].get(f"{key}_low", -1) <= after[1][key] <= after[1].get(f"{key}_high", 2)

    def test_other_data_sets_are_asked_by_their_own_words(self, task, measures, after):
        model, found = after
        for name, other in ASKED["transfers"].items():
            expected = [toy.accuracy(m.base, other.data, other.templates) for m in (model, task.model)]
            assert found[f"transfer_accuracy/{name}"] == pytest.approx(expected[0])
            assert found[f"transfer_change/{name}"] == pytest.approx(expected[0] - expected[1])
        each = [found[f"transfer_accuracy/{name}"] for name in ASKED["transfers"]]
        assert found["transfer_accuracy"] == pytest.approx(np.mean(each)) and found["transfer_accuracy_count"] == 90
        original, _ = taken(measures, task.model)
        assert original["transfer_change"] == 0 and original["transfer_change_low"] < 0

    def test_paraphrases_together_and_the_one_that_brings_back_most(self, after):
        model, found = after
        known = PARTS["forget"]
        assert found["paraphrased_forget_accuracy"] == toy.accuracy(model.base, known, toy.TEMPLATES[1:])
        alone = [toy.accuracy(model.base, known, [template]) for template in toy.TEMPLATES[1:]]
        assert found["best_paraphrase_forget_accuracy"] == max(alone)

    @torch.no_grad()
    def test_drift_is_of_the_tower_that_moved(self, task, measures, after):
        model, found = after
        kept = [toy.TEMPLATES[0].format(name) for d, name in enumerate(toy.DIGITS) if d != THREE]
        ids = toy.tokenizer()(kept, padding="max_length", return_tensors="pt")["input_ids"]
        sides = [toy.features(m.base, ids=ids) for m in (model, task.model)]
        assert found["image_feature_drift"] == pytest.approx(0, abs=1e-6)
        assert found["text_feature_drift"] == pytest.approx(1 - float((sides[0] * sides[1]).sum(1).mean()), abs=1e-5)
        other = moved(task.model, "vision")
        found, _ = taken(measures, other)
        holdout = PARTS["holdout"]
        images = toy.normalised(holdout.images[holdout.labels != THREE])
        sides = [toy.features(m.base, images) for m in (other, task.model)]
        assert found["image_feature_drift"] == pytest.approx(1 - float((sides[0] * sides[1]).sum(1).mean()), abs=1e-5)
        assert found["image_feature_drift"] > 1e-3 and found["text_feature_drift"] == pytest.approx(0, abs=1e-6)

    def test_recall_counts_each_image_and_each_text_once(self, after):
        model, found = after
        images = toy.normalised(torch.stack([image for image, _ in ASKED["captions"][:40]]))
        texts = list(dict.fromkeys(text for _, text in ASKED["captions"]))
        ids = toy.tokenizer()(texts, padding="max_length", return_tensors="pt")["input_ids"]
        near = toy.features(model.base, images) @ toy.features(model.base, ids=ids).T
        right = torch.zeros_like(near, dtype=torch.bool)
        for i, (_, text) in enumerate(ASKED["captions"]):
            right[i % 40, texts.index(text)] = True
        for key, scores, true in (("image_to_text", near, right), ("text_to_image", near.T, right.T)):
            assert found[f"{key}_recall_at_1_count"] == len(scores)
            for k in (1, 5):
                first = scores.topk(k, dim=1).indices
                expected = true.gather(1, first).any(dim=1).double().mean()
                assert found[f"{key}_recall_at_{k}"] == pytest.approx(float(expected))

    def test_pairs_are_attacked_by_their_cosine(self, after):
        model, found = after
        sides = []
        for part in ("forget_captions", "captions"):
            images = toy.normalised(torch.stack([image for image, _ in ASKED[part]]))
            ids = toy.tokenizer()([t for _, t in ASKED[part]], padding="max_length", return_tensors="pt")["input_ids"]
            sides.append((toy.features(model.base, images) * toy.features(model.base, ids=ids)).sum(1))
        above = (sides[0][:, None] > sides[1][None]).double().mean()
        assert found["pair_membership_auc"] == pytest.approx(float(above), abs=2e-3)
        assert (found["pair_membership_auc_count"], found["pair_membership_auc_against"]) == (30, 45)

    def test_a_probe_sees_what_was_only_hidden_from_the_words(self, task, measures, after):
        original, _ = taken(measures, task.model)
        assert after[1]["probe_forget_accuracy"] == original["probe_forget_accuracy"] > 0.5
        blind = copy.deepcopy(task.model)
        with torch.no_grad():
            for name, p in blind.base.named_parameters():
                if name.startswith("vision_model.embeddings"):
                    p.zero_()
        assert taken(measures, blind)[0]["probe_forget_accuracy"] < original["probe_forget_accuracy"]

    def test_another_image_tower_sees_pixels_and_not_the_features_of_the_first(self, task, measures):
        other = toy.untrained(seed=1)
        found, absent = taken(measures, task.classifier(other))
        known = ASKED["transfers"]["colours"]
        assert absent == {}
        assert found["transfer_accuracy/colours"] == toy.accuracy(other, known.data, known.templates)
        assert found["paraphrased_forget_accuracy"] == toy.accuracy(other, PARTS["forget"], toy.TEMPLATES[1:])

    def test_cached_features_change_nothing(self, after):
        model, found = after
        plain, absent = taken(ZeroShotMeasures(task_of(cache=False)), model)
        assert absent == {} and plain == pytest.approx(found, abs=1e-5)

    def test_a_model_stays_in_its_mode_and_draws_nothing(self, task, measures, after):
        model, found = copy.deepcopy(after[0]).train(), after[1]
        state = torch.get_rng_state()
        assert taken(measures, model)[0] == found
        assert model.training and model.towers.training and torch.equal(torch.get_rng_state(), state)

    def test_what_is_lacking_is_said(self):
        bare = task_of(**dict.fromkeys(("transfers", "captions", "forget_captions"), None), paraphrases=())
        found, absent = taken(ZeroShotMeasures(bare), bare.model)
        assert {key for key in found if base(key) == key} == {
            "image_feature_drift",
            "text_feature_drift",
            "probe_forget_accuracy",
        }
        assert "`transfers`" in absent["transfer_change"] and "`paraphrases`" in absent["paraphrased_forget_accuracy"]
        assert "`captions`" in absent["text_to_image_recall_at_5"]
        assert "`forget_captions`" in absent["pair_membership_auc"]
        alone = task_of(retain=None, holdout=None)
        found, absent = taken(ZeroShotMeasures(alone), alone.model)
        assert "text_feature_drift" in found and "`holdout`" in absent["probe_forget_accuracy"]
        assert "`retain` or `holdout`" in absent["image_feature_drift"]
        few = task_of(captions=pairs("test", 4))
        found, absent = taken(ZeroShotMeasures(few), few.model)
        assert "image_to_text_recall_at_1" in found and "choose from, found" in absent["image_to_text_recall_at_5"]

    def test_a_model_without_towers_is_refused_in_words(self, measures):
        found, absent = taken(measures, nn.Linear(3, 2))
        assert found == {} and "found Linear; pass `task.classifier(model)`" in absent["transfer_accuracy"]

    def test_a_set_must_not_be_called_like_a_number(self):
        known = ASKED["transfers"]["colours"]
        with pytest.raises(InvalidInputError, match="must not end in _low.*found 'very_low'"):
            ZeroShotMeasures(task_of(transfers={"very_low": known}))


class TestFacts:
    def test_count_every_unseen_image_before_and_after(self, task, after, tmp_path):
        facts = zero_shot_facts(task, after[0])
        holdout = PARTS["holdout"]
        assert (facts["parts"], facts["count"], facts["forgotten"]) == (["holdout"], 60, ["three"])
        assert (facts["class_names"], facts["templates"]) == (list(toy.DIGITS), list(toy.TEMPLATES[:1]))
        for when, model in (("before", task.model), ("after", after[0])):
            said = toy.zero_shot(model.base, holdout, toy.TEMPLATES[:1])
            expected = torch.zeros(10, 10, dtype=torch.int64)
            expected.index_put_((holdout.labels, said), torch.tensor(1), accumulate=True)
            found = torch.zeros(10, 10, dtype=torch.int64)
            for true, called, count in facts[when]:
                found[true, called] = count
            assert torch.equal(found, expected)
        write_json(tmp_path / "zero_shot.json", facts)
        assert json.loads((tmp_path / "zero_shot.json").read_text()) == facts == zero_shot_facts(task, after[0])

    def test_pictures_are_unseen_ones_half_of_them_of_what_was_forgotten(self, task, after):
        facts = zero_shot_facts(task, after[0])
        unseen = {png(image) for image in PARTS["holdout"].images}
        assert [e["forgotten"] for e in facts["examples"]] == [True] * 4 + [False] * 4
        assert [e["label"] for e in facts["examples"]] == ["three"] * 4 + ["zero", "one", "seven", "zero"]
        assert all(e["image"] in unseen for e in facts["examples"]) and facts["notes"] == []
        for example in facts["examples"]:
            for when in ("before", "after"):
                shares = [share for _, share in example[when]]
                assert len(shares) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.001
        at = PARTS["holdout"].images[0]
        with torch.no_grad():
            logits = task.model(toy.normalised(at)[None])[0].softmax(0)
        best = facts["examples"][0]["before"][0]
        assert best == [toy.DIGITS[int(logits.argmax())], round(float(logits.max()), 4)]

    def test_a_forgotten_image_is_never_among_them(self):
        forget, holdout = PARTS["forget"], PARTS["holdout"]
        copies = Examples(
            torch.cat([forget.images[:3], holdout.images]), torch.cat([forget.labels[:3] + 1, holdout.labels])
        )
        task = task_of(holdout=copies, cache=False)
        shown = {e["image"] for e in zero_shot_facts(task, task.model, shown=20)["examples"]}
        assert len(shown) > 12 and shown.isdisjoint({png(image) for image in forget.images})

    def test_what_is_not_shown_is_said(self, task, after):
        without = task_of(holdout=of("test", rows("test", 0, 1)))
        facts = zero_shot_facts(without, without.model)
        assert facts["notes"] == ["No unseen images of three: none are shown of what was forgotten."]
        assert [e["label"] for e in facts["examples"]] == ["zero", "one", "zero", "one"]
        seen = task_of(holdout=None)
        facts = zero_shot_facts(seen, seen.model)
        assert (
            facts["examples"] == [] and facts["parts"] == ["retain", "forget"] and "trained on" in facts["notes"][0]
        )
        assert facts["count"] == len(PARTS["retain"]) + len(PARTS["forget"])
        assert zero_shot_facts(task, after[0], pictures=False)["examples"] == []

    def test_several_forget_sets_and_pixel_values_without_a_processor(self):
        data = {part: Examples(toy.normalised(x.images), x.labels, x.class_names) for part, x in PARTS.items()}
        sets = {"first": Examples(data["forget"].images[:20], data["forget"].labels[:20])}
        sets["second"] = Examples(data["forget"].images[20:], data["forget"].labels[20:])
        given = {**data, "forget": sets}
        task = ZeroShot(toy.untrained(), (toy.tokenizer(), None), toy.DIGITS, **given, cache=False)
        assert len(zero_shot_facts(task, task.model)["examples"]) == 8

    def test_images_of_every_kind_become_small_pictures(self):
        import base64
        import io

        from PIL import Image

        def read(text):
            return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))

        pixels = torch.randint(256, (3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        rows = pixels.permute(1, 2, 0).numpy()
        assert np.array_equal(read(png(pixels)), rows)
        assert np.array_equal(read(png(pixels / 255)), rows)
        assert np.array_equal(read(png(Image.fromarray(rows))), rows)
        assert read(png(pixels / 127.5 - 1)).min() == 0
        assert read(png(torch.rand(1, 200, 100))).shape == (72, 36, 3)

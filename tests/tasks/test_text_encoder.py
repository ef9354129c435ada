import re

import pytest
import torch

import amnesty
from amnesty.errors import InvalidInputError, ModelError, UnknownNameError
from amnesty.methods import LUR, METHODS, SCRUB, MUNBa
from amnesty.tasks.text_encoder import HiddenStates
from tests import tiny, tiny_clip

KEPT = [word for word in tiny_clip.DIGITS if word != "three"]
TEMPLATES = ("the digit {}", "a photo of the {label}")


def encoder(seed=0):
    """The text tower, with hidden states as far apart as those of a trained one."""
    return tiny_clip.untrained(seed).text_model.eval()


def task(model=None, **options):
    given = {"forget": {"three": "four"}, "retain": KEPT, "templates": TEMPLATES, **options}
    return amnesty.TextEncoder(encoder() if model is None else model, tiny_clip.tokenizer(), **given)


def test_the_concept_becomes_the_anchor_and_the_rest_stays():
    wanted, model = task(), encoder()
    assert wanted.distances(wanted.model) == {"forget": pytest.approx(1.0), "retain": pytest.approx(0.0)}
    outcome = amnesty.unlearn(wanted, MUNBa(), seed=0)
    found = wanted.distances(outcome.model)
    assert found["forget"] < 0.2 and found["retain"] < 0.2
    ids = {
        w: tiny_clip.tokenizer()([w], padding="max_length", return_tensors="pt")["input_ids"]
        for w in ("", "the digit three", "the digit four")
    }
    with torch.no_grad():
        before = {word: model(input_ids=row).last_hidden_state for word, row in ids.items()}
        after = {word: outcome.model.encoder(input_ids=row).last_hidden_state for word, row in ids.items()}
    apart = (before["the digit three"] - before["the digit four"]).norm()
    assert (after["the digit three"] - before["the digit four"]).norm() < 0.3 * apart
    assert (after[""] - before[""]).norm() < 0.3 * apart  # the empty prompt is kept unasked
    assert type(outcome.model.encoder) is type(model)


GENERAL = [n for n, m in METHODS.items() if not m.classifiers_only and "generator" not in m.about.needs]


@pytest.mark.parametrize("name", GENERAL)
def test_methods_that_ask_for_no_labels_run_or_say_why_not(name):
    fields = METHODS[name].__dataclass_fields__
    settings = {k: v for k, v in {"epochs": 1, "batch_size": 8, "forget_batch_size": 2}.items() if k in fields}
    if name in ("successive_random_labels", "salun_soft"):
        with pytest.raises(InvalidInputError, match="One shuffled stream"):
            amnesty.unlearn(task(), METHODS[name](**settings))
        return
    outcome = amnesty.unlearn(task(), METHODS[name](**settings), seed=0)
    assert outcome.history and all(p.isfinite().all() for p in outcome.model.parameters())


def test_others_say_that_they_need_a_classifier():
    with pytest.raises(InvalidInputError, match="SCRUB unlearns classifiers only; this is a TextEncoder task"):
        amnesty.unlearn(task(), SCRUB())


def test_each_concept_is_a_player():
    retain = [word for word in KEPT if word != "five"]
    outcome = amnesty.unlearn(task(forget={"three": "four", "five": "six"}, retain=retain), MUNBa(at_least=2))
    assert {"three_weight", "five_weight", "retain_weight"} <= set(outcome.history[0])


def test_the_original_stays():
    model = encoder()
    before, flags = tiny.weights(model), [p.requires_grad for p in model.parameters()]
    amnesty.unlearn(task(model), MUNBa(at_least=2), seed=0)
    assert tiny.same(before, tiny.weights(model)) and flags == [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize(("train", "pattern"), [("attention", "self_attn"), (re.compile(".*mlp"), "mlp")])
def test_only_what_may_move_does(train, pattern):
    wanted = task(train=train)
    before = dict(wanted.model.named_parameters())
    outcome = amnesty.unlearn(wanted, LUR(epochs=1, trim=0.0, wish="auto"), seed=0)
    moved = [n for n, p in outcome.model.named_parameters() if not torch.equal(p, before[n])]
    assert moved and all(pattern in name for name in moved)


@pytest.mark.parametrize("hidden", ["last", "penultimate", "pooled", ("penultimate", "pooled")])
def test_what_is_read(hidden):
    model, ids = encoder(), torch.tensor([[0, 8, 9, 16, 3, 3, 3, 3, 3, 3]])
    names = (hidden,) if isinstance(hidden, str) else hidden
    with torch.no_grad():
        said = model(input_ids=ids, output_hidden_states=True)
        found = HiddenStates(model, names)(ids)
    parts = {"last": said.last_hidden_state, "penultimate": said.hidden_states[-2], "pooled": said.pooler_output}
    means = torch.stack([parts[name].square().mean() for name in names]).mean()
    torch.testing.assert_close(found.square().mean(), means)  # each counts alike, whatever its size


def test_tokens_of_another_vocabulary_are_refused():
    class Foreign:
        model_max_length = 10

        def __call__(self, texts, **_):
            return {"input_ids": [[90 + len(t) % 7] * 10 for t in texts]}

    with pytest.raises(ModelError, match="does not give what is to be read"):
        amnesty.TextEncoder(encoder(), Foreign(), forget={"three": "four"}, retain=[])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"forget": {}}, InvalidInputError, "must map concepts to anchors"),
        ({"forget": ["three"]}, InvalidInputError, "must map concepts to anchors"),
        ({"forget": {"three": ""}}, InvalidInputError, "must be words"),
        ({"retain": "four"}, InvalidInputError, "must list words"),
        ({"retain": ["three"]}, InvalidInputError, "is to be forgotten and kept"),
        (
            {"forget": {"three": "four", "four": "five"}, "retain": []},
            InvalidInputError,
            "is to be forgotten and kept",
        ),
        ({"forget": {"eleven": "twelve"}}, InvalidInputError, "cannot tell 'eleven' and 'twelve' apart"),
        ({"templates": ("the " * 9 + "{}",)}, InvalidInputError, "A prompt has 12 tokens, the encoder reads 10"),
        ({"templates": ("the digit",)}, InvalidInputError, "one slot"),
        ({"hidden": "first"}, UnknownNameError, "hidden state 'first'"),
        ({"train": "text_attention"}, UnknownNameError, "group of parameters"),
        ({"train": re.compile("none")}, InvalidInputError, "everything would be frozen"),
    ],
)
def test_bad_input_is_refused_before_any_work(options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        task(**options)


@pytest.mark.parametrize("wish", ["unseen", "shifted"])
def test_texts_have_no_unseen_examples(wish):
    with pytest.raises(InvalidInputError, match="unseen"):
        amnesty.unlearn(task(), MUNBa(wish=wish))


def test_what_is_no_classifier_is_not_scored_as_one():
    wanted = task()
    with pytest.raises(InvalidInputError, match="Only classifiers are scored"):
        amnesty.evaluate(wanted, wanted.model)  # type: ignore[arg-type]

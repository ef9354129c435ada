import copy
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chisquare
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from amnesty.data import Examples, Fraction, split
from amnesty.errors import DataError, InvalidInputError, ModelError, SplitError
from amnesty.tasks import Classification, cross_entropy, to_device
from amnesty.tasks.labelled import unpack

from .samples import Lookup, confident, lookup_task, numbered

CLASSES = 5
NAMES = ("ant", "bee", "cat", "dog", "elk")


def images(n=40, seed=0):
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def examples(n=40, seed=0):
    return Examples(images(n, seed), torch.arange(n) % CLASSES, NAMES)


def net(device):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, CLASSES))
    return layers.to(device)


def task(device, **changed):
    parts = split(examples(), Fraction(0.25)).parts(examples())
    given = {"model": net(device), "forget": parts["forget"], "retain": parts["retain"]} | changed
    return Classification(given.pop("model"), **given)


def two(data, forget):
    """Parts whose indices are tensors, as masks give them."""
    return {"forget": Subset(data, forget.nonzero()[:, 0]), "retain": Subset(data, (~forget).nonzero()[:, 0])}


def loss_of(role, model, batch, seed=0):
    device = next(model.parameters()).device
    return role.loss(model, to_device(batch, device), torch.Generator().manual_seed(seed))


class Mappings(Dataset):
    """As the rows of a Hugging Face data set."""

    def __init__(self, data, keys=("img", "label")):
        self.data, self.keys = data, keys

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        image, label = self.data[i]
        return {self.keys[0]: image, self.keys[1]: int(label), "user_id": f"user {i}"}


class Augmented(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.rand(3, 4, 4), i % CLASSES


class Answers(nn.Module):
    """Applies a function to the logits of a model that works."""

    def __init__(self, then, device):
        super().__init__()
        self.inner, self.then = net(device), then

    def forward(self, x):
        return self.then(self.inner(x))


class TestPlayers:
    def test_preserved_is_torchs_cross_entropy(self, device):
        it = task(device)
        batch, role = (images(8), torch.arange(8) % CLASSES), it.preserved()
        model = it.model.eval()
        images_, labels = to_device(batch, device)
        expected = nn.CrossEntropyLoss()(model(images_), labels)
        torch.testing.assert_close(loss_of(role, model, batch), expected)
        torch.testing.assert_close(cross_entropy(model, batch, torch.Generator()), expected)
        assert role.part == "retain"

    @staticmethod
    def drawn(role, label, device, count=800):
        """The labels that a forgetting player draws, read off its loss: logit j is j."""
        model, batch = Lookup(torch.arange(float(CLASSES)).repeat(1, 1)).to(device), torch.zeros(1, 1)
        random = torch.Generator().manual_seed(0)
        batch = to_device((batch, torch.tensor([label])), device)
        top = torch.arange(float(CLASSES)).logsumexp(0)
        found = [round(float(top - role.loss(model, batch, random).detach().cpu())) for _ in range(count)]
        return torch.tensor(found).bincount(minlength=CLASSES).tolist()

    @pytest.mark.parametrize("label", range(CLASSES))
    def test_relabelled_draws_uniformly_from_the_other_classes(self, device, label):
        counts = self.drawn(task(device).relabelled(), label, device)
        assert counts.pop(label) == 0
        assert chisquare(counts).pvalue > 1e-3

    def test_relabelled_may_draw_all_classes(self, device):
        counts = self.drawn(task(device).relabelled(exclude_true=False), 2, device)
        assert chisquare(counts).pvalue > 1e-3

    def test_relabelled_never_draws_a_class_that_is_forgotten(self, device):
        data = examples()
        gone = torch.isin(data.labels, torch.tensor([1, 4]))
        it = task(device, **two(data, gone))
        for label in (1, 4):
            counts = self.drawn(it.relabelled(), label, device)
            assert counts[1] == counts[4] == 0
            assert chisquare([counts[0], counts[2], counts[3]]).pvalue > 1e-3

    def test_relabelled_refuses_a_retain_set_of_the_only_class(self, device):
        data = numbered(range(6), [0] * 6)
        it = Classification(
            Lookup(torch.zeros(6, CLASSES)).to(device), forget=Subset(data, [0, 1]), retain=Subset(data, [2, 3, 4, 5])
        )
        with pytest.raises(InvalidInputError, match="no other label"):
            loss_of(it.relabelled(), it.model, data[[0, 1]])

    def test_relabelled_draws_anew_for_each_batch_and_follows_its_generator(self, device):
        it = task(device)
        role, model, batch = it.relabelled(), it.model.eval(), (images(8), torch.arange(8) % CLASSES)
        random, before = torch.Generator().manual_seed(0), torch.get_rng_state()
        batch = to_device(batch, device)
        first, second = role.loss(model, batch, random), role.loss(model, batch, random)
        assert first != second
        assert loss_of(role, model, batch, seed=0) == first
        assert torch.get_rng_state().equal(before)

    def test_relabelled_leaves_the_labels_as_they_are(self, device):
        it, labels = task(device), torch.arange(8) % CLASSES
        loss_of(it.relabelled(), it.model.eval(), (images(8), labels))
        assert labels.equal(torch.arange(8) % CLASSES)

    def test_ascended_is_minus_the_cross_entropy(self, device):
        it, batch = task(device), (images(8), torch.arange(8) % CLASSES)
        model, role = it.model.eval(), it.ascended()
        torch.testing.assert_close(loss_of(role, model, batch), -loss_of(it.preserved(), model, batch))
        assert role.part == "forget"

    def test_a_cap_ends_the_gradient_of_what_is_beyond_it(self, device):
        logits = torch.tensor([[5.0, 0.0], [0.0, 5.0]])  # known, and forgotten already
        model = Lookup(logits).to(device)
        it = task(device)
        loss = loss_of(it.ascended(cap=0.7), model, (torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0])))
        loss.backward()
        each = nn.functional.cross_entropy(logits, torch.tensor([0, 0]), reduction="none")
        torch.testing.assert_close(loss.detach().cpu(), -each.clamp(max=0.7).mean())
        assert model.table.grad[0].abs().min() > 0
        assert model.table.grad[1].abs().max() == 0

    @pytest.mark.parametrize("cap", [0, -1.0, float("nan")])
    def test_a_cap_is_positive(self, device, cap):
        with pytest.raises(InvalidInputError, match="`cap` must be positive"):
            task(device).ascended(cap)

    def test_unseen_like_wants_nothing_from_what_looks_unseen(self, device):
        labels = torch.arange(20) % 2
        parts = {
            "forget": (confident(labels, 2, 9.0), labels),
            "retain": (confident(labels, 2, 9.0), labels),
            "validation": (confident(labels, 2, 1.0), labels),
        }
        it = lookup_task(parts, device)
        role, batch = it.unseen_like(), it.parts["forget"][list(range(20))]
        assert role.part == "forget"
        assert loss_of(role, it.model, batch) > 1
        with torch.no_grad():
            it.model.table[:20] = confident(labels, 2, 0.9)
        assert loss_of(role, it.model, batch) == 0

    def test_unseen_like_needs_unseen_examples(self, device):
        with pytest.raises(InvalidInputError, match="`validation` part"):
            task(device).unseen_like()


class TestConstruction:
    def test_refuses_a_model_that_cannot_learn(self, device):
        frozen = net(device).requires_grad_(False)
        for model in (frozen, nn.Flatten()):
            with pytest.raises(ModelError, match="No parameter of `model` requires a gradient"):
                task(device, model=model)

    @pytest.mark.parametrize("part", ["forget", "retain", "holdout", "validation", "nonmembers"])
    def test_refuses_an_empty_part(self, device, part):
        with pytest.raises(SplitError, match=f"{part} set is empty"):
            task(device, **{part: Subset(examples(), [])})

    def test_refuses_shared_indices_before_reading_anything(self, device):
        data = Augmented()  # whose content no two reads have in common
        with pytest.raises(SplitError, match="`forget` and `retain` overlap: they share 2 examples"):
            task(device, forget=Subset(data, [0, 1, 2]), retain=Subset(data, [1, 2, 3]))

    @pytest.mark.parametrize("model", [None, net, net(torch.device("cpu")).state_dict(), "resnet18"])
    def test_refuses_a_model_that_is_no_module(self, device, model):
        with pytest.raises(
            InvalidInputError, match=rf"`model` must be a `torch.nn.Module`, found {type(model).__name__}"
        ):
            task(device, model=model)

    @pytest.mark.parametrize("forget", [None, {}])
    def test_refuses_to_do_without_what_it_is_about(self, device, forget):
        with pytest.raises(InvalidInputError, match="`forget` must be a data set, .* or several by name; found none"):
            task(device, forget=forget)

    @pytest.mark.parametrize("part", ["forget", "retain", "holdout", "validation", "nonmembers"])
    def test_refuses_a_loader_that_leaves_examples_out(self, device, part):
        with pytest.raises(DataError, match=f"loader of the {part} set has `drop_last=True`"):
            task(device, **{part: DataLoader(examples(seed=3), 16, drop_last=True)})

    def test_refuses_unknown_settings(self, device):
        with pytest.raises(InvalidInputError, match="`duplicates` must be 'refuse' or 'keep', found 'drop'"):
            task(device, duplicates="drop")

    def test_nonmembers_may_be_held_out(self, device):
        unseen = examples(20, seed=1)
        it = task(device, holdout=unseen, nonmembers=Subset(unseen, range(5)))
        it.check()
        assert list(it.parts) == ["forget", "retain", "holdout", "nonmembers"]

    def test_validation_is_a_part(self, device):
        it = task(device, validation=examples(20, seed=1))
        assert it.labels("validation").tolist() == [i % CLASSES for i in range(20)]
        assert len(it.predict(it.model, "validation").logits) == 20


class TestCheck:
    def test_leaves_model_and_generator_as_they_were(self, device):
        model = net(device)
        model[3].eval()
        before = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()], torch.get_rng_state()
        it = task(device, model=model, forget=Augmented(), retain=DataLoader(Augmented(), 4, shuffle=True))
        it.check()
        it.predict(model, "forget")
        it.predict(model, "retain")
        assert all(model.state_dict()[k].equal(v) for k, v in before[0].items())
        assert [m.training for m in model.modules()] == before[1]
        assert torch.get_rng_state().equal(before[2])
        assert all(p.grad is None for p in model.parameters())

    def test_reads_everything_once(self, device):
        class Counted(Augmented):
            reads = 0

            def __getitem__(self, i):
                Counted.reads += 1
                return super().__getitem__(i)

        it = task(device, retain=Counted())
        for _ in range(3):
            it.check()
        assert (it.classes, Counted.reads) == (CLASSES, 10)

    @pytest.mark.parametrize("label", [-1, CLASSES, 99])
    @pytest.mark.parametrize("part", ["forget", "retain", "holdout"])
    def test_refuses_labels_outside_the_classes(self, device, label, part):
        data = Examples(images(9, seed=3), torch.tensor([0] * 8 + [label]))
        with pytest.raises(DataError, match=f"1 labels of the {part} set are outside .* 5 classes, such as {label} "):
            task(device, **{part: data}).check()

    def test_refuses_pixels_that_are_no_numbers(self, device):
        data = examples(30, seed=3)
        data.images[17, 0, 0, 0] = float("nan")
        with pytest.raises(DataError, match="Example 17 of the retain set holds NaN or infinity"):
            task(device, retain=data).check()

    def test_refuses_the_same_content_in_two_data_sets(self, device):
        data = examples()
        copied = Examples(data.images[3:5].clone(), data.labels[3:5])
        with pytest.raises(SplitError, match="2 of 2 examples to forget are in the retain set too"):
            task(device, forget=copied, retain=data).check()
        task(device, forget=copied, retain=data, duplicates="keep").check()

    def test_refuses_inputs_that_the_model_cannot_take(self, device):
        data = Examples(torch.randn(9, 3, 5, 5), torch.zeros(9, dtype=torch.int64))
        with pytest.raises(ModelError, match=r"cannot take a holdout batch of shape \[2, 3, 5, 5\], torch.float32"):
            task(device, holdout=data).check()

    @pytest.mark.parametrize("error", [AssertionError("size"), KeyError("x"), AttributeError("y"), RuntimeError("z")])
    def test_whatever_a_model_raises(self, device, error):
        def fail(_):
            raise error

        with pytest.raises(ModelError, match="cannot take a forget batch"):
            task(device, model=Answers(fail, device)).check()

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (lambda z: z[:, 0], r"found \[2\]"),
            (lambda z: z[:, :, None], r"found \[2, 5, 1\]"),
            (lambda z: z.repeat(2, 1), r"found \[4, 5\]"),
            (lambda z: (z, z), "found tuple"),
            (lambda z: {"scores": z}, "found dict"),
            (lambda z: z[:, :1], "one logit"),
        ],
    )
    def test_refuses_answers_that_are_no_logits(self, device, answer, says):
        with pytest.raises(ModelError, match=says):
            task(device, model=Answers(answer, device)).check()

    def test_takes_answers_as_hugging_face_models_give_them(self, device):
        it = task(device, model=Answers(lambda z: SimpleNamespace(logits=z, loss=None), device))
        assert it.classes == CLASSES
        plain, named = it.predict(it.model.inner, "forget"), it.predict(it.model, "forget")
        assert plain.logits.equal(named.logits)
        batch = (images(8), torch.arange(8) % CLASSES)
        it.model.eval()
        assert loss_of(it.preserved(), it.model, batch) == loss_of(it.preserved(), it.model.inner, batch)

    @pytest.mark.parametrize("keys", [("img", "label"), ("pixel_values", "labels"), ("image", "target")])
    def test_takes_mappings(self, device, keys):
        data = examples()
        parts = {
            "forget": Mappings(Subset(data, range(10)), keys),
            "retain": Mappings(Subset(data, range(10, 40)), keys),
        }
        it = task(device, **parts)
        assert it.labels("forget").tolist() == data.labels[:10].tolist()
        batch = next(iter(DataLoader(parts["retain"], 8)))
        assert loss_of(it.preserved(), it.model, batch).isfinite()

    def test_takes_loaders(self, device):
        data = examples()
        it = task(
            device, forget=DataLoader(Subset(data, range(10)), 3), retain=DataLoader(Subset(data, range(10, 40)))
        )
        assert it.labels("forget").tolist() == data.labels[:10].tolist()
        assert len(it.predict(it.model, "retain").labels) == 30

    def test_takes_a_hugging_face_data_set_with_a_transform(self, device):
        datasets = pytest.importorskip("datasets", reason="the `data` extra is not installed")
        rows = {"img": images(12).tolist(), "label": [i % CLASSES for i in range(12)]}
        features = {
            "img": datasets.Array3D((3, 4, 4), "float32"),
            "label": datasets.ClassLabel(names=list(NAMES)),
        }
        data = datasets.Dataset.from_dict(rows, features=datasets.Features(features))

        def tensors(batch):
            return {"img": [torch.tensor(x) for x in batch["img"]], "label": batch["label"]}

        data.set_transform(tensors)
        parts = split(data, Fraction(0.25)).parts(data)
        it = task(device, forget=parts["forget"], retain=parts["retain"])
        assert it.labels("forget").tolist() == [int(i) % CLASSES for i in parts["forget"].indices]
        assert it.class_names == NAMES
        it = task(device, forget=data.select([0, 1, 2]), retain=data.select([2, 3, 4]))
        with pytest.raises(SplitError, match="forget 2 = retain 0"):
            it.check()

    def test_refuses_pictures_that_are_not_tensors(self, device):
        image = pytest.importorskip("PIL.Image", reason="the `data` extra is not installed").new("RGB", (4, 4))
        with pytest.raises(DataError, match="forget set cannot be put into one batch.*PIL"):
            task(device, forget=[(image, 0)]).check()


class TestNamedForgetSets:
    """A request of several users, say."""

    @staticmethod
    def task(device, wrap=lambda source: source, **changed):
        data = examples()
        sets = {"user 7": Subset(data, range(6)), "user 9": Subset(data, range(10, 14))}
        given = {"forget": {k: wrap(v) for k, v in sets.items()}, "retain": Subset(data, range(20, 40))} | changed
        return Classification(net(device), **given)

    def test_are_one_forget_set_for_whoever_asks_for_it(self, device):
        it = self.task(device)
        assert list(it.parts) == ["forget", "retain"] and list(it.sets) == ["user 7", "user 9"]
        assert it.labels("forget").tolist() == [i % CLASSES for i in (*range(6), *range(10, 14))]
        assert len(it.predict(it.model, "forget").logits) == 10

    def test_are_parts_that_a_player_may_see(self, device):
        it = self.task(device)
        assert list(it.sources) == ["forget", "retain", "forget/user 7", "forget/user 9"]
        assert it.sources["forget/user 9"] is it.sets["user 9"] and it.sources["forget"] is it.parts["forget"]

    def test_get_a_player_each(self, device):
        it, role = self.task(device), self.task(device).ascended()
        players = it.each(role)
        assert {name: p.part for name, p in players.items()} == {
            "user 7": "forget/user 7",
            "user 9": "forget/user 9",
        }
        assert all(p.loss is role.loss for p in players.values())
        assert task(device).each(role) == {"forget": role} and task(device).sources.keys() == {"forget", "retain"}

    def test_may_be_loaders_that_can_be_seen_through(self, device):
        plain, loaded = self.task(device), self.task(device, wrap=lambda s: DataLoader(s, 3, shuffle=True))
        assert loaded.labels("forget").tolist() == plain.labels("forget").tolist()
        with pytest.raises(DataError, match="reads the user 7 set in an order of its own"):
            self.task(device, wrap=lambda s: DataLoader(s, 3, sampler=[0, 1]))

    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: DataLoader(s, 2)])
    def test_must_not_overlap(self, device, wrap):
        data = examples()
        sets = {"a": wrap(Subset(data, [0, 1, 2])), "b": wrap(Subset(data, [3, 2]))}
        with pytest.raises(SplitError, match="`a` and `b` overlap: they share 1 examples"):
            self.task(device, forget=sets)
        with pytest.raises(SplitError, match="`b` and `retain` overlap"):
            self.task(
                device,
                forget={"a": Subset(data, [0]), "b": wrap(Subset(data, [20]))},
                retain=wrap(Subset(data, [20])),
            )

    def test_that_copy_retained_examples_are_found(self, device):
        data = examples()
        copied = Examples(data.images[20:22].clone(), data.labels[20:22])
        with pytest.raises(SplitError, match="2 of 3 examples to forget are in the retain set too"):
            self.task(device, forget={"a": Subset(data, [0]), "b": copied}).check()

    @pytest.mark.parametrize("name", ["forget", "retain", "holdout", "validation", "nonmembers"])
    def test_are_not_named_like_parts(self, device, name):
        with pytest.raises(InvalidInputError, match=f"`forget` must not name a set '{name}'"):
            self.task(device, forget={"a": examples(3, seed=5), name: examples(3, seed=6)})

    def test_must_not_be_empty(self, device):
        with pytest.raises(SplitError, match="The b set is empty"):
            self.task(device, forget={"a": examples(3, seed=5), "b": Subset(examples(), [])})

    @pytest.mark.parametrize("source", [None, iter([])])
    def test_must_be_data_sets(self, device, source):
        with pytest.raises(DataError, match="The b set has no length"):
            self.task(device, forget={"a": examples(3, seed=5), "b": source})

    def test_may_have_numbers_for_names(self, device):
        it = self.task(device, forget={7: examples(3, seed=5), 9: examples(3, seed=6)})
        assert list(it.sets) == ["7", "9"] and list(it.each(it.ascended())) == ["7", "9"]

    def test_of_different_kinds_are_joined(self, device):
        data = examples()
        it = self.task(device, forget={"a": Subset(data, [0, 1]), "b": Pairs(Subset(data, [2, 3]))})
        assert it.labels("forget").tolist() == [0, 1, 2, 3]


class Pairs(Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        image, label = self.data[i]
        return image, int(label)


class TestWithoutARetainSet:
    @staticmethod
    def task(device, **more):
        return Classification(net(device), forget=examples(10), **more)

    def test_it_has_one_part(self, device):
        it = self.task(device)
        it.check()
        assert list(it.parts) == ["forget"] and it.classes == CLASSES and not it.knows_unseen

    def test_nobody_can_tell_whether_a_class_is_forgotten(self, device):
        with pytest.raises(InvalidInputError, match="no part 'retain'; it has forget"):
            _ = self.task(device).forgotten_classes

    def test_random_labels_are_of_all_classes(self, device):
        counts = TestPlayers.drawn(self.task(device).relabelled(), 2, device)
        assert counts.pop(2) == 0 and chisquare(counts).pvalue > 1e-3

    @pytest.mark.parametrize("more", [{}, {"validation": examples(10, seed=4)}])
    def test_the_automatic_wish_is_random_labels(self, device, more):
        batch = images(4), torch.zeros(4, dtype=torch.int64)
        it = self.task(device, **more)
        it.model.eval()
        assert loss_of(it.wished("auto"), it.model, batch) == loss_of(it.relabelled(), it.model, batch)


class TestWished:
    BATCH = images(30), torch.arange(30) % CLASSES

    @pytest.mark.parametrize(
        ("wish", "same"),
        [
            ("relabel", lambda it: it.relabelled(True)),
            ("relabel_any", lambda it: it.relabelled(False)),
            ("ascend", lambda it: it.ascended(1.5)),
            ("auto", lambda it: it.relabelled(True)),
        ],
    )
    def test_is_the_player_of_that_name(self, device, wish, same):
        it = task(device)
        it.model.eval()
        role = it.wished(wish, 1.5)
        assert role.part == "forget"
        assert loss_of(role, it.model, self.BATCH, 1) == loss_of(same(it), it.model, self.BATCH, 1)

    @pytest.mark.parametrize("wish", ["auto", "unseen"])
    def test_is_to_look_unseen_where_that_is_known(self, device, wish):
        it = task(device, validation=examples(20, seed=1))
        it.model.eval()
        assert it.knows_unseen
        found = loss_of(it.wished(wish), it.model, self.BATCH)
        assert (
            found == loss_of(it.unseen_like(), it.model, self.BATCH) != loss_of(it.relabelled(), it.model, self.BATCH)
        )

    def test_shifted_images_stand_in(self, device):
        data = Examples(torch.rand(40, 1, 8, 8), torch.arange(40) % CLASSES)
        it = Classification(
            nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)).to(device),
            forget=Subset(data, range(10)),
            retain=Subset(data, range(10, 40)),
        )
        batch = data[list(range(10))]
        assert loss_of(it.wished("shifted"), it.model, batch) == loss_of(it.unseen_like(True), it.model, batch)


class TestTogether:
    def test_one_player_learns_from_one_stream(self, device):
        it = task(device)
        it.model.eval()
        role, both = it.together(it.ascended(), it.preserved())
        assert role.part == "together" and len(both) == 40
        (pictures, labels), origin = both[[0, 9, 10, 39]]
        assert origin.tolist() == [0, 0, 1, 1]
        sign = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=device)
        each = nn.functional.cross_entropy(it.model(pictures.to(device)), labels.to(device), reduction="none")
        torch.testing.assert_close(loss_of(role, it.model, ((pictures, labels), origin)), (sign * each).mean())

    def test_a_share_of_the_retain_set(self, device):
        it = task(device)
        _, both = it.together(it.relabelled(), it.preserved(), Subset(it.parts["retain"], [4, 1]))
        assert len(both) == 12
        assert both[[10, 11]][0][1].tolist() == [it.labels("retain")[i] for i in (4, 1)]

    def test_loaders_are_read_in_another_order(self, device):
        data = examples()
        it = task(
            device, forget=DataLoader(Subset(data, range(10)), 2), retain=DataLoader(Subset(data, range(10, 40)))
        )
        assert len(it.together(it.relabelled(), it.preserved())[1]) == 40
        hidden = task(device, forget=DataLoader(examples(10, seed=4), sampler=[3]))
        with pytest.raises(DataError, match="reads the forget set in an order of its own"):
            hidden.together(hidden.relabelled(), hidden.preserved())

    def test_needs_both(self, device):
        it = Classification(net(device), forget=examples(10))
        with pytest.raises(InvalidInputError, match="no part 'retain'"):
            it.together(it.relabelled(), it.preserved())


def test_a_probe_is_the_first_of_the_forget_set(device):
    it = task(device)
    first = torch.stack([it.parts["forget"][i][0] for i in (0, 1)])
    assert it.probe.equal(first)
    assert len(task(device, forget=examples(1, seed=9)).probe) == 1


class TestUnpack:
    @pytest.mark.parametrize(
        ("batch", "says"),
        [
            (torch.zeros(2), "found Tensor"),
            ([torch.zeros(2)], "found list"),
            ({"text": torch.zeros(2), "label": torch.zeros(2)}, r"found \['label', 'text'\]"),
            ((torch.zeros(2, 1), [0, 1]), "all tensors; found tuple"),
            ((torch.zeros(2, 1), torch.zeros(2)), r"integers; found \[2\], torch.float32"),
            ((torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64)), r"shape \[2\], integers; found \[3\]"),
            ((torch.zeros(2, 1), torch.zeros(2, 5, dtype=torch.int64)), r"found \[2, 5\]"),
        ],
    )
    def test_refuses(self, batch, says):
        with pytest.raises(DataError, match=says):
            unpack(batch)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
    def test_labels_of_any_integer_type(self, dtype):
        assert unpack((torch.zeros(2, 1), torch.ones(2, dtype=dtype)))[1].dtype == torch.int64


class TestPredict:
    def test_gives_logits_and_labels_in_order(self, device):
        it = task(device)
        found = it.predict(it.model, "retain", batch_size=7)
        subset = it.parts["retain"]
        expected = copy.deepcopy(it.model).eval()(torch.stack([x for x, _ in subset]).to(device)).detach().cpu()
        torch.testing.assert_close(found.logits, expected)
        assert found.labels.tolist() == [int(y) for _, y in subset]
        assert found.logits.dtype == torch.float32

    def test_is_float32_for_half_models_and_can_be_used_with_gradients(self, device):
        half = Answers(lambda z: z.to(torch.bfloat16), device)
        found = task(device).predict(half, "forget").logits
        assert found.dtype == torch.float32
        weight = torch.ones(CLASSES, requires_grad=True)
        (found * weight).sum().backward()
        assert weight.grad is not None

    def test_gives_every_module_its_mode_back(self, device):
        it = task(device)
        it.model[2].eval()
        before = [m.training for m in it.model.modules()]
        it.predict(it.model, "forget")
        assert [m.training for m in it.model.modules()] == before

    def test_does_not_depend_on_a_callers_autocast(self, device):
        it = task(device)
        expected = it.predict(it.model, "retain").logits
        with torch.autocast(device.type, torch.bfloat16):
            found = it.predict(it.model, "retain").logits
        assert found.equal(expected)

    def test_of_augmented_data_is_repeatable(self, device):
        it = task(device, forget=Augmented())
        assert it.predict(it.model, "forget").logits.equal(it.predict(it.model, "forget").logits)

    def test_refuses_parts_that_do_not_exist(self, device):
        it = task(device)
        for ask in (it.labels, lambda part: it.predict(it.model, part)):
            with pytest.raises(InvalidInputError, match="no part 'holdout'; it has forget, retain"):
                ask("holdout")


class TestClasses:
    def test_forgotten_classes_are_those_of_which_nothing_is_kept(self, device):
        data = examples()
        for gone, expected in [([1, 4], (1, 4)), ([], ())]:
            forget = torch.isin(data.labels, torch.tensor(gone, dtype=torch.int64))
            forget[:3] = True  # some of classes 0, 1, 2
            it = task(device, **two(data, forget))
            assert it.forgotten_classes == expected

    def test_names_are_found_in_any_part_of_any_kind(self, device):
        data, bare = examples(), TensorDataset(images(9, 7), torch.arange(9) % CLASSES)
        parts = [
            {"forget": Subset(Subset(data, range(20)), range(9)), "retain": bare},
            {"forget": bare, "retain": ConcatDataset([Subset(data, [0]), data])},
            {"forget": bare, "retain": DataLoader(data, 4)},
            {"forget": bare, "retain": examples(9, 3), "class_names": list(NAMES)},
        ]
        assert all(task(device, **p).class_names == NAMES for p in parts)

    def test_numbers_stand_where_names_are_missing(self, device):
        bare = {"forget": TensorDataset(images(9, 1), torch.arange(9) % 5)}
        bare["retain"] = TensorDataset(images(9, 2), torch.arange(9) % 5)
        assert task(device, **bare).class_names == ("0", "1", "2", "3", "4")
        assert task(device, **bare, class_names=["ant", "bee"]).class_names == ("ant", "bee", "2", "3", "4")

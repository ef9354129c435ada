import dataclasses
from typing import ClassVar

import pytest
import torch

from amnesty.data import Together
from amnesty.data.examples import read_batch
from amnesty.tasks.diffusion import Concept, Denoiser, Drawer
from amnesty.tasks.diffusion.losses import Ascended, Denoised, Distilled, Led, squared
from tests import tiny, tiny_diffusion
from tests.tiny_diffusion import Pictures, task

GONE, ANCHOR, KEPT, OTHER = range(4)


class Listening(Denoiser):
    """Remembers what it was asked, and answers 0, or as it should."""

    def __init__(self, model, silent=False):
        super().__init__(model.backbone, model.family)
        self.asked, self.modes, self.silent = [], [], silent

    def predict(self, images, times, told):
        self.asked.append((images, times, told["labels"].tolist()))
        self.modes.append(self.backbone.training)
        return torch.zeros_like(images) if self.silent else super().predict(images, times, told)


def made(**options):
    return task(name="classes", **options)


def batch(wanted, part="forget", count=6):
    return read_batch(wanted.parts[part], [k % len(wanted.parts[part]) for k in range(count)])


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def asked(role, wanted, part="forget", count=6, model=None, **of_loss):
    """Return what student and teacher are asked of a batch, and the losses."""
    student, teacher = Listening(model or wanted.model), Listening(wanted.original)
    if hasattr(role.loss, "teacher"):
        of_loss["teacher"] = teacher
    losses = dataclasses.replace(role.loss, **of_loss).each(student, batch(wanted, part, count), random())
    return student.asked, teacher.asked, losses


def slopes(loss, wanted, part="forget"):
    value = loss(wanted.model, batch(wanted, part), random())
    moving = [p for p in wanted.model.parameters() if p.requires_grad]
    return value.item(), torch.autograd.grad(value, moving)


def answers(wanted, seen, labels):
    with torch.no_grad():
        return wanted.original.predict(seen.mixed, seen.times, {"labels": torch.tensor(labels)})


class TestAtTheOriginal:
    def test_the_concept_as_its_own_anchor_wants_nothing(self):
        wanted = made()
        own = torch.tensor(wanted.process.conditions.rows([GONE]))
        loss = Led(process=wanted.process, teacher=wanted.original, mix=((1.0, "anchor"),), anchors=own)
        value, found = slopes(loss, wanted)

        assert value == 0 and not any(g.any() for g in found)
        assert slopes(wanted.wished("auto").loss, wanted)[0] > 1e-3

    def test_distilling_wants_nothing(self):
        wanted = made(retain_loss="distill")
        value, found = slopes(wanted.preserved().loss, wanted, "retain")

        assert value == 0 and not any(g.any() for g in found)


class TestLed:
    @pytest.mark.parametrize(
        ("loss", "labels"), [("anchor", [[ANCHOR]]), ("null", [[4]]), ("esd", [[4], [GONE]]), ("random", None)]
    )
    def test_student_and_teacher_are_asked_the_same_of_other_prompts(self, loss, labels):
        wanted = made()
        student, teacher, _ = asked(wanted.forgetting(loss), wanted)

        assert len(student) == 1 and student[0][2] == [GONE] * 6
        for images, times, told in teacher:
            assert torch.equal(images, student[0][0]) and torch.equal(times, student[0][1])
            assert set(told) <= {KEPT, OTHER} if labels is None else [told[0]] in labels
        assert len(teacher) == (len(labels) if labels else 1)

    @pytest.mark.parametrize("eta", [0.0, 1.0, 2.5])
    def test_target_of_esd(self, eta):
        wanted = made(forget_loss="esd", eta=eta)
        loss = wanted.wished("auto").loss
        seen = loss.noised(batch(wanted), random(), torch.device("cpu"))
        none, own = (answers(wanted, seen, [label] * 6) for label in (4, GONE))
        target = none - eta * (own - none)

        torch.testing.assert_close(target, own - (eta + 1) * (own - none))  # as the authors' later code counts
        found = loss.each(wanted.model, batch(wanted), random())
        torch.testing.assert_close(found, squared(own, target), rtol=1e-4, atol=1e-7)

    def test_anchors_are_those_of_each_concept(self):
        first, second = (Concept(k, anchor, Pictures(3, side=8, channels=1)) for k, anchor in ((0, 2), (1, 3)))
        wanted = made(
            forget={"a": first, "b": second}, retain=Pictures(4, [2, 3], side=8, channels=1), forget_loss="anchor"
        )
        student, teacher, _ = asked(wanted.wished("auto"), wanted)

        assert student[0][2] == [0, 0, 0, 1, 1, 1] and teacher[0][2] == [2, 2, 2, 3, 3, 3]

    def test_a_moving_teacher_is_the_student_itself(self):
        wanted = made(teacher="current")
        loss = wanted.wished("auto").loss
        student = Listening(wanted.model)
        value = loss(student, batch(wanted), random())

        assert loss.teacher is None and [told[0] for *_, told in student.asked] == [ANCHOR, GONE]
        assert torch.equal(student.asked[0][0], student.asked[1][0]) and value.requires_grad

    def test_a_moving_teacher_drops_out_nothing(self):
        wanted = made(teacher="current")
        student = Listening(wanted.model).train()
        wanted.wished("auto").loss(student, batch(wanted), random())

        assert student.modes == [False, True] and all(m.training for m in student.modules())

    def test_the_same_generator_draws_the_same(self):
        wanted = made()
        loss, generator = wanted.wished("auto").loss, random()
        first = loss.each(wanted.model, batch(wanted), generator)
        again = loss.each(wanted.model, batch(wanted), random())
        next_one = loss.each(wanted.model, batch(wanted), generator)

        assert torch.equal(first, again) and not torch.equal(first, next_one)

    def test_one_of_several_prompts_is_drawn_for_each_image(self):
        images = Pictures(4, side=8, channels=1)
        wanted = made(forget=Concept([0, 1], 2, images), retain=Pictures(4, [2, 3], side=8, channels=1))
        student, _, _ = asked(wanted.wished("auto"), wanted, count=200)

        assert 70 < student[0][2].count(0) < 130 and set(student[0][2]) == {0, 1}


class Walking(Drawer):
    """Remembers how far it went, and where it came."""

    gone: ClassVar = []

    def walk(self, rows, generators, until=None):
        reached, times = super().walk(rows, generators, until)
        self.gone.append((until, reached, times))
        return reached, times


class TestOnTheWay:
    def test_images_are_those_on_the_way_to_the_concept_and_times_lie_in_its_step(self):
        wanted = made()
        role, _ = wanted.erased(eta=1.0, guidance=3.0, steps=5, count=6)
        path = Walking(**vars(role.loss.path))
        loss, student = dataclasses.replace(role.loss, path=path), Listening(wanted.model)
        for seed in range(12):
            loss.each(student, (torch.full((4, 2, 8, 8), torch.nan), torch.zeros(4, dtype=torch.int64)), random(seed))

        assert path.denoiser is wanted.original and path.guidance == 3.0
        for (until, reached, times), (images, drawn, told) in zip(path.gone, student.asked, strict=True):
            assert times.tolist() == [800, 600, 400, 200, 0] and told == [GONE] * 4
            assert torch.equal(images, reached) and images.isfinite().all()  # the batch's are not looked at
            after = [*times.tolist(), 0][until + 1]
            assert all(after <= time <= times[until] for time in drawn.tolist())
        assert {until for until, *_ in path.gone} == set(range(5))

    def test_nothing_but_noise_before_the_first_step(self):
        wanted = made()
        path = wanted.erased(eta=1.0, guidance=3.0, steps=5, count=6)[0].loss.path
        rows = torch.tensor(wanted.process.conditions.known_rows([GONE, GONE]))
        start, _ = path.walk(rows, generators(wanted, 1)[:2], 0)
        there, _ = path.walk(rows, generators(wanted, 1)[:2])

        noise = torch.stack([torch.randn(1, 8, 8, generator=g) for g in generators(wanted, 1)[:2]])
        assert torch.equal(start, noise)
        torch.testing.assert_close(path.latents([GONE] * 2, [10, 11]), there.cpu())


def generators(wanted, seed):
    wanted.process.conditions.known_rows([GONE])
    return [torch.Generator().manual_seed(10 * seed + k) for k in range(6)]


class TestDenoised:
    def test_is_the_squared_error_of_the_answer(self):
        wanted = made()
        loss = wanted.learnt
        seen = loss.noised(batch(wanted), random(), torch.device("cpu"))
        wanted_answer = wanted.process.noising.target(seen.images, seen.noise, seen.times)
        found = loss.each(wanted.model, batch(wanted), random())

        assert torch.equal(found, squared(answers(wanted, seen, [GONE] * 6), wanted_answer))
        assert loss(wanted.model, batch(wanted), random()).item() == pytest.approx(found.mean().item())

    @pytest.mark.parametrize("loss", ["denoise", "distill"])
    def test_the_share_of_prompts_that_is_left_out_in_retaining(self, loss):
        wanted = made(prompt_drop=0.25, retain_loss=loss)
        student, teacher, _ = asked(wanted.preserved(), wanted, "retain", count=800)
        told = student[0][2]

        assert told.count(4) / 800 == pytest.approx(0.25, abs=0.05) and set(told) == {KEPT, OTHER, 4}
        assert all(other == told for *_, other in teacher)

    @pytest.mark.parametrize("loss", ["denoise", "distill"])
    def test_none_is_left_out_where_none_is_to_be(self, loss):
        wanted = made(prompt_drop=0.0, retain_loss=loss)
        student, _, _ = asked(wanted.preserved(), wanted, "retain", count=100)
        assert 4 not in student[0][2]

    @pytest.mark.parametrize("loss", ["anchor", "random", "null", "esd", "noise"])
    def test_none_is_left_out_in_forgetting(self, loss):
        wanted = made(prompt_drop=0.5)
        student, _, _ = asked(wanted.forgetting(loss), wanted, count=100)
        assert student[0][2] == [GONE] * 100

    def test_none_is_left_out_where_weights_are_scored(self):
        student, _, _ = asked(dataclasses.replace(made().preserved(), loss=made().learnt), made(prompt_drop=0.9))
        assert 4 not in student[0][2]

    def test_with_noise_as_images(self):
        wanted = made()
        loss = wanted.forgetting("noise").loss
        seen = loss.noised(batch(wanted, count=200), random(), torch.device("cpu"), empty=True)

        assert seen.images.min() >= -1 and seen.images.max() <= 1
        assert seen.images.mean().item() == pytest.approx(0, abs=0.05)
        assert seen.images.std().item() == pytest.approx(3**-0.5, abs=0.02)

    def test_with_prompts_of_others(self):
        wanted = made()
        student, _, _ = asked(wanted.forgetting("misalign"), wanted, count=100)
        assert set(student[0][2]) == {KEPT, OTHER}

    def test_an_encoded_image_is_drawn_of_mean_and_deviation(self):
        wanted = task()
        loss, (latents, captions) = wanted.learnt, batch(wanted, count=1)
        many = latents.expand(500, -1, -1, -1), captions.expand(500)
        images = loss.noised(many, random(), torch.device("cpu")).images
        mean, deviation = latents.chunk(2, dim=1)

        assert deviation.min() > 0
        torch.testing.assert_close(images.mean(0), mean[0], rtol=0, atol=0.25 * deviation.max().item())
        torch.testing.assert_close(images.std(0), deviation[0], rtol=0.2, atol=1e-3)

    @pytest.mark.parametrize("name", ["pixels", "classes"])
    def test_size_of_the_images_leaves_its_scale(self, name):
        found = []
        for side in (8, 16):
            size = {"side": side, "channels": 1}
            gone, anchor, *kept = tiny_diffusion.prompts(name)
            data = {"forget": Concept(gone, anchor, Pictures(8, **size)), "retain": Pictures(8, kept, **size)}
            wanted = task(name=name, image_size=side, **data)
            silent = Listening(wanted.model, silent=True)
            silent.predict = lambda images, times, told: torch.zeros_like(images)
            found.append(wanted.learnt.each(silent, batch(wanted, count=64), random()).mean().item())

        assert found == pytest.approx([1.0, 1.0], abs=0.05)  # the mean square of noise

    def test_squared_difference_is_a_mean(self):
        one, other = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
        larger = [x.repeat(1, 1, 2, 2) for x in (one, other)]

        torch.testing.assert_close(squared(one, other), squared(*larger))
        assert squared(one.half(), other.half()).dtype is torch.float32


class TestAscended:
    def test_is_minus_the_loss_of_training(self):
        wanted = made()
        plain = wanted.learnt.each(wanted.model, batch(wanted), random())

        assert torch.equal(wanted.ascended().loss.each(wanted.model, batch(wanted), random()), -plain)

    def test_what_is_beyond_the_cap_has_no_slope(self):
        wanted = made()
        plain = wanted.learnt.each(wanted.model, batch(wanted), random())
        cap = plain.median().item()
        found = wanted.wished("ascend", cap).loss.each(wanted.model, batch(wanted), random())

        assert torch.equal(found, -plain.clamp(max=cap))
        beyond = found[plain > cap].sum()
        moving = [p for p in wanted.model.parameters() if p.requires_grad]
        assert not any(g.any() for g in torch.autograd.grad(beyond, moving))


class TestTogether:
    def test_each_origin_has_its_own_loss(self):
        wanted = made()
        role, both = wanted.together(Role("forget", wanted), Role("retain", wanted))
        mixed = both[[0, 1, 6, 7, 8]]
        assert isinstance(both, Together) and mixed[1].tolist() == [0, 0, 1, 1, 1]

        generator = random()
        first = role.loss.losses[0].each(wanted.model, batch(wanted, count=2), generator)
        second = role.loss.losses[1].each(wanted.model, wanted.parts["retain"][[0, 1, 2]], generator)
        found = role.loss(wanted.model, mixed, random())
        assert found.item() == pytest.approx(torch.cat([first, second]).mean().item(), rel=1e-5)

    def test_one_origin_may_be_missing(self):
        wanted = made()
        role, both = wanted.together(Role("forget", wanted), Role("retain", wanted))
        assert role.loss(wanted.model, both[[7, 9]], random()).isfinite()


def Role(part, wanted):  # noqa: N802  # the players as a method asks for them
    return wanted.relabelled() if part == "forget" else wanted.preserved()


class TestRelabelled:
    def test_other_prompts_are_kept_ones_or_with_the_true_all(self):
        wanted = made(forget_loss="random")
        for role, allowed in ((wanted.relabelled(), {KEPT, OTHER}), (wanted.relabelled(False), {GONE, KEPT, OTHER})):
            _, teacher, _ = asked(role, wanted, count=100)
            assert set(teacher[0][2]) == allowed

    @pytest.mark.parametrize(("loss", "labels"), [("anchor", {ANCHOR}), ("null", {4}), ("noise", {KEPT, OTHER})])
    def test_something_else_is_what_the_task_wants_instead(self, loss, labels):
        wanted = made(forget_loss=loss)
        _, teacher, _ = asked(wanted.relabelled(), wanted, count=50)
        assert set(teacher[0][2]) == labels

    def test_kinds(self):
        wanted = made()
        kinds = {
            "auto": Led,
            "relabel": Led,
            "relabel_any": Led,
            "ascend": Ascended,
        }
        assert {wish: type(wanted.wished(wish).loss) for wish in kinds} == kinds
        assert type(wanted.preserved().loss) is Distilled
        assert type(made(retain_loss="denoise").preserved().loss) is Denoised


def test_teacher_of_a_loss_keeps_its_bits_and_has_no_slope():
    wanted = made(train="full")
    before = tiny.weights(wanted.original)
    wanted.wished("auto").loss(wanted.model, batch(wanted), random()).backward()

    assert tiny.same(before, tiny.weights(wanted.original))
    assert all(p.grad is None for p in wanted.original.parameters())

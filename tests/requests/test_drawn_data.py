"""Prompts and images as a request for an image generator names them."""

import io

import numpy as np
import pytest
import torch

from amnesty.errors import DataError, ShapeError
from amnesty.requests.concepts_request import ConceptSpec, KeptSpec
from amnesty.requests.drawn_data import Shown, Wanted, load_concept, load_kept
from amnesty.requests.prompt_hashes import Hashed, image_hash, prompt_hash
from amnesty.requests.request import SourceSpec

HERE = "tests.requests.test_drawn_data"
WANTED = Wanted(3, (8, 8))


def images(count, size=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), generator=draw).to(torch.uint8)


def captioned(count=4):
    return [(image, f"a cat, number {k % 2}") for k, image in enumerate(images(count))]


def alone():
    return list(images(3))


def source(name, **options):
    return SourceSpec(kind="import", name=f"{HERE}:{name}", options=options)


def write(folder, names, size=8):
    image = pytest.importorskip("PIL.Image")
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.full((size, size, 3), 20 * k, dtype=np.uint8)).save(path)


def test_a_file_of_prompts_is_a_list(tmp_path):
    (tmp_path / "kept.txt").write_text("a cat\n\na dog\na cat\n")
    assert load_kept(KeptSpec(file=tmp_path / "kept.txt"), WANTED, True).prompts == ("a cat", "a dog")
    found = load_concept(ConceptSpec(file=tmp_path / "kept.txt", anchor="a bird"), "pets", WANTED)
    assert found.prompts == ("a cat", "a dog") and found.anchor == "a bird" and found.images is None
    assert found.all_hashes == tuple(sorted(map(prompt_hash, found.prompts)))


def test_images_of_a_concept_need_no_order(tmp_path):
    """They lie in a folder, or in folders of it, or come alone from a function."""
    write(tmp_path / "cats", ["1.png", "more/2.png", ".hidden/3.png"])
    (tmp_path / "cats" / "notes.txt").write_text("none")
    folder = SourceSpec(kind="images", name=str(tmp_path / "cats"))
    found = load_concept(ConceptSpec(prompts=("a cat",), images=folder), "cats", WANTED)
    assert len(found.hashes) == 2 and len(set(found.hashes)) == 2
    own = load_concept(ConceptSpec(prompts=("a cat",), images=source("alone")), "cats", WANTED)
    assert own.hashes == tuple(map(image_hash, alone()))


def test_images_are_made_what_the_model_takes(tmp_path):
    write(tmp_path, ["1.png"], size=12)
    spec = ConceptSpec(prompts=("a cat",), images=SourceSpec(kind="images", name=str(tmp_path)))
    with pytest.raises(ShapeError, match=r"\[3, 12, 12\].*takes \[3, 8, 8\].*diffusion.image_size"):
        load_concept(spec, "cats", WANTED)
    found = load_concept(spec, "cats", Wanted(1, (4, 4), resized=True))
    assert found.images[0][0].shape == (1, 4, 4)


def test_a_table_needs_no_labels_for_a_concept(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": png(image), "path": None} for image in images(3)]}
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(tmp_path / "cats.parquet")
    table = SourceSpec(kind="parquet", name=str(tmp_path / "cats.parquet"))
    found = load_concept(ConceptSpec(prompts=("a cat",), images=table), "cats", WANTED)
    assert found.hashes == tuple(map(image_hash, images(3)))


def png(image):
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").fromarray(image.permute(1, 2, 0).numpy()).save(file, "png")
    return file.getvalue()


def test_class_names_become_prompts(tmp_path):
    write(tmp_path, ["cat/1.png", "dog/1.png", "dog/2.png"])
    spec = KeptSpec(
        images=SourceSpec(kind="images", name=str(tmp_path)), labelled=True, templates=("a {}", "one {label}")
    )
    found = load_kept(spec, WANTED, True)
    assert [found.asked(row) for row in found.rows] == [("a cat", "one cat")] + 2 * [("a dog", "one dog")]
    left, prompts, gone = found.without([prompt_hash("one dog")])
    assert (left.rows, prompts, gone) == ((0,), 0, 2)


def test_labels_are_classes_where_the_model_knows_classes(tmp_path):
    write(tmp_path, ["cat/1.png", "dog/1.png"])
    spec = KeptSpec(images=SourceSpec(kind="images", name=str(tmp_path)), labelled=True)
    assert [load_kept(spec, WANTED, False).asked(row) for row in (0, 1)] == [(0,), (1,)]
    with pytest.raises(DataError, match="templates"):
        load_kept(spec, WANTED, True)


def test_what_is_taken_out_is_gone_from_hashes_and_images():
    found = load_kept(KeptSpec(images=source("captioned")), WANTED, True)
    assert len(found.dataset) == 4 and len(found.hashes) == 8
    left, _, gone = found.without([prompt_hash("a cat, number 1")], [image_hash(images(4)[2])])
    assert left.rows == (0,) and gone == 3
    assert left.hashes == [image_hash(images(4)[0]), prompt_hash("a cat, number 0")]
    assert left.content != found.content and left.dataset[0][1] == "a cat, number 0"


def test_content_does_not_depend_on_the_order_but_on_captions():
    class Turned(Shown):
        def __getitem__(self, index):
            return super().__getitem__(len(self) - 1 - index)

    found = load_kept(KeptSpec(images=source("captioned")), WANTED, True)
    turned = Turned(captioned(), "x", WANTED)
    other = Shown([(image, "a dog") for image, _ in captioned()], "x", WANTED)
    with_other = [type(found)(images=one, rows=found.rows).content for one in (turned, other)]
    assert with_other[0] == found.content != with_other[1]


def test_an_example_that_is_no_image():
    with pytest.raises(DataError, match="Image 0 of the cats must be a tensor"):
        _ = Shown([("a", "b")], "the cats", WANTED)[0]


def test_hashes_stand_for_a_data_set():
    from amnesty.requests.forgotten import find_hashes

    prompts = Hashed(map(prompt_hash, ["a", "b"]))
    assert find_hashes({"retain": prompts}, {prompt_hash("b")})["retain"].tolist() == [1]

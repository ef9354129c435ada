import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from amnesty.data import Batches, Classes, Column, ImageFolder, Inputs, class_names, content_hash, read_column, split
from amnesty.errors import DataError, MissingExtraError, SplitError

Image = pytest.importorskip("PIL.Image", reason="the `data` extra is not installed")


def write(path, size=(4, 5), seed=0, grey=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if grey else (*size, 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for i, name in enumerate(["dog/b.png", "cat/2.png", "cat/10.PNG", "owl/x.bmp", "cat/1.png"]):
        write(root / name, seed=i)
    return root


def read(folder, **options):
    data = ImageFolder(folder, **options)
    return [data[i] for i in range(len(data))]


def refused(folder, **options):
    with pytest.raises(DataError) as found:
        read(folder, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


class TestReading:
    def test_classes_and_images_are_sorted(self, folder):
        data = ImageFolder(folder)
        assert class_names(data) == ("cat", "dog", "owl")
        assert read_column(data, "path").tolist() == [
            "cat/1.png",
            "cat/10.PNG",
            "cat/2.png",
            "dog/b.png",
            "owl/x.bmp",
        ]
        assert read_column(data, "file").tolist() == ["1.png", "10.PNG", "2.png", "b.png", "x.bmp"]
        assert read_column(data, "label").tolist() == [0, 0, 0, 1, 2]
        image, label = data[3]
        expected = np.asarray(Image.open(folder / "dog" / "b.png")).transpose(2, 0, 1)
        torch.testing.assert_close(image, torch.from_numpy(expected / 255).float())
        assert label == 1

    def test_is_lazy(self, folder):
        data = ImageFolder(folder)
        write(folder / "owl" / "x.bmp", seed=77)
        expected = np.asarray(Image.open(folder / "owl" / "x.bmp")).transpose(2, 0, 1)
        torch.testing.assert_close(data[4][0], torch.from_numpy(expected / 255).float())

    def test_inputs_are_converted(self, folder):
        data = ImageFolder(folder, inputs=Inputs(size=(8, 6), channels=1, mean=(0.5,), std=(0.5,)))
        assert data[0][0].shape == (1, 8, 6)
        assert data[0][0].min() < 0

    def test_can_be_read_by_workers_and_split(self, folder):
        data = ImageFolder(folder)
        inputs, labels = next(Batches(Subset(data, [4, 0]), 2, workers=1).iterate())
        assert labels.tolist() == [2, 0] and torch.equal(inputs[1], data[0][0])
        assert len(pickle.loads(pickle.dumps(data))) == 5
        assert len(content_hash(data)) == 64
        assert split(data, Classes(["cat"])).forget.tolist() == [0, 1, 2]
        assert split(data, Column("path", ["owl/x.bmp", "cat/1.png"])).forget.tolist() == [0, 4]
        with pytest.raises(SplitError, match="never has the value 'cat/77.png'"):
            split(data, Column("path", ["cat/77.png"]))

    def test_hidden_files_and_other_kinds_are_passed_over(self, folder):
        for name in (".DS_Store", "cat/.hidden.png", "README.md", "cat/Thumbs.db", ".git/a.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"x")
        data = ImageFolder(folder)
        assert len(data) == 5 and class_names(data) == ("cat", "dog", "owl")
        assert data.ignored == ("README.md", "cat/Thumbs.db")

    def test_an_empty_class_keeps_its_number(self, folder):
        (folder / "ape").mkdir()
        data = ImageFolder(folder)
        assert class_names(data) == ("ape", "cat", "dog", "owl")
        assert read_column(data, "label").tolist() == [1, 1, 1, 2, 3]

    def test_classes_of_another_folder(self, folder):
        data = ImageFolder(folder, class_names=["dog", "ape", "owl", "cat"])
        assert read_column(data, "label").tolist() == [3, 3, 3, 0, 2]
        assert "is no class: the classes are dog, owl" in refused(folder, class_names=["dog", "owl"])

    def test_a_limit(self, folder):
        assert read_column(ImageFolder(folder, limit=4), "label").tolist() == [0, 0, 0, 1]
        assert "No image" in refused(folder, limit=0)

    def test_links_within_the_folder_are_followed(self, folder):
        (folder / "dog" / "same.png").symlink_to(folder / "dog" / "b.png")
        assert len(ImageFolder(folder)) == 6
        link = folder.parent / "link"
        link.symlink_to(folder)
        assert len(ImageFolder(link)) == 6


class TestTable:
    def test_gives_further_columns(self, folder):
        rows = ["cat/2.png,7,a", "cat/1.png,9,b", "dog/b.png,7,", "cat/10.PNG,8,d", "owl/x.bmp,7,e"]
        (folder / "metadata.csv").write_text("file_name,user,note\n" + "\n".join(rows), encoding="utf-8-sig")
        data = ImageFolder(folder)
        assert read_column(data, "user").tolist() == ["9", "8", "7", "7", "7"]
        assert split(data, Column("user", [7])).forget.tolist() == [2, 3, 4]
        assert read_column(Subset(data, [3]), "note").tolist() == [""]
        assert read_column(ImageFolder(folder, limit=2), "user").tolist() == ["9", "8"]
        assert data.ignored == ()

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "needs a column 'file_name' in its first line, found none"),
            ("name,user\na,b\n", "found name, user"),
            ("file_name,user\ncat/1.png,1\n", "has no row for some images, such as 'cat/10.PNG'.* (4 in all)"),
            ("file_name,user\nowl/y.bmp,1\n", "names images that are not there, such as 'owl/y.bmp'"),
            ("file_name,user\ncat/1.png,1\ncat/1.png,2\n", "line 3: 'cat/1.png' has a row already"),
            ("file_name,user\ncat/1.png\n", "line 2: a row needs as many values"),
            ("file_name,user\ncat/1.png,1,2\n", "line 2: a row needs as many values"),
            ("file_name,label\ncat/1.png,1\n", "must not have a column 'label'"),
            ("file_name,user,user\n", "two columns of one name"),
            ('file_name,user\n"cat/1.png,1\n', "Cannot read"),
        ],
    )
    def test_refusals(self, folder, content, says):
        (folder / "metadata.csv").write_text(content)
        message = refused(folder)
        head, _, tail = says.partition(".*")
        assert head in message and tail in message and "metadata.csv" in message

    def test_that_is_no_text(self, folder):
        (folder / "metadata.csv").write_bytes(b"file_name\n\xff\xfe\n")
        assert "Cannot read" in refused(folder)


class TestRefusals:
    def test_no_folder_no_image(self, tmp_path, folder):
        assert "There is no folder" in refused(tmp_path / "none")
        assert "There is no folder" in refused(folder / "cat" / "1.png")
        (tmp_path / "empty").mkdir()
        assert "No image in the sub-folders" in refused(tmp_path / "empty")

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    @pytest.mark.parametrize("name", ["cat/1.png", "owl/x.bmp", "dog/c.jpg"])
    def test_a_corrupt_image_is_named(self, folder, name, share):
        path = write(folder / name, size=(40, 40))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert f"{folder / name} is missing or cannot be decoded" in refused(folder)

    def test_an_image_that_is_gone_is_named(self, folder):
        data = ImageFolder(folder)
        (folder / "owl" / "x.bmp").unlink()
        with pytest.raises(DataError, match=r"owl/x.bmp is missing or cannot be decoded: FileNotFoundError"):
            data[4]

    def test_a_bomb_is_refused(self, folder, monkeypatch):
        write(folder / "dog" / "b.png", size=(100, 100))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
        assert "DecompressionBomb" in refused(folder)

    def test_images_of_different_sizes_and_channels(self, folder):
        write(folder / "dog" / "b.png", size=(8, 8))
        assert "Set `size` to resize them" in refused(folder)
        write(folder / "dog" / "b.png", grey=True)
        assert "dog/b.png has 1 channels, those before it 3" in refused(folder)
        assert len(ImageFolder(folder, inputs=Inputs(channels=3))[3][0]) == 3

    def test_a_mean_of_three_for_grey_images(self, folder):
        write(folder / "cat" / "1.png", grey=True)
        assert "has 1 channels" in refused(folder, inputs=Inputs(mean=(0.5,) * 3, std=(0.5,) * 3))

    def test_an_image_beside_the_classes(self, folder):
        write(folder / "lost.png")
        assert "lost.png lies beside the classes" in refused(folder)

    def test_folders_in_folders(self, folder):
        write(folder / "cat" / "2019" / "a.png")
        assert "2019 is a folder in the folder of a class" in refused(folder)

    @pytest.mark.parametrize("what", ["file", "folder", "broken"])
    def test_links_that_lead_out(self, tmp_path, folder, what):
        secret = write(tmp_path / "elsewhere" / "secret.png")
        if what == "file":
            (folder / "cat" / "3.png").symlink_to(secret)
        elif what == "folder":
            (folder / "fox").symlink_to(secret.parent)
        else:
            (folder / "cat" / "3.png").symlink_to(tmp_path / "nothing.png")
        message = refused(folder)
        assert "leads nowhere" in message if what == "broken" else "is a link that leads out of" in message

    def test_names_that_are_no_text(self, folder):
        try:
            (folder / "cat" / "a\udcff.png").write_bytes(b"")
        except OSError:
            pytest.skip("this file system has only names that are text")
        assert "is not UTF-8 text" in refused(folder)

    def test_without_the_package_the_extra_is_named(self, folder, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "PIL.Image", None)
        with pytest.raises(MissingExtraError, match=r"amnesty\[data\]"):
            ImageFolder(folder)

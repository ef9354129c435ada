"""What to forget and what to keep: loading, splits, and batches that meet in pairs."""

from amnesty.data.alike import Limits
from amnesty.data.batches import PAIRINGS, Batches, Meeting, Pairing, pair, steps
from amnesty.data.duplicates import Copy, Duplicates, find_duplicates
from amnesty.data.examples import (
    INPUT_KEYS,
    LABEL_KEYS,
    Examples,
    batch_hashes,
    class_names,
    content_hash,
    example_hash,
    input_and_label,
    known_columns,
    read_column,
)
from amnesty.data.folders import ImageFolder
from amnesty.data.loading import images_of, load_digits, load_images
from amnesty.data.pictures import Converted, Inputs, Normalised
from amnesty.data.poison import Canaries, mislabel, plant_canaries
from amnesty.data.split import Classes, Column, Fraction, IndexFile, Indices, Selector, Split, split
from amnesty.data.together import Joined, Together, WithLabels, dataset_of, sampled

__all__ = [
    "INPUT_KEYS",
    "LABEL_KEYS",
    "PAIRINGS",
    "Batches",
    "Canaries",
    "Classes",
    "Column",
    "Converted",
    "Copy",
    "Duplicates",
    "Examples",
    "Fraction",
    "ImageFolder",
    "IndexFile",
    "Indices",
    "Inputs",
    "Joined",
    "Limits",
    "Meeting",
    "Normalised",
    "Pairing",
    "Selector",
    "Split",
    "Together",
    "WithLabels",
    "batch_hashes",
    "class_names",
    "content_hash",
    "dataset_of",
    "example_hash",
    "find_duplicates",
    "images_of",
    "input_and_label",
    "known_columns",
    "load_digits",
    "load_images",
    "mislabel",
    "pair",
    "plant_canaries",
    "read_column",
    "sampled",
    "split",
    "steps",
]

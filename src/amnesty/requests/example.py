"""A request that runs as it is, and what it names: a model that is trained on the spot, and handwritten digits."""

from __future__ import annotations

import numpy as np
from torch import nn

from amnesty.data import Examples, load_digits
from amnesty.seeds import derive
from amnesty.studies import digits

_USERS = 40


def example() -> str:
    """Return a commented request, as `amnesty unlearn --example` prints it."""
    return _REQUEST


def training() -> Examples:
    """Return what the example's model is trained on: 1,348 digits, each with the user who is said to have drawn it.

    The column ``user`` has ``user-00`` to ``user-39``, drawn at random: the digits come without their writers.
    """
    return _part(seen=True)


def holdout() -> Examples:
    """Return the 449 digits that the example's model never saw."""
    return _part(seen=False)


def model() -> nn.Module:
    """Train the example's model; the same weights every time."""
    with digits.one_thread():
        return digits.trained(training(), 0, "example")


def _part(seen: bool) -> Examples:
    everything = load_digits()
    held = digits.TEST.select(everything, np.arange(len(everything)))
    rows = np.setdiff1d(np.arange(len(everything)), held) if seen else held
    drawn = np.random.default_rng(derive(0, "users")).integers(_USERS, size=len(everything))[rows]
    users = {"user": [f"user-{number:02}" for number in drawn]}
    return Examples(everything.images[rows], everything.labels[rows], everything.class_names, users)


_REQUEST = """\
# A deletion request. Run it with: amnesty unlearn request.yaml
# It runs as it is, on handwritten digits. Paths are relative to this file. For one run only, any value can be
# given on the command line: amnesty unlearn request.yaml --set seed=1 --set forget.classes=[3]

name: example                # by default the name of this file
task: classification         # or zero-shot, for CLIP and its like; see `zero_shot` below

# The model. One of:
#   timm: resnet18           an architecture of timm; needs weights
#   torchvision: resnet18    one of torchvision; needs weights
#   huggingface: my-vit      a folder that save_pretrained wrote
#   open_clip: ViT-B-32      one of open_clip, for `task: zero-shot`; needs weights
#   import: package.module:function, or file.py:function    your own, which returns a torch.nn.Module
#   run: earlier-unlearned   what an earlier run left; its data is then taken over if `data` is left out
model:
  import: amnesty.requests.example:model
  # weights: model.safetensors   # or a file of torch.save that holds nothing but tensors
  # classes: 10                  # by default as many as the data has
  # options: {in_chans: 1}       # further arguments of the architecture, or of your function

# The data. Each source is one of:
#   parquet: train.parquet       a file, or a folder of <split>-*.parquet
#   huggingface: uoft-cs/cifar10 a data set of the hub
#   images: folder               one sub-folder of images for each class
#   import: package.module:function    your own, which returns a data set
# Tables may also have split, image_column and label_column, every source limit (take the first so many).
data:
  training:                  # what the model was trained on, what is to be forgotten included
    import: amnesty.requests.example:training
  holdout:                   # what it never saw, or {rows: {index_file: unseen.txt}} for rows of `training`
    import: amnesty.requests.example:holdout
  validation: 0.5            # the share of `holdout` that methods may look at, or a source of its own
  # inputs:                  # as in training: how images become inputs
  #   size: 224              # or [height, width]
  #   channels: 3
  #   mean: [0.485, 0.456, 0.406]
  #   std: [0.229, 0.224, 0.225]

# For `task: zero-shot`, whose classes are words; every key may be left out, docs/requests.md tells of all.
# zero_shot:
#   templates: ["a photo of a {}.", "art of a {}."]    # what a class name is put into
#   class_names: [cat, dog]    # better words than the names in the data
#   train: text_attention      # which parameters may move
#   lora: 4                    # rank of adapters; with adapters: separate they are saved alone
#   retain_loss: [ce, distill]
#   bank: texts.txt            # for distill: what else the model must go on to understand
#   transfers: {cars: {parquet: cars.parquet, templates: ["a photo of a {}, a car."]}}    # must stay as good
#   captions: {parquet: captions.parquet}    # images with captions, for recall

# What to forget. One of:
#   classes: [cat, 3]                        by name or number
#   indices: [17, 4711]                      rows of `training`, from 0
#   index_file: rows.txt                     the same from a file (text, or .npy)
#   column: user, with values: [user-07, user-19]    all rows that have these values
#   column: user, with values_file: users.txt        the same, one value a line
#   fraction: 0.1, with seed: 0              a random share
#   sets: {user-7: {...}, user-9: {...}}     several of these by name, each a player of its own in the negotiation
forget:
  classes: ["3"]

# How. A name of `amnesty methods`, or with settings: {name: munba, epochs: 5}; `amnesty methods munba` lists them.
# Without settings munba chooses its step size and when to stop by itself.
method: munba

# reference: retrained.safetensors   # weights of a model trained without the forget set, to compare with
seed: 0
device: auto                 # or cpu, cuda, cuda:1, mps
precision: float32           # or bfloat16
workers: 0                   # processes that read images

# Copies of what is to be forgotten, left among the rest: refuse, move (forget them too), drop or keep.
duplicates:
  action: refuse
  near: [exact, pixels, features]
  # threshold: 0.98          # by default found from the data

checkpoint: {minutes: 10}    # or {steps: 100}, or both; `amnesty unlearn request.yaml --resume` goes on from there
# trackers: [tensorboard]    # or wandb, mlflow, ... ; those that accelerate knows
# sign: {key: private.pem}   # or {sigstore: true}
# out: result                # by default <name>-unlearned, beside this file; --out on the command line wins
"""

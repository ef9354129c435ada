"""Methods ranked by U-LiRA: can one tell, example by example, a model that forgot from one that never met?

Claim: with 64 shadow models of the digits network every method here but retraining is told from its retrained twin,
       on ordinary digits and on canaries; MUNBa() and LUR.bargained() least, on ordinary digits tied with SSD().
       See docs/evaluation.md.
Run:   python -m benchmarks.unlearned_lira --out benchmarks/results/unlearned_lira.json
       (half an hour on two cores at first; stopped and run again, it goes on where it was)
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from amnesty.data import Examples, Fraction, mislabel
from amnesty.evaluation import Ranking
from amnesty.evaluation.pooled import PooledAuc
from amnesty.methods import LUR, SCRUB, SSD, Method, Retrain, SalUn
from amnesty.seeds import derive
from amnesty.studies.digits import RECIPE, DigitsNet, scenario
from amnesty.studies.digits_settings import SETTINGS
from amnesty.studies.per_example import Law, PerExample, per_example, rank_rows
from amnesty.studies.shadows import ShadowPool, Trained
from benchmarks._common import environment, save, where

CACHE = Path("benchmarks/cache/shadows")
TARGETS = Fraction(0.1, derive(0, "targets"))
KINDS = {"ordinary": "random", "canaries": "poisoned"}
"""Kind of targets -> the scenario of the demonstration whose settings the methods have."""

DASH = "-"
"""What a table says where nothing is measured: the retrained twins are not compared with themselves."""


def pool_of(kind: str, shadows: int, workers: int) -> ShadowPool:
    """Return the pool: digits outside the demonstration's test quarter, a tenth of them targets.

    Canaries are targets under wrong labels, the same in every model; validation examples, which methods may read to
    know what unseen looks like, then have wrong labels drawn alike.
    """
    parts = scenario("random")
    data, validation = parts.trained_on, parts.parts["validation"]
    targets = TARGETS.select(data, np.arange(len(data)))
    if kind == "canaries":
        labels = data.labels.clone()
        labels[targets] = mislabel(labels[targets], 10, seed=derive(0, "canaries"))
        data = Examples(data.images, labels, data.class_names)
        validation = validation.relabelled(mislabel(validation.labels, 10, seed=derive(0, "validation canaries")))
    return ShadowPool(
        CACHE / f"{kind}-{shadows}",
        data,
        DigitsNet,
        RECIPE,
        targets,
        shadows=shadows,
        validation=validation,
        evaluated=parts.parts["holdout"],
        workers=workers,
        engine="processes",
        tell=lambda text: print(f"{kind}: {text}", flush=True),
    )


def methods_of(kind: str) -> dict[str, Trained | Method]:
    """Return the rows: the ends of the scale, then the methods."""
    tuned = {f"{name}, tuned" if name != "munba" else "MUNBa()": m for name, m in SETTINGS[KINDS[kind]].items()}
    further = {"LUR.bargained()": LUR.bargained(), "SalUn()": SalUn(), "SCRUB()": SCRUB(), "SSD()": SSD()}
    ends: dict[str, Trained | Method] = {"identity": "original", "retrained": "retrained"}
    return {**ends, "Retrain, as a method": Retrain(recipe=RECIPE, fresh=DigitsNet), **tuned, **further}


def table(rows: Mapping[str, PerExample], ranking: Ranking) -> str:
    """Return the rows as markdown, in the order of their ranks."""
    heads = (
        "",
        "U-LiRA: retrained",
        "never met",
        "TPR at 1 %",
        "exposed",
        "kept",
        "LiRA",
        "KLoM p95",
        "quality",
        "forget",
        "retain",
        "unseen",
        "s",
        "rank",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    order = sorted(rows, key=lambda name: (name in ranking.mean_ranks, ranking.mean_ranks.get(name, 0)))
    for name in order:
        row = rows[name]
        cells = [
            name,
            _auc(row.retrained),
            _auc(row.never),
            f"{100 * row.tpr:.1f} %",
            f"{100 * row.exposed:.0f} %",
            _auc(row.kept),
            _auc(row.lira),
            f"{_number(row.klom)} ({row.klom_floor:.2f})",
            _number(row.quality),
            *(f"{100 * value:.1f}" for value in (row.forget_accuracy, row.retain_accuracy, row.unseen_accuracy)),
            f"{row.seconds:.1f}",
            _rank(ranking, name),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def laws(rows: Mapping[str, PerExample]) -> str:
    """Return what margins the targets have, as markdown: mean ± deviation from model to model, in nats."""
    lines = ["| margins, nats | forgotten | never met | left out by the twin |", "|---|---|---|---|"]
    for name, row in rows.items():
        cells = (f"{law.mean:.2f} ± {law.deviation:.2f}" for law in (row.forgotten, row.never_met, row.twin))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _auc(found: PooledAuc | None) -> str:
    if found is None:
        return DASH
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _rank(ranking: Ranking, name: str) -> str:
    if name not in ranking.mean_ranks:
        return ""
    text = f"{ranking.mean_ranks[name]:.1f}"
    if ranking.intervals is None:
        return text
    low, high = ranking.intervals[name]
    return f"{text} [{low:.1f}, {high:.1f}]"


def plain(row: PerExample) -> dict[str, object]:
    """Return a row as JSON can hold it."""
    found: dict[str, object] = {}
    for name, value in vars(row).items():
        if isinstance(value, PooledAuc):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        elif isinstance(value, Law):
            found |= {f"{name}_margin": value.mean, f"{name}_margin_deviation": value.deviation}
        else:
            found[name] = value.tolist() if isinstance(value, np.ndarray) else value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = {}
    for kind in options.kinds:
        pool = pool_of(kind, options.shadows, options.workers)
        rows = {name: per_example(pool, of) for name, of in methods_of(kind).items()}
        ranking = rank_rows({name: row for name, row in rows.items() if name not in ("identity", "retrained")})
        print(f"\n{kind}: {len(pool.design.targets)} targets, {options.shadows} shadow models\n")
        print(table(rows, ranking))
        print(f"\n{ranking.statement}\n\n{laws(rows)}\n")
        kept[kind] = {
            "rows": {name: plain(row) for name, row in rows.items()},
            "mean_ranks": dict(ranking.mean_ranks),
            "groups": [list(group) for group in ranking.groups],
            "statement": ranking.statement,
            "settings": {name: repr(of) for name, of in methods_of(kind).items()},
            "targets": len(pool.design.targets),
        }
    ran = environment()
    print(where(ran))
    if options.out:
        save(options.out, shadows=options.shadows, kinds=kept, environment=ran)


if __name__ == "__main__":
    main()

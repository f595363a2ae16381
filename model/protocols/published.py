"""What the papers of MAMP, GL-Transformer and motion codes measure, on their benchmarks' splits.

`linear` (frozen network), `fine-tune`, `semi-1` and `semi-10` (fine-tuning with 1 % and 10 % of the labels, mean of
five draws). Transfer is fine-tuning a network that has learned from another dataset. Settings are those of MAMP's code
(github.com/maoyunyao/MAMP, its `config` and scripts) and GL-Transformer's (arXiv 2207.06101 and its code); of the
probe of motion codes nothing is known but that it is linear, and it is trained as GL-Transformer's.

Differences from the published evaluations, on purpose:
- The accuracy is that after the last epoch. The published code keeps the best of all epochs on the test clips
  (GL-Transformer's of those after the 60th), which is a choice made on them.
- Draws of few labels are balanced: all classes have as many clips, but for one. MAMP's code draws from all clips alike.
- Batches that the published code divides among GPUs are of one process here, and normalised over the whole batch.
- All clips are centred alike; MAMP's code leaves PKU-MMD's in the camera's frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from core.arrays import Int
from core.errors import InputError
from dataset.kinect.benchmarks import Benchmark
from dataset.kinect.clips import ClipFile, Parts
from model.baselines.mamp import Mamp
from model.baselines.pretraining import TrainedSystem
from model.baselines.sources import SystemClips
from model.protocols.published_heads import (
    HeadTraining,
    Judged,
    Labelled,
    train_fine_tuned,
    train_on_means,
    train_probe,
)

PROTOCOLS = ("linear", "fine-tune", "semi-1", "semi-10")
_SHARES: Mapping[str, float] = {"semi-1": 0.01, "semi-10": 0.1}
DRAWS = 5

_MAMP_LINEAR = HeadTraining(epochs=100, batch_size=256, lr=0.1)
_MAMP_FINE_TUNE = HeadTraining(
    epochs=100, batch_size=48, lr=3e-4, lr_end=1e-5, warmup_epochs=5, weight_decay=0.05, layer_decay=0.8,
    drop_path=0.3, smoothing=0.1,
)  # fmt: skip
_ON_MEANS = HeadTraining(epochs=120, batch_size=1024, lr=3e-3, lr_end=3e-3)

# per cent, joints alone, as MAMP's paper (arXiv 2308.07092) and GL-Transformer's (arXiv 2207.06101) report
FIGURES: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("mamp", "linear"): {
        "ntu60-xsub": 84.9, "ntu60-xview": 89.1, "ntu120-xsub": 78.6, "ntu120-xset": 79.1, "pku1-xsub": 92.2,
    },
    ("mamp", "fine-tune"): {"ntu60-xsub": 93.1, "ntu60-xview": 97.5, "ntu120-xsub": 90.0, "ntu120-xset": 91.3},
    ("mamp", "semi-1"): {"ntu60-xsub": 66.0, "ntu60-xview": 68.7},
    ("mamp", "semi-10"): {"ntu60-xsub": 88.0, "ntu60-xview": 91.5},
    ("gl_transformer", "linear"): {
        "ntu60-xsub": 76.3, "ntu60-xview": 83.8, "ntu120-xsub": 66.0, "ntu120-xset": 68.7,
    },
}  # fmt: skip
# the same of MAMP on PKU-MMD's second phase by subject, fine-tuned from a network that learned elsewhere
TRANSFER_FIGURES: Mapping[str, float] = {"ntu60-xsub": 70.6, "ntu120-xsub": 73.2}


def head_training(system: str, protocol: str, benchmark: Benchmark) -> HeadTraining:
    """The published settings of a protocol.

    Raises:
        InputError: if the protocol is not published for the system, or there is none of this name.
    """
    if protocol not in PROTOCOLS:
        raise InputError(protocol, "no such protocol", f"use one of {', '.join(PROTOCOLS)}")
    if system != "mamp":
        if protocol != "linear":
            raise InputError(f"{protocol} of {system}", "is published for MAMP alone", "use --protocol linear")
        return _ON_MEANS
    if protocol != "linear":
        return _MAMP_FINE_TUNE
    if benchmark.source == "pku1":
        return dataclasses.replace(_MAMP_LINEAR, batch_size=128)
    if benchmark.source == "pku2":
        return dataclasses.replace(_MAMP_LINEAR, batch_size=32, lr=0.01)
    return _MAMP_LINEAR


def judge(
    trained: TrainedSystem,
    protocol: str,
    benchmark: Benchmark,
    clips: ClipFile,
    parts: Parts,
    how: HeadTraining,
    device: torch.device,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """The figures of a protocol.

    Args:
        trained: a network that has learned, or its first weights; it stays as it is.
        protocol: one of `PROTOCOLS`.
        benchmark: of the splits.
        clips: its clips.
        parts: its splits.
        how: see `head_training`.
        device: where it computes.
        draws: of few labels.

    Returns:
        What `Judged` holds; for few labels means over the draws, the deviation of the accuracy, and every draw.
    """
    config = trained.recipe.system
    train, test = SystemClips(clips, parts.train, config), SystemClips(clips, parts.test, config)
    if protocol not in _SHARES:
        return dataclasses.asdict(_judge_once(trained, protocol, Labelled(train, test, benchmark.classes), how, device))
    found = []
    for draw in range(draws):
        rng = np.random.default_rng([how.seed, draw])
        rows = balanced_draw(train.labels, benchmark.classes, _SHARES[protocol], rng)
        few = SystemClips(clips, parts.train[rows], config)
        again = dataclasses.replace(how, seed=how.seed + draw)
        found.append(_judge_once(trained, protocol, Labelled(few, test, benchmark.classes), again, device))
    rows_of = [dataclasses.asdict(one) for one in found]
    means = {name: float(np.mean([row[name] for row in rows_of])) for name in ("accuracy", "top5", "loss")}
    sd = float(np.std([row["accuracy"] for row in rows_of], ddof=1)) if draws > 1 else None
    total_s = float(sum(row["seconds"] for row in rows_of))
    return {**rows_of[0], **means, "accuracy_sd": sd, "seconds": total_s, "draws": rows_of}


def _judge_once(
    trained: TrainedSystem, protocol: str, clips: Labelled, how: HeadTraining, device: torch.device
) -> Judged:
    system = trained.system
    if not isinstance(system, Mamp):
        return train_on_means(system, clips, how, device)
    run = train_probe if protocol == "linear" else train_fine_tuned
    return run(system, clips, how, device)


def balanced_draw(
    labels: Int[np.ndarray, "clips"], classes: int, share: float, rng: np.random.Generator
) -> Int[np.ndarray, "drawn"]:
    """Positions of so large a share of the clips, of every class as many, but for one more of some.

    A class gives one clip at least, and those it has if that is fewer than its part.
    """
    each, rest = divmod(max(round(share * len(labels)), classes), classes)
    wanted = np.full(classes, each)
    wanted[rng.permutation(classes)[:rest]] += 1
    of_class = [np.flatnonzero(labels == c) for c in range(classes)]
    picked = [rng.choice(has, min(num, len(has)), replace=False) for has, num in zip(of_class, wanted, strict=True)]
    return np.sort(np.concatenate(picked))

"""Classifiers of recordings of one action each, trained and tested as the papers of the systems beside A4Mer do.

- `train_probe`: MAMP's linear probe. The encoder is frozen, and sees the training clips cropped and turned anew in
  every epoch; SGD on a linear layer after a BatchNorm without weights of its own.
- `train_fine_tuned`: MAMP's fine-tuning. AdamW on the whole encoder, rates falling with depth, paths of the encoder
  dropped, labels smoothed.
- `train_on_means`: GL-Transformer's linear evaluation, and the frame probe of motion codes on whole clips. Tokens are
  computed once, as the network sees a test clip; Adam on one linear layer. The mean of a linear layer over steps is the
  layer of the mean, so means of tokens are all that is kept.

What is reported is the network after the last epoch: nothing is chosen on the test clips.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Float, Int
from core.errors import InputError, StageError
from core.progress import progress
from model.baselines.gl_transformer import LinearHead
from model.baselines.mamp import Mamp
from model.baselines.mamp_heads import Classifier, FineTuneHead, LinearProbe, layer_decay_groups
from model.baselines.motion_codes import FrameProbe, MotionCodes
from model.baselines.skeletons import SkeletonBatch, StepTokens, System
from model.baselines.sources import ClipSource, SystemClips
from model.baselines.views import testing_view, training_view
from model.masking import generator_of
from model.optimiser import learning_rate
from model.progress import Progress
from model.recipes import OptimConfig

_ENCODED_TOGETHER = 64


@dataclass(frozen=True)
class HeadTraining:
    """How a classifier is trained.

    Attributes:
        epochs: over the training clips.
        batch_size: clips in a step; what does not fill one is left out, another part in every epoch.
        lr: learning rate after the warm-up.
        lr_end: learning rate at the end of the cosine; the same as `lr` for none.
        warmup_epochs: linear rise from zero.
        momentum: of SGD.
        weight_decay: of AdamW.
        layer_decay: share of its rate that the layer above leaves to each layer of the encoder.
        drop_path: share of samples that skip a branch of the encoder's last block.
        smoothing: share of a label that is spread over all classes.
        seed: of first weights, order, views and what is dropped.
    """

    epochs: int
    batch_size: int
    lr: float
    lr_end: float = 0.0
    warmup_epochs: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    drop_path: float = 0.0
    smoothing: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Judged:
    """What a classifier is worth on clips that it has not learned from.

    Attributes:
        accuracy: share of the test clips whose class is told.
        top5: share whose class is among the five most likely, or among all if there are fewer.
        clips: number of test clips.
        train_clips: number of labelled clips.
        classes: of the benchmark.
        epochs: that it was trained for.
        batch_size: clips in a step.
        loss: of training, mean of the last epoch.
        seconds: of training and testing.
    """

    accuracy: float
    top5: float
    clips: int
    train_clips: int
    classes: int
    epochs: int
    batch_size: int
    loss: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Labelled:
    """Clips to train and to test on.

    Attributes:
        train: with labels.
        test: with labels, that are looked at in the end alone.
        classes: number of them.
    """

    train: SystemClips
    test: SystemClips
    classes: int


def train_probe(mamp: Mamp, clips: Labelled, how: HeadTraining, device: torch.device) -> Judged:
    """MAMP's linear probe; the network stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        head = LinearProbe(mamp.config.width, clips.classes)
        # as published, after MoCo v3: logits begin near zero
        nn.init.trunc_normal_(head.linear.weight, std=0.01)
    classifier = Classifier(mamp, head, frozen=True).to(device)
    optimizer = torch.optim.SGD(classifier.head.parameters(), lr=how.lr, momentum=how.momentum)
    return _train_on_clips(classifier, optimizer, clips, how, device, "linear probe")


def train_fine_tuned(mamp: Mamp, clips: Labelled, how: HeadTraining, device: torch.device) -> Judged:
    """MAMP's fine-tuning, of a copy of the network."""
    config = dataclasses.replace(mamp.config, drop_path=how.drop_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        copy, head = Mamp(config), FineTuneHead(config.joints, config.width, clips.classes)
    copy.load_state_dict(mamp.state_dict())
    classifier = Classifier(copy, head, frozen=False).to(device)
    rates = layer_decay_groups(classifier, how.lr, how.layer_decay, how.weight_decay)
    groups: list[dict[str, Any]] = [{**group} for group in rates]
    return _train_on_clips(classifier, torch.optim.AdamW(groups), clips, how, device, "fine-tuning")


def _train_on_clips(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    clips: Labelled,
    how: HeadTraining,
    device: torch.device,
    title: str,
) -> Judged:
    """Trains on clips that are varied anew in every step."""
    config = clips.train.config

    def batch_of(rows: Sequence[int], generator: torch.Generator) -> SkeletonBatch:
        return training_view(config, clips.train.batch(rows), generator).to(device)

    def logits_of(rows: Sequence[int]) -> torch.Tensor:
        return classifier(testing_view(config, clips.test.batch(rows)).to(device))

    return _train(classifier, optimizer, batch_of, logits_of, clips, how, title)


def train_on_means(system: System, clips: Labelled, how: HeadTraining, device: torch.device) -> Judged:
    """One linear layer on the mean of each clip's tokens: GL-Transformer's, or the frame probe of motion codes."""
    begun = time.perf_counter()
    means = [mean_tokens(system, part, device) for part in (clips.train, clips.test)]
    frames = torch.ones(1, 1, dtype=torch.bool, device=device)

    def tokens(z_ND: torch.Tensor, rows: Sequence[int]) -> StepTokens:
        return StepTokens(z_ND[list(rows)][:, None].to(device), frames.expand(len(rows), 1), 1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        of_codes = isinstance(system, MotionCodes)
        head = (FrameProbe if of_codes else LinearHead)(means[0].shape[1], clips.classes).to(device)
    call = head.sequence if isinstance(head, FrameProbe) else head
    optimizer = torch.optim.Adam(head.parameters(), lr=how.lr)
    told = _train(
        _Called(head, call), optimizer, lambda rows, _: tokens(means[0], rows),
        lambda rows: call(tokens(means[1], rows)), clips, how, "linear probe",
    )  # fmt: skip
    return dataclasses.replace(told, seconds=time.perf_counter() - begun)


class _Called(nn.Module):
    """A head by the one of its methods that tells classes of whole clips."""

    def __init__(self, head: nn.Module, call: Callable[[StepTokens], torch.Tensor]) -> None:
        super().__init__()
        self.head, self.call = head, call

    def forward(self, tokens: StepTokens) -> torch.Tensor:
        return self.call(tokens)


@torch.no_grad()
def mean_tokens(system: System, clips: SystemClips, device: torch.device) -> Float[torch.Tensor, "clips D"]:
    """Mean over the steps with somebody in them of a frozen network's tokens of each clip, on the CPU."""
    num = len(clips)
    # those of like length together: the others would be padded to the longest
    order = np.argsort(clips.clips.frames[clips.idx], kind="stable")
    found = torch.zeros(num, 0)
    with progress("tokens", num) as advance:
        for places in _in_pieces(num, _ENCODED_TOGETHER):
            rows = order[places].tolist()
            tokens = system.encode(testing_view(clips.config, clips.batch(rows)).to(device))
            exists_BS1 = tokens.exists[..., None]
            summed_BD = torch.where(exists_BS1, tokens.z, 0.0).sum(dim=1)
            if not found.shape[1]:
                found = torch.zeros(num, summed_BD.shape[1])
            found[rows] = (summed_BD / exists_BS1.sum(dim=1).clamp(min=1)).cpu()
            advance(len(rows))
    return found


def _train(
    classifier: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch_of: Callable[[Sequence[int], torch.Generator], Any],
    logits_of: Callable[[Sequence[int]], torch.Tensor],
    clips: Labelled,
    how: HeadTraining,
    title: str,
) -> Judged:
    """The loop that all classifiers share; each group of the optimiser keeps its share of the rate.

    Args:
        classifier: what is trained.
        optimizer: of it, its groups at their rates after the warm-up.
        batch_of: what the classifier is given of training clips, from their positions.
        logits_of: of test clips, from their positions.
        clips: with their labels.
        how: the schedule.
        title: of the bar.
    """
    begun = time.perf_counter()
    batch_size = min(how.batch_size, len(clips.train))
    if batch_size < 2:
        raise InputError(title, f"has batches of {batch_size} clip, and normalises over them", "give it two or more")
    order = ClipSource(clips.train, title, seed=how.seed, batch_size=batch_size)
    steps = how.epochs * order.steps_per_epoch
    rates = OptimConfig(lr=how.lr, lr_end=how.lr_end, warmup_steps=how.warmup_epochs * order.steps_per_epoch)
    shares = [group["lr"] / how.lr for group in optimizer.param_groups]
    losses: list[float] = []
    bar = Progress(title, 0, steps)
    classifier.train()
    for step in range(steps):
        lr = learning_rate(step, steps, rates)
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = share * lr
        rows, generator = order.rows(step).tolist(), generator_of(how.seed, step)
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())  # what layers drop depends on the step alone
            logits = classifier(batch_of(rows, generator))
        label = torch.from_numpy(clips.train.labels[rows]).to(logits.device)
        loss = F.cross_entropy(logits, label, label_smoothing=how.smoothing)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise StageError(f"{title}, step {step}", f"the loss is {losses[-1]}", "train with a lower rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        bar.advance({"step": step, "phase": title, "loss": losses[-1]})
    bar.close()
    classifier.eval()
    accuracy, top5 = _test(logits_of, clips.test.labels, how.batch_size)
    return Judged(
        accuracy=accuracy,
        top5=top5,
        clips=len(clips.test),
        train_clips=len(clips.train),
        classes=clips.classes,
        epochs=how.epochs,
        batch_size=batch_size,
        loss=float(np.mean(losses[-order.steps_per_epoch :])) if losses else math.nan,
        seconds=time.perf_counter() - begun,
    )


@torch.no_grad()
def _test(
    logits_of: Callable[[Sequence[int]], torch.Tensor], labels: Int[np.ndarray, "clips"], batch_size: int
) -> tuple[float, float]:
    """Shares of the clips whose class is the likeliest, and among the five likeliest."""
    first, five = 0, 0
    for rows in _in_pieces(len(labels), min(batch_size, _ENCODED_TOGETHER)):
        logits = logits_of(rows).cpu()
        likeliest = logits.topk(min(5, logits.shape[1]), dim=1).indices
        right = likeliest == torch.from_numpy(labels[rows])[:, None]
        first += int(right[:, 0].sum())
        five += int(right.any(dim=1).sum())
    return first / len(labels), five / len(labels)


def _in_pieces(num: int, size: int) -> Iterator[list[int]]:
    """Positions from 0 on, so many at a time."""
    yield from (list(range(at, min(at + size, num))) for at in range(0, num, size))

"""Recognition: do tokens of one action lie beside each other, and does a light head tell them apart?

Each token takes the label that most of its segment's frames have; tokens of the judged split are classified by their
nearest training tokens (weighted k-NN), and figures count frames. The references are the same vote on hand-made
statistics of the same segments, on tokens of the untrained network, and the most frequent class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from core.arrays import Int
from dataset.loader import WindowReader, WindowRef
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset
from model.heads import FrameHead, class_balanced_weights
from model.loading import TrainedRun
from model.metrics import top_k_accuracy, weighted_knn
from model.windows import ClipTokens, DataConfig, Segmentation, segment_frames


def recognition(
    trained: TrainedRun, dataset: AmdDataset, segmentation: Segmentation, split: str, neighbours: int, steps: int
) -> dict[str, Any]:
    """Top-1 and top-3 of Atom and Motif tokens and of the references; or why there are none."""
    names = dataset.info.action_names
    if not names:
        return {"left_out": "the dataset has no action labels"}
    if split == "train":
        return {"left_out": "there is no held-out clip: a token would be its own neighbour"}
    sides = (dataset.of_split("train"), dataset.of_split(split))
    tokens = [trained.encode(dataset, clips, segmentation) for clips in sides]
    control = [trained.encode(dataset, clips, segmentation, untrained=True) for clips in sides]
    found: dict[str, Any] = {"classes": len(names), "neighbours": neighbours}
    for level in ("atoms", "motifs"):
        parts = [_labelled(dataset, clips, segmentation, trained.recipe.data, level) for clips in sides]
        labels, weights, statistics, kept = zip(*parts, strict=True)
        if min(len(label) for label in labels) == 0:
            found[level] = {"left_out": "no segment of one of the splits has a label"}
            continue
        sources = {
            "": [_rows(side, clips, level) for side, clips in zip(tokens, sides, strict=True)],
            "reference_untrained_": [_rows(side, clips, level) for side, clips in zip(control, sides, strict=True)],
        }
        figures: dict[str, Any] = {"segments": len(labels[1])}
        for name, (train, test) in sources.items():
            figures |= _vote(name, train[kept[0]], test[kept[1]], labels, weights[1], len(names), neighbours)
        figures |= _vote(
            "reference_statistics_", *_standardised(*statistics), labels, weights[1], len(names), neighbours
        )
        common = np.bincount(labels[0], weights=weights[0]).argmax()
        figures["reference_majority_top1"] = float(np.average(labels[1] == common, weights=weights[1]))
        found[level] = figures
    found["head"] = _head(trained, dataset, segmentation, sides, tokens, steps)
    return found


def _vote(
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    labels: Sequence[np.ndarray],
    weights: np.ndarray,
    num_classes: int,
    neighbours: int,
) -> dict[str, float]:
    scores = weighted_knn(train, labels[0], test, num_classes, neighbours)
    return {f"{name}top{k}": top_k_accuracy(scores, labels[1], k, weights) for k in (1, 3)}


def _rows(tokens: Any, clips: Sequence[ClipInfo], level: str) -> np.ndarray:
    return np.concatenate([getattr(tokens[clip.id], level) for clip in clips])


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, sd = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-2)
    return (train - mean) / sd, (test - mean) / sd


def _labelled(
    dataset: AmdDataset, clips: Sequence[ClipInfo], segmentation: Segmentation, data: DataConfig, level: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the segments that have a label: labels, numbers of frames, statistics of the frame vectors, and positions."""
    labels, weights, statistics, kept = [], [], [], []
    first = 0
    for clip in clips:
        atom, motif = segment_frames(clip, segmentation, data.rate_hz)
        segment = atom if level == "atoms" or motif is None else motif
        reader = WindowReader(dataset, len(segment) / data.rate_hz, data.rate_hz)
        features = reader.read(WindowRef(clip.id, 0, 0.0))["features"]
        actions = frame_actions(dataset, clip, len(segment), data.rate_hz)
        number = len(segmentation.cuts_s[clip.id]) if level == "atoms" else len(segmentation.types[clip.id])
        for i in range(number):
            inside = segment == i
            votes = actions[inside].sum(axis=0)
            if votes.sum() > 0:
                labels.append(int(votes.argmax()))
                weights.append(int(inside.sum()))
                statistics.append(np.concatenate([features[inside].mean(axis=0), features[inside].std(axis=0)]))
                kept.append(first + i)
        first += number
    return np.array(labels, dtype=np.int64), np.array(weights), np.array(statistics), np.array(kept, dtype=np.int64)


def frame_actions(
    dataset: AmdDataset, clip: ClipInfo, num_frames: int, rate_hz: float
) -> Int[np.ndarray, "frames actions"]:
    """Labels of a clip at the model's frames, of the nearest frame each; zeros for a clip without."""
    actions = dataset.read(clip.id).actions
    if actions is None:
        return np.zeros((num_frames, len(dataset.info.action_names)), dtype=np.int64)
    nearest = np.rint(np.arange(num_frames) / rate_hz * float(clip.frame_rate)).astype(int)
    return actions[np.minimum(nearest, clip.num_frames - 1)].astype(np.int64)


def _head(
    trained: TrainedRun,
    dataset: AmdDataset,
    segmentation: Segmentation,
    sides: tuple[Sequence[ClipInfo], Sequence[ClipInfo]],
    tokens: Sequence[Mapping[str, ClipTokens]],
    steps: int,
) -> dict[str, float]:
    """The paper's recognition head on Motif tokens: one layer over frames, class-balanced cross-entropy."""
    model, rate_hz = trained.recipe.model, trained.recipe.data.rate_hz
    torch.manual_seed(trained.recipe.seed)
    head = FrameHead(model.width, model.heads, 1, len(dataset.info.action_names)).to(trained.device)
    train, test = (
        [_sequence(trained, dataset, segmentation, clip, found[clip.id], rate_hz) for clip in clips]
        for clips, found in zip(sides, tokens, strict=True)
    )
    weights = class_balanced_weights(torch.cat([y[y >= 0] for _, _, y in train]), head.out.out_features)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.1)
    rng = np.random.default_rng([trained.recipe.seed, 4])
    for _ in range(steps):
        z, motif, label = train[int(rng.integers(len(train)))]
        # cross-entropy of a clip without labels would be 0 / 0
        if (label >= 0).any():
            loss = F.cross_entropy(head(z, motif)[0], label, weight=weights, ignore_index=-1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        scores = torch.cat([head(z, motif)[0][label >= 0] for z, motif, label in test]).cpu().numpy()
    truth = torch.cat([label[label >= 0] for _, _, label in test]).cpu().numpy()
    per_class = [top_k_accuracy(scores[truth == c], truth[truth == c], 1) for c in np.unique(truth)]
    return {"top1": top_k_accuracy(scores, truth, 1), "mean_class_top1": float(np.mean(per_class))}


def _sequence(
    trained: TrainedRun,
    dataset: AmdDataset,
    segmentation: Segmentation,
    clip: ClipInfo,
    tokens: ClipTokens,
    rate_hz: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A clip's Motif tokens, the Motif of each frame, and the frame's label (-1 without)."""
    _, motif = segment_frames(clip, segmentation, rate_hz)
    assert motif is not None
    actions = frame_actions(dataset, clip, len(motif), rate_hz)
    label = np.where(actions.any(axis=1), actions.argmax(axis=1), -1)
    arrays = (tokens.motifs[None], motif[None], label)
    z, motif_BT, label_T = (torch.from_numpy(a).to(trained.device) for a in arrays)
    return z, motif_BT, label_T

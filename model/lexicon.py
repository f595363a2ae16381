"""The lexicon of Motifs: mined once from a training set, applied to any recording afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.arrays import Float, Int
from core.errors import StageError
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.codes import kmeans, nearest_code
from model.covering import Cover, covers
from model.mining import MiningConfig, Patterns, find_patterns, num_codes_for
from model.stages import A4MerConfig
from model.windows import DataConfig, Segmentation, encode_clips


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What mining left: the codebook, the patterns, and the stage-1 network that the codes belong to.

    Stage 1 moves on in the second phase, so its later tokens are not those that were clustered: codes are always
    assigned by the network that the codebook was made with.

    Attributes:
        centroids: (K, D) codebook.
        patterns: frequent patterns of codes.
        segmenter: weights of the teacher at the time of mining.
    """

    centroids: Float[np.ndarray, "K D"]
    patterns: Patterns
    segmenter: Mapping[str, torch.Tensor]

    def to_plain(self) -> dict[str, Any]:
        """Tensors and plain types."""
        p = self.patterns
        return {
            "centroids": torch.from_numpy(self.centroids),
            "num_codes": p.num_codes,
            "patterns": {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in p.by_length.items()},
            "counts": {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in p.counts.items()},
            "segmenter": dict(self.segmenter),
        }

    @staticmethod
    def from_plain(data: Mapping[str, Any]) -> Lexicon:
        """Inverse of `to_plain`."""
        by_length = {n: a.numpy() for n, a in data["patterns"].items()}
        patterns = Patterns(data["num_codes"], by_length, {n: a.numpy() for n, a in data["counts"].items()})
        return Lexicon(data["centroids"].cpu().numpy(), patterns, data["segmenter"])

    def segmenting_model(self, config: A4MerConfig) -> A4Mer:
        """The network whose Atom tokens the codes belong to."""
        # the first weights are replaced: drawing them must not move the generator of a run that asks in between
        with torch.random.fork_rng(devices=[]):
            model = A4Mer(config)
        model.load_state_dict(self.segmenter, strict=False)
        return model.eval()


def mine(
    model: A4Mer,
    dataset: AmdDataset,
    clips: Sequence[ClipInfo],
    segmentation: Segmentation,
    data: DataConfig,
    config: MiningConfig,
    seed: int,
) -> Lexicon:
    """Codes and patterns of the Atoms of (training) clips, from the teacher as it stands.

    Raises:
        StageError: if there are too few Atoms to tell codes apart.
    """
    tokens = encode_clips(model, dataset, clips, segmentation, data)
    atoms = np.concatenate([tokens[clip.id].atoms for clip in clips])
    num_codes = num_codes_for(len(atoms), config)
    if len(atoms) < num_codes:
        problem = f"the training clips have {len(atoms)} Atoms in all, fewer than the {num_codes} codes wanted"
        raise StageError("mining", problem, "add recordings, or longer ones")
    rng = np.random.default_rng([seed, 1])
    centroids = kmeans(atoms, num_codes, rng, config.iterations)
    codes = [nearest_code(tokens[clip.id].atoms, centroids)[0] for clip in clips]
    kept = ("feature_", "teacher.embed", "teacher.stage1")
    weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items() if k.startswith(kept)}
    return Lexicon(centroids, find_patterns(codes, len(centroids), config), weights)


def apply_lexicon(
    lexicon: Lexicon,
    model_config: A4MerConfig,
    dataset: AmdDataset,
    clips: Sequence[ClipInfo],
    segmentation: Segmentation,
    data: DataConfig,
    config: MiningConfig,
    device: torch.device,
) -> Segmentation:
    """Motifs of clips: each Atom takes its nearest code, and the fewest patterns cover the codes."""
    segmenter = lexicon.segmenting_model(model_config).to(device)
    bare = dataclasses.replace(segmentation, motif={}, types={}, codes={})
    tokens = encode_clips(segmenter, dataset, clips, bare, data)
    codes = {clip.id: nearest_code(tokens[clip.id].atoms, lexicon.centroids)[0] for clip in clips}
    found = dict(zip(codes, covers(list(codes.values()), lexicon.patterns, config), strict=True))
    motif = {c: _motif_of_atoms(found[c], len(code)) for c, code in codes.items()}
    return Segmentation(segmentation.cuts_s, motif, {c: own.types for c, own in found.items()}, codes)


def _motif_of_atoms(found: Cover, num_atoms: int) -> Int[np.ndarray, "atoms"]:
    return np.searchsorted(found.starts, np.arange(num_atoms), side="right") - 1

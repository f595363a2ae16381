"""What segments cost: A4Mer's extractor against a plain transformer of as many layers and tokens, there and back.

`python benchmarks/segment_cost.py [--recipe cpu_10min] [--rounds 15] [--seed 0]`. The extractor's Encoder carries
frames and one latent a segment, its LatentFormer the latents; stage 2 does the same with Atoms and Motifs. The plain
transformer has as many layers of the same width, heads and feed-forward ratio on as many tokens: pre-norm blocks with
rotary positions over one sequence of frames and latents together, then over the latents alone, for each stage. It
attends everywhere without a mask, so that kernels which take none may be used. It has no layout of segments, masks,
pooling and cross-attention. `overhead` is the time forward and backward of the one over that of the other, minus 1,
with Atoms alone (`atoms`, the first phase) and with both stages (`motifs`). Passes are done in turns; the ratio is the
median over turns. The last line is JSON.

Batches are the recipe's: its windows, Atoms and Motifs of some length (`ATOM_S`, `ATOMS_PER_MOTIF`), half of them
hidden from the student as in training. Loss, predictor and teacher are the same for both, and left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from model.a4mer import A4Mer
from model.blocks import Block, initialise, rotary
from model.masking import draws, spread_to_members
from model.recipes import Recipe, recipe_named
from model.segments import MotionBatch
from model.stages import A4MerConfig

ATOM_S, ATOMS_PER_MOTIF = 1.0, 2.0


class PlainStage(nn.Module):
    """Blocks over tokens and latents together, then over the latents."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        size = (config.width, config.heads, config.ffn_ratio)
        self.head_width = config.width // config.heads
        self.encoder = nn.ModuleList(Block(*size) for _ in range(config.encoder_layers))
        self.latent_former = nn.ModuleList(Block(*size) for _ in range(config.latent_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x_BSD: torch.Tensor, num_latents: int) -> torch.Tensor:
        """The last `num_latents` tokens."""
        z_BKD = x_BSD[:, :num_latents]
        x_BSD = torch.cat([x_BSD, z_BKD], dim=1)
        x_BSD = self._through(self.encoder, x_BSD)
        return self.norm(self._through(self.latent_former, x_BSD[:, -num_latents:]))

    def _through(self, blocks: nn.ModuleList, x_BTD: torch.Tensor) -> torch.Tensor:
        position_BT = torch.arange(x_BTD.shape[1], dtype=torch.float32, device=x_BTD.device)[None]
        rotation = rotary(position_BT, self.head_width)
        for block in blocks:
            x_BTD = block(x_BTD, rotation, None)
        return x_BTD


class PlainExtractor(nn.Module):
    """Both stages on top of the frame embedding."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(config.num_features, config.width)
        self.stage1, self.stage2 = PlainStage(config), PlainStage(config)
        self.apply(initialise)

    def forward(self, x_BTF: torch.Tensor, num_K: int, num_M: int | None) -> torch.Tensor:
        """Latents of the last stage."""
        z_BKD = self.stage1(self.embed(x_BTF), num_K)
        return z_BKD if num_M is None else self.stage2(z_BKD, num_M)


def make_batch(recipe: Recipe, rng: np.random.Generator, with_motifs: bool) -> MotionBatch:
    """Windows of noise; segments begin at random."""
    num_frames = round(recipe.data.window_s * recipe.data.rate_hz)
    atom = _segments(rng, recipe.batch_size, num_frames, 1 / (ATOM_S * recipe.data.rate_hz))
    x = rng.normal(size=(*atom.shape, recipe.model.num_features)).astype(np.float32)
    motif = None
    if with_motifs:
        number = int(atom.max()) + 1
        of_atoms = _segments(rng, recipe.batch_size, number, 1 / ATOMS_PER_MOTIF)
        motif = torch.from_numpy(np.where(np.arange(number) <= atom.max(axis=1, keepdims=True), of_atoms, -1))
    return MotionBatch(torch.from_numpy(x), torch.from_numpy(atom), motif)


def _segments(rng: np.random.Generator, rows: int, columns: int, share: float) -> np.ndarray:
    starts = rng.random((rows, columns)) < share
    starts[:, 0] = False
    return np.cumsum(starts, axis=1)


def student_pass(model: A4Mer, batch: MotionBatch, masks: dict[str, torch.Tensor]) -> torch.Tensor:
    """What `A4Mer.forward` does for the student: segments laid out, frames hidden, both stages."""
    atoms, motifs = model._layout(batch, *(masks[name].shape[1] for name in ("atom", "motif") if name in masks))
    visible_BT = batch.atom.masked_fill(spread_to_members(masks["atom"], batch.atom), -1)
    visible_BK = None if batch.motif is None else batch.motif.masked_fill(masks["atom"], -1)
    atom_tokens, motif_tokens = model._extract(model.student, batch, atoms, motifs, visible_BT, visible_BK)
    return atom_tokens.z if motif_tokens is None else motif_tokens.z


def seconds(work: Callable[[], torch.Tensor], backward: bool) -> float:
    """Time of one pass."""
    begin = time.perf_counter()
    z = work()
    if backward:
        z.square().mean().backward()
    return time.perf_counter() - begin


def measure(recipe: Recipe, rounds: int, seed: int, with_motifs: bool) -> dict[str, float]:
    """Medians over passes done in turns."""
    torch.manual_seed(seed)
    model, plain = A4Mer(recipe.model), PlainExtractor(recipe.model)
    batch = make_batch(recipe, np.random.default_rng(seed), with_motifs)
    num_B, num_T = batch.atom.shape
    masks = model.masks(batch, draws(num_B, num_T, torch.Generator().manual_seed(seed)))
    num_K, num_M = int(batch.atom.max()) + 1, None if batch.motif is None else int(batch.motif.max()) + 1
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "segments": lambda: student_pass(model, batch, masks),
        "plain": lambda: plain(batch.x, num_K, num_M),
    }
    times = {name: np.zeros((rounds, 2)) for name in ways}
    for turn in range(-2, rounds):  # the first ones fill memory
        for name, work in ways.items():
            both = seconds(work, backward=True)
            with torch.no_grad():
                times[name][turn] = both, seconds(work, backward=False)
    ratio = np.median(times["segments"] / times["plain"], axis=0)
    return {
        **{f"{name}_ms": 1e3 * float(np.median(values[:, 0])) for name, values in times.items()},
        "overhead": float(ratio[0]) - 1,
        "overhead_forward": float(ratio[1]) - 1,
        "segments_weights": _weights(model.student, with_motifs),
        "plain_weights": _weights(plain, with_motifs),
        "frames": batch.atom.shape[1],
        "atoms": num_K,
    }


def _weights(extractor: nn.Module, both: bool) -> int:
    return sum(w.numel() for name, w in extractor.named_parameters() if both or not name.startswith("stage2"))


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cpu_10min")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, help="windows; the recipe's if not given")
    parser.add_argument("--threads", type=int, help="the recipe's if not given")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recipe = recipe_named(given.recipe)
    recipe = dataclasses.replace(recipe, batch_size=given.batch or recipe.batch_size)
    torch.set_num_threads(given.threads or recipe.threads)
    rows = {name: measure(recipe, given.rounds, given.seed, name == "motifs") for name in ("atoms", "motifs")}
    print(f"{given.recipe:>10} {'segments':>12} {'plain':>12} {'overhead':>10} {'forward':>10} {'weights':>18}")
    for name, row in rows.items():
        weights = f"{row['segments_weights'] / 1e6:.2f} / {row['plain_weights'] / 1e6:.2f} M"
        times = f"{row['segments_ms']:9.1f} ms {row['plain_ms']:9.1f} ms"
        print(f"{name:>10} {times} {row['overhead']:10.1%} {row['overhead_forward']:10.1%} {weights:>18}", flush=True)
    overhead = max(row["overhead"] for row in rows.values())
    numbers = {name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()}
    print(json.dumps({"recipe": given.recipe, "overhead": round(overhead, 4), **numbers}))


if __name__ == "__main__":
    main()

"""Do Atoms and Motifs begin where people begin something else, more often than cuts that know nothing.

`python benchmarks/boundaries.py DATASET [--subjects 'bandai-2*'] [--seeds 3] [--run RUN]`: labelled clips of a dataset
(`motifs build`) are stitched to sessions whose label changes are known (`dataset.stitching`), in another order for each
seed. For each rule:

- `per s`, `p95 s`, `max s`: Atoms a second, and how long they are;
- `F1`: one-to-one matches of its cuts with the label changes within 0.2 s, and the same for as many uniform and random
  cuts. Movements have beginnings within a label too, so precision is low for any rule: compare with uniform and random;
- `noise`: F1, within two frames, of its cuts with those after 2 mm of white noise on every joint;
- `stride`: how much its cuts in walks and runs keep to one phase of a step (1 all, 0 none);
- `purity`: share of time whose label is the most frequent one, in the other sessions, of its segment's type. Types are
  k-means codes of hand-made features (means, spreads, speeds, displacement of joints); `uniform` is of as many uniform
  segments, with as many codes.

`motifs of ...` joins Atoms by mining those codes; the last rows are a trained run's, whose codes come from its tokens
(`uniform` then has as many codes as the run). Numbers are means over seeds,
with their standard deviation for F1 and purity. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core.skeletons import SMPL_24
from dataset.build import BuildConfig, build_from
from dataset.features import REFERENCE_LEG_M, leg_length
from dataset.resample import resample
from dataset.schema import Clip
from dataset.shards import AmdDataset, motion_from_clip
from dataset.stitching import StitchConfig, Stitched, stitch
from model.atoms import AtomConfig, cut_times
from model.codes import kmeans, nearest_code
from model.covering import covers
from model.loading import TrainedRun, load_run
from model.mining import MiningConfig, find_patterns

RATE_HZ, GRID_HZ, TOLERANCE_S, NOISE_M, NOISE_FRAMES = 30.0, 5.0, 0.2, 0.002, 2
STRIDING = ("walk", "run", "dash")
RULES: Mapping[str, AtomConfig] = {
    "turns": AtomConfig(),
    "pauses": AtomConfig(rule="pauses"),
    "line": AtomConfig(rule="line"),
    "line, w = 1/3 s": AtomConfig(rule="line", window_s=1 / 3),
    "line, metres": AtomConfig(rule="line", error_unit="metre"),
    "line, metres, w = 1/3 s": AtomConfig(rule="line", error_unit="metre", window_s=1 / 3),
}


@dataclass(frozen=True, eq=False)
class Session:
    """A stitched session: joints at 30 Hz, its frames' labels, label changes, and where people stride."""

    clip_id: str
    joints_m: np.ndarray
    labels: np.ndarray
    changes_s: np.ndarray
    striding: np.ndarray

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.joints_m) / RATE_HZ


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where the segments of a session begin, seconds, the first at 0; their types, if known."""

    starts_s: np.ndarray
    types: np.ndarray | None = None


def session_of(stitched: Stitched) -> Session:
    """What is needed of a stitched clip."""
    clip = stitched.clip
    motion = resample(motion_from_clip(clip, REFERENCE_LEG_M / leg_length(clip.joints_m)), RATE_HZ)
    place = np.minimum((np.arange(len(motion)) * float(clip.rate) / RATE_HZ).astype(int), len(clip) - 1)
    assert clip.actions is not None
    labels = clip.actions[place].argmax(axis=1)
    names = np.array(clip.labels.action_names)
    changes_s = stitched.boundaries / float(clip.rate)
    return Session(clip.id, motion.local_joints(), labels, changes_s, np.isin(names[labels], STRIDING))


def atoms_of(session: Session, config: AtomConfig) -> Cuts:
    """Atoms as the model gets them."""
    known = np.isfinite(session.joints_m).all(axis=-1)
    return Cuts(cut_times(session.joints_m, known, RATE_HZ, GRID_HZ, config))


def uniform(session: Session, number: int) -> Cuts:
    """As many segments of equal length."""
    return Cuts(np.arange(number) * session.duration_s / number)


def num_matches(found: np.ndarray, truth: np.ndarray, tolerance: float) -> int:
    """One-to-one matches of two increasing sequences; taking the earliest pair each time gives the most."""
    i = j = number = 0
    while i < len(found) and j < len(truth):
        if abs(found[i] - truth[j]) <= tolerance + 1e-9:
            i, j, number = i + 1, j + 1, number + 1
        elif found[i] < truth[j]:
            i += 1
        else:
            j += 1
    return number


def f1(pairs: Sequence[tuple[np.ndarray, np.ndarray]], tolerance: float) -> float:
    """F1 of (found, truth) over all sessions together."""
    number = sum(num_matches(found, truth, tolerance) for found, truth in pairs)
    return 2 * number / max(sum(len(found) + len(truth) for found, truth in pairs), 1)


def noise_f1(sessions: Sequence[Session], config: AtomConfig, rng: np.random.Generator) -> float:
    """How many cuts stay where they are under noise; of four sessions."""
    pairs = []
    for s in sessions[:4]:
        noisy = dataclasses.replace(s, joints_m=s.joints_m + NOISE_M * rng.normal(size=s.joints_m.shape))
        pairs.append((atoms_of(noisy, config).starts_s[1:], atoms_of(s, config).starts_s[1:]))
    return f1(pairs, NOISE_FRAMES / RATE_HZ)


def stride_phase(session: Session) -> np.ndarray:
    """Phase of the stride in every frame: of the analytic signal of the left ankle before the right one."""
    left, right = (session.joints_m[:, SMPL_24.idx(f"{side}_ankle"), 0] for side in ("left", "right"))
    spectrum = np.fft.fft(np.nan_to_num(left - right))
    rate_hz = np.fft.fftfreq(len(spectrum), 1 / RATE_HZ)
    return np.angle(np.fft.ifft(2 * spectrum * ((rate_hz > 0.4) & (rate_hz < 3.0))))


def phase_locking(sessions: Sequence[Session], cuts: Sequence[Cuts]) -> float:
    """Resultant length of the cuts' phases within a step (half a stride)."""
    phases = []
    for session, found in zip(sessions, cuts, strict=True):
        frame = np.clip(np.round(found.starts_s[1:] * RATE_HZ).astype(int), 0, len(session.joints_m) - 1)
        phases.append(stride_phase(session)[frame[session.striding[frame]]])
    joined = np.concatenate(phases)
    return float(abs(np.exp(2j * joined).mean())) if len(joined) else float("nan")


def segment_features(session: Session, cuts: Cuts) -> np.ndarray:
    """Means, spreads, speeds and displacement of the joints of each segment."""
    joints = np.nan_to_num(session.joints_m.reshape(len(session.joints_m), -1))
    velocity = np.gradient(joints, axis=0) * RATE_HZ
    frame = np.minimum(np.round(cuts.starts_s * RATE_HZ).astype(int), len(joints) - 1)
    size = np.diff(frame, append=len(joints))[:, None]
    mean, square, speed = (np.add.reduceat(x, frame) / size for x in (joints, joints**2, np.abs(velocity)))
    last = joints[np.append(frame[1:], len(joints)) - 1]
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0)), speed, last - joints[frame]], axis=1)


def with_codes(sessions: Sequence[Session], cuts: Sequence[Cuts], num_codes: int, seed: int) -> list[Cuts]:
    """Segments with k-means codes of hand-made features as their types."""
    features = [segment_features(s, c) for s, c in zip(sessions, cuts, strict=True)]
    stacked = np.concatenate(features)
    centre, scale = stacked.mean(axis=0), np.maximum(stacked.std(axis=0), 0.01)
    centroids = kmeans((stacked - centre) / scale, num_codes, np.random.default_rng(seed), 30)
    codes = [nearest_code((f - centre) / scale, centroids)[0] for f in features]
    return [Cuts(c.starts_s, code) for c, code in zip(cuts, codes, strict=True)]


def mined(atoms: Sequence[Cuts], num_codes: int) -> list[Cuts]:
    """Motifs of coded Atoms."""
    config = MiningConfig()
    codes = [np.asarray(c.types) for c in atoms]
    patterns = find_patterns(codes, num_codes, config)
    found = covers(codes, patterns, config)
    return [Cuts(c.starts_s[own.starts], own.types) for c, own in zip(atoms, found, strict=True)]


def segments_of_run(trained: TrainedRun, sessions: Sequence[Stitched]) -> tuple[list[Cuts], list[Cuts]]:
    """A trained run's coded Atoms and its Motifs of the sessions, which become a dataset for it."""
    clips = {s.clip.id: s.clip for s in sessions}
    with tempfile.TemporaryDirectory() as folder:
        build_from(list(clips), lambda item: [clips[item]], Path(folder) / "amd", BuildConfig())
        dataset = AmdDataset(Path(folder) / "amd")
        found = trained.segment(dataset, dataset.clips)
        # sessions of one person have one name; each is the only clip of its item
        of_item = {item: clip.id for clip in dataset.clips for item in clips if clip.id == f"{item}-000"}
        dataset.close()
    atoms, motifs = [], []
    for s in sessions:
        clip_id = of_item[s.clip.id]
        first = np.searchsorted(found.motif[clip_id], np.arange(len(found.types[clip_id])))
        atoms.append(Cuts(found.cuts_s[clip_id], found.codes[clip_id]))
        motifs.append(Cuts(found.cuts_s[clip_id][first], found.types[clip_id]))
    return atoms, motifs


def held_out_purity(sessions: Sequence[Session], cuts: Sequence[Cuts]) -> float:
    """Share of frames whose label is the most frequent one, in the other sessions, of their segment's type."""
    num_types = max(int(np.max(c.types)) for c in cuts if c.types is not None) + 1
    tables, num_labels = [], max(int(s.labels.max()) for s in sessions) + 1
    for session, found in zip(sessions, cuts, strict=True):
        frame = np.searchsorted(found.starts_s, np.arange(len(session.labels)) / RATE_HZ + 1e-6, side="right") - 1
        table = np.zeros((num_types, num_labels), dtype=np.int64)
        np.add.at(table, (np.asarray(found.types)[np.maximum(frame, 0)], session.labels), 1)
        tables.append(table)
    total = np.sum(tables, axis=0)
    right = 0
    for table in tables:
        others = total - table
        seen = others.any(axis=1)
        right += int(table[seen, others[seen].argmax(axis=1)].sum())
    return right / int(total.sum())


def judge(sessions: Sequence[Session], cuts: Sequence[Cuts], rng: np.random.Generator) -> dict[str, float]:
    """Lengths, F1 and that of cuts which know nothing, phase locking; purity where types are known."""
    lengths = np.concatenate([np.diff(c.starts_s, append=s.duration_s) for s, c in zip(sessions, cuts, strict=True)])
    pairs = list(zip(sessions, cuts, strict=True))
    random = [(np.sort(rng.uniform(0, s.duration_s, len(c.starts_s) - 1)), s.changes_s) for s, c in pairs]
    row = {
        "per_s": 1 / lengths.mean(),
        "p95_s": float(np.percentile(lengths, 95)),
        "max_s": lengths.max(),
        "f1": f1([(c.starts_s[1:], s.changes_s) for s, c in pairs], TOLERANCE_S),
        "f1_uniform": f1([(uniform(s, len(c.starts_s)).starts_s[1:], s.changes_s) for s, c in pairs], TOLERANCE_S),
        "f1_random": f1(random, TOLERANCE_S),
        "stride": phase_locking(sessions, cuts),
    }
    if all(c.types is not None for c in cuts):
        row["purity"] = held_out_purity(sessions, cuts)
    return {name: float(value) for name, value in row.items()}


def of_seed(
    stitched: Sequence[Stitched], seed: int, num_codes: int, trained: TrainedRun | None
) -> dict[str, dict[str, float]]:
    """All rows of one seed."""
    sessions, rng = [session_of(s) for s in stitched], np.random.default_rng([seed, 1])
    rows = {}
    for name, config in RULES.items():
        atoms = with_codes(sessions, [atoms_of(s, config) for s in sessions], num_codes, seed)
        same = [uniform(s, len(c.starts_s)) for s, c in zip(sessions, atoms, strict=True)]
        rows[name] = judge(sessions, atoms, rng) | {
            "noise": noise_f1(sessions, config, rng),
            "purity_uniform": held_out_purity(sessions, with_codes(sessions, same, num_codes, seed)),
        }
        if name in ("turns", "pauses", "line", "line, metres"):
            rows[f"motifs of {name}"] = judge(sessions, mined(atoms, num_codes), rng)
    if trained is not None:
        for name, cuts in zip(("atoms", "motifs"), segments_of_run(trained, stitched), strict=True):
            rows[f"{name} of the run"] = judge(sessions, cuts, rng)
            same = [uniform(s, len(c.starts_s)) for s, c in zip(sessions, cuts, strict=True)]
            coded = with_codes(sessions, same, trained.lexicon.patterns.num_codes, seed)
            rows[f"{name} of the run"]["purity_uniform"] = held_out_purity(sessions, coded)
    return rows


def stitched_sessions(dataset: AmdDataset, subjects: str, session_s: float, seed: int) -> list[Stitched]:
    """Sessions of the people whose names match."""
    people: dict[str, list[Clip]] = {}
    for info in dataset.clips:
        if fnmatch.fnmatch(info.subject, subjects):
            people.setdefault(info.subject, []).append(dataset.read(info.id))
    config = StitchConfig(session_s=session_s, seed=seed)
    labelled = {name: [c for c in clips if c.actions is not None] for name, clips in people.items()}
    return [s for name, clips in labelled.items() for s in stitch(clips, name, config) if len(s.joins)]


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over seeds, and spreads of what is judged."""
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    spread = {f"{name}_sd": float(np.std([row[name] for row in rows])) for name in ("f1", "purity") if name in mean}
    return {name: round(value, 4) for name, value in (mean | spread).items()}


COLUMNS: Mapping[str, Callable[[Mapping[str, float]], str]] = {
    "per s": lambda r: f"{r['per_s']:.2f}",
    "p95 s": lambda r: f"{r['p95_s']:.1f}",
    "max s": lambda r: f"{r['max_s']:.0f}",
    "F1": lambda r: f"{r['f1']:.3f} ± {r['f1_sd']:.3f}",
    "uniform": lambda r: f"{r['f1_uniform']:.3f}",
    "random": lambda r: f"{r['f1_random']:.3f}",
    "noise": lambda r: f"{r['noise']:.2f}" if "noise" in r else "",
    "stride": lambda r: f"{r['stride']:.2f}",
    "purity": lambda r: f"{r['purity']:.3f} ± {r['purity_sd']:.3f}" if "purity" in r else "",
    "uniform ": lambda r: f"{r['purity_uniform']:.3f}" if "purity_uniform" in r else "",
}


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--subjects", default="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--session-s", type=float, default=120.0)
    parser.add_argument("--codes", type=int, default=64)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    dataset = AmdDataset(given.dataset)
    trained = None if given.run is None else load_run(given.run, torch.device("cpu"))
    of_seeds, counts = [], {}
    for seed in range(given.seeds):
        stitched = stitched_sessions(dataset, given.subjects, given.session_s, seed)
        of_seeds.append(of_seed(stitched, seed, given.codes, trained))
        counts = {"sessions": len(stitched), "changes": sum(len(s.boundaries) for s in stitched)}
    rows = {name: summary([found[name] for found in of_seeds]) for name in of_seeds[0]}
    print(f"{'':24} " + " ".join(f"{name:>13}" for name in COLUMNS))
    for name, row in rows.items():
        print(f"{name:24} " + " ".join(f"{show(row):>13}" for show in COLUMNS.values()), flush=True)
    print(json.dumps({"subjects": given.subjects, "seeds": given.seeds, **counts, "rows": rows}))


if __name__ == "__main__":
    main()

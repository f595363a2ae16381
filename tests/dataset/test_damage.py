"""Bad input on its way through a dataset: named, and nothing else lost by it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from core.errors import InputError
from core.files import read_json, write_json
from dataset.build import build_from
from dataset.exporters.amass import export_amass
from dataset.exporters.humanml3d import export_humanml3d
from dataset.loader import WindowReader, WindowRef, WindowSampler, window_refs
from dataset.schema import REASON_NON_FINITE, Clip
from dataset.shards import AmdDataset
from dataset.verify import verify


def sound_clips(dataset: AmdDataset, shard: str) -> list[str]:
    """Clips of the other shards, each read whole."""
    return [dataset.read(clip.id).id for clip in dataset.clips if clip.shard != shard]


@pytest.mark.parametrize("field", ["poses", "joints_m", "joint_covariance", "contacts", "valid", "reasons"])
def test_a_flipped_bit_names_its_clip_in_the_batch_that_needs_it(dataset_copy: AmdDataset, field: str) -> None:
    clip = dataset_copy.clips[2]
    shard = dataset_copy.path / "data" / clip.shard
    with h5py.File(shard) as file:
        chunk = file["clips"][clip.id][field].id.get_chunk_info(0)
    content = bytearray(shard.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 8
    shard.write_bytes(content)
    dataset = AmdDataset(dataset_copy.path)
    sampler = WindowSampler(dataset, "all", 4.0, 5.0, seed=0, batch_size=1)
    fates = {}
    for step in range(sampler.steps_per_epoch):
        (ref,) = sampler.refs(step)
        try:
            sampler.batch(step)
        except InputError as error:
            assert f"clip {clip.id} in {shard}: damaged" in str(error) and "motifs verify" in error.action
            fates.setdefault(ref.clip_id, "damaged")
    assert fates == {clip.id: "damaged"}
    assert [problem.item for problem in verify(dataset.path).problems] == [f"clip {clip.id}"]
    assert len(sound_clips(dataset, clip.shard)) >= 2


def test_a_shard_that_is_cut_short_under_the_reader_names_the_clip(dataset_copy: AmdDataset) -> None:
    clip = dataset_copy.clips[-1]
    shard = dataset_copy.path / "data" / clip.shard
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"clip {clip.id} in .*{clip.shard}: damaged"):
        dataset_copy.read(clip.id)
    assert len(sound_clips(dataset_copy, clip.shard)) >= 2


@pytest.mark.parametrize("damage", [{"mean": "x"}, {"sd": [1.0]}, {"rate_hz": None}, {"num_frames": None}])
def test_damaged_statistics_are_named(dataset_copy: AmdDataset, damage: dict) -> None:
    path = dataset_copy.path / "meta" / "stats.json"
    data = {key: value for key, value in {**read_json(path), **damage}.items() if value is not None}
    write_json(path, data)
    with pytest.raises(InputError, match=r"stats\.json: (damaged|statistics of)"):
        dataset_copy.stats()


@dataclasses.dataclass(frozen=True)
class Spoilt:
    """Reads clips of a dataset: one with frames that are no numbers, one of nothing else, one as it is."""

    dataset: AmdDataset

    def __call__(self, item: str) -> list[Clip]:
        clip = self.dataset.read(self.dataset.clips["abc".index(item)].id, 0, 300)
        bad = {"a": slice(90, 93), "b": slice(None), "c": slice(0, 0)}[item]
        clip.joints_m[bad], clip.trans[bad] = np.nan, np.inf
        return [dataclasses.replace(clip, id=item, labels=dataclasses.replace(clip.labels, session=item))]


def test_frames_that_are_not_numbers_cost_themselves_alone(dataset: AmdDataset, tmp_path: Path) -> None:
    build_from(["a", "b", "c"], Spoilt(dataset), tmp_path / "amd")
    built = AmdDataset(tmp_path / "amd")
    assert [(clip.id, clip.num_frames) for clip in built.clips] == [("a-000", 300), ("c-000", 300)]
    (skipped,) = built.info.skipped
    assert (skipped.source, skipped.reason, skipped.duration_s) == ("b", "no valid frame", 10.0)
    clip, source = built.read("a-000"), dataset.read(dataset.clips[0].id, 0, 300)
    assert np.flatnonzero(clip.reasons == REASON_NON_FINITE).tolist() == [90, 91, 92]
    kept = clip.frame_valid
    np.testing.assert_array_equal(clip.joints_m[kept], source.joints_m[kept])
    windows = [WindowReader(built, 2.0, 5.0).read(ref) for ref in window_refs(built, "all", 2.0)]
    assert all(np.isfinite(window["features"]).all() for window in windows)
    # frame 90 is an instant of 5 Hz, and the velocity of the one before looks at it
    assert sum(int((~window["valid"]).sum()) for window in windows) == 2
    verify(built.path).require(built.path)


def test_a_clip_shorter_than_a_window_is_in_every_epoch_and_padded(dataset: AmdDataset) -> None:
    sampler = WindowSampler(dataset, "all", 30.0, 5.0, seed=0, batch_size=5)
    for step in range(3):
        batch = sampler.batch(step)
        assert sorted(batch["clip_idx"]) == [0, 1, 2, 3, 4]
        for row, idx in enumerate(batch["clip_idx"]):
            assert batch["valid"][row].sum() == round(5 * dataset.clips[idx].duration_s)
    assert WindowReader(dataset, 30.0, 5.0).read(WindowRef(dataset.clips[0].id, 0, 0.0))["valid"].sum() == 50


@pytest.mark.parametrize(
    "changes",
    [
        *({"id": name} for name in ("../../evil", "..", "/evil", ".hidden", "a/b", 3, "a\n", "x" * 300)),
        {"split": "../evil"},
    ],
)
def test_a_clip_that_cannot_name_a_file_is_refused(dataset_copy: AmdDataset, changes: dict) -> None:
    path = dataset_copy.path / "meta" / "clips.json"
    data = read_json(path)
    data["clips"][0] |= changes
    write_json(path, data)
    with pytest.raises(InputError, match=r"clips\.json: damaged"):
        AmdDataset(dataset_copy.path)
    with pytest.raises(InputError, match=r"clips\.json: damaged"):
        verify(dataset_copy.path)


@pytest.mark.parametrize("export", [export_amass, export_humanml3d])
def test_no_export_leaves_its_folder(dataset: AmdDataset, export: Any, tmp_path: Path) -> None:
    clip = dataclasses.replace(dataset.clips[0], id="../../evil", subject="s")
    outward = AmdDataset(dataset.path)
    outward.clips, outward._by_id = (clip,), {clip.id: clip}
    with pytest.raises(InputError, match="leaves its folder"):
        export(outward, tmp_path / "a" / "out")
    assert not list(tmp_path.iterdir())

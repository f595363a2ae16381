"""Motion capture into a dataset: labels, folders and archives, and the real data sets where they are at hand."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from motion_files import as_source, posed_body, write_bvh

from core.errors import InputError
from core.transforms import geodesic
from dataset.archives import unpacked
from dataset.build import build
from dataset.importers import bandai_namco, cmu_mocap
from dataset.importers.mocap import read_motion
from dataset.importers.skeleton_maps import BANDAI, MOTION_BUILDER
from dataset.retarget import retarget
from dataset.shards import AmdDataset
from dataset.sources import find_sources
from fitting.stand_in import stand_in_body


def archive_of(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.fixture
def bandai(tmp_path: Path, rng: np.random.Generator) -> Path:
    for name in ("1_bow_happy_001", "2_walk_youthful_001", "2_walk-turn-left_normal_002"):
        write_bvh(tmp_path / "bn" / f"dataset-{name}.bvh", as_source(posed_body(40, rng), BANDAI))
    return tmp_path / "bn"


def test_a_folder_and_its_archive_give_the_same_labelled_clips(tmp_path: Path, bandai: Path) -> None:
    build([bandai], tmp_path / "amd")
    build([archive_of(tmp_path / "bn.tar.xz", bandai)], tmp_path / "again")
    dataset, again = AmdDataset(tmp_path / "amd"), AmdDataset(tmp_path / "again")
    assert [clip.sha256 for clip in dataset.clips] == [clip.sha256 for clip in again.clips]
    assert set(dataset.info.action_names) == {"bow", "walk", "walk-turn-left"}
    assert [clip.subject for clip in dataset.clips] == ["bandai-1", "bandai-2c", "bandai-2b"]
    clip = dataset.read("dataset-2_walk_youthful_001-000")
    assert clip.labels.provenance["style"] == "youthful" and clip.labels.provenance["skeleton"] == "bandai"
    assert clip.actions is not None and (clip.actions == [0, 1, 0]).all()
    assert not clip.valid[:, 22:].any() and clip.valid[:, :6].all() and clip.rate == 30


def test_an_added_pose_and_what_was_blended_with_it_are_left_out(tmp_path: Path, rng: np.random.Generator) -> None:
    motion = as_source(posed_body(60, rng), MOTION_BUILDER)
    (tmp_path / "02").mkdir()
    still = write_bvh(tmp_path / "02" / "02_01.bvh", motion, first_at_rest=True)
    moving = write_bvh(tmp_path / "02" / "02_02.bvh", motion)
    take = cmu_mocap.take_of(still)
    assert take is not None and take.lead_in == 8 and take.subject == "cmu-02" and take.action == ""
    assert read_motion(still, take.lead_in)[2] == 8 and len(read_motion(still, take.lead_in)[0]) == 52
    assert read_motion(moving, take.lead_in)[2] == 0


def test_names_of_other_files_say_nothing(tmp_path: Path) -> None:
    assert bandai_namco.take_of(tmp_path / "dataset-3_walk_normal_001.bvh") is None
    assert cmu_mocap.take_of(tmp_path / "03" / "02_01.bvh") is None


def test_labels_come_from_the_table(tmp_path: Path, rng: np.random.Generator) -> None:
    table = "file,subject,trial,action,cmu_description,frames,fps\nbvh/02/02_01.bvh,2,1,walk,a walk,59,30\n"
    (tmp_path / "labels.csv").write_text(table)
    take = cmu_mocap.take_of(tmp_path / "bvh" / "02" / "02_01.bvh")
    assert take is not None and take.action == "walk" and take.details["description"] == "a walk"


@pytest.mark.parametrize("name", ["../evil.bvh", "/evil.bvh"])
def test_archives_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(InputError, match="leaves its folder"), unpacked([path]):
        pass


def test_links_and_other_kinds_stay_in_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link.bvh")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        script = tarfile.TarInfo("run.py")
        archive.addfile(script, io.BytesIO(b""))
    with unpacked([path]) as (folder,):
        assert list(folder.rglob("*")) == []
    assert not folder.exists()


def test_a_folder_of_archives_stands_for_them_unless_it_holds_what_they_hold(tmp_path: Path, bandai: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    archive_of(folder / "bn.tar.xz", bandai)
    (folder / "README.md").write_text("what this is")
    with unpacked([folder]) as (inside,):
        assert len(find_sources([inside])) == 3
    (folder / "loose.bvh").write_text("")
    with unpacked([folder]) as (same,):
        assert same == folder


def test_of_a_take_and_its_conversion_the_take_is_read(tmp_path: Path) -> None:
    for name in ("bvh/02/02_01.bvh", "bvh/02/02_02.bvh", "asfamc/02/02_01.amc", "asfamc/02/02.asf", "own/02_01.bvh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = {source.path.relative_to(tmp_path).as_posix() for source in find_sources([tmp_path]).values()}
    assert found == {"asfamc/02/02_01.amc", "bvh/02/02_02.bvh", "own/02_01.bvh"}


def test_a_damaged_archive_is_refused(tmp_path: Path, bandai: Path) -> None:
    path = archive_of(tmp_path / "bn.tar.xz", bandai)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cannot be unpacked"), unpacked([path]):
        pass


def test_a_motion_without_its_skeleton_is_refused(tmp_path: Path) -> None:
    (tmp_path / "02_01.amc").write_text("")
    with pytest.raises(InputError, match=r"0 \.asf files"):
        build([tmp_path], tmp_path / "amd")


def test_the_same_takes_as_bvh_and_amc_agree(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data" / "cmu-mocap" / "cmu-mocap.tar.xz"
    if not archive.is_file():
        pytest.skip("no cmu-mocap")
    wanted = ("bvh/02/02_05.bvh", "asfamc/02/02_05.amc", "asfamc/02/02.asf")
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(wanted):
                tar.extract(member, tmp_path, filter="data")
    root = tmp_path / "cmu-mocap"
    bvh, amc = (read_motion(root / name, lead) for name, lead in zip(wanted[:2], (8, 0), strict=True))
    one, two = (retarget(motion, skeleton, stand_in_body(), "take") for motion, skeleton, _ in (bvh, amc))
    ours, theirs = one.posed.world_rotations, two.posed.world_rotations[7:]
    assert len(ours) == len(theirs)
    limbs = np.rad2deg(geodesic(ours, theirs))[:, [0, 1, 2, 4, 5, 7, 8, 15, 16, 17, 18, 19]]
    assert np.median(limbs) < 2.0 and limbs[:, 0].max() < 0.01

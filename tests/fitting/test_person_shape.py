"""One shape from several sessions: more certain than each, and refused where they contradict each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.session import Session, View
from core.errors import GateError, InputError
from fitting.person_shape import PersonShape, ScannedShape, combined, shape_of_sessions
from fitting.stand_in import stand_in_body
from fitting.subject import Subject


def told(rng: np.random.Generator, truth: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A session's posterior under a standard normal prior, from one noisy look at the betas."""
    covariance = np.eye(len(truth)) / (1 + 1 / sigma**2)
    seen = truth + rng.normal(0, sigma, len(truth))
    return covariance @ seen / sigma**2, covariance


def test_sessions_count_their_prior_once(rng: np.random.Generator) -> None:
    """By hand: n looks of variance v under a unit prior are one look of variance v / n."""
    truth = rng.normal(size=4)
    looks = {str(k): told(rng, truth, 0.5) for k in range(4)}
    betas, covariance = combined(looks)
    np.testing.assert_allclose(covariance, np.eye(4) / (1 + 4 / 0.25))
    seen = np.mean([betas / (1 - 0.2) for betas, _ in looks.values()], axis=0)  # 1 / (1 + v) = 0.8 of the look
    np.testing.assert_allclose(betas, seen * 16 / 17)


def test_another_person_is_named(rng: np.random.Generator) -> None:
    truth = rng.normal(size=4)
    looks = {name: told(rng, truth, 0.1) for name in ("a", "b", "c")}
    looks["c"] = told(rng, truth + np.array([0, 0, 2.0, 0]), 0.1)
    with pytest.raises(GateError, match=r"c: its beta 2 .* same person"):
        combined({name: looks[name] for name in ("c", "a", "b")})


def session(folder: Path, name: str, subject: str, betas: np.ndarray) -> Path:
    Session(folder / name, name, subject, (View("cam", "room", (8, 8)),)).save()
    (folder / name / "07_subject").mkdir()
    found = Subject(betas, np.zeros((0, 3)), {}, 0.01 * np.eye(10), {})
    found.save(folder / name / "07_subject" / "subject.json", stand_in_body())
    return folder / name


def test_sessions_of_one_person_make_a_file(tmp_path: Path) -> None:
    betas = np.linspace(-1, 1, 10)
    folders = [session(tmp_path, name, "anna", betas) for name in ("one", "two")]
    shape = shape_of_sessions(folders)
    np.testing.assert_allclose(shape.betas, betas, atol=0.01)
    assert shape.covariance[0, 0] == pytest.approx(1 / 199)
    shape.save(tmp_path / "shape.json")
    again = PersonShape.load(tmp_path / "shape.json")
    assert again.sessions == ("one", "two") and again.subject == "anna"
    np.testing.assert_allclose(again.betas, shape.betas)
    with pytest.raises(InputError, match="given twice"):
        shape_of_sessions([folders[0], folders[0]])
    other = session(tmp_path, "three", "ben", betas)
    with pytest.raises(InputError, match="2 people: anna, ben"):
        shape_of_sessions([*folders, other])
    (other / "07_subject" / "subject.json").unlink()
    with pytest.raises(InputError, match="run `motifs fit` on it first"):
        shape_of_sessions([other])
    (tmp_path / "shape.json").write_text('{"betas": [1, 2], "covariance": [[1]]}')
    with pytest.raises(InputError, match="no file of a person's shape"):
        PersonShape.load(tmp_path / "shape.json")


def scanned(betas: np.ndarray, subject: str = "", sha256: str = "") -> ScannedShape:
    covariance = 0.04 * np.eye(len(betas))
    return ScannedShape(betas, covariance, subject, sha256 or stand_in_body().sha256, ("a.ply", "b.ply"))


def test_scans_count_beside_sessions_by_their_certainty(tmp_path: Path) -> None:
    """By hand: information 1/0.01 - 1 at 1, and 1/0.04 - 1 at 0.8 (under the prior), and the prior once."""
    folder = session(tmp_path, "one", "anna", np.ones(10))
    shape = shape_of_sessions([folder], scanned(0.8 * np.ones(10)))
    information = 99 + 24 + 1
    np.testing.assert_allclose(shape.covariance, np.eye(10) / information)
    np.testing.assert_allclose(shape.betas, (100 * 1 + 25 * 0.8) / information)
    assert shape.scans == ("a.ply", "b.ply")
    shape.save(tmp_path / "shape.json")
    assert PersonShape.load(tmp_path / "shape.json").scans == shape.scans


def test_scans_that_do_not_fit_the_sessions_are_refused(tmp_path: Path) -> None:
    folder = session(tmp_path, "one", "anna", np.ones(10))
    with pytest.raises(InputError, match="2 people: anna, ben"):
        shape_of_sessions([folder], scanned(np.ones(10), subject="ben"))
    # betas of another length belong to another model
    with pytest.raises(InputError, match="2 body models"):
        shape_of_sessions([folder], scanned(np.ones(16), sha256="of a model with 16 betas"))
    with pytest.raises(GateError, match="standard deviations from the others"):
        shape_of_sessions([folder], scanned(-2 * np.ones(10)))
    with pytest.raises(InputError, match="name the person: --subject"):
        shape_of_sessions([], scanned(np.ones(10)))
    with pytest.raises(InputError, match="no session and no scan"):
        shape_of_sessions([])
    assert shape_of_sessions([], scanned(np.ones(10), subject="anna")).subject == "anna"


def test_a_shape_that_was_given_is_no_second_witness(tmp_path: Path) -> None:
    folder = session(tmp_path, "one", "anna", np.ones(10))
    (folder / "07_subject" / "manifest.json").write_text('{"config": {"shape": "anna.json"}}')
    with pytest.raises(InputError, match="would count twice"):
        shape_of_sessions([folder])

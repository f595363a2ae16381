"""One body shape for a person over all of their sessions, from what each session says of it and how surely."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capture.session import Session
from core.arrays import Float
from core.errors import GateError, InputError
from core.files import read_json, write_json
from fitting.subject import Subject

SUBJECT_FILE = Path("07_subject") / "subject.json"
_MAX_SIGMAS = 5.0  # of any component, by which a session may contradict the others


@dataclass(frozen=True, eq=False)
class PersonShape:
    """The shape of a person.

    Attributes:
        betas: (betas,).
        covariance: of these.
        subject: name of the person.
        body_sha256: hash of the body model that the betas belong to.
        sessions: ids of the sessions that told it.
        scans: names of the scans that told it.
    """

    betas: Float[np.ndarray, "betas"]
    covariance: Float[np.ndarray, "betas betas"]
    subject: str
    body_sha256: str
    sessions: tuple[str, ...]
    scans: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Writes `shape.json`."""
        names = {"sessions": list(self.sessions), "scans": list(self.scans)}
        write_json(path, {**dataclasses.asdict(self), **names})

    @staticmethod
    def load(path: Path) -> PersonShape:
        """Reads what `save` wrote.

        Raises:
            InputError: if the file is missing or damaged.
        """
        data = read_json(path)
        try:
            betas, covariance = (np.array(data[name], float) for name in ("betas", "covariance"))
            if covariance.shape != (len(betas), len(betas)):
                raise ValueError(f"betas of length {len(betas)} with a covariance of {covariance.shape}")
            names = tuple(data["sessions"]), tuple(data.get("scans", ()))
            return PersonShape(betas, covariance, data["subject"], data["body_sha256"], *names)
        except (KeyError, TypeError, ValueError) as error:
            action = "make it with `motifs shape`"
            raise InputError(str(path), f"no file of a person's shape ({error!r})", action) from error


@dataclass(frozen=True, eq=False)
class ScannedShape:
    """What scans say of a person's shape (`fitting.scan`).

    Attributes:
        betas: (betas,).
        covariance: of these, the standard normal prior included.
        subject: name of the person; empty if it is not stated.
        body_sha256: hash of the body model that the betas belong to.
        scans: names of the files.
    """

    betas: Float[np.ndarray, "betas"]
    covariance: Float[np.ndarray, "betas betas"]
    subject: str
    body_sha256: str
    scans: tuple[str, ...]


def shape_of_sessions(session_dirs: Sequence[Path], scanned: ScannedShape | None = None) -> PersonShape:
    """The shape that all sessions of one person, and scans of them, agree on.

    Raises:
        InputError: if a session was not fitted, they are of several people or body models, or nothing is given.
        GateError: if a session, or the scans, contradict the others.
    """
    told: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    sessions, names, models = _told_by_sessions(session_dirs)
    told |= {name: _own(subject) for name, subject in sessions.items()}
    if scanned is not None:
        told[f"scans {', '.join(scanned.scans)}"] = scanned.betas, scanned.covariance
        models.add(scanned.body_sha256)
        names |= {scanned.subject} if scanned.subject else set()
    if not told:
        raise InputError("shape", "no session and no scan is given", "give fitted sessions, or --scan FILE.ply")
    if not names:
        raise InputError("scans", "they do not say whose they are", "name the person: --subject NAME")
    for what, values in (("people", names), ("body models", models)):
        if len(values) > 1:
            problem = f"they are of {len(values)} {what}: {', '.join(sorted(values))}"
            raise InputError("sessions", problem, "give those of one person, fitted with one body model")
    betas, covariance = combined(told)
    scans = () if scanned is None else scanned.scans
    return PersonShape(betas, covariance, names.pop(), models.pop(), tuple(sessions), scans)


def _told_by_sessions(session_dirs: Sequence[Path]) -> tuple[dict[str, Subject], set[str], set[str]]:
    """Subjects by session id, the names of the people, and the hashes of the body models."""
    found: dict[str, Subject] = {}
    names: set[str] = set()
    models: set[str] = set()
    for folder in session_dirs:
        session = Session.load(folder)
        path = folder / SUBJECT_FILE
        if not path.is_file():
            raise InputError(session.id, "its subject has no shape yet", "run `motifs fit` on it first")
        if session.id in found:
            raise InputError(session.id, "it is given twice", "give every session once")
        manifest = path.with_name("manifest.json")
        if manifest.is_file() and read_json(manifest)["config"].get("shape"):
            action = "fit it without --shape first, or leave it out"
            raise InputError(session.id, "its shape was given to it and would count twice", action)
        found[session.id] = Subject.load(path)
        names.add(session.subject)
        models.add(read_json(path)["body_sha256"])
    return found, names, models


def combined(
    told: dict[str, tuple[Float[np.ndarray, "b"], Float[np.ndarray, "b b"]]],
) -> tuple[Float[np.ndarray, "b"], Float[np.ndarray, "b b"]]:
    """Betas and covariance from those of each session, whose standard normal prior is counted once.

    Raises:
        GateError: if a session contradicts what the others say.
    """
    prior = np.eye(len(next(iter(told.values()))[0]))
    information = {name: np.linalg.inv(covariance) - prior for name, (_, covariance) in told.items()}
    pull = {name: np.linalg.inv(covariance) @ betas for name, (betas, covariance) in told.items()}
    for name, (betas, covariance) in told.items() if len(told) > 1 else ():
        others = [other for other in told if other != name]
        apart = np.linalg.inv(sum(information[other] for other in others) + prior)
        off = betas - apart @ sum(pull[other] for other in others)
        sigmas = np.abs(off) / np.sqrt(np.diagonal(covariance) + np.diagonal(apart))
        if sigmas.max() > _MAX_SIGMAS:
            problem = f"its beta {int(sigmas.argmax())} lies {sigmas.max():.1f} standard deviations from the others'"
            raise GateError(name, problem, "check that it shows the same person, and its rig's scale")
    total = np.linalg.inv(sum(information.values()) + prior)
    return total @ sum(pull.values()), total


def _own(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    count = len(subject.betas)
    return subject.betas, subject.covariance[:count, :count]

"""Every kind of source by its importer, which all give the same: whole sequences, not yet cut."""

from __future__ import annotations

from collections.abc import Callable

from dataset.importers.amass import read_amass
from dataset.importers.hik import HikLabels, read_hik
from dataset.importers.humanml3d import read_humanml3d
from dataset.importers.mocap import read_take
from dataset.importers.ntu import read_ntu
from dataset.importers.session import read_session
from dataset.schema import Clip
from dataset.sources import Source
from fitting.smpl import BodyModel


def read_source(source: Source, body: Callable[[], BodyModel], hik_labels: HikLabels) -> list[Clip]:
    """The sequences of a source: one for each person it shows.

    Args:
        source: what to read.
        body: gives the model for sources that state no joints or no body; not called for the others.
        hik_labels: which labels Humans in Kitchens gets.

    Raises:
        InputError: if the source cannot be read, with its reason.
    """
    path, item = source.path, source.item
    if source.kind == "session":
        return [read_session(path, item)]
    if source.kind == "mocap":
        return [read_take(path, item, source.take, body())]
    if source.kind == "ntu":
        return read_ntu(path, item, source.take.subject, body())
    if source.kind == "humanml3d":
        return [read_humanml3d(path, item, body())]
    if source.kind == "hik":
        return read_hik(path, item, source.take.subject, body(), hik_labels)
    return [read_amass(path, item, source.take.subject, body())]

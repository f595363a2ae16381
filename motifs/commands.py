"""The functions behind `motifs COMMAND`; their signatures are the command line.

Each imports what it needs when it is called or parsed, prints what a person wants to know next on standard output, and
leaves errors to `motifs.cli`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast, get_args

from tyro.conf import Positional, arg

from calibration.formats import Writable
from dataset.build import BuildConfig
from dataset.stitching import StitchConfig
from fitting.films import FilmConfig
from fitting.scan import ScanConfig
from model.protocols.names import METHODS, PROTOCOLS
from model.settings import EvalConfig, Hardware
from motifs.demo import DemoConfig
from motifs.export import ClipFormat, ExportConfig
from motifs.options import (
    CORES,
    SETTINGS,
    AnySessions,
    DatasetPath,
    Device,
    DryRun,
    Out,
    RecipeName,
    Recording,
    Redo,
    RunPath,
    SessionPath,
    SessionPaths,
    Sources,
    Workers,
)
from motifs.pipeline import RunConfig
from motifs.prepare import PrepareConfig
from motifs.projects import ImportConfig
from motifs.report import ReportConfig
from motifs.stage_commands import (
    calibrate_feet,
    calibrate_lens,
    calibrate_markers,
    calibrate_rig,
    calibrate_scene,
    detect,
    fit,
    sync,
    triangulate,
)
from motifs.view import ViewConfig
from simulation.recording import SimulateConfig

__all__ = [
    "build", "calibrate_feet", "calibrate_lens", "calibrate_markers", "calibrate_rig", "calibrate_scene", "completion",
    "demo", "detect", "discover", "evaluate", "evaluate_all", "export", "film", "fit", "ingest", "prepare", "report",
    "run", "shape", "simulate", "status", "stitch", "sync", "train", "triangulate", "verify", "view",
]  # fmt: skip


def demo(config: Annotated[DemoConfig, SETTINGS], out: Out = Path("out/demo"), workers: Workers = CORES) -> None:
    """Simulate a session, take it all the way to a trained A4Mer, and compare each stage with the truth."""
    from motifs.demo import run_demo

    run_demo(out, config, workers=workers)


def simulate(
    config: Annotated[SimulateConfig, SETTINGS], out: Out, workers: Workers = CORES, redo: Redo = False
) -> None:
    """Render a synthetic session with exact truth beside it."""
    from simulation.recording import simulate as render

    render(out, config, workers=workers, redo=redo)
    print(f"{out}: next, `motifs run {out}`")


def prepare(config: Annotated[PrepareConfig, SETTINGS], out: Out) -> None:
    """Make what a recording needs: boards and markers as PDF, and a page for a tablet that shows the session clock."""
    from motifs.prepare import prepare as make

    print("\n".join(map(str, make(out, config))))


def ingest(source: Recording, config: Annotated[ImportConfig, SETTINGS], out: Out) -> None:
    """Make a session folder from videos, pictures or keypoint files, or from a project of another tool."""
    from motifs.projects import bring

    session, notes = bring(source, out, config)
    views = ", ".join(f"{view.id} ({view.role}, {view.num_frames} frames)" for view in session.views)
    print("\n".join([f"{out}: {len(session.views)} views: {views}", *notes, f"next, `motifs run {out}`"]))


def run(
    sessions: AnySessions,
    config: Annotated[RunConfig, SETTINGS],
    workers: Annotated[
        int, arg(help="processes on this machine, or of each stage with --scheduler; the result does not depend on it")
    ] = CORES,
    scheduler: Annotated[
        str | None, arg(metavar="ADDRESS", help="a Dask scheduler to run on (tcp://host:8786) instead of this machine")
    ] = None,
    summary: Annotated[Path | None, arg(help="JSON file to write: how every session ended, and where and why")] = None,
    redo: Redo = False,
    dry_run: DryRun = False,
) -> None:
    """Run all annotation stages of sessions, from sync to fit; finished ones return at once."""
    from motifs.running import plan, run_all

    if dry_run:
        print(plan(sessions))
        return
    run_all(sessions, config, workers=workers, scheduler=scheduler, redo=redo, summary=summary)


def build(
    sources: Sources, config: Annotated[BuildConfig, SETTINGS], out: Out, workers: Workers = CORES, redo: Redo = False
) -> None:
    """Make AMD shards from fitted sessions and motion files of other projects."""
    from dataset.build import build as build_dataset

    manifest = build_dataset(sources, out, config, workers=workers, redo=redo)
    figures = [f"{name} {value}" for name, value in manifest.metrics.items() if isinstance(value, (int, float))]
    print(f"{out}: {', '.join(figures)}")


def stitch(
    dataset: DatasetPath,
    config: Annotated[StitchConfig, SETTINGS],
    out: Out,
    workers: Workers = CORES,
    redo: Redo = False,
) -> None:
    """Make long sessions with known boundaries from the labelled clips of a dataset."""
    from dataset.untrimmed import stitch_dataset

    manifest = stitch_dataset(dataset, out, config, workers=workers, redo=redo)
    print(f"{out}: {manifest.metrics['clips']} sessions, {manifest.metrics['hours']} h")


def verify(dataset: DatasetPath) -> None:
    """Check every clip of a dataset against its checksum."""
    from dataset.verify import verify as check

    found = check(dataset).require(dataset)
    print(f"{dataset}: {found.num_clips} clips, {found.num_bytes / 2**20:.1f} MiB, all sound")


def export(
    source: Annotated[Positional[Path], arg(metavar="SOURCE", help="dataset, or session with a rig")],
    config: Annotated[ExportConfig, SETTINGS],
    out: Out,
    format: Annotated[
        ClipFormat | Writable,
        arg(help="amass to webdataset: a dataset's clips; the others: a session's cameras, for these tools"),
    ] = "amass",
) -> None:
    """Write a dataset's clips, or a session's rig, in the files of another tool."""
    from motifs.export import export_clips, export_rig

    if format in get_args(ClipFormat):
        paths, notes = export_clips(source, out, cast(ClipFormat, format), config)
    else:
        paths, notes = export_rig(source, out, cast(Writable, format))
    print("\n".join([f"{out}: {len(paths)} files", *notes]))


def train(
    dataset: DatasetPath,
    out: Out,
    recipe: RecipeName,
    hardware: Annotated[Hardware, SETTINGS],
    changes: Annotated[
        tuple[str, ...], arg(name="set", metavar="NAME=VALUE", help="other settings than the recipe's: optim.lr=5e-4")
    ] = (),
    precision: Annotated[Literal["float32", "bf16"] | None, arg(help="another than the recipe's")] = None,
    seed: Annotated[int | None, arg(help="another than the recipe's")] = None,
    redo: Annotated[bool, arg(help="start anew instead of going on")] = False,
) -> None:
    """Train A4Mer on a dataset; a run that was stopped goes on where it was. With `torchrun`, on many machines."""
    from model.distributed import in_main_process
    from model.overrides import override
    from model.recipes import recipe_named
    from model.train import train as train_model

    own = {"precision": precision, "seed": seed}
    changes += tuple(f"{name}={value}" for name, value in own.items() if value is not None)
    result = train_model(dataset, override(recipe_named(recipe), changes), out, resume=not redo, hardware=hardware)
    if not in_main_process():
        return
    for phase, losses in result.losses.items():
        print(f"{phase}: loss {losses['first']:.4f} -> {losses['last']:.4f}")
    print(f"next, `motifs discover {out} {dataset} --out MOTIFS`")


def evaluate(
    run: RunPath,
    dataset: DatasetPath,
    config: Annotated[EvalConfig, SETTINGS],
    out: Annotated[Path, arg(help="JSON file to write")],
    device: Device = "auto",
) -> None:
    """Measure a trained model beside simple references."""
    from core.files import dump_json
    from model.tasks import evaluate as evaluate_model

    print(dump_json(evaluate_model(run, dataset, out, config, device=device)), end="")


def evaluate_all(
    dataset: DatasetPath,
    groups: Annotated[tuple[str, ...], arg(help="subjects, or several joined as a+b, each left out in turn")],
    out: Annotated[Path, arg(help="folder of the table, and of finished figures and runs: it goes on where it was")],
    left_out: Annotated[tuple[str, ...], arg(help="leave out these of the groups alone")] = (),
    also: Annotated[
        tuple[Path, ...], arg(help="further datasets, for pretraining alone; transfer learns from nothing else")
    ] = (),
    without: Annotated[tuple[str, ...], arg(help="subjects nobody learns from: who may be in a group already")] = (),
    methods: Annotated[tuple[str, ...], arg(help=f"of {', '.join(METHODS)}")] = METHODS,
    protocols: Annotated[tuple[str, ...], arg(help=f"of {', '.join(PROTOCOLS)}")] = PROTOCOLS,
    recipe: Annotated[
        Literal["cpu_10min", "gpu_10min"], arg(help="of every network, each for the same minutes")
    ] = "cpu_10min",
    settings: Annotated[
        tuple[str, ...], arg(help="other settings of A4Mer's recipe (optim.lr=5e-4) or of a system's (mamp.steps=300)")
    ] = (),
    seeds: Annotated[tuple[int, ...], arg(help="of weights and of what is drawn")] = (0,),
    no_heads: Annotated[bool, arg(help="leave out the paper's heads, which take most of the time")] = False,
    device: Device = "auto",
) -> None:
    """Compare all systems on people left out: one table (CSV, HTML, LaTeX) with its pictures and commands."""
    from model.protocols.comparison import ComparisonConfig
    from motifs.comparison import write_comparison

    config = ComparisonConfig(
        dataset, groups, left_out, also, without, methods, protocols, recipe=recipe, settings=settings, seeds=seeds,
        heads=not no_heads, device=device,
    )  # fmt: skip
    lines = write_comparison(config, out)
    print(
        f"{out}: {len(lines)} rows in table.csv; table.html has the first of them with pictures, table.tex for a paper"
    )


def discover(
    run: RunPath,
    dataset: DatasetPath,
    out: Out,
    clips: Annotated[
        tuple[str, ...], arg(help="ids of clips, or patterns of them ('walk*'); all where none is given")
    ] = (),
    pictures: Annotated[int, arg(help="how many of the most used motifs get a picture")] = 5,
    device: Device = "auto",
) -> None:
    """Find the atoms and motifs of a dataset: tables, a timeline, strips of each motif's occurrences."""
    from model.discover import discover as discover_motifs

    found = discover_motifs(run, dataset, out, clips=clips or None, num_pictured=pictures, device=device)
    print(f"{out}: {len(found.atoms)} atoms, {len(found.motifs)} motifs of {len(found.uses)} types")
    for use in found.uses[:5]:
        print(f"  {use.occurrences:4d} x {use.total_s:7.1f} s  {use.name}")


def shape(
    config: Annotated[ScanConfig, SETTINGS],
    sessions: SessionPaths = (),
    scan: Annotated[tuple[Path, ...], arg(help="RGB-D scans of the person in an A-pose, as .ply")] = (),
    subject: Annotated[str, arg(help="name of the person, where scans alone are given")] = "",
    body_model: Annotated[str, arg(help='SMPL model file for the scans, or "stand-in"')] = "stand-in",
    out: Annotated[Path, arg(help="file to write")] = Path("shape.json"),
) -> None:
    """Find one body shape for a person from fitted sessions and from scans; `motifs fit --shape FILE` then holds it."""
    from fitting.person_shape import shape_of_sessions

    scanned = None
    if scan:
        from fitting.fit import load_body
        from fitting.scan import shape_from_scans
        from fitting.scan_picture import draw_scan

        body = load_body(body_model)
        told = shape_from_scans(scan, body, config)
        draw_scan(out.with_suffix(".png"), body, told)
        print(f"{out.with_suffix('.png')}: {told}")
        scanned = told.scanned(body, subject)
    found = shape_of_sessions(sessions, scanned)
    found.save(out)
    print(f"{out}: the shape of {found.subject} from {len(found.sessions)} sessions and {len(found.scans)} scans")
    print(f"next, `motifs fit SESSION --shape {out} --redo`")


def view(
    source: Annotated[Positional[Path], arg(metavar="SOURCE", help="session, or dataset that `motifs build` made")],
    config: Annotated[ViewConfig, SETTINGS],
) -> None:
    """Open a page in the browser: room, cameras with their pictures, the body along time, its uncertainty, motifs."""
    from motifs.view import open_viewer
    from motifs.view_server import is_loopback

    viewer = open_viewer(source, config)
    reach = "this machine alone" if is_loopback(config.host) else "everybody who reaches this machine"
    print(f"{viewer.url}: open it in a browser; it is served to {reach}; Ctrl-C ends it", flush=True)
    viewer.server.sleep_forever()


def film(
    session: SessionPath, config: Annotated[FilmConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Draw a finished fit over every frame of every view, as videos, and write the body as GLB for Blender."""
    from fitting.films import run as draw

    manifest = draw(session, config, workers=workers, redo=redo)
    for item, why in manifest.failed.items():
        print(f"{item} is not drawn: {why['problem']}")
    print(f"{manifest.path.parent}: {', '.join(manifest.data['outputs'])}")


def report(
    source: Annotated[Positional[Path], arg(metavar="SOURCE", help="session, or dataset that `motifs build` made")],
    config: Annotated[ReportConfig, SETTINGS],
) -> None:
    """Write one HTML page about a session or a dataset: health, pictures, figures, motifs."""
    if (source / "meta").is_dir():
        from motifs.dataset_report import write_dataset_report

        print(write_dataset_report(source, config.motifs))
        return
    from motifs.report import write_report

    print(write_report(source, config))


def status(
    sessions: AnySessions,
) -> None:
    """Tell where a session stands, and what to do next; of several sessions, a line each."""
    from motifs.status import print_status

    print_status(sessions)


def completion(shell: Annotated[Positional[Literal["bash", "zsh"]], arg(help="which")]) -> None:
    """Print a script for completion: `motifs completion bash > ~/.local/share/bash-completion/completions/motifs`."""
    from motifs.cli import COMMANDS
    from motifs.completion import completion_script

    print(completion_script(COMMANDS, shell), end="")

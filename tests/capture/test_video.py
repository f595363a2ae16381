"""Video: what is written is read back frame by frame, in time, and damaged files are refused by name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from capture.stills import list_stills, read_still, stills_size_px
from capture.video import VideoWriter, probe, read_audio, read_frames
from core.errors import InputError

SIZE_PX = (64, 48)
NUM_FRAMES = 60


def number_image(index: int) -> np.ndarray:
    """A frame that says which it is: six vertical bars, the bits of `index`."""
    bits = (index >> np.arange(6)) & 1
    return np.repeat(np.where(bits, 220, 30), (11, 11, 11, 11, 10, 10))[None].repeat(48, axis=0).astype(np.uint8)


def number_of(image: np.ndarray) -> int:
    """Inverse of `number_image`."""
    return int(((image[24, [5, 16, 27, 38, 49, 59]] > 125) << np.arange(6)).sum())


def write(path: Path, num_frames: int = NUM_FRAMES, audio: np.ndarray | None = None) -> Path:
    with VideoWriter(path, SIZE_PX, Fraction(30000, 1001), audio=audio) as writer:
        for index in range(num_frames):
            writer.write(number_image(index))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clicks = np.zeros(96000, np.float32)
    clicks[[24000, 72000]] = 1.0
    return write(tmp_path_factory.mktemp("video") / "v.mp4", audio=clicks)


def remux(source: Path, path: Path, **options: str) -> Path:
    """The same packets in another container or layout."""
    with av.open(str(source)) as src, av.open(str(path), "w", options=options) as dst:
        streams = {s: dst.add_stream_from_template(s) for s in src.streams.video}
        for packet in src.demux(src.streams.video[0]):
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                dst.mux(packet)
    return path


def test_a_written_video_reports_itself(video: Path) -> None:
    info = probe(video, decode=True)
    assert (info.size_px, info.num_frames, info.rate, info.codec) == (SIZE_PX, 60, Fraction(30000, 1001), "h264")
    assert info.has_audio
    # the container's unit is 1/30000 s or finer
    np.testing.assert_allclose(info.pts_s, np.arange(60) * 1001 / 30000, atol=1 / 30000)
    assert info.duration_s == pytest.approx(60 * 1001 / 30000, abs=1 / 30000)


def test_every_frame_comes_under_its_own_number(video: Path) -> None:
    assert [(i, number_of(image)) for i, image in read_frames(video)] == [(i, i) for i in range(60)]


@pytest.mark.parametrize("wanted", [[59], [0, 1, 58], range(40, 60, 7), [3, 3, 31], []])
def test_chosen_frames_are_the_same_frames(video: Path, wanted: list[int]) -> None:
    assert [(i, number_of(image)) for i, image in read_frames(video, wanted)] == [(i, i) for i in sorted({*wanted})]


def test_jumps_between_keyframes_keep_the_numbers(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "k.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "8", "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        for index in range(NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(number_image(index), format="gray")))
        container.mux(stream.encode(None))
    info = probe(tmp_path / "k.mp4")
    assert len(info.keyframes) >= 7
    wanted = [2, 30, 31, 55, 59]
    assert [(i, number_of(image)) for i, image in read_frames(info.path, wanted, info=info)] == [(i, i) for i in wanted]


def test_colour_frames_have_three_channels(video: Path) -> None:
    _, image = next(read_frames(video, [5], color="bgr"))
    assert image.shape == (48, 64, 3)
    assert number_of(image[..., 0]) == 5


def test_the_same_pictures_give_the_same_bytes(video: Path, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.mp4"), write(tmp_path / "b.mp4")
    assert first.read_bytes() == second.read_bytes()


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    ticks = [0, 3000, 6100, 12000, 15000]
    with VideoWriter(tmp_path / "v.mp4", SIZE_PX, Fraction(30), time_base=Fraction(1, 90000)) as writer:
        for tick in ticks:
            writer.write(number_image(1), tick)
    np.testing.assert_allclose(probe(tmp_path / "v.mp4").pts_s, np.array(ticks) / 90000, atol=1e-9)


def test_sound_is_where_the_picture_says(video: Path) -> None:
    samples, rate, first_s = read_audio(video)
    clicks = [int(np.argmax(np.abs(samples[a : a + 48000]))) + a for a in (0, 48000)]
    # AAC smears a click over less than one of its short blocks (128 samples)
    assert np.abs(first_s + np.array(clicks) / rate - [0.5, 1.5]).max() < 64 / 48000


def test_rotation_is_applied(video: Path, tmp_path: Path) -> None:
    with av.open(str(video)) as src, av.open(str(tmp_path / "r.mp4"), "w") as dst:
        stream = dst.add_stream_from_template(src.streams.video[0])
        stream.set_display_rotation(90)  # degrees counter-clockwise, as FFmpeg's display matrix counts
        for packet in src.demux(src.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                dst.mux(packet)
    info = probe(tmp_path / "r.mp4")
    assert info.size_px == (48, 64)
    _, upright = next(read_frames(video, [13]))
    _, turned = next(read_frames(info.path, [13]))
    np.testing.assert_array_equal(turned, np.rot90(upright))


def test_other_containers_are_read(video: Path, tmp_path: Path) -> None:
    info = probe(remux(video, tmp_path / "v.mkv"), decode=True)
    assert info.num_frames == 60
    # Matroska keeps milliseconds
    np.testing.assert_allclose(info.pts_s, np.arange(60) * 1001 / 30000, atol=1e-3)


def test_a_missing_an_empty_and_another_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(InputError, match="empty"):
        probe(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    with pytest.raises(InputError, match=r"text\.mp4: it cannot be read as a video"):
        probe(tmp_path / "text.mp4")


def test_a_file_cut_short_is_refused(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read as a video"):
        probe(cut)
    whole = remux(video, tmp_path / "fast.mp4", movflags="faststart").read_bytes()
    cut.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(InputError, match=r"ends after \d+ of 60 frames"):
        probe(cut)


def test_a_video_cut_without_encoding_again_begins_where_it_is_shown(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    with av.open(str(video)) as src, av.open(str(path), "w") as dst:
        stream = src.streams.video[0]
        copy = dst.add_stream_from_template(stream)
        hidden = round(10 / (Fraction(30000, 1001) * stream.time_base))
        for packet in src.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - hidden, packet.dts - hidden, copy
                dst.mux(packet)
    info = probe(path, decode=True)
    assert info.num_frames == NUM_FRAMES - 10
    assert info.pts_s[0] == pytest.approx(0.0, abs=1e-3)
    assert [(i, number_of(image)) for i, image in read_frames(path, [0, 7, 49])] == [(0, 10), (7, 17), (49, 59)]


def test_damaged_pictures_are_found_by_decoding(video: Path, tmp_path: Path) -> None:
    data = bytearray(remux(video, tmp_path / "d.mp4", movflags="faststart").read_bytes())
    data[-600:-300] = bytes(300)
    (tmp_path / "d.mp4").write_bytes(data)
    with pytest.raises(InputError, match=r"d\.mp4"):
        probe(tmp_path / "d.mp4", decode=True)


def test_a_video_without_frames_or_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "zero.mp4"), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"zero\.mp4"):
        probe(tmp_path / "zero.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(InputError, match="no picture track"):
        probe(tmp_path / "sound.mp4")


def test_frames_that_do_not_exist_are_refused(video: Path) -> None:
    for index in (-1, 60):
        with pytest.raises(InputError, match=f"frame {index} of 60"):
            list(read_frames(video, [index]))


def test_a_video_without_sound_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sound"):
        read_audio(write(tmp_path / "silent.mp4", 2))


def test_the_writer_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="odd side"):
        VideoWriter(tmp_path / "v.mp4", (63, 48), Fraction(30))
    with pytest.raises(InputError, match="no frame"), VideoWriter(tmp_path / "v.mp4", SIZE_PX, Fraction(30)):
        pass
    with (
        pytest.raises(InputError, match="resize"),
        VideoWriter(tmp_path / "v.mp4", SIZE_PX, Fraction(30)) as writer,
    ):
        writer.write(number_image(1))
        writer.write(np.zeros((10, 10), np.uint8))
    assert not list(tmp_path.iterdir())


def test_real_videos_are_read(shared: Path) -> None:
    folder = shared / "data/pose2sim_single/videos"
    infos = [probe(path) for path in sorted(folder.glob("*.mp4"))]
    assert [info.size_px for info in infos] == [(1080, 1920)] * 2 + [(1088, 1920)] * 2
    assert {(info.num_frames, info.rate) for info in infos} == {(100, Fraction(60))}
    assert [info.codec for info in infos] == ["h264", "vp9", "h264", "h264"]


def test_stills_are_listed_and_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_stills(tmp_path / "none")
    with pytest.raises(InputError, match="no pictures"):
        list_stills(tmp_path)
    for name, size in (("b.png", (8, 6)), ("a.JPG", (8, 6)), (".hidden.png", (9, 9))):
        cv2.imwrite(str(tmp_path / name), np.zeros(size[::-1], np.uint8))
    assert [p.name for p in list_stills(tmp_path)] == ["a.JPG", "b.png"]
    assert stills_size_px(tmp_path) == (8, 6)
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((5, 6), np.uint8))
    with pytest.raises(InputError, match=r"c\.png: it is 6x5 px"):
        stills_size_px(tmp_path)
    (tmp_path / "d.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"d\.png: it cannot be decoded"):
        read_still(tmp_path / "d.png")

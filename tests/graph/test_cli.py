"""The commands on a real daemon, as processes of their own, the way people run them."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np
import pytest
import soundfile

from stagebox import SAMPLE_RATE
from stagebox.cli import main, ways
from stagebox.testing import PrivateGraph
from tests.conftest import wait_until
from tests.graph.commands import on_a_terminal, run, running
from tests.graph.conftest import Applications, longest_sound, loudest_hz, tone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def graph() -> Iterator[PrivateGraph]:
    with PrivateGraph() as graph:
        yield graph


@pytest.fixture
def applications(graph: PrivateGraph, tmp_path: Path) -> Iterator[Applications]:
    running = Applications(graph, tmp_path)
    yield running
    running.stop()


def read(path: Path) -> NDArray[np.float32]:
    return np.asarray(soundfile.read(path, dtype="float32", always_2d=True)[0])


def sound_in(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is left without the silence before and after, and what fades there."""
    heard = np.flatnonzero(np.abs(pcm).max(axis=1) > 0.1)
    assert len(heard) > SAMPLE_RATE // 2
    return pcm[heard[0] + 4800 : heard[-1]]


def loud(pcm: NDArray[np.float32]) -> bool:
    return len(pcm) > 0 and float(np.abs(pcm).max()) > 0.3


# --- record ------------------------------------------------------------------------------------


@pytest.mark.alone
def test_record_writes_exactly_the_frames_and_the_tone(
    graph: PrivateGraph, applications: Applications, tmp_path: Path
) -> None:
    applications.play(tone(1000, 6))
    path = tmp_path / "desktop.wav"
    code, out, err = run(graph, "record", path, "--seconds", "1.5")
    assert (code, out) == (0, b"")
    assert err == f"recorded 1.50 s (72000 frames, 0 lost) to {path}\n"
    pcm = read(path)
    assert pcm.shape == (72_000, 2)
    assert loudest_hz(pcm[SAMPLE_RATE:]) == pytest.approx(1000, abs=5)
    assert np.abs(pcm[SAMPLE_RATE:]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("name", "channels"), [("a.flac", 6), ("a.ogg", 1)])
def test_record_formats_and_channels(
    graph: PrivateGraph, tmp_path: Path, name: str, channels: int
) -> None:
    path = tmp_path / name
    arguments = ["--seconds", "0.3", "--channels", channels, "--target", graph.sink]
    code, _, _ = run(graph, "record", path, *arguments)
    assert code == 0
    assert read(path).shape == (14_400, channels)


@pytest.mark.alone
def test_record_to_a_pipe_is_raw_and_exact(graph: PrivateGraph, applications: Applications) -> None:
    applications.play(tone(1000, 4))
    code, out, err = run(graph, "record", "-", "--seconds", "1.5", "--channels", "1")
    assert code == 0
    assert "to stdout" in err
    pcm = np.frombuffer(out, np.float32)
    assert len(pcm) == 72_000
    assert loudest_hz(pcm[36_000:, None]) == pytest.approx(1000, abs=5)


def test_record_takes_one_application_alone(
    graph: PrivateGraph, applications: Applications, tmp_path: Path
) -> None:
    applications.play(tone(500, 20), name="music")
    applications.play(tone(3000, 20), name="call")
    for choice in (["--app", "music"], ["--except-app", "call"]):
        path = tmp_path / "alone.wav"
        code, _, _ = run(graph, "record", path, "--seconds", "1", *choice)
        assert code == 0
        pcm = soundfile.read(path, dtype="float32")[0]
        assert loudest_hz(longest_sound(pcm)) == pytest.approx(500, abs=5)
    code, _, err = run(graph, "record", path, "--app", "music", "--target", "x")
    assert (code, "not allowed with" in err) == (2, True)


def test_record_takes_surround_with_a_sink_of_its_own(
    graph: PrivateGraph, applications: Applications
) -> None:
    with running(graph, "record", "--own-sink", "--channels", "6", "-") as command:
        stream = command.process.stdout
        assert stream is not None

        def heard() -> list[bool]:
            """In which channels there is sound, in the next tenth of a second."""
            pcm = np.frombuffer(stream.read(6 * 4 * 4800), np.float32)
            return [bool(channel.any()) for channel in pcm.reshape(-1, 6).T]

        assert not any(heard())
        right_rear = np.zeros((96_000, 6), np.float32)
        right_rear[:, 5] = 0.5
        applications.play(right_rear, target="auto")
        wait_until("the right rear", lambda: heard()[5])
        assert heard() == [False] * 5 + [True]


def test_record_ends_quietly_when_nobody_reads_on(graph: PrivateGraph) -> None:
    with running(graph, "record", "-") as command:
        assert command.process.stdout is not None
        assert len(command.process.stdout.read(10_000)) == 10_000
        command.process.stdout.close()
        assert command.process.wait(5) == 0
        assert command.line() == ""


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_recording_with_a_valid_file(
    graph: PrivateGraph, applications: Applications, tmp_path: Path, number: int, expected: int
) -> None:
    path = tmp_path / "desktop.flac"
    applications.play(tone(1000, 6))
    with running(graph, "record", path, traced=False) as command:
        wait_until("sound in the file", lambda: path.exists() and path.stat().st_size > 8000)
        command.signal(number)
        code, _, err = command.ended()
    assert code == expected
    frames = soundfile.info(path).frames
    assert frames > 0
    assert f"({frames} frames, 0 lost)" in err
    assert err.count("\n") == 1


def test_a_daemon_that_dies_leaves_what_was_recorded(
    private_graph: PrivateGraph, tmp_path: Path
) -> None:
    path = tmp_path / "desktop.wav"
    with running(private_graph, "record", path) as command:
        wait_until("sound in the file", lambda: path.exists() and path.stat().st_size > 8000)
        private_graph.kill()
        code, _, err = command.ended()
    assert code == 1
    assert err.startswith("stagebox: the capture's backend is gone: ")
    assert f"({soundfile.info(path).frames} frames, 0 lost) to {path}" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["record", "mic"])
def test_expected_failures_are_one_line(graph: PrivateGraph, tmp_path: Path, command: str) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, tone(440, 0.1), SAMPLE_RATE)
    wrong = {"record": ["--target", "no-such-sink"], "mic": ["--name", ""]}[command]
    for arguments in (["--remote", "no-such-daemon"], wrong):
        code, out, err = run(graph, command, path, *arguments)
        assert (code, out) == (1, b"")
        assert err.startswith("stagebox: ")
        assert err.count("\n") == 1
    assert len(read(path)) == 4800  # it was not touched


# --- on a terminal -------------------------------------------------------------------------------


def test_a_terminal_shows_a_meter_and_a_pipe_does_not(
    graph: PrivateGraph, applications: Applications, tmp_path: Path
) -> None:
    applications.play(tone(1000, 6))
    arguments = ["record", tmp_path / "a.wav", "--seconds", "0.6"]
    code, shown = on_a_terminal(graph, *arguments)
    assert code == 0
    assert "-6.0 dBFS" in shown
    assert "of 0:00.6" in shown
    assert "0 frames lost" in shown
    assert "recorded 0.60 s" in shown.splitlines()[-1]
    code, out, err = run(graph, *arguments)
    assert (code, out) == (0, b"")
    assert "dBFS" not in err


def test_mic_on_a_terminal_shows_how_far_it_is(graph: PrivateGraph, tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    soundfile.write(path, tone(440, 0.5), SAMPLE_RATE)
    code, shown = on_a_terminal(graph, "mic", path, "--name", "shown-mic")
    assert code == 0
    assert "microphone shown-mic is ready" in shown
    assert "of 0:00.5  nobody records, 0 packets dropped" in shown


# --- mic -----------------------------------------------------------------------------------------


@pytest.mark.alone
def test_mic_plays_a_file_that_an_application_records(
    graph: PrivateGraph, applications: Applications, tmp_path: Path
) -> None:
    path = tmp_path / "voice.flac"
    time = np.arange(2 * 44_100) / 44_100
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time), 44_100)
    with running(graph, "mic", path, "--name", "file-mic") as command:
        assert command.line() == "microphone file-mic is ready\n"
        with applications.recording("file-mic") as recorded:
            code, out, err = command.ended()
    assert (code, out, err) == (0, b"", "")
    pcm = recorded[0]
    assert loudest_hz(longest_sound(sound_in(pcm))) == pytest.approx(440, abs=5)
    assert np.abs(pcm[:, 0] - pcm[:, 1]).max() < 0.05


@pytest.mark.alone
def test_mic_plays_samples_from_a_pipe(graph: PrivateGraph, applications: Applications) -> None:
    pipe = subprocess.PIPE
    arguments = ["mic", "-", "--channels", "1", "--name", "pipe-mic"]
    with running(graph, *arguments, stdin=pipe) as command:
        assert command.line() == "microphone pipe-mic is ready\n"
        with applications.recording("pipe-mic", channels=1) as recorded:
            # half a sample at the end is not played
            code, _, err = command.ended(tone(660, 2, channels=1).tobytes() + b"xy")
    assert (code, err) == (0, "")
    assert loudest_hz(longest_sound(sound_in(recorded[0]))) == pytest.approx(660, abs=5)


def test_mic_loops_until_ctrl_c_and_leaves_no_node(
    graph: PrivateGraph, applications: Applications, tmp_path: Path
) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, tone(500, 0.1), SAMPLE_RATE)
    with running(graph, "mic", path, "--loop", "--name", "loop-mic", traced=False) as command:
        command.line()
        recording = tmp_path / "record-0.wav"
        with applications.recording("loop-mic") as recorded:
            # five times as long as the file
            wait_until("a recording", lambda: recording.exists() and _size(recording) > 192_000)
        assert command.process.poll() is None
        command.signal(signal.SIGINT)
        code, _, err = command.ended()
    assert (code, err) == (130, "")
    assert loud(recorded[0][-4800:])
    wait_until("the node to go", lambda: "loop-mic" not in graph.node_names())


def _size(path: Path) -> int:
    return path.stat().st_size


def test_mic_says_when_its_daemon_dies_and_goes_on(
    private_graph: PrivateGraph, tmp_path: Path
) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, tone(500, 0.1), SAMPLE_RATE)
    with running(private_graph, "mic", path, "--loop", traced=False) as command:
        command.line()
        private_graph.kill()
        assert "virtual microphone died" in command.line()
        command.signal(signal.SIGTERM)
        code, _, _ = command.ended()
    assert code == 143


# --- demo ----------------------------------------------------------------------------------------

FILES = {"desktop-out.wav", "voice-in.wav", "stagebox-demo.png"}


@pytest.mark.alone
def test_the_demo_proves_both_ways(tmp_path: Path, graph: PrivateGraph) -> None:
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        arguments = ["demo", "--out", tmp_path / "out", "--seconds", "1.5"]
        code, out, err = run(graph, *arguments, env={"TMPDIR": scratch})
        assert not list(Path(scratch).iterdir())
    text = out.decode()
    assert (code, err) == (0, ""), text
    for way in ("desktop → capture", "voice → microphone"):
        # not what it says of a first attempt that a busy machine spoilt
        row = next(line for line in text.splitlines() if line.startswith("│") and way in line)
        assert row.rstrip("│ ").endswith("ok")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert loud(read(tmp_path / "out" / "desktop-out.wav"))
    assert loud(read(tmp_path / "out" / "voice-in.wav"))
    picture = matplotlib.image.imread(tmp_path / "out" / "stagebox-demo.png")
    assert picture.shape[0] > 500
    assert picture.shape[1] > 1000
    assert picture.std() > 0.1


@pytest.mark.alone
def test_the_demo_fails_when_one_way_is_wrong(
    graph: PrivateGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in graph.env.items():
        monkeypatch.setenv(name, value)
    # Nobody speaks: every packet is one of silence.
    encoded = ways._encoded
    monkeypatch.setattr(ways, "_encoded", lambda voice: encoded(np.zeros_like(voice)))
    code = main(["demo", "--here", "--out", str(tmp_path), "--seconds", "1"])
    out, err = capsys.readouterr()
    assert (code, err) == (1, "")
    assert out.count("voice → microphone: similarity 0.") == 2
    assert "once more" in out
    assert next(line for line in out.splitlines() if "│ voice" in line).count("FAILED") == 1
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_ctrl_c_ends_the_demo_and_leaves_nothing(graph: PrivateGraph, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        environment = {"TMPDIR": scratch}
        with running(graph, "demo", "--out", tmp_path, env=environment, traced=False) as command:
            wait_until("the sound", lambda: list(Path(scratch).glob("stagebox-demo-*/music.wav")))
            command.signal(signal.SIGINT)
            code, out, err = command.ended()
        assert (code, out, err) == (130, b"", "")
        assert not list(Path(scratch).iterdir())
    assert not list(tmp_path.iterdir())

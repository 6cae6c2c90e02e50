"""A capture of some applications hears them and nobody else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stagebox import open_audio_capture
from stagebox.graph import Graph
from tests.conftest import wait_until
from tests.graph.conftest import (
    STEADY_FRAMES,
    WINDOW,
    amplitudes,
    assert_leaves_nothing,
    threads_of_routers,
    tone,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from stagebox import AudioCapturer
    from stagebox.testing import PrivateGraph
    from tests.graph.conftest import Applications

    Play = Callable[..., subprocess.Popen[bytes]]

MUSIC_HZ, GAME_HZ, CALL_HZ = 440, 1000, 3000
TONES = (MUSIC_HZ, GAME_HZ, CALL_HZ)


@pytest.fixture
def play(applications: Applications, private_graph: PrivateGraph) -> Play:
    """Play a tone by an application of its own: its binary is pw-play's, its name is its own."""

    def play(hz: float, name: str, target: str = private_graph.sink) -> subprocess.Popen[bytes]:
        return applications.play(tone(hz, 60), target=target, name=name)

    return play


@contextmanager
def capture_of(
    graph: PrivateGraph,
    apps: list[str | int] | None = None,
    except_apps: list[str | int] | None = None,
) -> Iterator[AudioCapturer]:
    with open_audio_capture(
        apps=apps, except_apps=except_apps, quantum_frames=STEADY_FRAMES, remote=graph.remote
    ) as capture:
        yield capture


def heard(capture: AudioCapturer) -> set[int]:
    """The tones in the next tenth of a second."""
    pcm = capture.read(WINDOW, timeout=0.5)
    if len(pcm) < WINDOW:
        return set()
    return {hz for hz, amplitude in amplitudes(pcm, TONES).items() if amplitude > 0.05}


def wait_to_hear(capture: AudioCapturer, *tones: int) -> None:
    wait_until(f"{tones} alone", lambda: heard(capture) == set(tones))


def assert_only(capture: AudioCapturer, *tones: int) -> None:
    """For a second no other is heard: nothing, less than a ten-thousandth of full scale."""
    for _ in range(10):
        pcm = capture.read(WINDOW, timeout=5)
        assert len(pcm) == WINDOW
        found = amplitudes(pcm, TONES)
        others = {hz: amplitude for hz, amplitude in found.items() if hz not in tones}
        assert all(amplitude < 1e-4 for amplitude in others.values()), found


def test_only_the_applications_that_were_chosen_are_heard_whatever_they_play_into(
    private_graph: PrivateGraph, play: Play
) -> None:
    private_graph.add_sink("headset")
    music = play(MUSIC_HZ, "music")
    play(GAME_HZ, "game", target="headset")
    play(CALL_HZ, "call")
    with capture_of(private_graph, apps=[music.pid, "game"]) as capture:
        wait_to_hear(capture, MUSIC_HZ, GAME_HZ)
        assert_only(capture, MUSIC_HZ, GAME_HZ)


def test_they_play_on_for_whoever_is_at_the_desk(private_graph: PrivateGraph, play: Play) -> None:
    play(MUSIC_HZ, "music")
    with (
        capture_of(private_graph, apps=["music"]) as capture,
        open_audio_capture(remote=private_graph.remote) as desk,
        Graph(remote=private_graph.remote) as graph,
    ):
        wait_to_hear(capture, MUSIC_HZ)
        wait_to_hear(desk, MUSIC_HZ)
        (application,) = graph.applications()
        assert set(application.plays_into) == {private_graph.sink, "stagebox-capture"}


def test_all_but_some_are_heard(private_graph: PrivateGraph, play: Play) -> None:
    play(MUSIC_HZ, "music")
    play(GAME_HZ, "game")
    play(CALL_HZ, "call")
    with capture_of(private_graph, except_apps=["call"]) as capture:
        wait_to_hear(capture, MUSIC_HZ, GAME_HZ)
        assert_only(capture, MUSIC_HZ, GAME_HZ)


def test_an_application_that_starts_later_joins_and_one_that_ends_leaves(
    private_graph: PrivateGraph, play: Play
) -> None:
    with capture_of(private_graph, apps=["music", "game"]) as capture:
        assert not capture.next_chunk(timeout=0.2)
        music = play(MUSIC_HZ, "music")
        wait_to_hear(capture, MUSIC_HZ)
        play(GAME_HZ, "game")
        wait_to_hear(capture, MUSIC_HZ, GAME_HZ)
        music.kill()
        wait_to_hear(capture, GAME_HZ)


def test_each_capture_hears_its_own(private_graph: PrivateGraph, play: Play) -> None:
    play(MUSIC_HZ, "music")
    play(CALL_HZ, "call")
    with (
        capture_of(private_graph, apps=["music"]) as first,
        capture_of(private_graph, except_apps=["music"]) as second,
    ):
        wait_to_hear(first, MUSIC_HZ)
        wait_to_hear(second, CALL_HZ)
        assert_only(first, MUSIC_HZ)
        assert_only(second, CALL_HZ)


def test_a_tone_is_as_loud_as_it_is_played(private_graph: PrivateGraph, play: Play) -> None:
    play(MUSIC_HZ, "music")
    with capture_of(private_graph, apps=["music"]) as capture:
        wait_to_hear(capture, MUSIC_HZ)
        wait_until(
            "the whole of it",
            lambda: abs(amplitudes(capture.read(WINDOW), TONES)[MUSIC_HZ] - 0.5) < 0.001,
        )


def test_the_session_manager_may_come_back(private_graph: PrivateGraph, play: Play) -> None:
    players = [play(MUSIC_HZ, "music"), play(CALL_HZ, "call")]
    with capture_of(private_graph, apps=["music"]) as capture:
        wait_to_hear(capture, MUSIC_HZ)
        private_graph.restart_manager()
        # WirePlumber 0.4 leaves those that play already without a sink, and pw-play then gives up.
        for player in players:
            player.kill()
            player.wait()
        play(MUSIC_HZ, "music")
        play(CALL_HZ, "call")
        wait_to_hear(capture, MUSIC_HZ)
        assert_only(capture, MUSIC_HZ)


def test_an_end_leaves_no_link_and_no_thread(private_graph: PrivateGraph, play: Play) -> None:
    play(MUSIC_HZ, "music")
    with capture_of(private_graph, apps=["music"]) as capture:
        wait_to_hear(capture, MUSIC_HZ)
        assert threads_of_routers() == 1
    wait_until("the router's end", lambda: threads_of_routers() == 0)
    with Graph(remote=private_graph.remote) as graph:
        (application,) = graph.applications()
        assert application.plays_into == (private_graph.sink,)


def test_a_capture_that_is_forgotten_takes_its_router_with_it(private_graph: PrivateGraph) -> None:
    capture = open_audio_capture(apps=["music"], remote=private_graph.remote)
    assert threads_of_routers() == 1
    del capture
    wait_until("the router's end", lambda: threads_of_routers() == 0)


def test_twenty_captures_leave_nothing(private_graph: PrivateGraph, play: Play) -> None:
    play(MUSIC_HZ, "music")

    def hear() -> None:
        with capture_of(private_graph, apps=["music"]) as capture:
            assert capture.next_chunk()

    assert_leaves_nothing(hear)


def test_applications_come_and_go(private_graph: PrivateGraph, play: Play) -> None:
    play(CALL_HZ, "call")
    with capture_of(private_graph, apps=["music"]) as capture:
        for _ in range(2):
            player = play(MUSIC_HZ, "music")
            wait_to_hear(capture, MUSIC_HZ)
            player.kill()
            player.wait()
            wait_until("silence", lambda: not heard(capture))
            assert CALL_HZ not in heard(capture)

"""A sink of our own: the default while it is captured, with the channels that were asked for."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial, partialmethod
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stagebox import (
    AudioCapturer,
    MicPump,
    PipeWireUnavailable,
    claims,
    ledger,
    open_audio_capture,
    open_virtual_mic,
)
from stagebox.claims import Holder, Restored
from stagebox.graph import Graph
from stagebox.ledger import OWN_SINK
from tests.conftest import wait_until
from tests.graph.conftest import (
    STEADY_FRAMES,
    WINDOW,
    Listener,
    amplitudes,
    assert_leaves_nothing,
    followed_by_silence,
    heard,
    loudest_hz,
    ramp,
    speak,
    tone,
    wait_for_recorder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stagebox.testing import PrivateGraph
    from tests.graph.conftest import Applications

    Rounds = Callable[[int, int], int]
    Figure = Callable[[str], None]

AUTO = "auto"
"""pw-play's target for the default."""
CHOSEN = "headset"

HOLDER = """
import sys
from stagebox import open_audio_capture
with open_audio_capture(sink="own", remote=sys.argv[1]):
    print("open", flush=True)
    sys.stdin.readline()
"""
FORGETFUL = """
import sys
from stagebox import open_audio_capture
capture = open_audio_capture(sink="own", remote=sys.argv[1])
"""
FORKING = """
import os, sys
from stagebox import open_audio_capture
from stagebox.graph import Graph
with open_audio_capture(sink="own", remote=sys.argv[1]):
    if os.fork() == 0:
        sys.exit()
    os.wait()
    with Graph(remote=sys.argv[1]) as graph:
        print(graph.default_sink().name)
"""


def own(graph: PrivateGraph, channels: int = 2, *, keep_local: bool = False) -> AudioCapturer:
    return open_audio_capture(
        channels,
        sink="own",
        keep_local=keep_local,
        quantum_frames=STEADY_FRAMES,
        remote=graph.remote,
    )


def heard_at(graph: PrivateGraph, sink: str) -> AudioCapturer:
    """What whoever sits there hears."""
    return open_audio_capture(target=sink, quantum_frames=STEADY_FRAMES, remote=graph.remote)


def default(graph: PrivateGraph) -> str | None:
    with Graph(remote=graph.remote) as look:
        sink = look.default_sink()
    return None if sink is None else sink.name


def plays(capture: AudioCapturer) -> bool:
    """Whether something is heard."""
    return bool(capture.next_chunk(0.2).pcm.any())


def wait_until_remembered(graph: PrivateGraph, name: str) -> None:
    """Wait until the session manager has written a choice down, as it does after a second."""
    state = graph.directory / "state" / "wireplumber" / "default-nodes"
    wait_until(f"{name} in its state", lambda: state.exists() and name in state.read_text())


def wait_for_default(graph: PrivateGraph, name: str) -> None:
    wait_until(f"{name} as default", lambda: default(graph) == name)


def configured(graph: PrivateGraph) -> str:
    """The user's choices, as pw-metadata prints them."""
    done = subprocess.run(
        ["pw-metadata", "0"], env=graph.env, capture_output=True, text=True, check=True
    )
    return "".join(line for line in done.stdout.splitlines() if ".configured." in line)


@pytest.fixture
def headset(private_graph: PrivateGraph) -> str:
    """Another sink, which the user has chosen."""
    private_graph.add_sink(CHOSEN)
    private_graph.configure_default("sink", CHOSEN)
    wait_for_default(private_graph, CHOSEN)
    return CHOSEN


@contextmanager
def another_process(graph: PrivateGraph, script: str = HOLDER) -> Iterator[subprocess.Popen[str]]:
    """One that holds a sink of its own until it reads a line, or is killed."""
    command = [sys.executable, "-c", script, graph.remote]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")
    assert process.returncode == 0


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


# --- what it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_it_has_exactly_the_channels_and_the_rate_that_were_asked_for(
    private_graph: PrivateGraph, channels: int
) -> None:
    with own(private_graph, channels):
        with Graph(remote=private_graph.remote) as graph:
            sink = graph.default_sink()
        assert sink is not None
        assert (sink.name, sink.channels) == (OWN_SINK, channels)
        assert private_graph.properties(OWN_SINK)["audio.rate"] == 48_000


@pytest.mark.parametrize(("channels", "hardware"), [(6, "stereo"), (8, "stereo"), (8, "none")])
def test_what_plays_surround_into_the_default_is_heard_in_every_channel_in_order(
    private_graph: PrivateGraph, applications: Applications, channels: int, hardware: str
) -> None:
    if hardware == "none":
        private_graph.remove(private_graph.sink)
    sound = ramp(24_000, channels)
    with own(private_graph, channels) as capture:
        listener = Listener(capture)
        player = applications.play(followed_by_silence(sound), target=AUTO)
        player.wait()
        frames = heard(listener.stop())
    assert frames[-1] == len(sound)
    assert np.array_equal(frames, np.unique(frames))  # in order, none twice


def test_a_player_that_runs_is_heard_from_then_on_and_plays_on_afterwards(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    applications.play(tone(1000, 60), target=AUTO)
    with heard_at(private_graph, private_graph.sink) as desk:
        wait_until("sound", lambda: plays(desk))
    with own(private_graph) as capture:
        wait_until("sound", lambda: plays(capture))
    with heard_at(private_graph, private_graph.sink) as desk:
        wait_until("sound", lambda: plays(desk))


# --- claims ---------------------------------------------------------------------------------


def test_its_end_gives_back_what_the_user_chose(private_graph: PrivateGraph, headset: str) -> None:
    chosen = configured(private_graph)
    with own(private_graph):
        assert default(private_graph) == OWN_SINK
    wait_for_default(private_graph, headset)
    assert configured(private_graph) == chosen
    assert claims.holders(private_graph.remote) == ()


def test_where_the_user_had_chosen_nothing_nothing_is_chosen_afterwards(
    private_graph: PrivateGraph,
) -> None:
    with own(private_graph):
        assert OWN_SINK in configured(private_graph)
    assert configured(private_graph) == ""
    wait_for_default(private_graph, private_graph.sink)
    assert OWN_SINK not in private_graph.node_names()


@pytest.mark.usefixtures("headset")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_the_newest_has_it_and_the_last_gives_it_back(
    private_graph: PrivateGraph, first_to_end: int
) -> None:
    captures = [own(private_graph, 2), own(private_graph, 6)]
    names = [OWN_SINK, f"{OWN_SINK}-2"]
    assert default(private_graph) == names[1]
    captures.pop(first_to_end).close()
    names.pop(first_to_end)
    assert default(private_graph) == names[0]
    captures[0].close()
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_processes_may_claim_it_and_end_in_either_order(
    private_graph: PrivateGraph, first_to_end: int
) -> None:
    with another_process(private_graph) as first, another_process(private_graph) as second:
        left = [first, second]
        end(left.pop(first_to_end))
        assert default(private_graph) in {OWN_SINK, f"{OWN_SINK}-2"}
        end(left[0])
    wait_for_default(private_graph, CHOSEN)
    assert claims.holders(private_graph.remote) == ()


def test_what_the_user_chooses_meanwhile_is_theirs(private_graph: PrivateGraph) -> None:
    private_graph.add_sink(CHOSEN)
    with own(private_graph):
        private_graph.configure_default("sink", CHOSEN)
        wait_for_default(private_graph, CHOSEN)
    wait_for_default(private_graph, CHOSEN)
    assert CHOSEN in configured(private_graph)


@pytest.mark.usefixtures("headset")
def test_one_that_is_forgotten_gives_it_back(private_graph: PrivateGraph) -> None:
    capture = own(private_graph)
    assert default(private_graph) == OWN_SINK
    del capture
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_a_program_that_ends_without_a_close_gives_it_back(private_graph: PrivateGraph) -> None:
    subprocess.run([sys.executable, "-c", FORGETFUL, private_graph.remote], check=True)
    wait_for_default(private_graph, CHOSEN)
    assert claims.holders(private_graph.remote) == ()


@pytest.mark.usefixtures("headset")
def test_a_forked_child_gives_back_nothing(private_graph: PrivateGraph) -> None:
    command = [sys.executable, "-c", FORKING, private_graph.remote]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == OWN_SINK
    wait_for_default(private_graph, CHOSEN)


def test_without_a_session_manager_there_is_an_error_and_nothing_is_left(
    private_graph: PrivateGraph,
) -> None:
    manager = private_graph.processes[-1]
    manager.terminate()
    manager.wait()
    with pytest.raises(PipeWireUnavailable, match="there is no session manager"):
        own(private_graph)
    wait_until("its node's end", lambda: OWN_SINK not in private_graph.node_names())


def test_a_ledger_that_cannot_be_written_is_an_error_and_nothing_is_claimed(
    private_graph: PrivateGraph, own_state: Path
) -> None:
    own_state.touch()  # a file where its directory should be
    with pytest.raises(OSError, match="state"):
        own(private_graph)
    wait_for_default(private_graph, private_graph.sink)


@pytest.mark.usefixtures("headset")
def test_twenty_leave_nothing(private_graph: PrivateGraph) -> None:
    def hear() -> None:
        with own(private_graph, keep_local=True) as capture:
            assert capture.next_chunk()

    assert_leaves_nothing(hear)
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_two_that_close_at_once_give_it_back(private_graph: PrivateGraph) -> None:
    for _ in range(5):
        captures = [own(private_graph), own(private_graph)]
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda capture: capture.close(), captures))
        wait_for_default(private_graph, CHOSEN)
        assert claims.holders(private_graph.remote) == ()


def test_a_choice_that_the_user_makes_ends_the_claims_before_it(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    private_graph.add_sink(CHOSEN)
    with own(private_graph):
        private_graph.configure_default("sink", CHOSEN)
        wait_for_default(private_graph, CHOSEN)
        with own(private_graph, keep_local=True), heard_at(private_graph, CHOSEN) as desk:
            applications.play(tone(1000, 60), target=AUTO)
            wait_until("sound", lambda: plays(desk))
        wait_for_default(private_graph, CHOSEN)
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_one_that_dies_and_is_closed_late_takes_nothing_from_its_successor(
    private_graph: PrivateGraph,
) -> None:
    dead = own(private_graph)
    wait_until_remembered(private_graph, OWN_SINK)
    private_graph.kill()
    private_graph.restart()
    with own(private_graph):
        dead.close()
        assert default(private_graph) == OWN_SINK
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_an_interrupted_open_gives_it_back(
    private_graph: PrivateGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(claims._Defaults, "become", interrupt)
        with pytest.raises(KeyboardInterrupt):
            own(private_graph)
    with monkeypatch.context() as patch:
        patch.setattr(claims._Defaults, "await_default", interrupt)
        with pytest.raises(KeyboardInterrupt):
            own(private_graph)
    wait_for_default(private_graph, CHOSEN)
    assert claims.holders(private_graph.remote) == ()
    wait_until("its node's end", lambda: OWN_SINK not in private_graph.node_names())


@pytest.mark.usefixtures("headset")
def test_an_interrupted_close_is_made_good_by_the_next(
    private_graph: PrivateGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    capture = own(private_graph)
    with monkeypatch.context() as patch:
        patch.setattr(claims.Desk, "settle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            capture.close()
    wait_until("its node's end", lambda: OWN_SINK not in private_graph.node_names())
    assert OWN_SINK in configured(private_graph)
    capture.close()
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_a_close_by_a_signals_handler_amid_another_is_done_after_it(
    private_graph: PrivateGraph,
) -> None:
    with own(private_graph) as capture:
        with claims.at_desk(private_graph.remote):
            capture.close()
            assert OWN_SINK in configured(private_graph)
        wait_for_default(private_graph, CHOSEN)


def test_one_that_somebody_destroys_comes_again(private_graph: PrivateGraph) -> None:
    with own(private_graph) as capture:
        number = private_graph.properties(OWN_SINK)["object.id"]
        subprocess.run(
            ["pw-cli", "destroy", str(number)],
            env=private_graph.env,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wait_for_default(private_graph, OWN_SINK)
        wait_until("its capture", lambda: capture.stats.state == "streaming")


# --- crashes --------------------------------------------------------------------------------


@pytest.mark.usefixtures("headset")
def test_the_next_start_after_a_kill_gives_it_back(private_graph: PrivateGraph) -> None:
    with another_process(private_graph) as process:
        kill(process)
    wait_until("its node's end", lambda: OWN_SINK not in private_graph.node_names())
    assert OWN_SINK in configured(private_graph)
    with open_virtual_mic(default="session", remote=private_graph.remote):
        wait_for_default(private_graph, CHOSEN)
        assert OWN_SINK not in configured(private_graph)
    assert claims.holders(private_graph.remote) == ()


@pytest.mark.usefixtures("headset")
def test_what_a_kill_left_can_be_seen_and_restored(private_graph: PrivateGraph) -> None:
    with another_process(private_graph) as process:
        assert claims.holders(private_graph.remote) == (Holder("sink", OWN_SINK, here=True),)
        assert claims.restore(private_graph.remote) == ()
        kill(process)
    assert claims.holders(private_graph.remote) == (Holder("sink", OWN_SINK, here=False),)
    assert claims.restore(private_graph.remote) == (Restored("sink", CHOSEN),)
    assert claims.holders(private_graph.remote) == ()
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_a_kill_gives_it_to_the_claim_before(private_graph: PrivateGraph) -> None:
    with own(private_graph):
        with another_process(private_graph) as process:
            assert default(private_graph) == f"{OWN_SINK}-2"
            kill(process)
        assert claims.restore(private_graph.remote) == (Restored("sink", OWN_SINK),)
        assert default(private_graph) == OWN_SINK
    wait_for_default(private_graph, CHOSEN)


@pytest.mark.usefixtures("headset")
def test_a_claim_that_a_kill_left_is_never_what_comes_back(
    private_graph: PrivateGraph,
) -> None:
    with another_process(private_graph) as process:
        kill(process)
    ledger.path().unlink()
    with own(private_graph):
        assert default(private_graph) == OWN_SINK
    assert configured(private_graph) == ""


@pytest.mark.usefixtures("headset")
def test_a_choice_made_after_a_kill_is_the_users(private_graph: PrivateGraph) -> None:
    with another_process(private_graph) as process:
        kill(process)
    private_graph.configure_default("sink", private_graph.sink)
    wait_for_default(private_graph, private_graph.sink)
    assert claims.restore(private_graph.remote) == ()
    wait_for_default(private_graph, private_graph.sink)
    assert claims.holders(private_graph.remote) == ()


@pytest.mark.usefixtures("headset")
def test_a_daemon_that_dies_takes_the_sink_and_the_next_start_gives_it_back(
    private_graph: PrivateGraph,
) -> None:
    with own(private_graph) as capture:
        wait_until_remembered(private_graph, OWN_SINK)
        private_graph.kill()
        wait_until("its death", lambda: capture.stats.state == "dead")
    private_graph.restart()
    wait_until("what it remembers", lambda: OWN_SINK in configured(private_graph))
    with own(private_graph):
        assert default(private_graph) == OWN_SINK
    wait_for_default(private_graph, CHOSEN)
    assert CHOSEN in configured(private_graph)


@pytest.mark.usefixtures("headset")
def test_a_session_manager_that_has_not_heard_of_its_end_is_told_by_the_next_start(
    private_graph: PrivateGraph,
) -> None:
    with own(private_graph):
        wait_until_remembered(private_graph, OWN_SINK)
    private_graph.restart_manager()
    wait_until("what it remembers", lambda: OWN_SINK in configured(private_graph))
    assert claims.restore(private_graph.remote) == (Restored("sink", CHOSEN),)
    wait_for_default(private_graph, CHOSEN)


def test_without_a_session_manager_a_restore_says_so_and_the_next_does_it(
    private_graph: PrivateGraph, headset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_process(private_graph) as process:
        wait_until_remembered(private_graph, OWN_SINK)
        kill(process)
    private_graph.processes[-1].kill()
    impatient = partialmethod(claims.Desk.settle, timeout=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(claims.Desk, "settle", impatient)
        with pytest.raises(PipeWireUnavailable, match="no session manager"):
            claims.restore(private_graph.remote)
    private_graph.restart_manager()
    wait_until("the choice", lambda: claims.restore(private_graph.remote))
    wait_for_default(private_graph, headset)


def test_a_session_manager_that_comes_back_finds_it(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    with own(private_graph, 6) as capture:
        wait_until_remembered(private_graph, OWN_SINK)
        private_graph.restart_manager()
        wait_for_default(private_graph, OWN_SINK)
        applications.play(tone(1000, 60), target=AUTO)
        wait_until("sound", lambda: plays(capture))
    wait_for_default(private_graph, private_graph.sink)


def test_whatever_programs_do_the_users_last_choice_comes_back(
    private_graph: PrivateGraph, headset: str, rounds: Rounds, figure: Figure
) -> None:
    chance = random.Random(1)
    chosen, killed = headset, 0
    with ExitStack() as programs:
        running: list[subprocess.Popen[str]] = []
        for _ in range(rounds(10, 300)):
            act = chance.choice(["open", "open", "open", "end", "kill", "choose"])
            if act == "open" and len(running) < 4:
                running.append(programs.enter_context(another_process(private_graph)))
            elif act == "end" and running:
                end(running.pop(chance.randrange(len(running))))
            elif act == "kill" and running:
                kill(running.pop(chance.randrange(len(running))))
                killed += 1
            elif act == "choose":
                chosen = chance.choice([headset, private_graph.sink])
                private_graph.configure_default("sink", chosen)
        for program in running:
            end(program)
    claims.restore(private_graph.remote)
    wait_for_default(private_graph, chosen)
    assert claims.holders(private_graph.remote) == ()
    assert not any(name.startswith(OWN_SINK) for name in private_graph.node_names())
    figure(f"{killed} programs killed; the user's last choice is the default")


# --- who hears it ---------------------------------------------------------------------------


def test_kept_local_it_is_heard_once_there_and_once_here(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    sound = ramp(24_000, 2)
    with own(private_graph, keep_local=True) as capture:
        desk = Listener(heard_at(private_graph, private_graph.sink))
        listener = Listener(capture)
        applications.play(followed_by_silence(sound), target=AUTO).wait()
        here, there = heard(listener.stop()), heard(desk.stop())
    for frames in (here, there):
        assert frames[-1] == len(sound)
        assert np.array_equal(frames, np.unique(frames))


def test_without_it_nothing_is_heard_there(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    with (
        own(private_graph) as capture,
        heard_at(private_graph, private_graph.sink) as desk,
    ):
        applications.play(tone(1000, 60), target=AUTO)
        wait_until("sound", lambda: plays(capture))
        assert not desk.next_chunk().pcm.any()


@pytest.mark.usefixtures("headset")
def test_kept_local_it_follows_the_device_that_was_the_default(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    applications.play(tone(1000, 60), target=AUTO)
    with (
        own(private_graph, 6, keep_local=True),
        heard_at(private_graph, CHOSEN) as headset,
        heard_at(private_graph, private_graph.sink) as speakers,
    ):
        wait_until("sound", lambda: plays(headset))
        assert not speakers.next_chunk().pcm.any()
        private_graph.remove(CHOSEN)
        wait_until("sound", lambda: plays(speakers))
        private_graph.add_sink(CHOSEN, 8)
        wait_until("sound", lambda: plays(headset))
        speakers.drain()
        wait_until("silence", lambda: not plays(speakers))
    wait_for_default(private_graph, CHOSEN)


def test_our_microphone_and_our_playthrough_are_outside_of_every_capture(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    applications.play(tone(1000, 60), target=AUTO, name="game")
    with (
        own(private_graph, keep_local=True) as sink,
        open_audio_capture(
            except_apps=["nobody"], quantum_frames=STEADY_FRAMES, remote=private_graph.remote
        ) as everybody,
        open_virtual_mic(
            default="session", quantum_frames=STEADY_FRAMES, remote=private_graph.remote
        ) as mic,
        applications.recording() as recorded,
    ):
        wait_for_recorder(mic)
        for capture in (sink, everybody):
            wait_until("the game", partial(plays, capture))
            capture.drain()
        speak(mic, tone(3000, 1))
        for capture in (sink, everybody):
            found = [amplitudes(capture.read(WINDOW), (1000, 3000)) for _ in range(10)]
            assert max(each[3000] for each in found) < 1e-3
            assert 0.1 < max(each[1000] for each in found) < 0.51  # once, as loud as it is played
    assert loudest_hz(recorded[0]) == pytest.approx(3000, abs=5)


def test_a_filter_in_front_of_the_default_does_not_bring_it_back(
    private_graph: PrivateGraph, applications: Applications
) -> None:
    equalizer = {"media.class": "Audio/Sink", "node.name": "equalizer"}
    command = ["pw-loopback", "--capture-props", json.dumps(equalizer)]
    with subprocess.Popen(command, env=private_graph.env, stderr=subprocess.DEVNULL) as filter_:
        wait_until("it", lambda: "equalizer" in private_graph.node_names())
        private_graph.configure_default("sink", "equalizer")
        wait_for_default(private_graph, "equalizer")
        with (
            own(private_graph, keep_local=True) as capture,
            heard_at(private_graph, private_graph.sink) as desk,
        ):
            quiet = np.full((90 * 48_000, 2), 0.01, np.float32)
            applications.play(quiet, target=AUTO)
            wait_until("sound", lambda: plays(capture))
            wait_until("sound", lambda: plays(desk))
            desk.drain()
            capture.drain()
            assert np.abs(desk.read(48_000)).max() == pytest.approx(0.01)
            assert np.abs(capture.read(48_000)).max() == pytest.approx(0.01)
        filter_.kill()


# --- the default source ---------------------------------------------------------------------


def default_source(graph: PrivateGraph) -> str | None:
    with Graph(remote=graph.remote) as look:
        source = look.default_source()
    return None if source is None else source.name


def wait_for_source(graph: PrivateGraph, name: str) -> None:
    wait_until(f"{name} as default", lambda: default_source(graph) == name, 20)


@pytest.fixture
def line_in(private_graph: PrivateGraph) -> str:
    """A source that the user has chosen."""
    private_graph.add_source("line-in")
    private_graph.configure_default("source", "line-in")
    wait_for_source(private_graph, "line-in")
    return "line-in"


def test_a_microphone_can_be_the_default_source_whatever_the_user_chose(
    private_graph: PrivateGraph, line_in: str
) -> None:
    chosen = configured(private_graph)
    with open_virtual_mic(default="session", remote=private_graph.remote):
        wait_for_source(private_graph, "stagebox-mic")
        assert private_graph.properties("stagebox-mic")["priority.session"] == 50
    wait_for_source(private_graph, line_in)
    assert configured(private_graph) == chosen


@pytest.mark.usefixtures("line_in")
def test_the_newest_microphone_has_it(private_graph: PrivateGraph) -> None:
    mics = [
        open_virtual_mic(name=name, default="session", remote=private_graph.remote)
        for name in ("first", "second")
    ]
    wait_for_source(private_graph, "second")
    mics[1].close()
    wait_for_source(private_graph, "first")
    mics[0].close()
    wait_for_source(private_graph, "line-in")


@pytest.mark.usefixtures("line_in")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_microphones_of_one_name_are_two(
    private_graph: PrivateGraph, first_to_end: int
) -> None:
    mics = [open_virtual_mic(default="session", remote=private_graph.remote) for _ in range(2)]
    mics.pop(first_to_end).close()
    wait_for_source(private_graph, "stagebox-mic")
    mics[0].close()
    wait_for_source(private_graph, "line-in")


@pytest.mark.usefixtures("line_in")
def test_a_pumps_microphone_can_be_it_and_is_again_after_the_daemons_death(
    private_graph: PrivateGraph,
) -> None:
    opener = partial(open_virtual_mic, default="session", remote=private_graph.remote)
    with MicPump.start(opener):
        wait_until_remembered(private_graph, "stagebox-mic")
        private_graph.kill()
        private_graph.restart()
        wait_for_source(private_graph, "stagebox-mic")
    wait_for_source(private_graph, "line-in")
    assert "line-in" in configured(private_graph)

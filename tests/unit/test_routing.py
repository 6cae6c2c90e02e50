"""Which links a capture of applications wants."""

from __future__ import annotations

from typing import Any

import pytest

from stagebox import DaemonAbsent, open_audio_capture, own_sink, routing
from stagebox.graph_state import GraphState, Port
from stagebox.layout import POSITIONS
from stagebox.ledger import OWN_SINK
from stagebox.routing import ROUTE, Choice, choice, wanted

CAPTURE = 1
FIREFOX, CALL = 20, 30


def state_with(capture: tuple[str, ...], player: tuple[str, ...]) -> GraphState:
    """Of a capture, and two applications that have the same channels."""
    state = GraphState()

    def add(number: int, inputs: bool, channels: tuple[str, ...], **props: str) -> None:
        items = [text for key, value in props.items() for text in (key.replace("_", "."), value)]
        state.apply(["global", str(number), "PipeWire:Interface:Node", *items])
        state.apply(["node", str(number), "running", *items])
        for at, channel in enumerate(channels, 1):
            port = ["node.id", str(number), "port.direction", "in" if inputs else "out"]
            port += ["audio.channel", channel]
            state.apply(["global", str(number + at), "PipeWire:Interface:Port", *port])

    add(CAPTURE, True, capture, **{ROUTE: "mine"})
    kind = "Stream/Output/Audio"
    for number, name in ((FIREFOX, "Firefox"), (CALL, "Call")):
        props = {"application_name": name, "application_process_binary": f"{name.lower()}-bin"}
        pid = {"application_process_id": str(number * 100)}
        add(number, False, player, media_class=kind, **props, **pid)
    return state


def links(state: GraphState, chosen: Choice) -> dict[int, set[tuple[str, str]]]:
    """What is wanted: the application's number, and its channels with the capture's."""
    found: dict[int, set[tuple[str, str]]] = {}
    for output, into in wanted(state, chosen=chosen, route="mine"):
        assert into.node == CAPTURE
        found.setdefault(output.node, set()).add((output.channel, into.channel))
    return found


STRAIGHT = {("FL", "FL"), ("FR", "FR")}


@pytest.mark.parametrize("named", ["firefox", "Firefox", "FIREFOX-bin", 2000])
def test_an_application_is_known_by_its_name_its_binary_and_its_process(named: str | int) -> None:
    state = state_with(POSITIONS[2], ("FL", "FR"))
    assert links(state, choice([named], None)) == {FIREFOX: STRAIGHT}
    assert links(state, choice(None, [named])) == {CALL: STRAIGHT}


@pytest.mark.parametrize("named", ["fire", "firefox-b", 20, "2000"])
def test_a_part_of_a_name_is_another_name(named: str | int) -> None:
    state = state_with(POSITIONS[2], ("FL", "FR"))
    assert links(state, choice([named], None)) == {}


def test_several_are_mixed() -> None:
    state = state_with(POSITIONS[2], ("FL", "FR"))
    assert links(state, choice(["firefox", 3000], None)) == {FIREFOX: STRAIGHT, CALL: STRAIGHT}
    assert links(state, choice(None, ["somebody else"])) == {FIREFOX: STRAIGHT, CALL: STRAIGHT}


def test_another_captures_route_is_not_ours() -> None:
    state = state_with(POSITIONS[2], ("FL", "FR"))
    assert wanted(state, choice(["firefox"], None), "another") == set()


def test_what_goes_is_not_wanted_any_more() -> None:
    state = state_with(POSITIONS[2], ("FL", "FR"))
    state.apply(["removed", str(FIREFOX)])
    assert links(state, choice(["firefox"], None)) == {}


@pytest.mark.parametrize(
    ("capture", "player", "expected"),
    [
        (2, ("MONO",), {("MONO", "FL"), ("MONO", "FR")}),
        (6, ("MONO",), {("MONO", "FL"), ("MONO", "FR")}),
        (6, ("FL", "FR"), STRAIGHT),
        (8, POSITIONS[8], {(channel, channel) for channel in POSITIONS[8]}),
        (
            2,
            POSITIONS[6],
            STRAIGHT
            | {("FC", "FL"), ("FC", "FR"), ("LFE", "FL"), ("LFE", "FR")}
            | {("RL", "FL"), ("RR", "FR")},
        ),
        (6, ("SL", "SR", "RC"), {("SL", "RL"), ("SR", "RR"), ("RC", "RL"), ("RC", "RR")}),
        (2, ("AUX0", "AUX1", "AUX2", ""), {("AUX0", "FL"), ("AUX1", "FR")}),
    ],
)
def test_a_channel_that_the_capture_has_not_is_heard_in_the_nearest(
    capture: int, player: tuple[str, ...], expected: set[tuple[str, str]]
) -> None:
    state = state_with(POSITIONS[capture], player)
    assert links(state, choice(["firefox"], None)) == {FIREFOX: expected}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"apps": "firefox"}, TypeError, "apps must be a list"),
        ({"apps": 5}, TypeError, "apps must be a list"),
        ({"except_apps": [5.5]}, TypeError, "except_apps must be an int, not float"),
        ({"apps": [True]}, TypeError, "apps must be an int, not bool"),
        ({"apps": []}, ValueError, "apps must hold at least one"),
        ({"apps": [0]}, ValueError, "apps must hold process ids of 1 or more, not 0"),
        ({"apps": [""]}, ValueError, "apps must not be empty"),
        ({"apps": ["a"], "target": "b"}, ValueError, "only one of target, apps"),
        ({"apps": ["a"], "except_apps": ["b"]}, ValueError, "only one of"),
        ({"apps": ["a"], "channels": 1}, ValueError, r"channels must be one of \[2, 6, 8\]"),
    ],
)
def test_a_wrong_choice_is_refused_by_its_name(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_audio_capture(remote="/nowhere", **arguments)


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        ({"target": "headset"}, "PIPEWIRE_NODE"),
        ({"sink": "own"}, "PIPEWIRE_NODE"),
        ({"apps": ["music"]}, "PIPEWIRE_AUTOCONNECT"),
        ({"except_apps": ["call"]}, "PIPEWIRE_AUTOCONNECT"),
    ],
)
def test_a_choice_that_the_environment_overrides_is_refused(
    arguments: dict[str, Any], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "speakers")
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must not .* while {variable}"):
        open_audio_capture(remote="/nowhere", **arguments)
    with pytest.raises(DaemonAbsent):
        open_audio_capture(remote="/nowhere")


# --- a sink's monitor into a device -------------------------------------------------------------

SPEAKERS, HEADSET, OURS = "speakers", "headset", OWN_SINK


def sinks(**priorities: int) -> GraphState:
    """Of stereo devices of these priorities, and of a sink of ours."""
    state = GraphState()
    for at, (name, priority) in enumerate({**priorities, OURS: 1}.items(), 1):
        items = ["media.class", "Audio/Sink", "node.name", name, "priority.session", str(priority)]
        state.apply(["global", str(10 * at), "PipeWire:Interface:Node", *items])
        state.apply(["node", str(10 * at), "idle", *items])
        for number, (direction, channel) in enumerate(
            [("in", "FL"), ("in", "FR"), ("out", "FL"), ("out", "FR")], 1
        ):
            port = ["node.id", str(10 * at), "port.direction", direction, "audio.channel", channel]
            state.apply(["global", str(10 * at + number), "PipeWire:Interface:Port", *port])
    return state


@pytest.mark.parametrize(
    ("device", "priorities", "into"),
    [
        (HEADSET, {SPEAKERS: 1000, HEADSET: 5}, 20),
        (HEADSET, {"weaker": 500, SPEAKERS: 1000}, 20),  # it is unplugged
        (None, {SPEAKERS: 1000}, 10),
    ],
)
def test_our_sink_is_heard_on_the_device_or_on_what_would_be_the_default(
    device: str | None, priorities: dict[str, int], into: int
) -> None:
    state = sinks(**priorities)
    found = own_sink.wanted(state, sink=OURS, device=device)
    assert {(output.channel, end.channel) for output, end in found} == STRAIGHT
    assert {end.node for _, end in found} == {into}


def test_our_sink_is_heard_nowhere_where_there_is_no_other() -> None:
    assert own_sink.wanted(sinks(), sink=OURS, device=None) == set()
    two = sinks(**{f"{OURS}-2": 1000})
    assert own_sink.wanted(two, sink=OURS, device=f"{OURS}-2") == set()


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (("MONO",), {"FL MONO", "FR MONO", "FC MONO", "LFE MONO", "RL MONO", "RR MONO"}),
        (
            ("AUX0", "AUX1"),
            {"FL AUX0", "RL AUX0", "FR AUX1", "RR AUX1"}
            | {f"{middle} {side}" for middle in ("FC", "LFE") for side in ("AUX0", "AUX1")},
        ),
    ],
)
def test_every_channel_is_heard_on_a_device_of_fewer(
    device: tuple[str, ...], expected: set[str]
) -> None:
    outputs = [Port(1, at, channel) for at, channel in enumerate(POSITIONS[6])]
    inputs = [Port(2, at, channel) for at, channel in enumerate(device)]
    found = routing.links(outputs, inputs)
    assert {f"{output.channel} {into.channel}" for output, into in found} == expected

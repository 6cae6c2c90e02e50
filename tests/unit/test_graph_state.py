"""What is in the graph, from records."""

from __future__ import annotations

import pytest

from stagebox.graph import (
    Added,
    Application,
    Change,
    Changed,
    DefaultChanged,
    Removed,
    Sink,
    Source,
)
from stagebox.graph_state import GraphState, MicCounters, differences

CORE, NODE, CLIENT, PORT, LINK, METADATA = (
    f"PipeWire:Interface:{kind}" for kind in ("Core", "Node", "Client", "Port", "Link", "Metadata")
)
SPEAKERS = Sink(10, "speakers", "Speakers", 2, "idle")


class Told:
    """A state, and the changes it told."""

    def __init__(self) -> None:
        self.state = GraphState()
        self.changes: list[Change] = []

    def __call__(self, kind: str, number: int, *rest: str, **props: str) -> list[Change]:
        items = [text for key, value in props.items() for text in (key.replace("_", "."), value)]
        changes = self.state.apply([kind, str(number), *rest, *items])
        self.changes += changes
        return changes


@pytest.fixture
def told() -> Told:
    return Told()


def announce_speakers(told: Told) -> None:
    told("global", 10, NODE, media_class="Audio/Sink", node_name="speakers")


def add_speakers(told: Told) -> None:
    announce_speakers(told)
    tell_of_speakers(told)


def tell_of_speakers(told: Told) -> None:
    props = {"node_name": "speakers", "node_description": "Speakers", "audio_channels": "2"}
    told("node", 10, "idle", media_class="Audio/Sink", **props)


def add_player(told: Told, **props: str) -> None:
    told("global", 20, NODE, media_class="Stream/Output/Audio", client_id="5")
    told("node", 20, "running", media_class="Stream/Output/Audio", client_id="5", **props)


def test_a_sink_is_shown_once_all_is_known_of_it(told: Told) -> None:
    announce_speakers(told)
    assert told.changes == []
    tell_of_speakers(told)
    assert told.changes == [Added(SPEAKERS)]
    assert told.state.snapshot().sinks == (SPEAKERS,)


def test_all_is_told_once_every_node_and_its_client_are(told: Told) -> None:
    assert told.state.complete
    told("global", 5, CLIENT)
    add_player(told)
    assert not told.state.complete


def test_all_is_told_once_the_core_and_the_managers_client_are(told: Told) -> None:
    told("global", 0, CORE)
    completes = [told.state.complete]
    told("core", 0, "1.4.2")
    completes.append(told.state.complete)
    told("global", 5, CLIENT)
    told("global", 6, METADATA, metadata_name="default", client_id="5")
    completes.append(told.state.complete)
    told("client", 5, application_name="WirePlumber")
    completes.append(told.state.complete)
    assert completes == [False, True, False, True]
    assert told.state.daemon().version == "1.4.2"
    assert told.state.daemon().session_manager == "WirePlumber"
    told("removed", 6)
    assert told.state.daemon().session_manager is None


def test_a_session_manager_may_have_no_name(told: Told) -> None:
    told("global", 6, METADATA, metadata_name="default")
    assert told.state.daemon().session_manager == ""


def test_settings_are_the_latest_and_0_where_they_are_no_numbers(told: Told) -> None:
    for key, value in (("clock.rate", "48000"), ("clock.rate", "44100"), ("clock.quantum", "odd")):
        told("settings", 0, key, value)
    told("settings", 1, "clock.rate", "1")
    daemon = told.state.daemon()
    assert (daemon.rate_hz, daemon.quantum_frames, daemon.forced_rate_hz) == (44_100, 0, 0)
    told("settings", 0, "clock.rate", "")
    assert told.state.daemon().rate_hz == 0
    assert told.changes == []


def test_a_state_that_changes_is_told_with_the_one_before(told: Told) -> None:
    add_speakers(told)
    running = Sink(10, "speakers", "Speakers", 2, "running")
    assert told("node", 10, "running") == [Changed(SPEAKERS, running)]
    assert told("node", 10, "running") == []


def test_what_goes_is_told_as_it_was(told: Told) -> None:
    add_speakers(told)
    assert told("removed", 10) == [Removed(SPEAKERS)]
    assert told.state.snapshot().sinks == ()


def test_what_went_before_all_was_known_came_and_went(told: Told) -> None:
    told("global", 10, NODE, media_class="Audio/Sink", node_name="speakers")
    gone = Sink(10, "speakers", "speakers", 0, "creating")
    assert told("removed", 10) == [Added(gone), Removed(gone)]


@pytest.mark.parametrize(
    ("props", "channels"),
    [
        ({"audio_channels": "6"}, 6),
        ({"audio_position": "FL,FR,FC"}, 3),
        ({"audio_position": "[ FL FR ]"}, 2),
        ({"audio_channels": "many"}, 0),
        ({}, 0),
    ],
)
def test_channels_are_those_it_says_it_has(
    told: Told, props: dict[str, str], channels: int
) -> None:
    told("global", 10, NODE, media_class="Audio/Sink")
    told("node", 10, "idle", media_class="Audio/Sink", **props)
    assert told.state.snapshot().sinks[0].channels == channels


def test_channels_are_those_of_its_ports_where_it_does_not_say(told: Told) -> None:
    told("global", 10, NODE, media_class="Audio/Sink")
    told("node", 10, "idle", media_class="Audio/Sink")
    for port, direction in ((11, "in"), (12, "in"), (13, "out")):
        told("global", port, PORT, node_id="10", port_direction=direction)
    assert told.state.snapshot().sinks[0].channels == 2
    told("removed", 12)
    assert told.state.snapshot().sinks[0].channels == 1


def test_a_source_is_no_sink(told: Told) -> None:
    told("global", 10, NODE, media_class="Audio/Source/Virtual")
    told("node", 10, "idle", media_class="Audio/Source/Virtual", node_name="mic")
    assert told.state.snapshot().sources == (Source(10, "mic", "mic", 0, "idle"),)
    assert told.state.snapshot().sinks == ()


def test_what_plays_and_records_is_both(told: Told) -> None:
    told("global", 10, NODE, media_class="Audio/Duplex")
    told("node", 10, "idle", media_class="Audio/Duplex", node_name="box", audio_channels="2")
    snapshot = told.state.snapshot()
    assert snapshot.sinks == (Sink(10, "box", "box", 2, "idle"),)
    assert snapshot.sources == (Source(10, "box", "box", 2, "idle"),)
    assert told("removed", 10) == [Removed(snapshot.sinks[0]), Removed(snapshot.sources[0])]


@pytest.mark.parametrize("kind", ["Stream/Input/Audio", "Video/Source", "Midi/Bridge", ""])
def test_what_is_no_sound_is_not_shown(told: Told, kind: str) -> None:
    told("global", 10, NODE, media_class=kind)
    assert told("node", 10, "running", media_class=kind) == []
    assert told("removed", 10) == []


def test_an_application_is_what_its_client_says(told: Told) -> None:
    told("global", 5, CLIENT)
    add_player(told, node_name="out", media_name="A song")
    assert told.changes == [], "its client may say more"
    told(
        "client",
        5,
        application_name="Player",
        application_process_id="77",
        application_process_binary="player",
        pipewire_sec_pid="1",
    )
    assert told.changes == [Added(Application(20, "Player", "player", 77, "A song", (), True))]


def test_what_a_stream_says_of_its_application_goes_first(told: Told) -> None:
    told("global", 5, CLIENT)
    told("client", 5, application_name="pipewire-pulse", pipewire_sec_pid="1")
    add_player(told, application_name="Firefox", application_process_binary="firefox")
    assert told.state.snapshot().applications == (
        Application(20, "Firefox", "firefox", 1, "", (), True),
    )


def test_a_stream_whose_client_is_gone_is_shown_as_it_is(told: Told) -> None:
    add_player(told, node_name="out", application_process_id="nonsense")
    assert told.state.snapshot().applications == (Application(20, "out", "", 0, "", (), True),)


def test_an_application_plays_into_what_it_is_linked_to(told: Told) -> None:
    add_speakers(told)
    add_player(told, node_name="out")
    for link in (31, 32):
        told("global", link, LINK, link_output_node="20", link_input_node="10")
    assert told.state.snapshot().applications[0].plays_into == ("speakers",)
    assert len(told.changes) == 3, "the second channel's link is nothing new"
    told("removed", 31)
    told("removed", 32)
    assert told.state.snapshot().applications[0].plays_into == ()


def test_a_link_ends_with_the_sink(told: Told) -> None:
    add_speakers(told)
    add_player(told, node_name="out")
    told("global", 31, LINK, link_output_node="20", link_input_node="10")
    told("removed", 10)
    told("removed", 31)
    assert told.state.snapshot().applications[0].plays_into == ()


def test_pausing_is_a_change(told: Told) -> None:
    add_player(told)
    (change,) = told("node", 20, "idle")
    assert isinstance(change, Changed)
    assert isinstance(change.item, Application)
    assert not change.item.playing


def test_the_default_is_the_session_managers(told: Told) -> None:
    add_speakers(told)
    told("global", 40, METADATA, metadata_name="default")
    changes = told("metadata", 0, "default.audio.sink", '{ "name": "speakers" }')
    assert changes == [DefaultChanged("sink", "speakers")]
    assert told.state.snapshot().default_sink == SPEAKERS
    assert told.state.snapshot().default_source is None
    assert told("removed", 40) == [DefaultChanged("sink", None)]


@pytest.mark.parametrize("value", ["", "speakers", "[]", '{"name": 5}', "{"])
def test_a_default_that_names_nothing_is_none(told: Told, value: str) -> None:
    add_speakers(told)
    told("metadata", 0, "default.audio.sink", value)
    assert told.state.snapshot().default_sink is None


def test_a_default_that_is_not_there_yet_is_none(told: Told) -> None:
    told("metadata", 0, "default.audio.sink", '{"name": "speakers"}')
    assert told.state.snapshot().default_sink is None
    add_speakers(told)
    assert told.state.snapshot().default_sink == SPEAKERS


def test_other_metadata_is_nothing(told: Told) -> None:
    assert told("metadata", 20, "target.object", "speakers") == []
    assert told("metadata", 0, "clock.rate", "48000") == []


def test_a_number_that_is_taken_again_is_something_else(told: Told) -> None:
    add_speakers(told)
    changes = told("global", 10, CLIENT)
    assert changes == [Removed(SPEAKERS)]


def test_records_of_what_is_not_there_are_nothing(told: Told) -> None:
    told("node", 1, "running", node_name="x")
    told("client", 2, application_name="x")
    told("global", 3, PORT, node_id="1")
    told("global", 4, LINK, link_output_node="1", link_input_node="1")
    told("removed", 5)
    assert told.changes == []


def test_differences_are_what_would_have_been_told(told: Told) -> None:
    other = Told()
    add_speakers(told)
    add_player(told)
    told("metadata", 0, "default.audio.sink", '{"name": "speakers"}')
    before, after = other.state.snapshot(), told.state.snapshot()
    assert set(differences(before, after)) == set(told.changes)
    undone = differences(after, before)
    assert [type(change) for change in undone] == [Removed, Removed, DefaultChanged]
    assert differences(after, after) == []
    told("node", 10, "running")
    changed = Changed(SPEAKERS, told.state.snapshot().sinks[0])
    assert differences(after, told.state.snapshot()) == [changed]


# --- what plays into what ------------------------------------------------------------------------


def add_node(told: Told, number: int, name: str, *plays_into: int, **props: str) -> None:
    told("global", number, NODE, media_class="Audio/Sink", node_name=name, **props)
    told("node", number, "idle", media_class="Audio/Sink", node_name=name, **props)
    for at, other in enumerate(plays_into, 1):
        link = {"link.output.node": str(number), "link.input.node": str(other)}
        told("global", 1000 * number + at, LINK, **link)


def test_a_sink_feeds_what_its_filter_plays_into_however_far_that_is(told: Told) -> None:
    equalizer = {"node.link-group": "filter-1"}
    add_node(told, 1, "ours")
    add_node(told, 2, "far", 1)
    add_node(told, 3, "equalizer-output", 2, **equalizer)
    add_node(told, 4, "equalizer", **equalizer)
    add_node(told, 5, "speakers")
    add_node(told, 6, "around", 7)
    add_node(told, 7, "and-around", 6)
    feeds = {
        name: told.state.feeds(name, "ours")
        for name in ("far", "equalizer", "speakers", "around", "absent")
    }
    assert feeds == {
        "far": True,
        "equalizer": True,
        "speakers": False,
        "around": False,
        "absent": False,
    }
    assert not told.state.feeds("far", "absent")


def test_nodes_are_known_by_a_property_of_theirs(told: Told) -> None:
    add_node(told, 1, "one", **{"stagebox.claim": "a"})
    add_node(told, 2, "two", **{"stagebox.claim": "b"})
    add_node(told, 3, "three")
    assert told.state.names_by("stagebox.claim") == {"a": "one", "b": "two"}


def test_what_the_user_chose_is_told_as_it_is_written(told: Told) -> None:
    told("global", 30, METADATA, metadata_name="default")
    chosen = '{ "name": "speakers" }'
    told("metadata", 0, "default.configured.audio.sink", chosen)
    told("metadata", 0, "default.configured.audio.source", '{"name":"mic"}')
    told("metadata", 0, "default.configured.audio.source", "")
    assert (told.state.configured("sink"), told.state.configured("source")) == (chosen, None)
    told("removed", 30)
    assert told.state.configured("sink") is None


def test_sinks_are_in_the_order_in_which_they_would_be_the_default(told: Told) -> None:
    add_node(told, 1, "none")
    add_node(told, 2, "low", **{"priority.session": "5"})
    add_node(told, 3, "high", **{"priority.session": "1000"})
    assert told.state.sinks_by_priority() == ["high", "low", "none"]


def tell_of_mic(told: Told, underruns: str) -> None:
    props = {"stagebox.underruns": underruns, "stagebox.lost-frames": "96"}
    props |= {"stagebox.depth-frames": "480", "media.class": "Audio/Source", "node.name": "mic"}
    told("node", 30, "running", *(text for item in props.items() for text in item))


def test_what_a_microphone_tells_of_itself_changes_no_source(told: Told) -> None:
    told("global", 30, NODE, media_class="Audio/Source")
    tell_of_mic(told, "1")
    before = told.state.snapshot()
    told.changes.clear()
    tell_of_mic(told, "2")
    assert told.changes == []
    assert told.state.snapshot() == before
    assert list(told.state.microphones()) == [(before.sources[0], MicCounters(2, 96, 480))]


def test_no_other_source_is_a_microphone_of_ours(told: Told) -> None:
    told("global", 30, NODE, media_class="Audio/Source")
    told("node", 30, "running", media_class="Audio/Source", node_name="line-in")
    assert len(told.state.snapshot().sources) == 1
    assert list(told.state.microphones()) == []


def test_a_nodes_links_ports_and_properties_are_known_by_its_number(told: Told) -> None:
    add_speakers(told)
    add_player(told, node_name="player")
    told("global", 21, PORT, node_id="20", port_direction="out", audio_channel="FL")
    for number in (40, 41):  # one for each channel
        told("global", number, LINK, link_output_node="20", link_input_node="10")
    assert told.state.linked_to(20) == (10,)
    assert [port.channel for port in told.state.plays_through(20)] == ["FL"]
    assert told.state.property_of(20, "node.name") == "player"
    told("removed", 20)
    assert not told.state.linked_to(20)
    assert not told.state.plays_through(20)
    assert not told.state.property_of(20, "node.name")

"""What is in the graph, made of the records that the C core passes on: no thread, no I/O.

A record is a tuple of texts: what it tells of, the object's id, and what there is to tell.

    global    id type key value…   an object is there
    removed   id                   it is not any more, or we may not see it any more
    node      id state key value…  more of a node; without keys they are as before
    client    id key value…        more of a client
    core      id version           more of the daemon
    metadata  id key value         of the session manager's; no value (``""``) is no item any more
    settings  id key value         of the daemon's own, in the same way

A node is shown when all is known of it, so that it need not be shown again a moment later.
"""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Record = Sequence[str]
    Props = Mapping[str, str]

_NUMBER: Final = struct.Struct("=I")
_TYPE_PREFIX: Final = "PipeWire:Interface:"
_MIC_COUNTERS: Final = {
    "underruns": "stagebox.underruns",
    "lost_frames": "stagebox.lost-frames",
    "depth_frames": "stagebox.depth-frames",
}
"""What csrc/mic.c tells of a microphone, as properties of its node."""
_SETTINGS: Final = {
    "rate_hz": "clock.rate",
    "quantum_frames": "clock.quantum",
    "min_quantum_frames": "clock.min-quantum",
    "max_quantum_frames": "clock.max-quantum",
    "forced_rate_hz": "clock.force-rate",
    "forced_quantum_frames": "clock.force-quantum",
}
_DEFAULTS: Final = {"default.audio.sink": "sink", "default.audio.source": "source"}
CONFIGURED: Final = {
    "sink": "default.configured.audio.sink",
    "source": "default.configured.audio.source",
}
"""What the user has chosen, which is the default whenever it is there."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a sink and a source have in common."""

    id: int
    """Its number in the graph, for as long as it is there."""
    name: str
    """`node.name`: what a capture's `target=` takes."""
    description: str
    """What people know it by."""
    channels: int
    """How many it has; 0 is unknown."""
    state: str
    """PipeWire's: "running", "idle", "suspended", "creating" or "error"."""


@dataclass(frozen=True, slots=True)
class Sink(Device):
    """A device that plays, or what works like one."""


@dataclass(frozen=True, slots=True)
class Source(Device):
    """A device that records, or what works like one."""


@dataclass(frozen=True, slots=True)
class Application:
    """A stream that an application plays. One that plays two has two."""

    id: int
    """The stream's number in the graph, for as long as it is there."""
    name: str
    """What it calls itself: `application.name`, else the stream's `node.name`."""
    binary: str
    """The program's file, without its directory; "" where it does not say."""
    pid: int
    """The process; 0 where it does not say."""
    media_name: str
    """What it plays: a title, a tab's name; "" where it does not say."""
    plays_into: tuple[str, ...]
    """The names of the nodes it is linked to: mostly one sink's; none while it is not linked."""
    playing: bool
    """Whether it plays now, rather than pausing."""


Item = Sink | Source | Application
AnyDevice = TypeVar("AnyDevice", bound=Device)


@dataclass(frozen=True, slots=True)
class Added:
    """Something came."""

    item: Item


@dataclass(frozen=True, slots=True)
class Removed:
    """Something went; as it was last."""

    item: Item


@dataclass(frozen=True, slots=True)
class Changed:
    """Something is not as it was: its state, its title, what it plays into."""

    before: Item
    item: Item


@dataclass(frozen=True, slots=True)
class DefaultChanged:
    """Another sink or source is the default."""

    kind: str
    """"sink" or "source"."""
    name: str | None
    """The new one's `node.name`; None where there is none."""


Change = Added | Removed | Changed | DefaultChanged


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one moment, each in the order in which it came."""

    sinks: tuple[Sink, ...]
    sources: tuple[Source, ...]
    applications: tuple[Application, ...]
    default_sink: Sink | None
    default_source: Source | None


@dataclass(frozen=True, slots=True)
class Port:
    """Where a node is linked."""

    node: int
    """The node's number."""
    id: int
    """Its own."""
    channel: str
    """"FL", "MONO", "AUX0" …; "" where it does not say."""


@dataclass(frozen=True, slots=True)
class MicCounters:
    """What a microphone of stagebox's tells of itself, whichever process presents it.

    It does so once a second while it is recorded, and when that ends.
    """

    underruns: int
    """Cycles that had less than a quantum to play."""
    lost_frames: int
    """Cut from the oldest to bound the delay."""
    depth_frames: int
    """What waited in its ring."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon, and how it is set to run the graph. A number that it does not tell is 0."""

    version: str
    """PipeWire's, "1.4.2"."""
    session_manager: str | None
    """What it calls itself, "WirePlumber"; None where there is none."""
    rate_hz: int
    """Of the graph, unless a stream or a setting has it otherwise."""
    quantum_frames: int
    """The frames of a cycle that are asked for where no stream asks for others."""
    min_quantum_frames: int
    max_quantum_frames: int
    forced_rate_hz: int
    """What somebody has forced it to; 0: nobody has."""
    forced_quantum_frames: int
    """In the same way."""


@dataclass(slots=True)
class _Node:
    props: dict[str, str]
    state: str | None = None  # until more is told of it than the registry does
    inputs: dict[int, Port] = field(default_factory=dict)  # by their numbers
    outputs: dict[int, Port] = field(default_factory=dict)
    links: dict[int, int] = field(default_factory=dict)  # from its outputs: link, the other node

    @property
    def kind(self) -> str:
        return self.props.get("media.class", "")


def records_in(data: bytes) -> Iterator[list[str]]:
    """The records in what the C core passed on: stagebox.h says how they lie there."""
    at = 0
    while at < len(data):
        (count,) = _NUMBER.unpack_from(data, at)
        at += _NUMBER.size
        record = []
        for _ in range(count):
            (size,) = _NUMBER.unpack_from(data, at)
            at += _NUMBER.size
            record.append(data[at : at + size].decode("utf-8", "replace"))
            at += size
        yield record


def differences(before: Snapshot, after: Snapshot) -> list[Change]:
    """What has changed from one snapshot to another, as far as it can be seen."""
    old = {(item.id, type(item)): item for item in _items(before)}
    new = {(item.id, type(item)): item for item in _items(after)}
    changes: list[Change] = [Removed(old[key]) for key in old if key not in new]
    changes += [Added(new[key]) for key in new if key not in old]
    changes += [Changed(old[key], new[key]) for key in new if key in old and old[key] != new[key]]
    for kind, was, now in (
        ("sink", _name_of(before.default_sink), _name_of(after.default_sink)),
        ("source", _name_of(before.default_source), _name_of(after.default_source)),
    ):
        if was != now:
            changes.append(DefaultChanged(kind, now))
    return changes


def _name_of(device: Device | None) -> str | None:
    return device.name if device else None


def _items(snapshot: Snapshot) -> tuple[Item, ...]:
    return (*snapshot.sinks, *snapshot.sources, *snapshot.applications)


class GraphState:
    """Takes records; tells what changes by them, and what there is."""

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}
        self._clients: dict[int, dict[str, str] | None] = {}  # None until they are told of
        self._ports: dict[int, tuple[int, bool]] = {}  # the node, whether it is an input
        self._links: dict[int, int] = {}  # the node whose output it begins at
        self._metadata: int | None = None
        self._manager: int = -1  # the client whose metadata that is
        self._version: str | None = ""  # None until the core is told of
        self._settings: dict[str, str] = {}
        self._items: dict[tuple[int, type[Item]], Item] = {}
        self._defaults: dict[str, str | None] = dict.fromkeys(_DEFAULTS.values())
        self._configured: dict[str, str] = {}

    @property
    def complete(self) -> bool:
        """Whether nothing that will be told is still to come for what is there."""
        told = self._version is not None and self._clients.get(self._manager, {}) is not None
        return told and all(map(self._is_told, self._nodes.values()))

    def daemon(self) -> Daemon:
        """What runs it."""
        manager = self._clients.get(self._manager) or {}
        return Daemon(
            version=self._version or "",
            session_manager=(
                None if self._metadata is None else manager.get("application.name", "")
            ),
            **{name: max(0, _number(self._settings, key)) for name, key in _SETTINGS.items()},
        )

    def snapshot(self) -> Snapshot:
        """What there is."""
        items = self._items.values()
        sinks = tuple(item for item in items if isinstance(item, Sink))
        sources = tuple(item for item in items if isinstance(item, Source))
        return Snapshot(
            sinks,
            sources,
            tuple(item for item in items if isinstance(item, Application)),
            _named(sinks, self._defaults["sink"]),
            _named(sources, self._defaults["source"]),
        )

    def applications(self) -> Iterator[tuple[Application, tuple[Port, ...]]]:
        """Each application's stream, with the ports that it plays through."""
        for (number, _), item in self._items.items():
            if isinstance(item, Application):
                yield item, tuple(self._nodes[number].outputs.values())

    def configured(self, kind: str) -> str | None:
        """What the user has chosen as default "sink" or "source", as it is written there."""
        return self._configured.get(CONFIGURED[kind])

    def default(self, kind: str) -> str | None:
        """The name of the default "sink" or "source", also while there is none of that name."""
        return self._defaults[kind]

    def sinks_by_priority(self) -> list[str]:
        """The names of all sinks, first the one that would be the default if nobody chose."""
        sinks = [item for item in self._items.values() if isinstance(item, Sink)]

        def priority(sink: Sink) -> int:
            return _number(self._nodes[sink.id].props, "priority.session")

        return [sink.name for sink in sorted(sinks, key=priority, reverse=True)]

    def names_by(self, key: str) -> dict[str, str]:
        """The names of the nodes that have a property, by its value."""
        nodes = (node.props for node in self._nodes.values())
        return {props[key]: props.get("node.name", "") for props in nodes if key in props}

    def feeds(self, name: str, into: str) -> bool:
        """Whether what the sink `name` plays comes to the node `into`, through whatever filters."""
        begin, end = self._number_of(name), self._number_of(into)
        ahead = set() if begin is None else {begin}
        seen: set[int] = set()
        while ahead:
            number = ahead.pop()
            seen.add(number)
            ahead |= self._next_to(number) - seen
        return end in seen

    def _number_of(self, name: str) -> int | None:
        nodes = self._nodes.items()
        return next((at for at, node in nodes if node.props.get("node.name") == name), None)

    def _next_to(self, number: int) -> set[int]:
        """The nodes that hear this one: what it is linked to, and its other half."""
        if (node := self._nodes.get(number)) is None:
            return set()
        group = node.props.get("node.link-group")  # a filter's two ends have the same
        halves = {
            at for at, other in self._nodes.items() if other.props.get("node.link-group") == group
        }
        return {*node.links.values(), *(halves if group else ())}

    def microphones(self) -> Iterator[tuple[Source, MicCounters]]:
        """Each microphone of stagebox's, and what it tells of itself.

        That is no part of a `Source`: whoever watches the graph would be told of it each second.
        """
        for (number, _), item in self._items.items():
            props = self._nodes[number].props
            if isinstance(item, Source) and _MIC_COUNTERS["underruns"] in props:
                counters = {name: _number(props, key) for name, key in _MIC_COUNTERS.items()}
                yield item, MicCounters(**{name: max(0, n) for name, n in counters.items()})

    def plays_through(self, number: int) -> tuple[Port, ...]:
        """A node's output ports, by its number; a sink's are its monitor's."""
        node = self._nodes.get(number)
        return tuple(node.outputs.values()) if node else ()

    def linked_to(self, number: int) -> tuple[int, ...]:
        """The nodes that a node's outputs are linked to, each once."""
        node = self._nodes.get(number)
        return tuple(dict.fromkeys(node.links.values())) if node else ()

    def property_of(self, number: int, key: str) -> str:
        """What a node says; "" where it does not, or there is none."""
        node = self._nodes.get(number)
        return node.props.get(key, "") if node else ""

    def inputs_of(self, key: str, value: str) -> tuple[Port, ...]:
        """The input ports of the node that has this property."""
        node = self._node_with(key, value)
        return () if node is None else tuple(node.inputs.values())

    def outputs_of(self, key: str, value: str) -> tuple[Port, ...]:
        """The output ports of the node that has this property; a sink's are its monitor's."""
        node = self._node_with(key, value)
        return () if node is None else tuple(node.outputs.values())

    def _node_with(self, key: str, value: str) -> _Node | None:
        return next((node for node in self._nodes.values() if node.props.get(key) == value), None)

    def apply(self, record: Record) -> list[Change]:
        """Take one record, and tell what changes by it."""
        kind, number, *rest = record
        return list(self._takers[kind](self, int(number), rest))

    # --- records -----------------------------------------------------------------------------

    def _global(self, number: int, rest: Record) -> Iterator[Change]:
        kind, props = rest[0].removeprefix(_TYPE_PREFIX), _props(rest[1:])
        yield from self._removed(number, ())  # should the number be taken again unannounced
        match kind:
            case "Node":
                self._nodes[number] = _Node(props)
            case "Client":
                self._clients[number] = None
            case "Port":
                yield from self._port(number, props)
            case "Link":
                yield from self._link(number, props)
            case "Metadata" if props.get("metadata.name") == "default":
                self._metadata = number
                self._manager = _number(props, "client.id")
            case "Core":
                self._version = None

    def _port(self, number: int, props: Props) -> Iterator[Change]:
        node = self._nodes.get(owner := _number(props, "node.id"))
        if node is None:
            return
        is_input = props.get("port.direction") == "in"
        port = Port(owner, number, props.get("audio.channel", ""))
        (node.inputs if is_input else node.outputs)[number] = port
        self._ports[number] = owner, is_input
        yield from self._look_again(owner)

    def _link(self, number: int, props: Props) -> Iterator[Change]:
        begin, end = _number(props, "link.output.node"), _number(props, "link.input.node")
        if begin in self._nodes:
            self._nodes[begin].links[number] = end
            self._links[number] = begin
            yield from self._look_again(begin)

    def _removed(self, number: int, _: Record) -> Iterator[Change]:
        self._clients.pop(number, None)
        if number in self._nodes:
            yield from self._show(number, self._nodes[number])  # what was never all told
            del self._nodes[number]
            yield from self._look_again(number)
        elif number in self._ports:
            owner, is_input = self._ports.pop(number)
            if (node := self._nodes.get(owner)) is not None:
                (node.inputs if is_input else node.outputs).pop(number, None)
                yield from self._look_again(owner)
        elif number in self._links:
            begin = self._links.pop(number)
            if (node := self._nodes.get(begin)) is not None:
                node.links.pop(number, None)
                yield from self._look_again(begin)
        elif number == self._metadata:
            self._metadata = None
            self._manager = -1
            self._configured.clear()
            for kind in self._defaults:
                yield from self._set_default(kind, None)

    def _node(self, number: int, rest: Record) -> Iterator[Change]:
        node = self._nodes.get(number)
        if node is None:
            return
        node.state = rest[0]
        if len(rest) > 1:
            node.props = _props(rest[1:])
        yield from self._look_again(number)

    def _client(self, number: int, rest: Record) -> Iterator[Change]:
        if number not in self._clients:
            return
        self._clients[number] = _props(rest)
        for owned, node in self._nodes.items():
            if _number(node.props, "client.id") == number:
                yield from self._look_again(owned)

    def _metadata_item(self, subject: int, rest: Record) -> Iterator[Change]:
        key, value = rest
        if subject == 0 and key in _DEFAULTS:
            yield from self._set_default(_DEFAULTS[key], name_in(value))
        elif subject == 0 and key in CONFIGURED.values():
            self._configured.pop(key, None)
            if value:
                self._configured[key] = value

    def _core(self, _: int, rest: Record) -> Iterator[Change]:
        (self._version,) = rest
        yield from ()

    def _settings_item(self, subject: int, rest: Record) -> Iterator[Change]:
        key, value = rest
        if subject == 0:
            self._settings[key] = value
        yield from ()

    def _set_default(self, kind: str, name: str | None) -> Iterator[Change]:
        if self._defaults[kind] != name:
            self._defaults[kind] = name
            yield DefaultChanged(kind, name)

    _takers: Final[dict[str, Callable[[GraphState, int, Record], Iterator[Change]]]] = {
        "global": _global,
        "removed": _removed,
        "node": _node,
        "client": _client,
        "core": _core,
        "metadata": _metadata_item,
        "settings": _settings_item,
    }

    # --- what is shown -----------------------------------------------------------------------

    def _is_told(self, node: _Node) -> bool:
        client = _number(node.props, "client.id")
        return node.state is not None and self._clients.get(client, {}) is not None

    def _look_again(self, number: int) -> Iterator[Change]:
        """Tell what has become of a node."""
        node = self._nodes.get(number)
        if node is None:
            for key in [key for key in self._items if key[0] == number]:
                yield Removed(self._items.pop(key))
        elif self._is_told(node):
            yield from self._show(number, node)

    def _show(self, number: int, node: _Node) -> Iterator[Change]:
        for item in self._items_of(number, node):
            key = number, type(item)
            before = self._items.get(key)
            self._items[key] = item
            if before is None:
                yield Added(item)
            elif before != item:
                yield Changed(before, item)

    def _items_of(self, number: int, node: _Node) -> Iterator[Item]:
        if node.kind.startswith(("Audio/Sink", "Audio/Duplex")):
            yield Sink(*_device(number, node, node.inputs))
        if node.kind.startswith(("Audio/Source", "Audio/Duplex")):
            yield Source(*_device(number, node, node.outputs))
        if node.kind == "Stream/Output/Audio":
            yield self._application(number, node)

    def _application(self, number: int, node: _Node) -> Application:
        client = self._clients.get(_number(node.props, "client.id")) or {}

        def told(key: str, otherwise: str = "") -> str:
            return node.props.get(key) or client.get(key) or otherwise

        # pipewire-pulse speaks for its clients: its own process is only the last resort.
        pid = told("application.process.id", client.get("pipewire.sec.pid", ""))
        linked = dict.fromkeys(node.links.values())  # each once, in order
        return Application(
            id=number,
            name=told("application.name", node.props.get("node.name", "")),
            binary=told("application.process.binary"),
            pid=int(pid) if pid.isdecimal() else 0,
            media_name=node.props.get("media.name", ""),
            plays_into=tuple(
                self._nodes[other].props.get("node.name", "")
                for other in linked
                if other in self._nodes
            ),
            playing=node.state == "running",
        )


def _device(number: int, node: _Node, ports: Mapping[int, Port]) -> tuple[int, str, str, int, str]:
    name = node.props.get("node.name", "")
    description = node.props.get("node.description") or node.props.get("node.nick") or name
    return number, name, description, _channels(node.props, ports), node.state or "creating"


def _channels(props: Props, ports: Mapping[int, Port]) -> int:
    count = _number(props, "audio.channels")
    if count > 0:
        return count
    # "FL,FR", or as an array: "[ FL FR ]"
    positions = props.get("audio.position", "").strip("[] ").replace(",", " ").split()
    return len(positions) or len(ports)


def _props(fields: Record) -> dict[str, str]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _number(props: Props, key: str) -> int:
    value = props.get(key, "")
    return int(value) if value.isdecimal() else -1


def name_in(value: str) -> str | None:
    """What WirePlumber writes: {"name": "…"}; pw-metadata's users may write anything."""
    with contextlib.suppress(ValueError):
        found = json.loads(value)
        if isinstance(found, dict) and isinstance(found.get("name"), str):
            return str(found["name"])
    return None


def _named(devices: Sequence[AnyDevice], name: str | None) -> AnyDevice | None:
    return next((device for device in devices if device.name == name), None)

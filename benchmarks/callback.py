"""What does a graph cycle cost in our callbacks?

Instructions of ours in a cycle of 256 stereo frames, as valgrind's callgrind counts them, without
those with which libc copies; and how long the callbacks take on a real graph in which somebody
plays and somebody records. The C core runs as it is.

  python -m benchmarks.callback
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from .kit import instructions
from .kit.answer import Answer, Panel, machine
from .kit.floor import CORE, build
from .kit.graph import SINK, bench_graph
from .kit.rounds import take_turns
from .kit.script import Options, run
from .kit.talker import MIC

if TYPE_CHECKING:
    from collections.abc import Callable

QUANTUM: Final = 256
TURN_S: Final = 12.0

Times = dict[str, dict[str, float]]


def ask(options: Options) -> Answer:
    """Measure, and say what came of it."""
    counted = instructions.per_cycle(options.scratch)
    program = build(
        "callback_time",
        options.scratch,
        "libpipewire-0.3",
        sources=sorted(CORE.glob("*.c")),
        flags=[f"-Wl,--wrap=sbx_{callback}_process" for callback in instructions.CALLBACKS],
    )
    player, recorder = (
        str(build(name, options.scratch, "libpipewire-0.3")) for name in ("player", "reader")
    )
    seconds = str(TURN_S * options.scale)
    with bench_graph() as graph:
        graph.force_quantum(QUANTUM)
        log = str(options.scratch / "log")

        def turn(_: str) -> Times:
            with (
                graph.program(player, SINK, str(QUANTUM), log),
                subprocess.Popen(
                    [str(program), graph.remote, seconds],
                    env=graph.env,
                    stdout=subprocess.PIPE,
                    text=True,
                ) as streaming,
            ):
                graph.wait_for_nodes(MIC)
                command = (recorder, MIC, str(QUANTUM), "3600", f"{log}-2", "--source")
                with graph.program(*command):
                    printed, _errors = streaming.communicate()
            times: Times = json.loads(printed)
            return times

        turns = take_turns(["callbacks"], turn, options.rounds, "callbacks")
        version = graph.version
    rounds = turns["callbacks"]
    return Answer(
        name="callback",
        question="What does a graph cycle cost in our callbacks?",
        how=f"A cycle of {QUANTUM} stereo frames, {len(rounds)} turns of {seconds} s. The worst "
        "time is the machine's as well: whatever takes the processor away counts.",
        header=("callback", "instructions", "p50, µs", "p99, µs", "worst of all, µs"),
        rows=[
            (
                callback,
                f"{counted[callback]:.0f}",
                *(
                    turns.spread("callbacks", its(callback, at)).text()
                    for at in ("p50_us", "p99_us")
                ),
                f"{max(times[callback]['worst_us'] for times in rounds):.1f}",
            )
            for callback in instructions.CALLBACKS
        ],
        targets=[],
        panels=[
            Panel(
                title,
                "µs",
                {
                    callback: [times[callback][at] for times in rounds]
                    for callback in instructions.CALLBACKS
                },
            )
            for title, at in (("a callback's time, p50", "p50_us"), ("p99", "p99_us"))
        ],
        figures={"instructions": counted, "rounds": rounds},
        machine=machine(version),
    )


def its(callback: str, what: str) -> Callable[[Times], float]:
    """Return what takes a callback's figure out of a turn's times."""
    return lambda times: times[callback][what]


if __name__ == "__main__":
    sys.exit(run(ask, __doc__))

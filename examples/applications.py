"""Print which applications play into what, then listen to all but one of them for two seconds."""

import time

import numpy as np

import stagebox
from stagebox.graph import Graph

with Graph() as graph:
    for application in graph.applications():
        state = "plays" if application.playing else "pauses"
        print(f"{application.name} ({application.pid}) {state}: {application.plays_into}")

with stagebox.open_audio_capture(except_apps=["discord"]) as capture:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        pcm = capture.next_chunk(timeout=0.5).pcm  # empty while nobody plays
        print(f"{len(pcm)} frames, peak {np.abs(pcm).max(initial=0):.3f}")
    print(capture.stats)

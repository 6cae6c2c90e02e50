"""Have the desktop play 5.1 into a sink of our own for two seconds, and hear it at the desk too."""

import time

import numpy as np

import stagebox

with stagebox.open_audio_capture(6, sink="own", keep_local=True) as capture:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        pcm = capture.next_chunk().pcm
        loudest = np.abs(pcm).max(axis=0, initial=0)  # FL FR FC LFE RL RR
        print(f"{len(pcm)} frames, peaks {np.round(loudest, 3)}")
    print(capture.stats)
# here the default sink is again what it was

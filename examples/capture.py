"""Print how loud the desktop is, ten times a second, for five seconds."""

import time

import numpy as np

import stagebox

with stagebox.open_audio_capture() as capture:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        pcm = capture.read(4800)  # 100 ms, float32, (frames, channels)
        peak = np.abs(pcm).max(axis=0, initial=1e-6)
        print("  ".join(f"{20 * np.log10(p):6.1f} dBFS" for p in peak))
    print(capture.stats)

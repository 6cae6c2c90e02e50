"""Be a microphone that whistles for three seconds. Record it with any application."""

import time

import numpy as np

import stagebox

BLOCK = 480  # frames: 10 ms
seconds = np.arange(3 * stagebox.SAMPLE_RATE) / stagebox.SAMPLE_RATE
whistle = np.repeat(0.3 * np.sin(2 * np.pi * 1200 * seconds)[:, None], 2, axis=1).astype(np.float32)

with stagebox.open_virtual_mic(name="whistle") as mic:
    begin = time.monotonic()
    for at in range(0, len(whistle), BLOCK):
        if not mic.push(whistle[at : at + BLOCK]):
            break  # the daemon has gone: open another
        time.sleep(max(0, begin + at / stagebox.SAMPLE_RATE - time.monotonic()))
    print(mic.stats)

"""Send Opus packets, as from a remote person, into a microphone that survives daemon restarts."""

import time

import numpy as np

import stagebox

encoder = stagebox.OpusEncoder(channels=2, application="voip", bitrate=64_000)
frames = np.arange(960) / stagebox.SAMPLE_RATE  # 20 ms
hum = np.repeat(0.3 * np.sin(2 * np.pi * 200 * frames)[:, None], 2, axis=1).astype(np.float32)

with stagebox.MicPump.start() as pump, pump.sender() as sender:
    for _ in range(150):  # three seconds; a host would forward packets from its network here
        sender.try_send(encoder.encode(hum))
        time.sleep(0.02)
    print(pump.stats)

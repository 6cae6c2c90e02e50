"""Capture without blocking an event loop, for five seconds."""

import asyncio

import stagebox


async def main() -> None:
    frames = 0
    with stagebox.open_audio_capture(channels=2) as capture:
        async for chunk in capture:
            frames += len(chunk)
            if chunk.lost_frames:
                print(f"{chunk.lost_frames} frames lost before {chunk.time_ns} ns")
            if frames >= 5 * stagebox.SAMPLE_RATE:
                break
        print(capture.stats)


asyncio.run(main())

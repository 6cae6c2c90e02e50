/* The part of a microphone that the data thread works on. */
#ifndef SBX_MIC_RT_H
#define SBX_MIC_RT_H

#include <pipewire/stream.h>
#include <stdatomic.h>
#include <time.h>

#include "counter.h"
#include "jitter.h"
#include "ring.h"

struct sbx_mic_rt {
    /* fixed before the stream is connected */
    struct pw_stream *stream;

    struct sbx_ring ring; /* producer: the pusher; consumer: data thread */

    /* written by control threads, read by the data thread: relaxed, each stands alone, but for
     * the first, which is released after the frames before it and acquired before they go */
    _Atomic uint64_t discard_before; /* a position in the ring */
    _Atomic uint32_t longest_block;
    _Atomic uint32_t fixed_target; /* 0: choose it */

    /* written by the data thread, read by anybody: relaxed */
    sbx_counter played;
    sbx_counter trimmed;
    sbx_counter stale;
    sbx_counter discarded;
    sbx_counter underruns;
    sbx_counter reprimes;
    sbx_counter cycles;
    _Atomic uint32_t quantum;

    /* the data thread's alone */
    struct sbx_jitter jitter;
};

/* PipeWire's own time of a cycle will not do for a sound's age: after a stall the driver runs the
 * cycles it missed with the times they should have had. The clock is read in user space (vDSO).
 * Any thread. */
static inline int64_t sbx_monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SBX_NS_PER_SEC + now.tv_nsec;
}

/* The depth to prime to with this quantum. Any thread. */
static inline uint32_t sbx_mic_target(const struct sbx_mic_rt *rt, uint32_t quantum)
{
    const uint32_t fixed = atomic_load_explicit(&rt->fixed_target, memory_order_relaxed);
    const uint32_t longest = atomic_load_explicit(&rt->longest_block, memory_order_relaxed);

    return fixed > 0 ? fixed : sbx_jitter_target(quantum, longest);
}

/* The process callback. Thread: data. */
void sbx_mic_process(void *data);

#endif

/* When a microphone's ring primes, holds, trims and goes stale (header only).
 *
 * Pure functions: no clock, no PipeWire, no allocation. All frames are at 48 kHz, all times
 * CLOCK_MONOTONIC nanoseconds. `depth` is what the ring holds before a cycle fetches from it.
 *
 *          the target is reached, or will be by the block that comes next
 *      PRIMING ------------------------------------------------------------> PLAYING
 *         ^                                                                     |
 *         +---------------------- a cycle finds nothing ------------------------+
 */
#ifndef SBX_JITTER_H
#define SBX_JITTER_H

#include <stdbool.h>
#include <stdint.h>

#include "ring.h"

/* Sound older than this never plays; a callback away for this long had no recorder. */
#define SBX_STALE_NS SBX_NS_PER_SEC

/* The least slack beside the recorder's quantum: 10 ms, one common Opus packet. */
#define SBX_MIN_SLACK_FRAMES 480U

/* The longest block counts for at least one and at most two of these. */
#define SBX_BLOCK_WINDOW_NS (2 * SBX_NS_PER_SEC)

/* --- the pusher's side: how sound arrives ---------------------------------------------- */

struct sbx_blocks {
    int64_t window_began_ns;
    uint32_t longest_now;    /* in the window that is open */
    uint32_t longest_before; /* in the one before it */
};

/* Note a pushed block; the longest of the last 2 to 4 seconds comes back. */
static inline uint32_t sbx_blocks_note(struct sbx_blocks *blocks, uint32_t frames, int64_t now_ns)
{
    const int64_t age_ns = now_ns - blocks->window_began_ns;

    if (age_ns >= SBX_BLOCK_WINDOW_NS) {
        blocks->longest_before = age_ns < 2 * SBX_BLOCK_WINDOW_NS ? blocks->longest_now : 0;
        blocks->longest_now = 0;
        blocks->window_began_ns = now_ns;
    }
    if (frames > blocks->longest_now)
        blocks->longest_now = frames;
    return blocks->longest_now > blocks->longest_before ? blocks->longest_now
                                                        : blocks->longest_before;
}

/* Right after a push at the target a whole block is still to be fetched before the next one
 * arrives: what is left then is one quantum, just enough. Short blocks come with at least 10 ms
 * of slack, since arrival is never that regular. */
static inline uint32_t sbx_jitter_target(uint32_t quantum, uint32_t longest_block)
{
    return quantum + (longest_block > SBX_MIN_SLACK_FRAMES ? longest_block : SBX_MIN_SLACK_FRAMES);
}

/* --- the callback's side: what to do this cycle ---------------------------------------- */

struct sbx_jitter {
    bool playing;
    int64_t last_cycle_ns; /* initially when the stream was opened */
};

struct sbx_cycle {
    int64_t now_ns;
    int64_t oldest_ns; /* when the oldest frame was pushed; now_ns when depth is 0 */
    uint32_t quantum;  /* frames the recorder fetches */
    uint32_t depth;
    uint32_t old;    /* of depth, the frames that were due more than SBX_STALE_NS ago */
    uint32_t target; /* see sbx_jitter_target */
    uint32_t block;  /* the longest pushed of late */
};

/* Drop `stale`, then `trimmed`, both from the oldest; play `play`; silence for the rest. */
struct sbx_plan {
    uint32_t stale;
    uint32_t trimmed;
    uint32_t play;
    bool underrun; /* some frames, but not a quantum */
    bool reprimed; /* none, after playing */
};

/* The target is what the ring holds right after a push, so it counts the block that is about to
 * come: once the oldest frame has waited for the rest, playing on keeps the ring at the target.
 * To wait for the depth itself would take another block than is needed, only to cut it again; and
 * a last or only block would never play. */
static inline bool sbx_jitter_is_primed(const struct sbx_cycle *cycle, uint32_t depth)
{
    const uint32_t rest = cycle->target > cycle->block ? cycle->target - cycle->block : 0;

    return depth >= cycle->target ||
           (depth > 0 && cycle->now_ns - cycle->oldest_ns >= sbx_frames_to_ns(rest));
}

static inline struct sbx_plan sbx_jitter_step(struct sbx_jitter *jitter,
                                              const struct sbx_cycle *cycle)
{
    struct sbx_plan plan = {.stale = cycle->old};
    uint32_t depth;

    /* No recorder was there: whatever the ring holds was said to nobody. */
    if (cycle->now_ns - jitter->last_cycle_ns >= SBX_STALE_NS)
        plan.stale = cycle->depth;
    jitter->last_cycle_ns = cycle->now_ns;
    depth = cycle->depth - plan.stale;

    if (!jitter->playing && !sbx_jitter_is_primed(cycle, depth))
        return plan;

    /* Behind the target by more than a quantum is delay that buys nothing. The newest stays. */
    if (depth > cycle->target + cycle->quantum) {
        plan.trimmed = depth - (cycle->target + cycle->quantum);
        depth -= plan.trimmed;
    }
    plan.play = depth < cycle->quantum ? depth : cycle->quantum;
    plan.underrun = plan.play > 0 && plan.play < cycle->quantum;
    plan.reprimed = plan.play == 0;
    jitter->playing = plan.play > 0;
    return plan;
}

#endif

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "mic_rt.h"
#include "stagebox.h"
#include "stream.h"

/* 1.4 s at 48 kHz: all that is not too old to play, and a block on top. */
#define RING_FRAMES (1U << 16)

/* What a microphone tells of itself, as properties of its node: python/stagebox/graph_state.py. */
#define UNDERRUNS "stagebox.underruns"
#define LOST "stagebox.lost-frames"
#define DEPTH "stagebox.depth-frames"

struct sbx_mic {
    struct sbx_stream stream;
    struct sbx_mic_rt rt;
    pthread_mutex_t pusher; /* makes one producer of the ring out of many pushers */

    /* written with the pusher locked */
    struct sbx_blocks blocks;
    sbx_counter pushed;
    sbx_counter dropped;
};

/* By this property who has it as a default finds it again. */
#define CLAIM "stagebox.claim"

/* --- opening and closing ----------------------------------------------------------------- */

static struct pw_properties *describe(const char *name, const char *description, const char *claim,
                                      uint32_t session_priority, uint32_t quantum_frames)
{
    struct pw_properties *props =
        pw_properties_new(PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CLASS, "Audio/Source",
                          PW_KEY_NODE_VIRTUAL, "true", NULL);

    if (props == NULL)
        return NULL;
    /* set, not parsed: nothing in a name can become a property */
    pw_properties_set(props, PW_KEY_NODE_NAME, name);
    pw_properties_set(props, PW_KEY_NODE_DESCRIPTION, description);
    pw_properties_set(props, CLAIM, claim);
    pw_properties_setf(props, PW_KEY_PRIORITY_SESSION, "%u", session_priority);
    pw_properties_setf(props, PW_KEY_NODE_LATENCY, "%u/%u", quantum_frames, SBX_RATE_HZ);
    pw_properties_set(props, UNDERRUNS, "0");
    pw_properties_set(props, LOST, "0");
    pw_properties_set(props, DEPTH, "0");
    return props;
}

/* Tell whoever looks at the graph how it is. What is as it was, libpipewire does not send. Thread:
 * loop, or control with the loop locked. */
static void tell(void *owner)
{
    struct sbx_mic *mic = owner;
    struct sbx_mic_stats stats;
    char underruns[24];
    char lost[24];
    char depth[24];
    const struct spa_dict_item items[] = {
        {UNDERRUNS, underruns},
        {LOST, lost},
        {DEPTH, depth},
    };
    const struct spa_dict told = SPA_DICT_INIT_ARRAY(items);

    sbx_mic_get_stats(mic, &stats);
    snprintf(underruns, sizeof(underruns), "%" PRIu64, stats.underruns);
    snprintf(lost, sizeof(lost), "%" PRIu64, stats.trimmed);
    snprintf(depth, sizeof(depth), "%" PRIu32, stats.depth);
    pw_stream_update_properties(mic->stream.pw, &told);
}

static int open_stream(struct sbx_mic *mic, sbx_connection *connection, uint32_t channels,
                       struct pw_properties *props)
{
    static const struct pw_stream_events rt_events = {
        PW_VERSION_STREAM_EVENTS,
        .process = sbx_mic_process,
    };
    const struct sbx_stream_setup setup = {
        .direction = PW_DIRECTION_OUTPUT,
        .channels = channels,
        .rt_events = &rt_events,
        .rt_data = &mic->rt,
        .tell = tell,
        .owner = mic,
    };
    const int result = sbx_stream_init(&mic->stream, connection, props, &setup);

    if (result < 0)
        return result;
    mic->rt.stream = mic->stream.pw;
    return sbx_stream_connect(&mic->stream);
}

sbx_mic *sbx_mic_open(sbx_connection *connection, uint32_t channels, const char *name,
                      const char *description, const char *claim, uint32_t session_priority,
                      uint32_t quantum_frames, int *error)
{
    struct sbx_mic *mic = aligned_alloc(_Alignof(struct sbx_mic), sizeof(*mic));
    struct pw_properties *props =
        describe(name, description, claim, session_priority, quantum_frames);

    *error = -ENOMEM;
    if (mic == NULL || props == NULL)
        goto fail;
    *mic = (struct sbx_mic){0};
    mic->rt.jitter.last_cycle_ns = sbx_monotonic_ns();
    if (sbx_ring_init(&mic->rt.ring, channels, RING_FRAMES) < 0)
        goto fail;
    pthread_mutex_init(&mic->pusher, NULL);
    *error = open_stream(mic, connection, channels, props);
    if (*error < 0) {
        sbx_mic_free(mic);
        return NULL;
    }
    return mic;

fail:
    pw_properties_free(props);
    free(mic);
    return NULL;
}

int sbx_mic_wait_open(sbx_mic *mic, int timeout_ms)
{
    return sbx_stream_wait_open(&mic->stream, timeout_ms);
}

void sbx_mic_close(sbx_mic *mic)
{
    sbx_stream_close(&mic->stream);
}

void sbx_mic_free(sbx_mic *mic)
{
    if (mic == NULL)
        return;
    sbx_stream_clear(&mic->stream);
    sbx_ring_clear(&mic->rt.ring);
    pthread_mutex_destroy(&mic->pusher);
    free(mic);
}

/* --- pushing ----------------------------------------------------------------------------- */

int sbx_mic_push(sbx_mic *mic, const float *frames, uint32_t count)
{
    if (!sbx_mic_alive(mic))
        return 0;
    if (count == 0)
        return 1;
    pthread_mutex_lock(&mic->pusher);
    const int64_t now_ns = sbx_monotonic_ns();
    atomic_store_explicit(&mic->rt.longest_block, sbx_blocks_note(&mic->blocks, count, now_ns),
                          memory_order_relaxed);
    sbx_counter_add(&mic->pushed, count);
    if (!sbx_ring_write_clipped(&mic->rt.ring, frames, count, now_ns))
        sbx_counter_add(&mic->dropped, count);
    pthread_mutex_unlock(&mic->pusher);
    return 1;
}

bool sbx_mic_alive(const sbx_mic *mic)
{
    return sbx_stream_alive(&mic->stream);
}

void sbx_mic_discard(sbx_mic *mic)
{
    if (!sbx_mic_alive(mic))
        return;
    /* Locked, so that "pushed before" means the same to every pusher. */
    pthread_mutex_lock(&mic->pusher);
    /* relaxed: with the pusher locked it is our own; released: see mic_rt.h */
    const uint64_t written =
        atomic_load_explicit(&mic->rt.ring.write_position, memory_order_relaxed);
    atomic_store_explicit(&mic->rt.discard_before, written, memory_order_release);
    pthread_mutex_unlock(&mic->pusher);
}

void sbx_mic_set_target(sbx_mic *mic, uint32_t frames)
{
    atomic_store_explicit(&mic->rt.fixed_target, frames, memory_order_relaxed);
}

void sbx_mic_get_stats(sbx_mic *mic, struct sbx_mic_stats *stats)
{
    const struct sbx_mic_rt *rt = &mic->rt;
    const uint32_t quantum = atomic_load_explicit(&rt->quantum, memory_order_relaxed);
    /* Acquired, so that the write position, which is loaded after them, is not before them. */
    const uint64_t read = atomic_load_explicit(&rt->ring.read_position, memory_order_acquire);
    const uint64_t before = atomic_load_explicit(&rt->discard_before, memory_order_acquire);
    const uint64_t written = atomic_load_explicit(&rt->ring.write_position, memory_order_acquire);
    const uint64_t doomed = before > read ? before - read : 0; /* waits for a cycle to drop it */

    *stats = (struct sbx_mic_stats){
        .pushed = sbx_counter_get(&mic->pushed),
        .played = sbx_counter_get(&rt->played),
        .dropped = sbx_counter_get(&mic->dropped),
        .trimmed = sbx_counter_get(&rt->trimmed),
        .stale = sbx_counter_get(&rt->stale),
        .discarded = sbx_counter_get(&rt->discarded) + doomed,
        .underruns = sbx_counter_get(&rt->underruns),
        .reprimes = sbx_counter_get(&rt->reprimes),
        .cycles = sbx_counter_get(&rt->cycles),
        .depth = (uint32_t)(written - read - doomed),
        .target = sbx_mic_target(rt, quantum),
        .quantum = quantum,
        .state = sbx_stream_state(&mic->stream),
    };
}

void sbx_mic_error(sbx_mic *mic, char *text, size_t size)
{
    sbx_stream_error(&mic->stream, text, size);
}

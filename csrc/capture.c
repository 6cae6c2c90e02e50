#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "capture_rt.h"
#include "stagebox.h"
#include "stream.h"

/* Who links it finds it by this property. */
#define ROUTE "stagebox.route"

/* 2.7 s at 48 kHz: a reader asleep for a second loses nothing, whatever the quantum. */
#define RING_FRAMES (1U << 17)

struct sbx_capture {
    struct sbx_stream stream;
    struct sbx_capture_rt rt;
    pthread_mutex_t reader; /* makes one consumer of the ring out of many readers */
};

/* The alarm. While the ring is empty it is set one frame ahead and the eventfd is not readable;
 * while frames wait, and for ever once the stream has ended, the eventfd is readable. */

static void wake(struct sbx_capture *capture)
{
    const uint64_t one = 1;
    const ssize_t written = write(capture->rt.wake_fd, &one, sizeof(one));

    (void)written; /* fails only when it is readable already */
}

static void wake_owner(void *owner)
{
    wake(owner);
}

static bool is_over(const struct sbx_capture *capture)
{
    return !sbx_stream_alive(&capture->stream);
}

/* Have the eventfd say when `min_frames` are there, with the reader locked. */
static void arm(struct sbx_capture *capture, uint32_t min_frames)
{
    struct sbx_capture_rt *rt = &capture->rt;
    /* relaxed: with the reader locked it is our own */
    const uint64_t position =
        atomic_load_explicit(&rt->ring.read_position, memory_order_relaxed) + min_frames;
    uint64_t count;

    if (sbx_ring_depth(&rt->ring) < min_frames && !is_over(capture)) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): it is non-blocking */
        const ssize_t emptied = read(rt->wake_fd, &count, sizeof(count));
        (void)emptied; /* fails only when it was empty */
        atomic_exchange_explicit(&rt->alarm, position, memory_order_acquire);
    }
    /* Looked at only after the alarm is set: what came between is not missed. */
    if (atomic_load_explicit(&rt->ring.write_position, memory_order_acquire) >= position ||
        is_over(capture))
        wake(capture);
}

static void arm_locked(struct sbx_capture *capture, uint32_t min_frames)
{
    pthread_mutex_lock(&capture->reader);
    arm(capture, min_frames);
    pthread_mutex_unlock(&capture->reader);
}

/* Whether a read that left the ring empty has done it for one frame. (For more than one the alarm
 * alone would not tell: the eventfd may have been left readable for the frames that are there.)
 * Any memory order would do: an alarm that is not set any more was rung, and the eventfd is or will
 * be readable. */
static bool is_armed(const struct sbx_capture *capture, uint32_t min_frames)
{
    const struct sbx_capture_rt *rt = &capture->rt;

    return min_frames == 1 &&
           atomic_load_explicit(&rt->alarm, memory_order_relaxed) ==
               atomic_load_explicit(&rt->ring.read_position, memory_order_acquire) + 1;
}

/* --- opening and closing ----------------------------------------------------------------- */

static struct pw_properties *describe(bool has_target, const char *route, uint32_t quantum_frames)
{
    struct pw_properties *props = pw_properties_new(
        PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Capture", PW_KEY_NODE_NAME,
        "stagebox-capture", PW_KEY_NODE_DESCRIPTION, "Stagebox Capture",
        /* a sink's monitor, never a source */
        PW_KEY_STREAM_CAPTURE_SINK, "true",
        /* positions a narrower sink lacks stay silent instead of being made up */
        "channelmix.upmix", "false",
        /* a volume, mute or target remembered from another run must not change what we hear */
        "state.restore-props", "false", "state.restore-target", "false", NULL);

    if (props == NULL)
        return NULL;
    if (quantum_frames > 0)
        pw_properties_setf(props, PW_KEY_NODE_LATENCY, "%u/%u", quantum_frames, SBX_RATE_HZ);
    else /* by which a daemon from 0.3.70 on knows which of its links are passive */
        pw_properties_set(props, PW_KEY_NODE_PASSIVE, "true");
    pw_properties_set(props, ROUTE, route);
    if (has_target) {
        /* Rather nothing than another sink's sound. The first is understood by WirePlumber 0.4 and
         * 0.5, which then destroys a node whose target it does not know; 0.5 knows the others too,
         * and has it wait. */
        pw_properties_set(props, PW_KEY_NODE_DONT_RECONNECT, "true");
        pw_properties_set(props, "node.dont-fallback", "true");
        pw_properties_set(props, "node.dont-move", "true");
        pw_properties_set(props, "node.linger", "true");
    }
    return props;
}

static int open_stream(struct sbx_capture *capture, sbx_connection *connection, uint32_t channels,
                       const char *target, struct pw_properties *props)
{
    static const struct pw_stream_events rt_events = {
        PW_VERSION_STREAM_EVENTS,
        .process = sbx_capture_process,
    };
    const struct sbx_stream_setup setup = {
        .direction = PW_DIRECTION_INPUT,
        .target = target,
        .flags = pw_properties_get(props, ROUTE) == NULL ? PW_STREAM_FLAG_AUTOCONNECT
                                                         : PW_STREAM_FLAG_NONE,
        .channels = channels,
        .rt_events = &rt_events,
        .rt_data = &capture->rt,
        .on_gone = wake_owner,
        .owner = capture,
    };
    const int result = sbx_stream_init(&capture->stream, connection, props, &setup);

    if (result < 0)
        return result;
    capture->rt.stream = capture->stream.pw;
    return sbx_stream_connect(&capture->stream);
}

sbx_capture *sbx_capture_open(sbx_connection *connection, uint32_t channels, const char *target,
                              const char *route, uint32_t quantum_frames, int *error)
{
    struct sbx_capture *capture = aligned_alloc(_Alignof(struct sbx_capture), sizeof(*capture));
    struct pw_properties *props = describe(target != NULL, route, quantum_frames);

    *error = -ENOMEM;
    if (capture == NULL || props == NULL)
        goto fail_alloc;
    *capture = (struct sbx_capture){0};
    atomic_init(&capture->rt.alarm, 1);
    if (sbx_ring_init(&capture->rt.ring, channels, RING_FRAMES) < 0)
        goto fail_alloc;
    capture->rt.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (capture->rt.wake_fd < 0) {
        *error = -errno;
        goto fail_fd;
    }
    pthread_mutex_init(&capture->reader, NULL);
    *error = open_stream(capture, connection, channels, target, props);
    if (*error < 0) {
        sbx_capture_free(capture);
        return NULL;
    }
    return capture;

fail_fd:
    sbx_ring_clear(&capture->rt.ring);
fail_alloc:
    pw_properties_free(props);
    free(capture);
    return NULL;
}

int sbx_capture_wait_open(sbx_capture *capture, int timeout_ms)
{
    return sbx_stream_wait_open(&capture->stream, timeout_ms);
}

void sbx_capture_close(sbx_capture *capture)
{
    if (sbx_connection_inherited(capture->stream.connection))
        return; /* the eventfd is the parent's too */
    sbx_stream_close(&capture->stream);
    wake(capture);
}

void sbx_capture_free(sbx_capture *capture)
{
    if (capture == NULL)
        return;
    sbx_stream_clear(&capture->stream);
    close(capture->rt.wake_fd);
    sbx_ring_clear(&capture->rt.ring);
    pthread_mutex_destroy(&capture->reader);
    free(capture);
}

/* --- reading ----------------------------------------------------------------------------- */

/* Its lock may be held for ever by a thread that did not come along into this process. */
static bool is_inherited(const struct sbx_capture *capture)
{
    return sbx_connection_inherited(capture->stream.connection);
}

/* Wait until min_frames are there. Returns how many are. */
static int64_t await_frames(sbx_capture *capture, uint32_t min_frames, int timeout_ms)
{
    struct pollfd woken = {.fd = capture->rt.wake_fd, .events = POLLIN};

    if (sbx_ring_depth(&capture->rt.ring) < min_frames && !is_over(capture)) {
        if (!is_armed(capture, min_frames))
            arm_locked(capture, min_frames);
        poll(&woken, 1, timeout_ms); /* a signal or a time-out: the caller sees the depth */
        /* Whoever polls the eventfd finds it as a read leaves it; and where it was readable for
         * nothing, it is emptied. */
        if (sbx_ring_depth(&capture->rt.ring) < min_frames)
            arm_locked(capture, 1);
    }
    /* Looked at once: closed in between two looks it would seem to have died. */
    const int state = sbx_stream_state(&capture->stream);
    const int64_t depth = sbx_ring_depth(&capture->rt.ring);
    if (state == SBX_SHUT)
        return SBX_CLOSED;
    if (is_inherited(capture))
        return SBX_DEAD;
    return depth == 0 && state == SBX_GONE ? SBX_DEAD : depth;
}

bool sbx_capture_alive(const sbx_capture *capture)
{
    return !is_over(capture);
}

/* With the reader locked: copy `count` frames, and have the eventfd say when there are more. */
static void copy_out(struct sbx_capture *capture, float *frames, uint32_t count)
{
    if (count > 0)
        sbx_ring_read(&capture->rt.ring, frames, count);
    arm(capture, 1);
}

int64_t sbx_capture_next(sbx_capture *capture, float *frames, uint32_t max_frames, int timeout_ms,
                         struct sbx_block *block)
{
    struct sbx_ring *ring = &capture->rt.ring;
    const int64_t waiting = await_frames(capture, 1, timeout_ms);

    if (waiting <= 0)
        return waiting;
    pthread_mutex_lock(&capture->reader);
    uint32_t count = sbx_ring_depth(ring); /* another reader may have been faster */
    if (count > 0 && count <= max_frames) {
        const struct sbx_mark front = sbx_ring_front(ring);
        *block = (struct sbx_block){front.time_ns, front.lost_frames};
        count = sbx_ring_contiguous(ring, count);
        copy_out(capture, frames, count);
    }
    pthread_mutex_unlock(&capture->reader);
    return count;
}

/* Across losses. */
static uint32_t read_up_to(struct sbx_capture *capture, float *frames, uint32_t most)
{
    pthread_mutex_lock(&capture->reader);
    const uint32_t count = SPA_MIN(sbx_ring_depth(&capture->rt.ring), most);
    copy_out(capture, frames, count);
    pthread_mutex_unlock(&capture->reader);
    return count;
}

int64_t sbx_capture_fill(sbx_capture *capture, float *frames, uint32_t count, int timeout_ms)
{
    const int64_t waiting = await_frames(capture, SPA_MIN(count, RING_FRAMES / 2), timeout_ms);

    return waiting > 0 ? read_up_to(capture, frames, count) : waiting;
}

/* Above 120 dB over full scale nothing is sound; nor is NaN, which is not below either. */
#define ABSURD 1e6F

static void measure(const float *samples, size_t count, uint32_t channels, float *restrict peaks,
                    float *restrict squares)
{
    for (; count > 0; count -= channels, samples += channels) {
        for (uint32_t i = 0; i < channels; i++) {
            const float absolute = fabsf(samples[i]);
            const float sound = absolute < ABSURD ? absolute : 0.0F;
            peaks[i] = sound > peaks[i] ? sound : peaks[i];
            squares[i] += sound * sound;
        }
    }
}

int sbx_capture_measure(sbx_capture *capture, float *peaks, float *squares,
                        struct sbx_measured *measured)
{
    struct sbx_ring *ring = &capture->rt.ring;
    const int state = sbx_stream_state(&capture->stream);

    *measured = (struct sbx_measured){0};
    if (state == SBX_SHUT)
        return SBX_CLOSED;
    if (state == SBX_GONE)
        return SBX_DEAD;
    memset(peaks, 0, sbx_ring_sample_bytes(ring) / ring->capacity);
    memset(squares, 0, sbx_ring_sample_bytes(ring) / ring->capacity);
    pthread_mutex_lock(&capture->reader);
    const uint32_t depth = sbx_ring_depth(ring);
    if (depth > 0) {
        const struct sbx_span span = sbx_ring_oldest(ring, depth);
        measure(ring->samples + span.start, span.first, ring->channels, peaks, squares);
        measure(ring->samples, span.rest, ring->channels, peaks, squares);
        measured->newest_ns = sbx_ring_newest_ns(ring);
        sbx_ring_skip(ring, depth);
    }
    pthread_mutex_unlock(&capture->reader);
    measured->frames = depth;
    measured->absent = sbx_counter_get(&capture->rt.lost) + sbx_counter_get(&capture->rt.missed);
    return 0;
}

void sbx_capture_drain(sbx_capture *capture)
{
    if (is_inherited(capture))
        return;
    pthread_mutex_lock(&capture->reader);
    sbx_ring_skip(&capture->rt.ring, sbx_ring_depth(&capture->rt.ring));
    arm(capture, 1);
    pthread_mutex_unlock(&capture->reader);
}

int sbx_capture_fd(const sbx_capture *capture)
{
    return capture->rt.wake_fd;
}

void sbx_capture_get_stats(sbx_capture *capture, struct sbx_capture_stats *stats)
{
    struct sbx_capture_rt *rt = &capture->rt;

    *stats = (struct sbx_capture_stats){
        .frames = sbx_counter_get(&rt->frames),
        .lost = sbx_counter_get(&rt->lost),
        .missed = sbx_counter_get(&rt->missed),
        .cycles = sbx_counter_get(&rt->cycles),
        .quantum = atomic_load_explicit(&rt->quantum, memory_order_relaxed),
        .depth = sbx_ring_depth(&rt->ring),
        .rate_hz = atomic_load_explicit(&capture->stream.rate_hz, memory_order_relaxed),
        .graph_rate_hz = atomic_load_explicit(&rt->graph_rate_hz, memory_order_relaxed),
        .driver_id = atomic_load_explicit(&capture->stream.driver_id, memory_order_relaxed),
        .state = sbx_stream_state(&capture->stream),
    };
}

void sbx_capture_error(sbx_capture *capture, char *text, size_t size)
{
    sbx_stream_error(&capture->stream, text, size);
}

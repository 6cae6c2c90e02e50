/* cycles capture|mic COUNT: run a process callback so many times, without PipeWire, for callgrind
 * to count its instructions. Cycles have 256 stereo frames; of a capture each wakes its reader, a
 * microphone gets 480 frames at a time. */
#include <sys/eventfd.h>

#include "bench.h"

#include "capture_rt.h"
#include "mic_rt.h"

#define QUANTUM 256U
#define PUSHED 480U
#define RING_FRAMES (1U << 16)

static float cycle_frames[QUANTUM * CHANNELS];
static int64_t cycle_ns = 1;
static struct spa_chunk chunk = {.size = sizeof(cycle_frames)};
static struct spa_data data = {
    .data = cycle_frames, .maxsize = sizeof(cycle_frames), .chunk = &chunk};
static struct spa_buffer buffer = {.n_datas = 1, .datas = &data};
static struct pw_buffer pw_buffer = {.buffer = &buffer, .requested = QUANTUM};

/* --- what the callbacks call of PipeWire ------------------------------------------------------ */

struct pw_buffer *pw_stream_dequeue_buffer(struct pw_stream *stream)
{
    (void)stream;
    return &pw_buffer;
}

int pw_stream_queue_buffer(struct pw_stream *stream, struct pw_buffer *queued)
{
    (void)stream;
    (void)queued;
    return 0;
}

int pw_stream_get_time_n(struct pw_stream *stream, struct pw_time *time, size_t size)
{
    (void)stream;
    (void)size;
    cycle_ns += sbx_frames_to_ns(QUANTUM);
    *time = (struct pw_time){.now = cycle_ns, .rate = {1, RATE_HZ}};
    return 0;
}

/* --- the two ---------------------------------------------------------------------------------- */

static void run_capture(long count)
{
    static struct sbx_capture_rt rt;

    rt.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sbx_ring_init(&rt.ring, CHANNELS, RING_FRAMES) < 0)
        die("sbx_ring_init");
    for (long i = 0; i < count; i++) {
        atomic_store(&rt.alarm, rt.ring.write_position + 1);
        sbx_capture_process(&rt);
        sbx_ring_skip(&rt.ring, sbx_ring_depth(&rt.ring));
    }
}

static void run_mic(long count)
{
    static struct sbx_mic_rt rt;
    static const float block[PUSHED * CHANNELS];

    rt.jitter.last_cycle_ns = sbx_monotonic_ns();
    atomic_store(&rt.longest_block, PUSHED);
    if (sbx_ring_init(&rt.ring, CHANNELS, RING_FRAMES) < 0)
        die("sbx_ring_init");
    for (long i = 0; i < count; i++) {
        if (sbx_ring_depth(&rt.ring) < QUANTUM + PUSHED)
            sbx_ring_write_clipped(&rt.ring, block, PUSHED, sbx_monotonic_ns());
        sbx_mic_process(&rt);
    }
}

int main(int argc, char *argv[])
{
    if (argc != 3) {
        fprintf(stderr, "usage: cycles capture|mic COUNT\n");
        return 2;
    }
    if (strcmp(argv[1], "mic") == 0)
        run_mic(atol(argv[2]));
    else
        run_capture(atol(argv[2]));
    return 0;
}

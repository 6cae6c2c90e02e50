/* The floor: a capture with libpipewire and nothing else. The callback copies into a ring and
 * writes to an eventfd; the main thread waits there, copies out, and notes when it held what.
 *
 *   reader TARGET QUANTUM SECONDS LOG [--source] [--pcm FILE]
 *
 * Prints a line of JSON at the end. --source records a source rather than a sink's monitor; --pcm
 * keeps the first channel of all it read. */
#include <poll.h>
#include <sys/eventfd.h>

#include "bench.h"

#define RING_FRAMES (1U << 17)
#define WARM_UP_NS INT64_C(500000000)

struct reader {
    struct pw_stream *stream;
    int wake_fd;
    _Atomic uint64_t written; /* frames */
    _Atomic uint64_t read;
    uint64_t lost;
    float ring[RING_FRAMES * CHANNELS];
};

static struct reader reader;
static float held[RING_FRAMES * CHANNELS];

static void copy_in(const float *samples, uint32_t frames)
{
    const uint64_t written = atomic_load_explicit(&reader.written, memory_order_relaxed);
    const uint64_t read = atomic_load_explicit(&reader.read, memory_order_acquire);
    const uint32_t start = (uint32_t)written % RING_FRAMES;
    const uint32_t first = SPA_MIN(frames, RING_FRAMES - start);

    if (frames > RING_FRAMES - (written - read)) {
        reader.lost += frames;
        return;
    }
    memcpy(&reader.ring[start * CHANNELS], samples, first * STRIDE);
    memcpy(reader.ring, samples + first * CHANNELS, (frames - first) * STRIDE);
    atomic_store_explicit(&reader.written, written + frames, memory_order_release);
}

/* Thread: data. */
static void on_process(void *data)
{
    const uint64_t one = 1;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(reader.stream);

    (void)data;
    if (buffer == NULL)
        return;
    const struct spa_data *in = &buffer->buffer->datas[0];
    copy_in(in->data, in->chunk->size / STRIDE);
    pw_stream_queue_buffer(reader.stream, buffer);
    if (write(reader.wake_fd, &one, sizeof(one)) < 0)
        return; /* readable already */
}

static uint32_t copy_out(void)
{
    const uint64_t written = atomic_load_explicit(&reader.written, memory_order_acquire);
    const uint64_t read = atomic_load_explicit(&reader.read, memory_order_relaxed);
    const uint32_t frames = (uint32_t)(written - read);
    const uint32_t start = (uint32_t)read % RING_FRAMES;
    const uint32_t first = SPA_MIN(frames, RING_FRAMES - start);

    memcpy(held, &reader.ring[start * CHANNELS], first * STRIDE);
    memcpy(held + first * CHANNELS, reader.ring, (frames - first) * STRIDE);
    atomic_store_explicit(&reader.read, written, memory_order_release);
    return frames;
}

struct figures {
    int64_t opened_ns; /* from the first call of libpipewire to the node's being there */
    int64_t cpu_ns;
    int64_t wall_ns;
};

static void keep_pcm(FILE *pcm, uint32_t frames)
{
    for (uint32_t i = 0; pcm != NULL && i < frames; i++)
        fwrite(&held[i * CHANNELS], sizeof(float), 1, pcm);
}

static void listen_for(int64_t duration_ns, struct block_log *log, FILE *pcm,
                       struct figures *figures)
{
    const int64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    int64_t warm_ns = 0;
    int64_t warm_cpu_ns = 0;
    int64_t now_ns = begin_ns;

    while (now_ns < begin_ns + duration_ns) {
        struct pollfd woken = {.fd = reader.wake_fd, .events = POLLIN};
        uint64_t count;
        poll(&woken, 1, 100);
        if (read(reader.wake_fd, &count, sizeof(count)) < 0) {
            now_ns = clock_ns(CLOCK_MONOTONIC);
            continue;
        }
        const uint32_t frames = copy_out();
        now_ns = clock_ns(CLOCK_MONOTONIC);
        note(log, now_ns, held, frames);
        keep_pcm(pcm, frames);
        if (warm_ns == 0 && now_ns >= begin_ns + WARM_UP_NS) {
            warm_ns = now_ns;
            warm_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        }
    }
    figures->wall_ns = now_ns - warm_ns;
    figures->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - warm_cpu_ns;
}

struct opening {
    struct pw_thread_loop *loop;
    struct pw_core *core;
    struct spa_hook listener;
    enum pw_stream_state state;
};

static void on_state_changed(void *data, enum pw_stream_state old, enum pw_stream_state state,
                             const char *error)
{
    struct opening *opening = data;

    (void)old;
    (void)error;
    opening->state = state;
    pw_thread_loop_signal(opening->loop, false);
}

static const struct pw_stream_events events = {
    PW_VERSION_STREAM_EVENTS,
    .state_changed = on_state_changed,
    .process = on_process,
};

static void open_stream(struct opening *opening, const char *target, const char *quantum,
                        bool of_sink)
{
    uint8_t space[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof(space));
    const struct spa_pod *params[1] = {stereo(&builder)};

    opening->loop = pw_thread_loop_new("floor", NULL);
    pw_thread_loop_start(opening->loop);
    pw_thread_loop_lock(opening->loop);
    struct pw_properties *props = pw_properties_new(
        PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Capture", PW_KEY_NODE_NAME,
        "bench-floor", PW_KEY_TARGET_OBJECT, target, "state.restore-props", "false", NULL);
    pw_properties_set(props, PW_KEY_STREAM_CAPTURE_SINK, of_sink ? "true" : "false");
    pw_properties_setf(props, PW_KEY_NODE_LATENCY, "%s/%u", quantum, RATE_HZ);
    opening->core = connect_in_real_time(pw_thread_loop_get_loop(opening->loop));
    reader.stream = pw_stream_new(opening->core, "bench-floor", props);
    if (reader.stream == NULL)
        die("pw_stream_new");
    pw_stream_add_listener(reader.stream, &opening->listener, &events, opening);
    if (pw_stream_connect(reader.stream, PW_DIRECTION_INPUT, PW_ID_ANY,
                          PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_MAP_BUFFERS |
                              PW_STREAM_FLAG_RT_PROCESS,
                          params, 1) < 0)
        die("pw_stream_connect");
    while (opening->state == PW_STREAM_STATE_UNCONNECTED ||
           opening->state == PW_STREAM_STATE_CONNECTING)
        pw_thread_loop_wait(opening->loop);
    pw_thread_loop_unlock(opening->loop);
    if (opening->state == PW_STREAM_STATE_ERROR)
        die("the stream did not open");
}

int main(int argc, char *argv[])
{
    struct opening opening = {.state = PW_STREAM_STATE_UNCONNECTED};
    struct figures figures = {0};
    bool of_sink = true;
    FILE *pcm = NULL;

    if (argc < 5) {
        fprintf(stderr, "usage: reader TARGET QUANTUM SECONDS LOG [--source] [--pcm FILE]\n");
        return 2;
    }
    for (int i = 5; i < argc; i++) {
        if (strcmp(argv[i], "--source") == 0)
            of_sink = false;
        else if (strcmp(argv[i], "--pcm") == 0 && i + 1 < argc)
            pcm = fopen(argv[++i], "wb");
    }
    struct block_log log = open_log(argv[4], 1U << 18);
    reader.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    const int64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    pw_init(NULL, NULL);
    open_stream(&opening, argv[1], argv[2], of_sink);
    figures.opened_ns = clock_ns(CLOCK_MONOTONIC) - begin_ns;

    listen_for((int64_t)(atof(argv[3]) * 1e9), &log, pcm, &figures);
    pw_thread_loop_stop(opening.loop);
    pw_stream_destroy(reader.stream);
    disconnect(opening.core);
    pw_thread_loop_destroy(opening.loop);
    if (pcm != NULL)
        fclose(pcm);
    printf("{\"open_s\": %.9f, \"cpu_s\": %.9f, \"wall_s\": %.9f, \"lost\": %llu}\n",
           (double)figures.opened_ns / 1e9, (double)figures.cpu_ns / 1e9,
           (double)figures.wall_ns / 1e9, (unsigned long long)reader.lost);
    return 0;
}

/* player TARGET QUANTUM LOG: play a ramp into a sink until SIGTERM, and note when each of its
 * quanta was written. */
#include "bench.h"

struct player {
    struct pw_main_loop *loop;
    struct pw_stream *stream;
    struct spa_hook listener;
    uint32_t next;
    struct block_log log;
};

/* Thread: data. */
static void on_process(void *data)
{
    struct player *player = data;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(player->stream);

    if (buffer == NULL)
        return;
    struct spa_data *out = &buffer->buffer->datas[0];
    const uint32_t frames = (uint32_t)SPA_MIN(buffer->requested, out->maxsize / STRIDE);
    float *samples = out->data;
    const int64_t now_ns = clock_ns(CLOCK_MONOTONIC);

    for (uint32_t i = 0; i < frames; i++) {
        const float value = (float)player->next / (float)RAMP_SCALE;
        for (uint32_t channel = 0; channel < CHANNELS; channel++)
            samples[i * CHANNELS + channel] = value;
        player->next = player->next % (RAMP_SCALE - 1) + 1;
    }
    note(&player->log, now_ns, samples, frames);
    out->chunk->offset = 0;
    out->chunk->stride = (int32_t)STRIDE;
    out->chunk->size = frames * STRIDE;
    pw_stream_queue_buffer(player->stream, buffer);
}

static const struct pw_stream_events events = {
    PW_VERSION_STREAM_EVENTS,
    .process = on_process,
};

static void on_signal(void *data, int number)
{
    struct player *player = data;

    (void)number;
    pw_main_loop_quit(player->loop);
}

int main(int argc, char *argv[])
{
    struct player player = {.next = 1};
    uint8_t space[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof(space));
    const struct spa_pod *params[1] = {stereo(&builder)};

    if (argc != 4) {
        fprintf(stderr, "usage: player TARGET QUANTUM LOG\n");
        return 2;
    }
    player.log = open_log(argv[3], 1U << 18);
    pw_init(NULL, NULL);
    player.loop = pw_main_loop_new(NULL);
    pw_loop_add_signal(pw_main_loop_get_loop(player.loop), SIGTERM, on_signal, &player);
    struct pw_properties *props = pw_properties_new(
        PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Playback", PW_KEY_NODE_NAME,
        "bench-player", PW_KEY_TARGET_OBJECT, argv[1], "state.restore-props", "false", NULL);
    pw_properties_setf(props, PW_KEY_NODE_LATENCY, "%s/%u", argv[2], RATE_HZ);
    struct pw_core *core = connect_in_real_time(pw_main_loop_get_loop(player.loop));
    player.stream = pw_stream_new(core, "bench-player", props);
    if (player.stream == NULL)
        die("pw_stream_new");
    pw_stream_add_listener(player.stream, &player.listener, &events, &player);
    if (pw_stream_connect(player.stream, PW_DIRECTION_OUTPUT, PW_ID_ANY,
                          PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_MAP_BUFFERS |
                              PW_STREAM_FLAG_RT_PROCESS,
                          params, 1) < 0)
        die("pw_stream_connect");
    pw_main_loop_run(player.loop);
    pw_stream_destroy(player.stream);
    disconnect(core);
    pw_main_loop_destroy(player.loop);
    return 0;
}

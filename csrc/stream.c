#include "stream.h"

#include <errno.h>
#include <spa/param/audio/format-utils.h>
#include <spa/utils/result.h>
#include <stdio.h>

#include "ring.h"

/* How long a close may wait for the daemon to answer. */
#define SETTLE_MS 100

/* --- the loop thread's side ------------------------------------------------------------ */

static int state_of(enum pw_stream_state state)
{
    switch (state) {
    case PW_STREAM_STATE_CONNECTING:
        return SBX_OPENING;
    case PW_STREAM_STATE_PAUSED:
        return SBX_IDLE;
    case PW_STREAM_STATE_STREAMING:
        return SBX_STREAMING;
    case PW_STREAM_STATE_ERROR:
    case PW_STREAM_STATE_UNCONNECTED:
    default:
        return SBX_GONE;
    }
}

static void die(struct sbx_stream *stream, const char *why)
{
    if (!sbx_stream_alive(stream))
        return; /* dead and closed are for ever */
    snprintf(stream->error, sizeof(stream->error), "%s", why);
    atomic_store(&stream->state, SBX_GONE);
    if (stream->setup.on_gone != NULL)
        stream->setup.on_gone(stream->setup.owner);
}

static void on_connection_lost(void *data, const char *why)
{
    die(data, why);
}

/* Mono, stereo, 5.1 and 7.1 in GameStream's order: stagebox.layout.POSITIONS. */
static void set_positions(struct spa_audio_info_raw *format)
{
    static const uint32_t surround[] = {
        SPA_AUDIO_CHANNEL_FL, SPA_AUDIO_CHANNEL_FR, SPA_AUDIO_CHANNEL_FC, SPA_AUDIO_CHANNEL_LFE,
        SPA_AUDIO_CHANNEL_RL, SPA_AUDIO_CHANNEL_RR, SPA_AUDIO_CHANNEL_SL, SPA_AUDIO_CHANNEL_SR,
    };

    for (uint32_t i = 0; i < format->channels && i < SPA_N_ELEMENTS(surround); i++)
        format->position[i] = surround[i];
    if (format->channels == 1)
        format->position[0] = SPA_AUDIO_CHANNEL_MONO;
}

/* Ask the daemon for the node. Thread: loop, or control with the loop locked. */
static int join(struct sbx_stream *stream)
{
    struct spa_audio_info_raw format = {
        .format = SPA_AUDIO_FORMAT_F32,
        .rate = SBX_RATE_HZ,
        .channels = stream->setup.channels,
    };
    uint8_t space[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof(space));
    const struct spa_pod *params[1];

    set_positions(&format);
    params[0] = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &format);
    return pw_stream_connect(
        stream->pw, stream->setup.direction, PW_ID_ANY,
        stream->setup.flags | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS, params, 1);
}

/* A revoked permission takes the node from our sight; some daemons then let it be linked to nothing
 * and say no more. Thread: loop. */
static void on_removed(void *data, uint32_t id)
{
    struct sbx_stream *stream = data;

    if (stream->joined && sbx_stream_alive(stream) && pw_stream_get_node_id(stream->pw) == id)
        die(stream, "the node was removed, or we may not see it any more");
}

/* Leave the graph and come back. Thread: loop. */
static void rejoin(struct sbx_stream *stream)
{
    /* Control threads bar forks before they lock the loop, so here it can only be tried. */
    const bool barred = sbx_forks_try_bar();

    stream->rejoining = true;
    pw_stream_disconnect(stream->pw);
    stream->rejoining = false;
    atomic_store(&stream->state, SBX_OPENING);
    const int result = join(stream);
    if (barred)
        sbx_forks_allow();
    if (result < 0)
        die(stream, spa_strerror(result));
}

/* A session manager that comes back links only the nodes that it sees come: WirePlumber before 0.5
 * waits for ever for a node that has its ports already. So the node comes anew. Thread: loop. */
static void on_session_manager(void *data, bool here)
{
    struct sbx_stream *stream = data;
    const bool orphaned = stream->orphaned;

    if (!stream->joined || !sbx_stream_alive(stream))
        return;
    stream->orphaned = !here;
    if (!here && !stream->setup.outlives_manager)
        die(stream, "the session manager that linked it has gone");
    if (here && orphaned)
        rejoin(stream);
}

/* The session manager reports "no node available" (no sink yet) as an error of a node that lives
 * on and is linked later: the error is told, but the state is not entered. While opening there is
 * no node yet that could live on. */
static bool is_only_advice(const struct sbx_stream *stream, enum pw_stream_state state)
{
    return state == PW_STREAM_STATE_ERROR &&
           pw_stream_get_state(stream->pw, NULL) != PW_STREAM_STATE_ERROR &&
           atomic_load(&stream->state) != SBX_OPENING;
}

static void on_state_changed(void *data, enum pw_stream_state old, enum pw_stream_state new,
                             const char *error)
{
    struct sbx_stream *stream = data;
    const int state = state_of(new);

    (void)old;
    if (!sbx_stream_alive(stream) || stream->rejoining || is_only_advice(stream, new))
        return;
    if (state == SBX_GONE)
        die(stream, error != NULL ? error : "the node was removed from the graph");
    else
        atomic_store(&stream->state, state);
    pw_thread_loop_signal(sbx_connection_loop(stream->connection), false);
}

static void on_param_changed(void *data, uint32_t id, const struct spa_pod *param)
{
    struct sbx_stream *stream = data;
    struct spa_audio_info_raw format;

    if (id == SPA_PARAM_Format && param != NULL && spa_format_audio_raw_parse(param, &format) >= 0)
        atomic_store_explicit(&stream->rate_hz, format.rate, memory_order_relaxed);
}

/* The graph's clock is its driver's, whose id it has; a stream is given another with another
 * driver, and none between them. */
static void on_io_changed(void *data, uint32_t id, void *area, uint32_t size)
{
    struct sbx_stream *stream = data;
    const struct spa_io_position *position = area;

    if (id != SPA_IO_Position)
        return;
    const bool has_clock = position != NULL && size >= sizeof(*position);
    atomic_store_explicit(&stream->driver_id, has_clock ? position->clock.id : SBX_NO_NODE,
                          memory_order_relaxed);
}

static const struct pw_stream_events events = {
    PW_VERSION_STREAM_EVENTS,
    .state_changed = on_state_changed,
    .io_changed = on_io_changed,
    .param_changed = on_param_changed,
};

/* --- the control threads' side ----------------------------------------------------------- */

int sbx_stream_init(struct sbx_stream *stream, sbx_connection *connection,
                    struct pw_properties *props, const struct sbx_stream_setup *setup)
{
    struct pw_thread_loop *loop = sbx_connection_loop(connection);
    int result = 0;

    sbx_connection_use(connection);
    stream->connection = connection;
    stream->setup = *setup;
    stream->watch = (struct sbx_watch){
        .lost = on_connection_lost,
        .session_manager = on_session_manager,
        .removed = on_removed,
        .data = stream,
    };
    spa_list_init(&stream->watch.link);
    atomic_init(&stream->state, SBX_OPENING);
    atomic_init(&stream->rate_hz, 0);
    atomic_init(&stream->driver_id, SBX_NO_NODE);

    if (sbx_connection_inherited(connection)) {
        pw_properties_free(props);
        return -EPIPE;
    }
    pw_thread_loop_lock(loop);
    struct pw_core *core = sbx_connection_core(connection);
    if (core == NULL) {
        pw_properties_free(props);
        result = -EPIPE;
    } else {
        stream->pw = pw_stream_new(core, pw_properties_get(props, PW_KEY_NODE_NAME), props);
        result = stream->pw != NULL ? 0 : -errno;
        sbx_connection_watch(connection, &stream->watch);
    }
    pw_thread_loop_unlock(loop);
    return result;
}

int sbx_stream_connect(struct sbx_stream *stream)
{
    struct pw_thread_loop *loop = sbx_connection_loop(stream->connection);

    sbx_forks_bar();
    pw_thread_loop_lock(loop);
    pw_stream_add_listener(stream->pw, &stream->listener, &events, stream);
    pw_stream_add_listener(stream->pw, &stream->rt_listener, stream->setup.rt_events,
                           stream->setup.rt_data);
    const int result = join(stream);
    stream->joined = true;
    pw_thread_loop_unlock(loop);
    sbx_forks_allow();
    return result;
}

static bool is_opened(const void *data)
{
    const struct sbx_stream *stream = data;

    return atomic_load(&stream->state) != SBX_OPENING;
}

int sbx_stream_wait_open(struct sbx_stream *stream, int timeout_ms)
{
    struct pw_thread_loop *loop = sbx_connection_loop(stream->connection);

    if (sbx_connection_inherited(stream->connection))
        return SBX_DEAD;
    pw_thread_loop_lock(loop);
    sbx_connection_wait_for(stream->connection, is_opened, stream, timeout_ms);
    pw_thread_loop_unlock(loop);
    if (!sbx_stream_alive(stream))
        return SBX_DEAD;
    return is_opened(stream) ? 1 : 0;
}

bool sbx_stream_alive(const struct sbx_stream *stream)
{
    const int state = sbx_stream_state(stream);

    return state != SBX_GONE && state != SBX_SHUT;
}

int sbx_stream_state(const struct sbx_stream *stream)
{
    return sbx_connection_inherited(stream->connection) ? SBX_GONE : atomic_load(&stream->state);
}

void sbx_stream_error(struct sbx_stream *stream, char *text, size_t size)
{
    struct pw_thread_loop *loop = sbx_connection_loop(stream->connection);

    if (sbx_connection_inherited(stream->connection)) {
        snprintf(text, size, "it belongs to the process that forked this one");
        return;
    }
    pw_thread_loop_lock(loop);
    snprintf(text, size, "%s", stream->error);
    pw_thread_loop_unlock(loop);
}

/* Daemons of 1.4 and 1.6 answer a node that stops with a file descriptor; libpipewire before 0.3.72
 * never closes one that comes for a node it has destroyed. So stop it first, and let that come. */
static void settle(struct sbx_stream *stream, struct pw_thread_loop *loop)
{
    sbx_connection *connection = stream->connection;

    pw_thread_loop_lock(loop);
    const bool present = stream->pw != NULL && sbx_connection_alive(connection);
    if (present)
        pw_stream_set_active(stream->pw, false);
    pw_thread_loop_unlock(loop);
    if (present)
        sbx_connection_wait(connection, sbx_connection_sync(connection), SETTLE_MS);
}

void sbx_stream_close(struct sbx_stream *stream)
{
    struct pw_thread_loop *loop = sbx_connection_loop(stream->connection);

    if (sbx_connection_inherited(stream->connection))
        return;
    pw_thread_loop_lock(loop);
    atomic_store(&stream->state, SBX_SHUT);
    sbx_connection_unwatch(&stream->watch);
    spa_list_init(&stream->watch.link);
    pw_thread_loop_unlock(loop);

    settle(stream, loop);

    sbx_forks_bar();
    pw_thread_loop_lock(loop);
    if (stream->pw != NULL)
        pw_stream_destroy(stream->pw);
    stream->pw = NULL;
    pw_thread_loop_unlock(loop);
    sbx_forks_allow();
}

void sbx_stream_clear(struct sbx_stream *stream)
{
    if (stream->connection == NULL)
        return;
    sbx_stream_close(stream);
    sbx_connection_release(stream->connection);
}

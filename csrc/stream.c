#include "stream.h"

#include <errno.h>
#include <spa/param/audio/format-utils.h>
#include <spa/utils/result.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring.h"

/* How long a close may wait for the daemon to answer. */
#define SETTLE_MS 100

/* How many answers a node that is being made may take; two are usual. */
#define SETTLE_ANSWERS 8U

/* How soon a node that was destroyed, since the session manager did not know its target yet, comes
 * again; doubled from time to time. */
#define RETRY_MS 250U
#define MOST_RETRY_MS 2000U

/* How often a stream that streams tells what it has to. */
#define TELL_S 1

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

static struct pw_loop *loop_of(const struct sbx_stream *stream)
{
    return pw_thread_loop_get_loop(sbx_connection_loop(stream->connection));
}

static void on_time_to_tell(void *data, uint64_t expirations)
{
    const struct sbx_stream *stream = data;

    (void)expirations;
    stream->setup.tell(stream->setup.owner);
}

/* Begin or cease to tell, where there is something. Thread: loop, or control with the loop locked.
 */
static void pace_telling(struct sbx_stream *stream, int state)
{
    struct timespec interval = {.tv_sec = state == SBX_STREAMING ? TELL_S : 0};

    if (stream->teller == NULL)
        return;
    pw_loop_update_timer(loop_of(stream), stream->teller, &interval, &interval, false);
    if (state == SBX_IDLE)
        stream->setup.tell(stream->setup.owner);
}

static void set_state(struct sbx_stream *stream, int state)
{
    const int before = atomic_load(&stream->state); /* written with the loop locked */

    atomic_store(&stream->state, state);
    if ((before == SBX_STREAMING) != (state == SBX_STREAMING))
        pace_telling(stream, state);
    pw_thread_loop_signal(sbx_connection_loop(stream->connection), false);
}

static void die(struct sbx_stream *stream, const char *why)
{
    if (!sbx_stream_alive(stream))
        return; /* dead and closed are for ever */
    snprintf(stream->error, sizeof(stream->error), "%s", why);
    set_state(stream, SBX_GONE);
    if (stream->setup.on_gone != NULL)
        stream->setup.on_gone(stream->setup.owner);
}

/* With 0: never. */
static void set_timer(struct sbx_stream *stream, uint32_t delay_ms)
{
    struct timespec delay = {
        .tv_sec = delay_ms / 1000,
        .tv_nsec = (long)(delay_ms % 1000) * (SBX_NS_PER_SEC / 1000),
    };

    stream->retrying = delay_ms > 0;
    if (stream->timer != NULL)
        pw_loop_update_timer(loop_of(stream), stream->timer, &delay, NULL, false);
}

/* It has no node any more, or none that is of use. */
static void lose_node(struct sbx_stream *stream, const char *why)
{
    if (stream->target == NULL || !stream->opened) {
        die(stream, why);
    } else if (!stream->retrying) {
        set_state(stream, SBX_IDLE);
        set_timer(stream, stream->retry_ms);
        stream->retry_ms = SPA_MIN(2 * stream->retry_ms, MOST_RETRY_MS);
    }
}

static void on_connection_lost(void *data, const char *why)
{
    die(data, why);
}

/* Mono, stereo, 5.1 and 7.1 in GameStream's order: stagebox.layout.POSITIONS; more have none. */
static void set_positions(struct spa_audio_info_raw *format)
{
    static const uint32_t surround[] = {
        SPA_AUDIO_CHANNEL_FL, SPA_AUDIO_CHANNEL_FR, SPA_AUDIO_CHANNEL_FC, SPA_AUDIO_CHANNEL_LFE,
        SPA_AUDIO_CHANNEL_RL, SPA_AUDIO_CHANNEL_RR, SPA_AUDIO_CHANNEL_SL, SPA_AUDIO_CHANNEL_SR,
    };

    for (uint32_t i = 0; i < format->channels; i++) {
        const bool has_place = format->channels <= SPA_N_ELEMENTS(surround);
        format->position[i] = has_place ? surround[i] : SPA_AUDIO_CHANNEL_AUX0 + i;
    }
    if (format->channels == 1)
        format->position[0] = SPA_AUDIO_CHANNEL_MONO;
}

/* Choose the sink to be linked to, by its serial: a name may be another's too, or look like a
 * serial. False if there is none. Thread: loop, or control with the loop locked. */
static bool aim(struct sbx_stream *stream)
{
    const struct sbx_sink *sink = sbx_connection_find_sink(stream->connection, stream->target);

    stream->sink_id = SPA_ID_INVALID;
    if (sink == NULL)
        return false;
    const char *aimed_at = sink->serial[0] != '\0' ? sink->serial : sink->name;
    const struct spa_dict_item item = SPA_DICT_ITEM_INIT(PW_KEY_TARGET_OBJECT, aimed_at);
    const struct spa_dict props = SPA_DICT_INIT(&item, 1);
    pw_stream_update_properties(stream->pw, &props);
    stream->sink_id = sink->id;
    return true;
}

/* Ask the daemon for the node. Thread: loop, or control with the loop locked. */
static int make_node(struct sbx_stream *stream)
{
    struct spa_audio_info_raw format = {
        .format = SPA_AUDIO_FORMAT_F32,
        .rate = SBX_RATE_HZ,
        .channels = stream->setup.channels,
    };
    uint8_t space[1024];
    struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof(space));
    const struct spa_pod *params[1];

    pw_stream_add_listener(stream->pw, &stream->rt_listener, stream->setup.rt_events,
                           stream->setup.rt_data);
    stream->in_graph = true;
    set_positions(&format);
    params[0] = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &format);
    return pw_stream_connect(
        stream->pw, stream->setup.direction, PW_ID_ANY,
        stream->setup.flags | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS, params, 1);
}

/* Join the graph, or wait outside for the target. Thread: loop, or control with the loop locked. */
static int join(struct sbx_stream *stream)
{
    if (stream->target == NULL || aim(stream))
        return make_node(stream);
    stream->in_graph = false;
    stream->opened = true;
    set_state(stream, SBX_IDLE);
    return 0;
}

/* Thread: loop. */
static void come_back(struct sbx_stream *stream)
{
    /* Control threads bar forks before they lock the loop, so here it can only be tried. */
    const bool barred = sbx_forks_try_bar();

    pw_stream_disconnect(stream->pw);
    stream->leaving = false;
    const int result = join(stream);
    if (barred)
        sbx_forks_allow();
    if (result < 0)
        lose_node(stream, spa_strerror(result));
}

/* With the loop locked. */
static bool is_being_made(const struct sbx_stream *stream)
{
    return stream->pw != NULL &&
           pw_stream_get_state(stream->pw, NULL) == PW_STREAM_STATE_CONNECTING;
}

/* Leave the graph: first stop, then, with the daemon's answer, go (see settle). From here on the
 * data thread does not call ours, whatever the node is linked to until then. Thread: loop. */
static void leave(struct sbx_stream *stream)
{
    struct pw_core *core = sbx_connection_core(stream->connection);

    if (core == NULL)
        return; /* its end is being told */
    stream->leaving = true;
    stream->sink_id = SPA_ID_INVALID;
    set_state(stream, SBX_OPENING);
    pw_stream_set_active(stream->pw, false);
    spa_hook_remove(&stream->rt_listener);
    stream->settling = pw_core_sync(core, PW_ID_CORE, 0);
    stream->answers = 0;
}

/* Leave the graph, if it is there, and come back, if there is anything to come back for. Thread:
 * loop. */
static void rejoin(struct sbx_stream *stream)
{
    set_timer(stream, 0);
    if (stream->leaving)
        return; /* it comes back as it is */
    if (stream->in_graph)
        leave(stream);
    else
        come_back(stream);
}

static void on_answered(void *data, int sequence)
{
    struct sbx_stream *stream = data;
    struct pw_core *core = sbx_connection_core(stream->connection);

    if (!stream->leaving || stream->settling != sequence || !sbx_stream_alive(stream))
        return;
    if (core != NULL && is_being_made(stream) && ++stream->answers < SETTLE_ANSWERS)
        stream->settling = pw_core_sync(core, PW_ID_CORE, 0);
    else
        come_back(stream);
}

static bool is_in_use(const struct sbx_stream *stream)
{
    return stream->connected && sbx_stream_alive(stream);
}

static void on_retry(void *data, uint64_t expirations)
{
    struct sbx_stream *stream = data;

    (void)expirations;
    if (is_in_use(stream) && stream->retrying)
        rejoin(stream);
}

/* The daemon tells of one thing after the other: whatever may be linked to the node once its target
 * has gone, it has left before any of that can be heard.
 *
 * A revoked permission takes the node from our sight; some daemons then let it be linked to nothing
 * and say no more. Thread: loop. */
static void on_removed(void *data, uint32_t id)
{
    struct sbx_stream *stream = data;

    if (!is_in_use(stream))
        return;
    if (id == stream->sink_id)
        rejoin(stream);
    else if (id == PW_ID_CORE && stream->target != NULL)
        die(stream, "we may not see the graph any more");
    else if (id == pw_stream_get_node_id(stream->pw))
        lose_node(stream, "the node was removed, or we may not see it any more");
}

static void on_sink_ready(void *data)
{
    struct sbx_stream *stream = data;

    if (!is_in_use(stream) || stream->target == NULL || stream->sink_id != SPA_ID_INVALID)
        return;
    stream->retry_ms = RETRY_MS;
    rejoin(stream);
}

/* A session manager that comes back links only the nodes that it sees come: WirePlumber before 0.5
 * waits for ever for a node that has its ports already. So the node comes anew. Thread: loop. */
static void on_session_manager(void *data, bool here)
{
    struct sbx_stream *stream = data;
    const bool orphaned = stream->orphaned;

    if (!is_in_use(stream))
        return;
    stream->orphaned = !here;
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
    if (!sbx_stream_alive(stream) || stream->leaving || is_only_advice(stream, new))
        return;
    if (state == SBX_GONE)
        lose_node(stream, error != NULL ? error : "the node was removed from the graph");
    else
        set_state(stream, state);
    stream->opened |= state == SBX_IDLE || state == SBX_STREAMING;
    if (state == SBX_STREAMING)
        stream->retry_ms = RETRY_MS;
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

/* With the loop locked. */
static void stop_timer(struct sbx_stream *stream, struct spa_source **timer)
{
    if (*timer != NULL)
        pw_loop_destroy_source(loop_of(stream), *timer);
    *timer = NULL;
}

/* With the loop locked. */
static int init_telling(struct sbx_stream *stream)
{
    if (stream->setup.tell == NULL)
        return 0;
    stream->teller = pw_loop_add_timer(loop_of(stream), on_time_to_tell, stream);
    return stream->teller != NULL ? 0 : -ENOMEM;
}

/* With the loop locked. */
static int init_target(struct sbx_stream *stream, const char *target)
{
    stream->sink_id = SPA_ID_INVALID;
    stream->retry_ms = RETRY_MS;
    if (target == NULL)
        return 0;
    stream->target = strdup(target);
    stream->setup.target = stream->target;
    stream->timer = pw_loop_add_timer(loop_of(stream), on_retry, stream);
    return stream->target != NULL && stream->timer != NULL ? 0 : -ENOMEM;
}

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
        .sink_ready = on_sink_ready,
        .answered = on_answered,
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
        result = stream->pw != NULL ? init_target(stream, setup->target) : -errno;
        if (result == 0)
            result = init_telling(stream);
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
    const int result = join(stream);
    stream->connected = true;
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

/* A node gets file descriptors when it has been made, and by daemons of 1.4 and 1.6 when it stops;
 * libpipewire before 0.3.72 never closes one that comes for a node it has destroyed. So stop it
 * first, and let them come. */
static void settle(struct sbx_stream *stream, struct pw_thread_loop *loop)
{
    sbx_connection *connection = stream->connection;

    pw_thread_loop_lock(loop);
    bool expecting = stream->pw != NULL && sbx_connection_alive(connection);
    if (expecting)
        pw_stream_set_active(stream->pw, false);
    pw_thread_loop_unlock(loop);
    for (unsigned answers = 0; expecting && answers < SETTLE_ANSWERS; answers++) {
        const int sequence = sbx_connection_sync(connection);
        const bool answered = sbx_connection_wait(connection, sequence, SETTLE_MS) == 1;
        pw_thread_loop_lock(loop);
        expecting = answered && is_being_made(stream);
        pw_thread_loop_unlock(loop);
    }
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
    stop_timer(stream, &stream->timer);
    stop_timer(stream, &stream->teller);
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
    free(stream->target);
}

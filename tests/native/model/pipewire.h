/* What the code under test calls of PipeWire and of connection.c: one buffer, one loop, no daemon.
 */
#ifndef MODEL_PIPEWIRE_H
#define MODEL_PIPEWIRE_H

#include "connection.h"

#include <pipewire/pipewire.h>
#include <stdlib.h>

/* The cycle that the graph is at; the data thread's. */
static float cycle_frames[8];
static int64_t cycle_ns;
static struct spa_chunk cycle_chunk;
static struct spa_data cycle_data = {
    .data = cycle_frames, .maxsize = sizeof(cycle_frames), .chunk = &cycle_chunk};
static struct spa_buffer cycle_buffer = {.n_datas = 1, .datas = &cycle_data};
static struct pw_buffer cycle_out = {.buffer = &cycle_buffer};

struct pw_buffer *pw_stream_dequeue_buffer(struct pw_stream *stream)
{
    (void)stream;
    return &cycle_out;
}

int pw_stream_queue_buffer(struct pw_stream *stream, struct pw_buffer *buffer)
{
    (void)stream;
    (void)buffer;
    return 0;
}

int pw_stream_get_time_n(struct pw_stream *stream, struct pw_time *time, size_t size)
{
    (void)stream;
    *time = (struct pw_time){.now = cycle_ns, .rate = {1, 48000}};
    return size == sizeof(*time) ? 0 : -1;
}

/* There is no stream to stop before it is destroyed: whoever asks the daemon first is wrong. */
int pw_stream_set_active(struct pw_stream *stream, bool active)
{
    (void)stream;
    (void)active;
    abort();
}

enum pw_stream_state pw_stream_get_state(struct pw_stream *stream, const char **error)
{
    (void)stream;
    (void)error;
    return PW_STREAM_STATE_UNCONNECTED;
}

void sbx_forks_bar(void)
{
}

void sbx_forks_allow(void)
{
}

bool sbx_connection_alive(const sbx_connection *connection)
{
    return connection != NULL;
}

int sbx_connection_sync(sbx_connection *connection)
{
    (void)connection;
    abort();
}

int sbx_connection_wait(sbx_connection *connection, int sequence, int timeout_ms)
{
    (void)connection;
    (void)sequence;
    (void)timeout_ms;
    abort();
}

void pw_stream_destroy(struct pw_stream *stream)
{
    (void)stream;
}

/* The loop's lock orders nothing that is asked here: it may as well not be there. */
void pw_thread_loop_lock(struct pw_thread_loop *loop)
{
    (void)loop;
}

void pw_thread_loop_unlock(struct pw_thread_loop *loop)
{
    (void)loop;
}

/* Nobody waits there for what becomes of a stream. */
void pw_thread_loop_signal(struct pw_thread_loop *loop, bool wait_for_accept)
{
    (void)loop;
    (void)wait_for_accept;
}

struct pw_loop *pw_thread_loop_get_loop(struct pw_thread_loop *loop)
{
    (void)loop;
    return NULL;
}

struct pw_thread_loop *sbx_connection_loop(sbx_connection *connection)
{
    (void)connection;
    return NULL;
}

bool sbx_connection_inherited(const sbx_connection *connection)
{
    (void)connection;
    return false;
}

void sbx_connection_unwatch(struct sbx_watch *watch)
{
    (void)watch;
}

#endif

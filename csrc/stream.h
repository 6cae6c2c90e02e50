/* What a capture and a microphone share: a node of ours in the graph, from connect to close. */
#ifndef SBX_STREAM_H
#define SBX_STREAM_H

#include <pipewire/pipewire.h>
#include <stdatomic.h>

#include "connection.h"
#include "stagebox.h"

struct sbx_stream_setup {
    enum pw_direction direction;
    enum pw_stream_flags flags;
    uint32_t channels;
    const char *target; /* node.name of the only sinks it may be linked to, or NULL */
    const struct pw_stream_events *rt_events; /* the data thread's callback */
    void *rt_data;
    void (*on_gone)(void *owner); /* loop thread, once; may be NULL */
    void (*tell)(void *owner);    /* loop thread: each second while it streams, and once when it
                                   * is idle again; may be NULL */
    void *owner;
};

struct sbx_stream {
    sbx_connection *connection;
    struct sbx_stream_setup setup;
    struct pw_stream *pw;
    struct spa_hook listener;
    struct spa_hook rt_listener;
    struct sbx_watch watch;
    _Atomic int state; /* enum sbx_state; written by the loop thread, and by close; seq_cst */
    _Atomic uint32_t rate_hz;
    _Atomic uint32_t driver_id; /* the node whose clock calls it, or SBX_NO_NODE */

    /* with the loop locked */
    bool connected;   /* sbx_stream_connect was called */
    bool orphaned;    /* its session manager has gone */
    bool in_graph;    /* there is a node, or there was until somebody destroyed it */
    bool leaving;     /* the graph, by itself, to come back: no death */
    int settling;     /* the answer that it waits for before it goes */
    unsigned answers; /* how many came */
    char error[SBX_ERROR_SIZE];
    struct spa_source *teller; /* a timer, of one that has something to tell */

    /* of one with a target, with the loop locked */
    char *target;             /* a copy */
    uint32_t sink_id;         /* the sink it is to be linked to; SPA_ID_INVALID while it waits */
    bool opened;              /* its node has been in the graph, or it waits */
    bool retrying;            /* the timer runs */
    uint32_t retry_ms;        /* its next delay */
    struct spa_source *timer; /* joins the graph anew */
};

/* All for control threads. */

/* Make the stream; `props` is taken, also when it fails. 0 or a negative errno. rt_data must
 * not be used by anybody before sbx_stream_connect. */
int sbx_stream_init(struct sbx_stream *stream, sbx_connection *connection,
                    struct pw_properties *props, const struct sbx_stream_setup *setup);

/* Ask the daemon for the node. 0 or a negative errno. */
int sbx_stream_connect(struct sbx_stream *stream);

/* Wait until the node is in the graph, or waits for its target. 1: it does; 0: not within
 * timeout_ms; SBX_DEAD. */
int sbx_stream_wait_open(struct sbx_stream *stream, int timeout_ms);

/* Opening, idle or streaming, that is, neither dead, closed nor another process's. Never blocks. */
bool sbx_stream_alive(const struct sbx_stream *stream);

/* Why it died, or "". */
void sbx_stream_error(struct sbx_stream *stream, char *text, size_t size);

/* The state, an enum sbx_state, as it is for this process. Never blocks. */
int sbx_stream_state(const struct sbx_stream *stream);

/* Leave the graph; afterwards the data thread's callback does not run. May be called twice. */
void sbx_stream_close(struct sbx_stream *stream);

/* Close it and let go of the connection: the last thing done with it. */
void sbx_stream_clear(struct sbx_stream *stream);

#endif

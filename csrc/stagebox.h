/* The C API of stagebox, on one page. The Python binding reads its declarations from this file,
 * between the two markers.
 *
 * Threads: "control" is any thread of the caller that is neither PipeWire's loop nor its data
 * thread. Nothing here may be called from inside a PipeWire callback. Unless said otherwise a
 * function is safe to call from several control threads at once, on the same object, until the
 * object is freed.
 *
 * Frames are float32, interleaved, 48 kHz. Times are CLOCK_MONOTONIC nanoseconds. Functions
 * that can fail return a negative errno, or one of the SBX_ codes below.
 */
#ifndef STAGEBOX_H
#define STAGEBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* binding: begin */

enum sbx_result {
    SBX_DEAD = -10001,   /* the daemon or the node is gone; it stays so */
    SBX_CLOSED = -10002, /* the owner closed it */
};

#define SBX_NO_NODE 0xffffffff

enum sbx_state {
    SBX_OPENING,
    SBX_IDLE, /* in the graph, nothing linked or nothing running; or its target is not there */
    SBX_STREAMING,
    SBX_GONE,
    SBX_SHUT,
};

/* The version of the libpipewire that is loaded, "0.3.65". */
const char *sbx_libpipewire_version(void);

/* --- a connection to one daemon: one loop thread, one data thread, any number of streams --- */

typedef struct sbx_connection sbx_connection;

/* Connect to the daemon's socket. NULL with the reason in *error (a negative errno): at once
 * where nothing listens. The handshake goes on in the loop thread: see sbx_connection_sync. */
sbx_connection *sbx_connection_open(const char *socket_path, int *error);

/* Ask the daemon to answer once it has done all it was asked so far. A sequence number. */
int sbx_connection_sync(sbx_connection *connection);

/* Wait for that answer. 1: it came; 0: not within timeout_ms; SBX_DEAD. */
int sbx_connection_wait(sbx_connection *connection, int sequence, int timeout_ms);

/* False from the moment the daemon is known to be lost. Never blocks. */
bool sbx_connection_alive(const sbx_connection *connection);

/* The sinks in the graph: the id of each, a space, its name (node.name) and a NUL. Returns the
 * bytes they take; when that is more than size, nothing useful was written. */
size_t sbx_connection_sinks(sbx_connection *connection, char *text, size_t size);

/* Why it died, or "". */
void sbx_connection_error(sbx_connection *connection, char *text, size_t size);

/* The caller is done with it, or has none (NULL). It ends, both its threads joined, with the last
 * stream on it. */
void sbx_connection_release(sbx_connection *connection);

/* --- a look at the graph --- */

typedef struct sbx_graph sbx_graph;

/* Begin to look at what is in the graph: records of all of it, then of all that becomes of it. A
 * record is uint32_t (as this machine has them): how many fields, then for each how many bytes, and
 * these; python/stagebox/graph_state.py says what they tell. NULL with a negative errno. */
sbx_graph *sbx_graph_open(sbx_connection *connection, int *error);

/* Take all the records that wait, if they fit; otherwise none. Returns the bytes that waited; 0;
 * once it is over and nothing waits SBX_DEAD, SBX_CLOSED, or -ENOBUFS: nobody read for too long. */
int64_t sbx_graph_take(sbx_graph *graph, uint8_t *records, size_t size);

/* Wait until records wait, or it is over, or a signal came, at most timeout_ms. */
void sbx_graph_wait(sbx_graph *graph, int timeout_ms);

/* Readable while records wait, and when it is over. Owned by the graph; not to be read from. */
int sbx_graph_fd(const sbx_graph *graph);

/* Ask the session manager to set a property of the whole graph in its metadata, or with NULL to
 * remove it. 0, or a negative errno: -ENOENT where there is no session manager. That it is set is
 * told by a record. */
int sbx_graph_set(sbx_graph *graph, const char *key, const char *value);

/* Look no more, and wake whoever waits. May be called twice. */
void sbx_graph_close(sbx_graph *graph);

void sbx_graph_free(sbx_graph *graph);

/* --- something of ours that the daemon makes --- */

typedef struct sbx_object sbx_object;

enum sbx_kind {
    SBX_LINK, /* between two ports */
    SBX_NODE, /* made by the daemon's adapter, such as a sink */
};

/* Begin to make one. `properties` is each one's key and value, NUL after both, and an empty key.
 * NULL with a negative errno in *error. */
sbx_object *sbx_object_open(sbx_connection *connection, enum sbx_kind kind, const char *properties,
                            int *error);

/* 0, or a negative errno: why there is none, or none any more. Never blocks. */
int sbx_object_error(const sbx_object *object);

/* Undo it. */
void sbx_object_free(sbx_object *object);

/* --- a capture of a sink's monitor --- */

typedef struct sbx_capture sbx_capture;

struct sbx_capture_stats {
    uint64_t frames;        /* captured and kept for the reader */
    uint64_t lost;          /* frames dropped because the ring was full */
    uint64_t missed;        /* frames of time between cycles: the graph paused or skipped some */
    uint64_t cycles;        /* times the graph called */
    uint32_t quantum;       /* frames it gave the last time */
    uint32_t depth;         /* frames that wait for the reader */
    uint32_t rate_hz;       /* negotiated with the graph's converter; 0 before */
    uint32_t graph_rate_hz; /* the driver's own rate; 0 before the first cycle */
    uint32_t driver_id;     /* the node whose clock calls; SBX_NO_NODE before there is one */
    int state;              /* enum sbx_state */
};

struct sbx_block {
    int64_t time_ns;      /* of the first frame */
    uint64_t lost_frames; /* dropped just before it */
};

/* Begin to open. `channels` is 1, 2, 6 or 8, or with a route up to 64 that are called AUX0 and so
 * on. `target` is a sink's node.name, or NULL to follow the default sink. With a target it hears
 * sinks of that name and nothing else; while there is none it waits outside of the graph, SBX_IDLE.
 * With a `route` the session manager links it to nothing: the node has it as its property
 * "stagebox.route", by which whoever links it finds it. With a quantum_frames of 0 it only looks
 * on: the node is passive, and asks for no quantum. NULL with a negative errno in *error. */
sbx_capture *sbx_capture_open(sbx_connection *connection, uint32_t channels, const char *target,
                              const char *route, uint32_t quantum_frames, int *error);

/* Wait until the node is in the graph, or waits for its target. 1: it does; 0: not within
 * timeout_ms; SBX_DEAD. */
int sbx_capture_wait_open(sbx_capture *capture, int timeout_ms);

/* Wait for frames, then copy out all that wait, if they fit: no more than up to where frames were
 * lost or the graph paused, so that the block is true for all of them. Returns how many were
 * copied: 0 if a signal came or after timeout_ms; SBX_DEAD when it died and nothing is left;
 * SBX_CLOSED. Where it is more than max_frames, so many wait, and nothing was copied. */
int64_t sbx_capture_next(sbx_capture *capture, float *frames, uint32_t max_frames, int timeout_ms,
                         struct sbx_block *block);

/* Wait until `count` frames are there, or half a ring, then copy out up to `count`. Returns how
 * many: fewer if it died, if a signal came or after timeout_ms; SBX_DEAD and SBX_CLOSED as above.
 */
int64_t sbx_capture_fill(sbx_capture *capture, float *frames, uint32_t count, int timeout_ms);

struct sbx_measured {
    uint64_t absent;   /* frames lost and missed until now: see sbx_capture_stats */
    int64_t newest_ns; /* when the last quantum began; 0: none came yet */
    uint32_t frames;   /* that were measured */
};

/* Measure all that waits, and forget it: for each channel the loudest sample and the sum of
 * squares; what is no number is silence. 0; SBX_DEAD; SBX_CLOSED. Who measures cannot wait for the
 * frames, nor poll: the descriptor says nothing then. */
int sbx_capture_measure(sbx_capture *capture, float *peaks, float *squares,
                        struct sbx_measured *measured);

bool sbx_capture_alive(const sbx_capture *capture);

/* Forget all that waits. */
void sbx_capture_drain(sbx_capture *capture);

/* Readable (poll, select) while frames wait, or when it died or was closed. Owned by the
 * capture; not to be read from. */
int sbx_capture_fd(const sbx_capture *capture);

void sbx_capture_get_stats(sbx_capture *capture, struct sbx_capture_stats *stats);

/* Why it died, or "". */
void sbx_capture_error(sbx_capture *capture, char *text, size_t size);

/* Leave the graph and wake whoever waits. May be called twice. */
void sbx_capture_close(sbx_capture *capture);

/* After this nobody may use it. NULL does nothing; the same goes for a microphone. */
void sbx_capture_free(sbx_capture *capture);

/* --- a virtual microphone --- */

typedef struct sbx_mic sbx_mic;

/* Frames; pushed = played + dropped + trimmed + stale + discarded + depth. */
struct sbx_mic_stats {
    uint64_t pushed;
    uint64_t played;
    uint64_t dropped;   /* the ring was full */
    uint64_t trimmed;   /* cut from the oldest to bound the delay */
    uint64_t stale;     /* too old to play */
    uint64_t discarded; /* by sbx_mic_discard */
    uint64_t underruns; /* cycles with less than a quantum to play */
    uint64_t reprimes;  /* times the ring ran dry after playing */
    uint64_t cycles;    /* times the graph called */
    uint32_t depth;
    uint32_t target;
    uint32_t quantum; /* frames the recorder fetched the last time; 0 before */
    int state;        /* enum sbx_state */
};

/* Begin to open. `channels` is 1 or 2. The node has `claim`, if it is not NULL, as its property
 * "stagebox.claim". NULL with a negative errno in *error. */
sbx_mic *sbx_mic_open(sbx_connection *connection, uint32_t channels, const char *name,
                      const char *description, const char *claim, uint32_t session_priority,
                      uint32_t quantum_frames, int *error);

int sbx_mic_wait_open(sbx_mic *mic, int timeout_ms);

/* Hand over frames to be recorded, at most 1 s of them: 1 (kept, or dropped for want of room) or 0
 * (dead or closed). Never blocks on PipeWire; several pushers take turns. */
int sbx_mic_push(sbx_mic *mic, const float *frames, uint32_t count);

bool sbx_mic_alive(const sbx_mic *mic);

/* Drop what has been pushed and not played. */
void sbx_mic_discard(sbx_mic *mic);

/* Fix the depth to prime to; 0 goes back to choosing it. */
void sbx_mic_set_target(sbx_mic *mic, uint32_t frames);

void sbx_mic_get_stats(sbx_mic *mic, struct sbx_mic_stats *stats);

void sbx_mic_error(sbx_mic *mic, char *text, size_t size);

void sbx_mic_close(sbx_mic *mic);

void sbx_mic_free(sbx_mic *mic);

/* binding: end */

#endif

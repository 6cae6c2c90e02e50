/* One connection to a PipeWire daemon: its loop thread, its data thread, whether it lives. */
#ifndef SBX_CONNECTION_H
#define SBX_CONNECTION_H

#include <pipewire/pipewire.h>

#include "stagebox.h"

#define SBX_ERROR_SIZE 256

/* Somebody who must know of what happens to the graph as a whole. Called in the loop thread. */
struct sbx_watch {
    struct spa_list link;
    void (*lost)(void *data, const char *why);      /* the connection died */
    void (*session_manager)(void *data, bool here); /* it came, or it went */
    void (*removed)(void *data, uint32_t id);       /* an object, or our right to see it */
    void (*sink_ready)(void *data); /* a sink has ports: it can be linked; may be NULL */
    void (*answered)(void *data, int sequence); /* to pw_core_sync; may be NULL */
    void *data;
};

/* A sink in the graph. */
struct sbx_sink {
    struct spa_list link;
    uint32_t id;     /* of the global; used again for another once it is gone */
    char serial[24]; /* object.serial: never used again; "" where the daemon has none */
    bool ready;      /* it has ports: a session manager has seen it */
    char name[];     /* node.name */
};

/* The first sink of that name that has ports, or NULL. Only for as long as the loop is locked, or
 * until the loop thread returns to its loop. */
const struct sbx_sink *sbx_connection_find_sink(const sbx_connection *connection, const char *name);

/* Thread: control, with the loop locked. */
void sbx_connection_watch(sbx_connection *connection, struct sbx_watch *watch);
void sbx_connection_unwatch(struct sbx_watch *watch);

/* Whether it was made by the process that forked this one. Its threads are not here, its lock may
 * be held by one of them for ever: nothing but this may be asked of it. Any thread. */
bool sbx_connection_inherited(const sbx_connection *connection);

/* Between these two no thread forks. libpipewire has locks for the whole process: held by another
 * thread at a fork they stay locked in the child, and its first open would never return. So all
 * that loads or unloads a part of libpipewire is done between them, and nothing that waits for the
 * daemon: a fork elsewhere waits with the interpreter's lock. Taken before the loop's lock, or with
 * it by trying. Any thread; not nested. */
void sbx_forks_bar(void);
bool sbx_forks_try_bar(void);
void sbx_forks_allow(void);

/* One more user, to be matched by sbx_connection_release. Thread: control. */
void sbx_connection_use(sbx_connection *connection);

/* Thread: control. The lock keeps the loop thread out; it is not recursive across threads. */
struct pw_thread_loop *sbx_connection_loop(sbx_connection *connection);

/* Thread: control, with the loop locked. NULL once the connection is dead. */
struct pw_core *sbx_connection_core(sbx_connection *connection);

/* Wait with the loop locked until *done is not 0, at most timeout_ms. Thread: control. */
void sbx_connection_wait_for(sbx_connection *connection, bool (*done)(const void *data),
                             const void *data, int timeout_ms);

#endif

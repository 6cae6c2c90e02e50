#include "connection.h"

#include <errno.h>
#include <malloc.h>
#include <pipewire/extensions/metadata.h>
#include <pthread.h>
#include <spa/utils/result.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ring.h"

struct sbx_connection {
    struct pw_thread_loop *loop;
    struct pw_context *context;
    struct pw_core *core;
    struct pw_registry *registry;
    struct spa_hook core_listener;
    struct spa_hook registry_listener;
    atomic_uint users; /* the owner and every stream */
    atomic_bool alive;
    unsigned generation; /* of the process that made it */

    /* with the loop locked */
    struct spa_list sinks;
    struct spa_list watches;
    uint32_t manager; /* id of the session manager's metadata, or SPA_ID_INVALID */
    bool answered;    /* last_answer is set */
    int last_answer;
    char error[SBX_ERROR_SIZE];
};

/* --- the loop thread's side ------------------------------------------------------------ */

static void on_core_done(void *data, uint32_t id, int sequence)
{
    struct sbx_connection *connection = data;
    struct sbx_watch *watch;

    if (id != PW_ID_CORE)
        return;
    connection->answered = true;
    connection->last_answer = sequence;
    spa_list_for_each(watch, &connection->watches, link)
    {
        if (watch->answered != NULL)
            watch->answered(watch->data, sequence);
    }
    pw_thread_loop_signal(connection->loop, false);
}

/* Whether an error of the core is the connection's end. The daemon also says there that it knows
 * an object no more that it has just removed, which is nothing. libpipewire's own report, that it
 * has stopped reading the socket and will not report anything again, has this message since 0.3 and
 * whatever number it stopped for (its own streams take only -EPIPE for the end). */
static bool is_the_end(int result, const char *message)
{
    return result == -EPIPE || strcmp(message, "connection error") == 0;
}

static void on_core_error(void *data, uint32_t id, int sequence, int result, const char *message)
{
    struct sbx_connection *connection = data;
    struct sbx_watch *watch;

    (void)sequence;
    /* Errors of one object reach its own listener. */
    if (id != PW_ID_CORE || !is_the_end(result, message) ||
        !atomic_exchange(&connection->alive, false))
        return;
    snprintf(connection->error, sizeof(connection->error), "%s (%s)", message,
             spa_strerror(result));
    spa_list_for_each(watch, &connection->watches, link)
        watch->lost(watch->data, connection->error);
    pw_thread_loop_signal(connection->loop, false);
}

static const struct pw_core_events core_events = {
    PW_VERSION_CORE_EVENTS,
    .done = on_core_done,
    .error = on_core_error,
};

static const char *property(const struct spa_dict *props, const char *key)
{
    const char *value = props != NULL ? spa_dict_lookup(props, key) : NULL;

    return value != NULL ? value : "";
}

/* The session manager keeps the default nodes in a metadata object of this name, its own. */
static bool is_session_managers(const char *type, const struct spa_dict *props)
{
    return strcmp(type, PW_TYPE_INTERFACE_Metadata) == 0 &&
           strcmp(property(props, PW_KEY_METADATA_NAME), "default") == 0;
}

/* "Audio/Sink", and its kinds such as "Audio/Sink/Virtual" */
static bool is_sink(const char *type, const struct spa_dict *props)
{
    return strcmp(type, PW_TYPE_INTERFACE_Node) == 0 &&
           strncmp(property(props, PW_KEY_MEDIA_CLASS), "Audio/Sink", strlen("Audio/Sink")) == 0;
}

static void tell_of_manager(struct sbx_connection *connection, bool here)
{
    struct sbx_watch *watch;

    spa_list_for_each(watch, &connection->watches, link) watch->session_manager(watch->data, here);
}

static void remember_sink(struct sbx_connection *connection, uint32_t id,
                          const struct spa_dict *props)
{
    const char *name = property(props, PW_KEY_NODE_NAME);
    const size_t size = strlen(name) + 1;
    struct sbx_sink *sink = malloc(sizeof(*sink) + size);
    if (sink == NULL)
        return;
    *sink = (struct sbx_sink){.id = id};
    snprintf(sink->serial, sizeof(sink->serial), "%s", property(props, PW_KEY_OBJECT_SERIAL));
    memcpy(sink->name, name, size);
    spa_list_append(&connection->sinks, &sink->link);
}

static struct sbx_sink *find_sink(const struct sbx_connection *connection, uint32_t id)
{
    struct sbx_sink *sink;

    spa_list_for_each(sink, &connection->sinks, link)
    {
        if (sink->id == id)
            return sink;
    }
    return NULL;
}

static void note_port(struct sbx_connection *connection, const struct spa_dict *props)
{
    uint32_t node_id = SPA_ID_INVALID;
    struct sbx_watch *watch;

    if (!spa_atou32(property(props, PW_KEY_NODE_ID), &node_id, 10))
        return;
    struct sbx_sink *sink = find_sink(connection, node_id);
    if (sink == NULL || sink->ready)
        return;
    sink->ready = true;
    spa_list_for_each(watch, &connection->watches, link)
    {
        if (watch->sink_ready != NULL)
            watch->sink_ready(watch->data);
    }
}

static void on_global(void *data, uint32_t id, uint32_t permissions, const char *type,
                      uint32_t version, const struct spa_dict *props)
{
    struct sbx_connection *connection = data;

    (void)permissions;
    (void)version;
    if (is_sink(type, props))
        remember_sink(connection, id, props);
    if (strcmp(type, PW_TYPE_INTERFACE_Port) == 0)
        note_port(connection, props);
    if (is_session_managers(type, props)) {
        connection->manager = id;
        tell_of_manager(connection, true);
    }
}

static void forget_sink(struct sbx_sink *sink)
{
    if (sink == NULL)
        return;
    spa_list_remove(&sink->link);
    free(sink);
}

static void on_global_remove(void *data, uint32_t id)
{
    struct sbx_connection *connection = data;
    struct sbx_watch *watch;

    /* Forgotten first: who is told looks for another. */
    forget_sink(find_sink(connection, id));
    spa_list_for_each(watch, &connection->watches, link) watch->removed(watch->data, id);
    if (connection->manager == id) {
        connection->manager = SPA_ID_INVALID;
        tell_of_manager(connection, false);
    }
}

static const struct pw_registry_events registry_events = {
    PW_VERSION_REGISTRY_EVENTS,
    .global = on_global,
    .global_remove = on_global_remove,
};

/* --- forks ------------------------------------------------------------------------------- */

/* Counts the forks that led to this process. */
static atomic_uint generation;

static pthread_mutex_t fork_bar = PTHREAD_MUTEX_INITIALIZER;

static _Atomic pthread_t fork_bar_holder; /* 0: nobody */

static void hold_fork_bar(void)
{
    atomic_store_explicit(&fork_bar_holder, pthread_self(), memory_order_relaxed);
}

void sbx_forks_bar(void)
{
    pthread_mutex_lock(&fork_bar);
    hold_fork_bar();
}

bool sbx_forks_try_bar(void)
{
    if (pthread_mutex_trylock(&fork_bar) != 0)
        return false;
    hold_fork_bar();
    return true;
}

void sbx_forks_allow(void)
{
    atomic_store_explicit(&fork_bar_holder, 0, memory_order_relaxed);
    pthread_mutex_unlock(&fork_bar);
}

/* Whoever bars forks may fork itself, and does: to find a bus, libdbus runs dbus-launch from inside
 * pw_context_new. Relaxed: only this thread can have stored its own id. */
static bool is_own_fork(void)
{
    return pthread_equal(atomic_load_explicit(&fork_bar_holder, memory_order_relaxed),
                         pthread_self()) != 0;
}

static void before_fork(void)
{
    if (!is_own_fork())
        pthread_mutex_lock(&fork_bar);
}

static void after_fork(void)
{
    if (!is_own_fork())
        pthread_mutex_unlock(&fork_bar);
}

static void enter_child(void)
{
    atomic_fetch_add(&generation, 1);
    after_fork();
}

/* When the extension is loaded, that is, before anything can bar a fork. */
__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, enter_child);
}

/* --- opening ----------------------------------------------------------------------------- */

const char *sbx_libpipewire_version(void)
{
    return pw_get_library_version();
}

static void initialise(void)
{
    pw_init(NULL, NULL);
}

/* Thread: control. A connected socket, or a negative errno. */
static int connect_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    /* Non-blocking: a stopped daemon with a full backlog answers EAGAIN at once. */
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        const int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* Thread: control. The configuration that gives a client a real-time data thread: it had a file
 * of its own until libpipewire 1.3; since then client.conf does so itself. */
static struct pw_properties *context_properties(void)
{
    static const char realtime[] = "client-rt.conf";
    struct pw_properties *found = pw_properties_new(NULL, NULL);
    const bool exists = found != NULL && pw_conf_load_conf(NULL, realtime, found) >= 0;

    pw_properties_free(found);
    return exists ? pw_properties_new(PW_KEY_CONFIG_NAME, realtime, NULL)
                  : pw_properties_new(NULL, NULL);
}

/* Thread: control, with the loop locked. Takes the socket, also when it fails. */
static int connect_core(struct sbx_connection *connection, int fd)
{
    connection->core = pw_context_connect_fd(connection->context, fd, NULL, 0);
    if (connection->core == NULL)
        return -errno;
    pw_core_add_listener(connection->core, &connection->core_listener, &core_events, connection);
    connection->registry = pw_core_get_registry(connection->core, PW_VERSION_REGISTRY, 0);
    if (connection->registry == NULL)
        return -errno;
    pw_registry_add_listener(connection->registry, &connection->registry_listener, &registry_events,
                             connection);
    return 0;
}

/* Thread: control, with forks barred. Takes the socket, also when it fails. */
static int start(struct sbx_connection *connection, int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int result = -ENOMEM;

    pthread_once(&once, initialise);
    connection->loop = pw_thread_loop_new("stagebox", NULL);
    if (connection->loop != NULL)
        connection->context =
            pw_context_new(pw_thread_loop_get_loop(connection->loop), context_properties(), 0);
    if (connection->context == NULL) {
        result = connection->loop == NULL ? -ENOMEM : -errno;
        close(fd);
        return result;
    }
    result = pw_thread_loop_start(connection->loop);
    if (result < 0) {
        close(fd);
        return result;
    }
    pw_thread_loop_lock(connection->loop);
    result = connect_core(connection, fd);
    pw_thread_loop_unlock(connection->loop);
    return result;
}

sbx_connection *sbx_connection_open(const char *socket_path, int *error)
{
    const int fd = connect_socket(socket_path);

    if (fd < 0) {
        *error = fd;
        return NULL;
    }
    struct sbx_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        *error = -ENOMEM;
        return NULL;
    }
    atomic_init(&connection->users, 1);
    atomic_init(&connection->alive, true);
    spa_list_init(&connection->sinks);
    spa_list_init(&connection->watches);
    connection->manager = SPA_ID_INVALID;
    connection->generation = atomic_load(&generation);
    sbx_forks_bar();
    *error = start(connection, fd);
    sbx_forks_allow();
    if (*error < 0) {
        sbx_connection_release(connection);
        return NULL;
    }
    return connection;
}

/* Thread: control, the last user's, with forks barred. */
static void destroy(sbx_connection *connection)
{
    struct sbx_sink *sink;

    if (connection->loop != NULL)
        pw_thread_loop_stop(connection->loop);
    if (connection->registry != NULL)
        pw_proxy_destroy((struct pw_proxy *)connection->registry);
    if (connection->core != NULL)
        pw_core_disconnect(connection->core);
    if (connection->context != NULL)
        pw_context_destroy(connection->context);
    if (connection->loop != NULL)
        pw_thread_loop_destroy(connection->loop);
    spa_list_consume(sink, &connection->sinks, link) forget_sink(sink);
    free(connection);
}

void sbx_connection_use(sbx_connection *connection)
{
    atomic_fetch_add(&connection->users, 1);
}

void sbx_connection_release(sbx_connection *connection)
{
    if (connection == NULL || sbx_connection_inherited(connection) ||
        atomic_fetch_sub(&connection->users, 1) > 1)
        return;
    sbx_forks_bar();
    destroy(connection);
    sbx_forks_allow();
#ifdef __GLIBC__
    /* What streams convert in, megabytes each, was freed into the heaps of the threads that asked
     * for it, a loop thread that is no more among them; the next connection's threads fill others.
     * A host that reconnects would grow until each heap has held it once. */
    malloc_trim(0);
#endif
}

/* --- in use ------------------------------------------------------------------------------ */

struct pw_thread_loop *sbx_connection_loop(sbx_connection *connection)
{
    return connection->loop;
}

void sbx_connection_watch(sbx_connection *connection, struct sbx_watch *watch)
{
    spa_list_append(&connection->watches, &watch->link);
}

void sbx_connection_unwatch(struct sbx_watch *watch)
{
    spa_list_remove(&watch->link);
}

bool sbx_connection_inherited(const sbx_connection *connection)
{
    return connection->generation != atomic_load(&generation);
}

struct pw_core *sbx_connection_core(sbx_connection *connection)
{
    return sbx_connection_alive(connection) ? connection->core : NULL;
}

void sbx_connection_wait_for(sbx_connection *connection, bool (*done)(const void *data),
                             const void *data, int timeout_ms)
{
    struct timespec deadline;

    pw_thread_loop_get_time(connection->loop, &deadline, timeout_ms * (SBX_NS_PER_SEC / 1000));
    while (!done(data) && pw_thread_loop_timed_wait_full(connection->loop, &deadline) == 0)
        ;
}

int sbx_connection_sync(sbx_connection *connection)
{
    if (sbx_connection_inherited(connection))
        return 0;
    pw_thread_loop_lock(connection->loop);
    const int sequence = pw_core_sync(connection->core, PW_ID_CORE, 0);
    pw_thread_loop_unlock(connection->loop);
    return sequence;
}

struct answer {
    const struct sbx_connection *connection;
    int sequence;
};

static bool is_answered(const void *data)
{
    const struct answer *answer = data;
    const struct sbx_connection *connection = answer->connection;
    /* Sequence numbers have 30 bits and wrap: compare by the sign of their difference. */
    const uint32_t ahead = (uint32_t)(connection->last_answer - answer->sequence) << 2;

    return connection->answered && (int32_t)ahead >= 0;
}

static bool is_answered_or_dead(const void *data)
{
    const struct answer *answer = data;

    return is_answered(data) || !sbx_connection_alive(answer->connection);
}

int sbx_connection_wait(sbx_connection *connection, int sequence, int timeout_ms)
{
    const struct answer answer = {connection, sequence};

    if (sbx_connection_inherited(connection))
        return SBX_DEAD;
    pw_thread_loop_lock(connection->loop);
    sbx_connection_wait_for(connection, is_answered_or_dead, &answer, timeout_ms);
    const bool answered = is_answered(&answer);
    pw_thread_loop_unlock(connection->loop);
    if (answered)
        return 1;
    return sbx_connection_alive(connection) ? 0 : SBX_DEAD;
}

bool sbx_connection_alive(const sbx_connection *connection)
{
    return atomic_load(&connection->alive) && !sbx_connection_inherited(connection);
}

const struct sbx_sink *sbx_connection_find_sink(const sbx_connection *connection, const char *name)
{
    const struct sbx_sink *sink;

    spa_list_for_each(sink, &connection->sinks, link)
    {
        if (sink->ready && strcmp(sink->name, name) == 0)
            return sink;
    }
    return NULL;
}

size_t sbx_connection_sinks(sbx_connection *connection, char *text, size_t size)
{
    const struct sbx_sink *sink;
    size_t used = 0;

    if (sbx_connection_inherited(connection))
        return 0;
    pw_thread_loop_lock(connection->loop);
    spa_list_for_each(sink, &connection->sinks, link)
    {
        const size_t rest = used < size ? size - used : 0;
        const int length =
            snprintf(rest > 0 ? text + used : NULL, rest, "%u %s", sink->id, sink->name);
        used += (size_t)length + 1;
    }
    pw_thread_loop_unlock(connection->loop);
    return used;
}

void sbx_connection_error(sbx_connection *connection, char *text, size_t size)
{
    if (sbx_connection_inherited(connection)) {
        snprintf(text, size, "it belongs to the process that forked this one");
        return;
    }
    pw_thread_loop_lock(connection->loop);
    snprintf(text, size, "%s", connection->error);
    pw_thread_loop_unlock(connection->loop);
}

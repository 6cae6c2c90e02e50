/* What is in the graph and what becomes of it, as records for Python, which makes sense of them.
 *
 * The core, nodes, clients and metadata tell more than the registry does, so they are bound.
 * Records wait in a buffer that grows; nothing here ever waits for whoever reads it. */
#include <errno.h>
#include <pipewire/extensions/metadata.h>
#include <poll.h>
#include <pthread.h>
#include <spa/utils/result.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connection.h"

/* How long after a client has come the metadata is asked for again. */
#define ASK_AGAIN_MS 250

/* What may wait to be read: hours of a busy desktop. More is a reader that has forgotten us. */
#define MOST_BYTES (16U << 20)

struct sbx_graph {
    sbx_connection *connection;
    struct sbx_watch watch;
    struct pw_registry *registry;
    struct spa_hook registry_listener;
    int wake_fd;

    /* with the loop locked */
    struct spa_source *ask_again; /* a timer */
    struct spa_list objects;      /* struct object */
    uint8_t *records;
    size_t used;
    size_t room;
    size_t begun; /* where the record that is being written begins */
    int end;      /* why there will be no more: SBX_DEAD, SBX_CLOSED or a negative errno; or 0 */
};

/* What can be bound. */
struct kind {
    const char *type;
    uint32_t version;
    const void *events;
    const char *metadata_name; /* NULL: it is none */
};

/* What is bound. */
struct object {
    struct spa_list link;
    struct sbx_graph *graph;
    const struct kind *kind;
    uint32_t id;
    struct pw_proxy *proxy;
    struct spa_hook listener;
};

/* --- records: with the loop locked ------------------------------------------------------------ */

static void wake(const struct sbx_graph *graph)
{
    const uint64_t one = 1;

    if (write(graph->wake_fd, &one, sizeof(one)) < 0)
        return; /* readable already */
}

/* There will be no more records. */
static void end(struct sbx_graph *graph, int reason)
{
    if (graph->end == 0)
        graph->end = reason;
    wake(graph);
}

static bool make_room(struct sbx_graph *graph, size_t size)
{
    size_t room = graph->room > 0 ? graph->room : 4096;

    while (room < graph->used + size)
        room *= 2;
    if (room == graph->room)
        return true;
    uint8_t *records = room <= MOST_BYTES ? realloc(graph->records, room) : NULL;
    if (records == NULL)
        return false;
    graph->records = records;
    graph->room = room;
    return true;
}

/* A record is its fields' number, then each field: its length in bytes, then they. All lengths are
 * uint32_t as this machine has them. */
static void append(struct sbx_graph *graph, const void *bytes, size_t size)
{
    if (graph->end != 0)
        return;
    if (!make_room(graph, size)) {
        graph->used = graph->begun;
        end(graph, -ENOBUFS);
        return;
    }
    memcpy(graph->records + graph->used, bytes, size);
    graph->used += size;
}

static void append_number(struct sbx_graph *graph, size_t number)
{
    const uint32_t as_written = (uint32_t)number;

    append(graph, &as_written, sizeof(as_written));
}

static void append_text(struct sbx_graph *graph, const char *text)
{
    const size_t size = text != NULL ? strlen(text) : 0;

    append_number(graph, size);
    append(graph, text != NULL ? text : "", size);
}

static void begin(struct sbx_graph *graph, const char *kind, uint32_t id, size_t more)
{
    char number[16];

    graph->begun = graph->used;
    snprintf(number, sizeof(number), "%u", id);
    append_number(graph, 2 + more);
    append_text(graph, kind);
    append_text(graph, number);
}

/* Two fields each. */
static void append_items(struct sbx_graph *graph, const struct spa_dict *items)
{
    const struct spa_dict_item *item;

    if (items == NULL)
        return;
    spa_dict_for_each(item, items)
    {
        append_text(graph, item->key);
        append_text(graph, item->value);
    }
}

static size_t fields_of(const struct spa_dict *items)
{
    return items != NULL ? 2 * (size_t)items->n_items : 0;
}

/* --- what is bound. Thread: loop -------------------------------------------------------------- */

static void on_node_info(void *data, const struct pw_node_info *info)
{
    const struct object *object = data;
    struct sbx_graph *graph = object->graph;
    const bool told = (info->change_mask & PW_NODE_CHANGE_MASK_PROPS) != 0;
    const struct spa_dict *props = told ? info->props : NULL;

    if ((info->change_mask & (PW_NODE_CHANGE_MASK_PROPS | PW_NODE_CHANGE_MASK_STATE)) == 0)
        return;
    begin(graph, "node", object->id, 1 + fields_of(props));
    append_text(graph, pw_node_state_as_string(info->state));
    append_items(graph, props);
    wake(graph);
}

static const struct pw_node_events node_events = {
    PW_VERSION_NODE_EVENTS,
    .info = on_node_info,
};

static void on_client_info(void *data, const struct pw_client_info *info)
{
    const struct object *object = data;
    struct sbx_graph *graph = object->graph;

    if ((info->change_mask & PW_CLIENT_CHANGE_MASK_PROPS) == 0)
        return;
    begin(graph, "client", object->id, fields_of(info->props));
    append_items(graph, info->props);
    wake(graph);
}

static const struct pw_client_events client_events = {
    PW_VERSION_CLIENT_EVENTS,
    .info = on_client_info,
};

static void append_property(void *data, const char *kind, uint32_t subject, const char *key,
                            const char *value)
{
    const struct object *object = data;
    struct sbx_graph *graph = object->graph;

    begin(graph, kind, subject, 2);
    append_text(graph, key);
    append_text(graph, value);
    wake(graph);
}

static int on_metadata_property(void *data, uint32_t subject, const char *key, const char *type,
                                const char *value)
{
    (void)type;
    append_property(data, "metadata", subject, key, value);
    return 0;
}

static const struct pw_metadata_events metadata_events = {
    PW_VERSION_METADATA_EVENTS,
    .property = on_metadata_property,
};

static int on_settings_property(void *data, uint32_t subject, const char *key, const char *type,
                                const char *value)
{
    (void)type;
    append_property(data, "settings", subject, key, value);
    return 0;
}

static const struct pw_metadata_events settings_events = {
    PW_VERSION_METADATA_EVENTS,
    .property = on_settings_property,
};

static void on_core_info(void *data, const struct pw_core_info *info)
{
    const struct object *object = data;
    struct sbx_graph *graph = object->graph;

    begin(graph, "core", object->id, 1);
    append_text(graph, info->version);
    wake(graph);
}

static const struct pw_core_events core_events = {
    PW_VERSION_CORE_EVENTS,
    .info = on_core_info,
};

/* Of the metadata the session manager's, which has the defaults, and the daemon's own. */
static const struct kind kinds[] = {
    {PW_TYPE_INTERFACE_Core, PW_VERSION_CORE, &core_events, NULL},
    {PW_TYPE_INTERFACE_Node, PW_VERSION_NODE, &node_events, NULL},
    {PW_TYPE_INTERFACE_Client, PW_VERSION_CLIENT, &client_events, NULL},
    {PW_TYPE_INTERFACE_Metadata, PW_VERSION_METADATA, &metadata_events, "default"},
    {PW_TYPE_INTERFACE_Metadata, PW_VERSION_METADATA, &settings_events, "settings"},
};

static bool is_kind(const struct kind *kind, const char *type, const struct spa_dict *props)
{
    const char *name = props != NULL ? spa_dict_lookup(props, PW_KEY_METADATA_NAME) : NULL;

    if (strcmp(type, kind->type) != 0)
        return false;
    return kind->metadata_name == NULL || (name != NULL && strcmp(name, kind->metadata_name) == 0);
}

static const struct kind *kind_of(const char *type, const struct spa_dict *props)
{
    for (size_t i = 0; i < SPA_N_ELEMENTS(kinds); i++) {
        if (is_kind(&kinds[i], type, props))
            return &kinds[i];
    }
    return NULL;
}

static void let_go(struct object *object)
{
    spa_list_remove(&object->link);
    spa_hook_remove(&object->listener);
    pw_proxy_destroy(object->proxy);
    free(object);
}

static void bind_object(struct sbx_graph *graph, uint32_t id, const struct kind *kind)
{
    struct object *object = calloc(1, sizeof(*object));
    if (object == NULL) {
        end(graph, -ENOMEM);
        return;
    }
    object->graph = graph;
    object->kind = kind;
    object->id = id;
    object->proxy = pw_registry_bind(graph->registry, id, kind->type, kind->version, 0);
    if (object->proxy == NULL) {
        free(object);
        end(graph, -errno);
        return;
    }
    spa_list_append(&graph->objects, &object->link);
    pw_proxy_add_object_listener(object->proxy, &object->listener, kind->events, object);
}

/* While a client binds metadata, the daemon tells no other of what changes there (module-metadata's
 * metadata_property, 0.3.65 to 1.6). Clients bind when they come, so a while after one has come all
 * of it is asked for anew. */
static void ask_again(void *data, uint64_t expirations)
{
    struct sbx_graph *graph = data;
    struct object *object;
    struct object *next;

    (void)expirations;
    spa_list_for_each_safe(object, next, &graph->objects, link)
    {
        const struct object metadata = *object;
        if (metadata.kind->events != &metadata_events)
            continue;
        let_go(object);
        bind_object(graph, metadata.id, metadata.kind);
        return;
    }
}

static void ask_again_soon(struct sbx_graph *graph)
{
    struct timespec after = {.tv_nsec = ASK_AGAIN_MS * SPA_NSEC_PER_MSEC};

    pw_loop_update_timer(pw_thread_loop_get_loop(sbx_connection_loop(graph->connection)),
                         graph->ask_again, &after, NULL, false);
}

/* --- the registry. Thread: loop --------------------------------------------------------------- */

static void on_global(void *data, uint32_t id, uint32_t permissions, const char *type,
                      uint32_t version, const struct spa_dict *props)
{
    struct sbx_graph *graph = data;
    const struct kind *kind = kind_of(type, props);

    (void)permissions;
    (void)version;
    if (graph->end != 0)
        return;
    begin(graph, "global", id, 1 + fields_of(props));
    append_text(graph, type);
    append_items(graph, props);
    wake(graph);
    if (kind != NULL)
        bind_object(graph, id, kind);
    if (kind != NULL && kind->events == &client_events)
        ask_again_soon(graph);
}

static void on_global_remove(void *data, uint32_t id)
{
    struct sbx_graph *graph = data;
    struct object *object;
    struct object *next;

    spa_list_for_each_safe(object, next, &graph->objects, link)
    {
        if (object->id == id)
            let_go(object);
    }
    begin(graph, "removed", id, 0);
    wake(graph);
}

static const struct pw_registry_events registry_events = {
    PW_VERSION_REGISTRY_EVENTS,
    .global = on_global,
    .global_remove = on_global_remove,
};

static void on_lost(void *data, const char *why)
{
    (void)why;
    end(data, SBX_DEAD);
}

static void on_session_manager(void *data, bool here)
{
    (void)data; /* its metadata comes and goes like any object */
    (void)here;
}

static void on_removed(void *data, uint32_t id)
{
    (void)data; /* told by our own registry */
    (void)id;
}

/* --- the control threads' side ---------------------------------------------------------------- */

/* With the loop locked. 0 or a negative errno. */
static int look(struct sbx_graph *graph)
{
    struct pw_core *core = sbx_connection_core(graph->connection);
    struct pw_loop *loop = pw_thread_loop_get_loop(sbx_connection_loop(graph->connection));

    sbx_connection_watch(graph->connection, &graph->watch);
    graph->ask_again = pw_loop_add_timer(loop, ask_again, graph);
    if (graph->ask_again == NULL)
        return -errno;
    if (core == NULL)
        return -EPIPE;
    graph->registry = pw_core_get_registry(core, PW_VERSION_REGISTRY, 0);
    if (graph->registry == NULL)
        return -errno;
    pw_registry_add_listener(graph->registry, &graph->registry_listener, &registry_events, graph);
    return 0;
}

sbx_graph *sbx_graph_open(sbx_connection *connection, int *error)
{
    struct sbx_graph *graph = calloc(1, sizeof(*graph));

    *error = -ENOMEM;
    if (graph == NULL)
        return NULL;
    sbx_connection_use(connection);
    graph->connection = connection;
    graph->watch = (struct sbx_watch){
        .lost = on_lost,
        .session_manager = on_session_manager,
        .removed = on_removed,
        .data = graph,
    };
    spa_list_init(&graph->watch.link);
    spa_list_init(&graph->objects);
    graph->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (graph->wake_fd < 0) {
        *error = -errno;
    } else if (sbx_connection_inherited(connection)) {
        *error = -EPIPE;
    } else {
        pw_thread_loop_lock(sbx_connection_loop(connection));
        *error = look(graph);
        pw_thread_loop_unlock(sbx_connection_loop(connection));
    }
    if (*error < 0) {
        sbx_graph_free(graph);
        return NULL;
    }
    return graph;
}

int sbx_graph_fd(const sbx_graph *graph)
{
    return graph->wake_fd;
}

void sbx_graph_wait(sbx_graph *graph, int timeout_ms)
{
    struct pollfd woken = {.fd = graph->wake_fd, .events = POLLIN};

    poll(&woken, 1, timeout_ms); /* a signal or a time-out: the caller sees that there is nothing */
}

/* With the loop locked. */
static int64_t take(struct sbx_graph *graph, uint8_t *records, size_t size)
{
    const size_t waiting = graph->used;
    uint64_t count;

    if (waiting == 0)
        return graph->end;
    if (waiting > size)
        return (int64_t)waiting;
    memcpy(records, graph->records, waiting);
    graph->used = graph->begun = 0;
    /* What has ended stays readable. */
    if (graph->end == 0 && read(graph->wake_fd, &count, sizeof(count)) < 0)
        return (int64_t)waiting; /* it was not readable */
    return (int64_t)waiting;
}

int64_t sbx_graph_take(sbx_graph *graph, uint8_t *records, size_t size)
{
    struct pw_thread_loop *loop = sbx_connection_loop(graph->connection);

    if (sbx_connection_inherited(graph->connection))
        return SBX_DEAD;
    pw_thread_loop_lock(loop);
    const int64_t waiting = take(graph, records, size);
    pw_thread_loop_unlock(loop);
    return waiting;
}

/* With the loop locked. */
static int set(struct sbx_graph *graph, const char *key, const char *value)
{
    const struct object *object;

    spa_list_for_each(object, &graph->objects, link)
    {
        if (object->kind->events != &metadata_events)
            continue;
        const int result =
            pw_metadata_set_property((struct pw_metadata *)object->proxy, PW_ID_CORE, key,
                                     value != NULL ? "Spa:String:JSON" : NULL, value);
        return result < 0 ? result : 0; /* more than 0 is a sequence number */
    }
    return -ENOENT;
}

int sbx_graph_set(sbx_graph *graph, const char *key, const char *value)
{
    struct pw_thread_loop *loop = sbx_connection_loop(graph->connection);

    if (sbx_connection_inherited(graph->connection))
        return -EPIPE;
    pw_thread_loop_lock(loop);
    const int result = set(graph, key, value);
    pw_thread_loop_unlock(loop);
    return result;
}

void sbx_graph_close(sbx_graph *graph)
{
    struct pw_thread_loop *loop = sbx_connection_loop(graph->connection);
    struct object *object;

    if (sbx_connection_inherited(graph->connection))
        return;
    pw_thread_loop_lock(loop);
    sbx_connection_unwatch(&graph->watch);
    spa_list_init(&graph->watch.link);
    if (graph->ask_again != NULL)
        pw_loop_destroy_source(pw_thread_loop_get_loop(loop), graph->ask_again);
    graph->ask_again = NULL;
    spa_list_consume(object, &graph->objects, link) let_go(object);
    if (graph->registry != NULL) {
        spa_hook_remove(&graph->registry_listener);
        pw_proxy_destroy((struct pw_proxy *)graph->registry);
        graph->registry = NULL;
    }
    graph->used = graph->begun = 0;
    end(graph, SBX_CLOSED);
    pw_thread_loop_unlock(loop);
}

void sbx_graph_free(sbx_graph *graph)
{
    if (graph == NULL)
        return;
    sbx_graph_close(graph);
    if (graph->wake_fd >= 0)
        close(graph->wake_fd);
    free(graph->records);
    sbx_connection_release(graph->connection);
    free(graph);
}

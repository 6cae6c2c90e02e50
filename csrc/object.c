/* Something of our own that the daemon makes for us: a link, a sink. It is gone with us, whatever
 * becomes of us. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

struct kind {
    const char *factory;
    const char *type;
    uint32_t version;
    bool is_managed; /* by the session manager, which must see it come */
};

static const struct kind kinds[] = {
    [SBX_LINK] = {"link-factory", PW_TYPE_INTERFACE_Link, PW_VERSION_LINK, false},
    [SBX_NODE] = {"adapter", PW_TYPE_INTERFACE_Node, PW_VERSION_NODE, true},
};

struct sbx_object {
    sbx_connection *connection;
    const struct kind *kind;
    struct pw_properties *props;
    struct sbx_watch watch;

    /* with the loop locked */
    struct pw_proxy *proxy;
    struct spa_hook listener;
    bool orphaned; /* its session manager has gone */

    atomic_int error; /* written by the loop thread, or with the loop locked; seq_cst */
};

static void on_removed(void *data);

/* Thread: loop. */
static void on_error(void *data, int sequence, int result, const char *message)
{
    struct sbx_object *object = data;

    (void)sequence;
    (void)message;
    atomic_store(&object->error, result < 0 ? result : -EIO);
}

static const struct pw_proxy_events events = {
    PW_VERSION_PROXY_EVENTS,
    .removed = on_removed,
    .error = on_error,
};

/* With the loop locked. 0 or a negative errno. */
static int make(struct sbx_object *object)
{
    struct pw_core *core = sbx_connection_core(object->connection);
    const struct kind *kind = object->kind;

    if (core == NULL)
        return -EPIPE;
    object->proxy = pw_core_create_object(core, kind->factory, kind->type, kind->version,
                                          &object->props->dict, 0);
    if (object->proxy == NULL)
        return -errno;
    pw_proxy_add_listener(object->proxy, &object->listener, &events, object);
    return 0;
}

/* With the loop locked. */
static void unmake(struct sbx_object *object)
{
    if (object->proxy == NULL)
        return;
    spa_hook_remove(&object->listener);
    pw_proxy_destroy(object->proxy);
    object->proxy = NULL;
}

/* Thread: loop. */
static void make_anew(struct sbx_object *object)
{
    unmake(object);
    atomic_store(&object->error, make(object));
}

/* What a link needs has gone, or somebody has undone it: that is for its owner to see. A node
 * somebody has destroyed is made anew, as it is in use. Thread: loop. */
static void on_removed(void *data)
{
    struct sbx_object *object = data;

    if (object->kind->is_managed)
        make_anew(object);
    else
        atomic_store(&object->error, -ENOENT);
}

/* As for a stream of ours: WirePlumber before 0.5 does nothing with a node that was there before it
 * was. So the node comes anew. Thread: loop. */
static void on_session_manager(void *data, bool here)
{
    struct sbx_object *object = data;
    const bool orphaned = object->orphaned;

    object->orphaned = !here;
    if (here && orphaned)
        make_anew(object);
}

static void on_lost(void *data, const char *why)
{
    (void)data; /* sbx_object_error asks the connection */
    (void)why;
}

static void on_removed_from_graph(void *data, uint32_t id)
{
    (void)data; /* the proxy tells of its own */
    (void)id;
}

static struct pw_properties *read_properties(const char *text)
{
    struct pw_properties *props = pw_properties_new(PW_KEY_OBJECT_LINGER, "false", NULL);

    while (props != NULL && *text != '\0') {
        const char *value = text + strlen(text) + 1;

        pw_properties_set(props, text, value);
        text = value + strlen(value) + 1;
    }
    return props;
}

sbx_object *sbx_object_open(sbx_connection *connection, enum sbx_kind kind, const char *properties,
                            int *error)
{
    struct sbx_object *object = calloc(1, sizeof(*object));

    *error = -ENOMEM;
    if (object == NULL)
        return NULL;
    sbx_connection_use(connection);
    object->connection = connection;
    object->kind = &kinds[kind];
    object->props = read_properties(properties);
    object->watch = (struct sbx_watch){
        .lost = on_lost,
        .session_manager = on_session_manager,
        .removed = on_removed_from_graph,
        .data = object,
    };
    spa_list_init(&object->watch.link);
    if (sbx_connection_inherited(connection)) {
        *error = -EPIPE;
    } else if (object->props != NULL) {
        pw_thread_loop_lock(sbx_connection_loop(connection));
        *error = make(object);
        if (*error == 0 && object->kind->is_managed)
            sbx_connection_watch(connection, &object->watch);
        pw_thread_loop_unlock(sbx_connection_loop(connection));
    }
    if (*error < 0) {
        sbx_object_free(object);
        return NULL;
    }
    return object;
}

int sbx_object_error(const sbx_object *object)
{
    return sbx_connection_alive(object->connection) ? atomic_load(&object->error) : -EPIPE;
}

void sbx_object_free(sbx_object *object)
{
    if (object == NULL)
        return;
    if (!sbx_connection_inherited(object->connection)) {
        pw_thread_loop_lock(sbx_connection_loop(object->connection));
        sbx_connection_unwatch(&object->watch);
        unmake(object);
        pw_thread_loop_unlock(sbx_connection_loop(object->connection));
    }
    pw_properties_free(object->props);
    sbx_connection_release(object->connection);
    free(object);
}

/* Something of our own that the daemon makes for us: a link, a sink. It is gone with us, whatever
 * becomes of us. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

struct sbx_object {
    sbx_connection *connection;
    struct pw_proxy *proxy; /* with the loop locked */
    struct spa_hook listener;
    atomic_int error; /* written by the loop thread; seq_cst */
};

static const struct {
    const char *factory;
    const char *type;
    uint32_t version;
} kinds[] = {
    [SBX_LINK] = {"link-factory", PW_TYPE_INTERFACE_Link, PW_VERSION_LINK},
    [SBX_NODE] = {"adapter", PW_TYPE_INTERFACE_Node, PW_VERSION_NODE},
};

/* What it needs has gone, or somebody has undone it. Thread: loop. */
static void on_removed(void *data)
{
    struct sbx_object *object = data;

    atomic_store(&object->error, -ENOENT);
}

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

/* Thread: control, with the loop locked. 0 or a negative errno. */
static int create(struct sbx_object *object, enum sbx_kind kind, const char *properties)
{
    struct pw_core *core = sbx_connection_core(object->connection);
    struct pw_properties *props = pw_properties_new(PW_KEY_OBJECT_LINGER, "false", NULL);

    if (core == NULL || props == NULL) {
        pw_properties_free(props);
        return core == NULL ? -EPIPE : -ENOMEM;
    }
    while (*properties != '\0') {
        const char *value = properties + strlen(properties) + 1;

        pw_properties_set(props, properties, value);
        properties = value + strlen(value) + 1;
    }
    object->proxy = pw_core_create_object(core, kinds[kind].factory, kinds[kind].type,
                                          kinds[kind].version, &props->dict, 0);
    const int result = object->proxy != NULL ? 0 : -errno;
    pw_properties_free(props);
    if (object->proxy != NULL)
        pw_proxy_add_listener(object->proxy, &object->listener, &events, object);
    return result;
}

sbx_object *sbx_object_open(sbx_connection *connection, enum sbx_kind kind, const char *properties,
                            int *error)
{
    struct sbx_object *object = calloc(1, sizeof(*object));

    *error = object == NULL ? -ENOMEM : -EPIPE;
    if (object == NULL)
        return NULL;
    sbx_connection_use(connection);
    object->connection = connection;
    if (!sbx_connection_inherited(connection)) {
        pw_thread_loop_lock(sbx_connection_loop(connection));
        *error = create(object, kind, properties);
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
    if (object->proxy != NULL && !sbx_connection_inherited(object->connection)) {
        pw_thread_loop_lock(sbx_connection_loop(object->connection));
        spa_hook_remove(&object->listener);
        pw_proxy_destroy(object->proxy);
        pw_thread_loop_unlock(sbx_connection_loop(object->connection));
    }
    sbx_connection_release(object->connection);
    free(object);
}

/* A link of our own between two ports. It is gone with us, whatever becomes of us. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "connection.h"

struct sbx_link {
    sbx_connection *connection;
    struct pw_proxy *proxy; /* with the loop locked */
    struct spa_hook listener;
    atomic_int error; /* written by the loop thread; seq_cst */
};

/* A port has gone, or somebody has undone the link. Thread: loop. */
static void on_removed(void *data)
{
    struct sbx_link *link = data;

    atomic_store(&link->error, -ENOENT);
}

/* Thread: loop. */
static void on_error(void *data, int sequence, int result, const char *message)
{
    struct sbx_link *link = data;

    (void)sequence;
    (void)message;
    atomic_store(&link->error, result < 0 ? result : -EIO);
}

static const struct pw_proxy_events events = {
    PW_VERSION_PROXY_EVENTS,
    .removed = on_removed,
    .error = on_error,
};

/* Thread: control, with the loop locked. 0 or a negative errno. */
static int create(struct sbx_link *link, const struct sbx_ends *ends)
{
    struct pw_core *core = sbx_connection_core(link->connection);
    struct pw_properties *props = pw_properties_new(PW_KEY_OBJECT_LINGER, "false", NULL);

    if (core == NULL || props == NULL) {
        pw_properties_free(props);
        return core == NULL ? -EPIPE : -ENOMEM;
    }
    pw_properties_setf(props, PW_KEY_LINK_OUTPUT_NODE, "%u", ends->output_node);
    pw_properties_setf(props, PW_KEY_LINK_OUTPUT_PORT, "%u", ends->output_port);
    pw_properties_setf(props, PW_KEY_LINK_INPUT_NODE, "%u", ends->input_node);
    pw_properties_setf(props, PW_KEY_LINK_INPUT_PORT, "%u", ends->input_port);
    link->proxy = pw_core_create_object(core, "link-factory", PW_TYPE_INTERFACE_Link,
                                        PW_VERSION_LINK, &props->dict, 0);
    const int result = link->proxy != NULL ? 0 : -errno;
    pw_properties_free(props);
    if (link->proxy != NULL)
        pw_proxy_add_listener(link->proxy, &link->listener, &events, link);
    return result;
}

sbx_link *sbx_link_open(sbx_connection *connection, const struct sbx_ends *ends, int *error)
{
    struct sbx_link *link = calloc(1, sizeof(*link));

    *error = link == NULL ? -ENOMEM : -EPIPE;
    if (link == NULL)
        return NULL;
    sbx_connection_use(connection);
    link->connection = connection;
    if (!sbx_connection_inherited(connection)) {
        pw_thread_loop_lock(sbx_connection_loop(connection));
        *error = create(link, ends);
        pw_thread_loop_unlock(sbx_connection_loop(connection));
    }
    if (*error < 0) {
        sbx_link_free(link);
        return NULL;
    }
    return link;
}

int sbx_link_error(const sbx_link *link)
{
    return sbx_connection_alive(link->connection) ? atomic_load(&link->error) : -EPIPE;
}

void sbx_link_free(sbx_link *link)
{
    if (link == NULL)
        return;
    if (link->proxy != NULL && !sbx_connection_inherited(link->connection)) {
        pw_thread_loop_lock(sbx_connection_loop(link->connection));
        spa_hook_remove(&link->listener);
        pw_proxy_destroy(link->proxy);
        pw_thread_loop_unlock(sbx_connection_loop(link->connection));
    }
    sbx_connection_release(link->connection);
    free(link);
}

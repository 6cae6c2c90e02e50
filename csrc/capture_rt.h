/* The part of a capture that the data thread works on. */
#ifndef SBX_CAPTURE_RT_H
#define SBX_CAPTURE_RT_H

#include <pipewire/stream.h>
#include <stdatomic.h>

#include "counter.h"
#include "ring.h"

/* The alarm's value when nobody waits. */
#define SBX_NOBODY_WAITS UINT64_MAX

struct sbx_capture_rt {
    /* fixed before the stream is connected */
    struct pw_stream *stream;
    int wake_fd; /* eventfd */

    struct sbx_ring ring; /* producer: data thread; consumer: the reader */

    /* Wake the reader once write_position is here. Set by the reader, reset by the data thread
     * when it rings, before it writes to the eventfd.
     *
     * The reader sets it and then looks at write_position once more; the data thread moves
     * write_position and then looks at the alarm. They must not both miss. So both use a
     * read-modify-write operation, of which one comes first: either the data thread finds the
     * alarm, or the reader acquires what the data thread released. */
    _Atomic uint64_t alarm;

    /* written by the data thread, read by anybody: relaxed */
    sbx_counter frames;
    sbx_counter lost;
    sbx_counter missed;
    sbx_counter cycles;
    _Atomic uint32_t quantum;
    _Atomic uint32_t graph_rate_hz;

    /* the data thread's alone */
    uint64_t lost_since_mark;
    int64_t last_ns;     /* when the last block began, kept or lost */
    uint32_t last_count; /* its frames; 0 before the first */
};

/* The process callback. Thread: data. */
void sbx_capture_process(void *data);

#endif

/* A capture's process callback: everything in this file runs on the data thread. */
#include "capture_rt.h"

#include <unistd.h>

static void ring_alarm(struct sbx_capture_rt *rt)
{
    const uint64_t one = 1;
    const uint64_t alarm = atomic_fetch_add_explicit(&rt->alarm, 0, memory_order_release);

    /* relaxed: it is our own */
    if (atomic_load_explicit(&rt->ring.write_position, memory_order_relaxed) < alarm)
        return;
    /* The reader sets it anew before it sleeps again, so waking it once is enough. (relaxed: who
     * finds it reset is told the rest by the eventfd) */
    atomic_store_explicit(&rt->alarm, SBX_NOBODY_WAITS, memory_order_relaxed);
    /* The eventfd is non-blocking and at worst already readable: nothing to do about either. */
    const ssize_t written = write(rt->wake_fd, &one, sizeof(one));
    (void)written;
}

static void keep(struct sbx_capture_rt *rt, const float *frames, uint32_t count, int64_t time_ns)
{
    if (sbx_ring_write(&rt->ring, frames, count, time_ns, rt->lost_since_mark)) {
        rt->lost_since_mark = 0;
        sbx_counter_add(&rt->frames, count);
    } else {
        rt->lost_since_mark += count;
        sbx_counter_add(&rt->lost, count);
    }
}

/* Count the time since the last block in which the graph called nobody. */
static void count_missed(struct sbx_capture_rt *rt, uint32_t count, int64_t time_ns)
{
    if (rt->last_count > 0) {
        const int64_t gap_ns = sbx_gap_ns(rt->last_ns, rt->last_count, time_ns);
        sbx_counter_add(&rt->missed, (uint64_t)sbx_ns_to_frames(gap_ns));
    }
    rt->last_ns = time_ns;
    rt->last_count = count;
}

/* The frames of a buffer, which may have a header in front or be cut short. */
static uint32_t frames_in(const struct spa_data *data, uint32_t stride, const float **frames)
{
    const uint32_t offset = SPA_MIN(data->chunk->offset, data->maxsize);
    const uint32_t size = SPA_MIN(data->chunk->size, data->maxsize - offset);

    if (data->data == NULL)
        return 0;
    *frames = SPA_PTROFF(data->data, offset, const float);
    return size / stride;
}

/* When the graph saw the first frame of this cycle. */
static int64_t cycle_time(struct sbx_capture_rt *rt)
{
    struct pw_time time = {0};

    pw_stream_get_time_n(rt->stream, &time, sizeof(time));
    if (time.rate.num == 0 || time.rate.denom == 0)
        return time.now;
    atomic_store_explicit(&rt->graph_rate_hz, time.rate.denom / time.rate.num,
                          memory_order_relaxed);
    /* What the resampler holds back entered the graph that much earlier. */
    return time.now -
           (int64_t)time.buffered * SBX_NS_PER_SEC * (int64_t)time.rate.num / time.rate.denom;
}

void sbx_capture_process(void *data)
{
    struct sbx_capture_rt *rt = data;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(rt->stream);
    const float *frames = NULL;

    if (buffer == NULL)
        return;
    const uint32_t stride = rt->ring.channels * (uint32_t)sizeof(float);
    const uint32_t count = frames_in(&buffer->buffer->datas[0], stride, &frames);
    if (count > 0) {
        const int64_t time_ns = cycle_time(rt);
        count_missed(rt, count, time_ns);
        keep(rt, frames, count, time_ns);
    }
    pw_stream_queue_buffer(rt->stream, buffer);

    atomic_store_explicit(&rt->quantum, count, memory_order_relaxed);
    sbx_counter_add(&rt->cycles, 1);
    ring_alarm(rt);
}

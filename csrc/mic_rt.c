/* A microphone's process callback: everything in this file runs on the data thread. */
#include "mic_rt.h"

/* What the owner discarded goes first: it must neither play nor count as depth. */
static void apply_discard(struct sbx_mic_rt *rt)
{
    const uint64_t before = atomic_load_explicit(&rt->discard_before, memory_order_acquire);
    const uint64_t read = atomic_load_explicit(&rt->ring.read_position, memory_order_relaxed);

    if (before > read) {
        const uint32_t count = SPA_MIN((uint32_t)(before - read), sbx_ring_depth(&rt->ring));
        sbx_ring_skip(&rt->ring, count);
        sbx_counter_add(&rt->discarded, count);
    }
}

static struct sbx_plan plan_cycle(struct sbx_mic_rt *rt, uint32_t quantum)
{
    const int64_t now_ns = sbx_monotonic_ns();
    const uint32_t depth = sbx_ring_depth(&rt->ring);
    const int64_t oldest_ns = depth > 0 ? sbx_ring_front(&rt->ring).time_ns : now_ns;
    const struct sbx_cycle cycle = {
        .now_ns = now_ns,
        .oldest_ns = oldest_ns,
        .quantum = quantum,
        .depth = depth,
        .old = sbx_ring_older_than(&rt->ring, now_ns - SBX_STALE_NS, depth),
        .target = sbx_mic_target(rt, quantum),
        .block = atomic_load_explicit(&rt->longest_block, memory_order_relaxed),
    };

    return sbx_jitter_step(&rt->jitter, &cycle);
}

static void produce(struct sbx_mic_rt *rt, float *frames, uint32_t quantum)
{
    apply_discard(rt);
    const struct sbx_plan plan = plan_cycle(rt, quantum);
    const size_t channels = rt->ring.channels;

    sbx_ring_skip(&rt->ring, plan.stale + plan.trimmed);
    sbx_ring_read(&rt->ring, frames, plan.play);
    memset(frames + plan.play * channels, 0, (quantum - plan.play) * channels * sizeof(float));

    sbx_counter_add(&rt->stale, plan.stale);
    sbx_counter_add(&rt->trimmed, plan.trimmed);
    sbx_counter_add(&rt->played, plan.play);
    sbx_counter_add(&rt->underruns, plan.underrun ? 1 : 0);
    sbx_counter_add(&rt->reprimes, plan.reprimed ? 1 : 0);
    atomic_store_explicit(&rt->quantum, quantum, memory_order_relaxed);
}

void sbx_mic_process(void *data)
{
    struct sbx_mic_rt *rt = data;
    struct pw_buffer *buffer = pw_stream_dequeue_buffer(rt->stream);

    if (buffer == NULL)
        return;
    struct spa_data *out = &buffer->buffer->datas[0];
    const uint32_t stride = rt->ring.channels * (uint32_t)sizeof(float);
    /* The buffer is mapped for the largest quantum there can be: fill what was asked for. */
    const uint32_t quantum =
        out->data != NULL ? (uint32_t)SPA_MIN(buffer->requested, out->maxsize / stride) : 0;

    if (quantum > 0)
        produce(rt, out->data, quantum);
    out->chunk->offset = 0;
    out->chunk->stride = (int32_t)stride;
    out->chunk->size = quantum * stride;
    pw_stream_queue_buffer(rt->stream, buffer);
    sbx_counter_add(&rt->cycles, 1);
}

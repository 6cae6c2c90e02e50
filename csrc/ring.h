/* A lock-free ring of frames for one producer and one consumer (header only).
 *
 * Positions count frames since the ring was made; they are 64-bit and never wrap, so
 * "full" and "empty" cannot be confused and a position names the same frame for ever.
 *
 * Every block written leaves a mark: where it begins, when it was captured or pushed, and how
 * many frames the producer had to drop just before it. Marks live in a small ring of their own
 * that follows the same protocol.
 *
 * Memory orders. Each position has one writer, who loads it relaxed.
 *
 * - `marks_written` and `write_position`, in this order, are stored (release) after the samples and
 *   the mark were written, and loaded (acquire) by the consumer before it reads them. As the mark
 *   comes first, a consumer that sees frames sees their mark.
 * - `marks_read` and `read_position` are stored (release) after marks and samples were read, and
 *   loaded (acquire) by the producer before it writes there again.
 *
 * tests/native/model runs every execution of this at small sizes, and notices when one is weaker.
 */
#ifndef SBX_RING_H
#define SBX_RING_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define SBX_RATE_HZ 48000
#define SBX_NS_PER_SEC INT64_C(1000000000)
#define SBX_MIN(a, b) ((a) < (b) ? (a) : (b))

/* A mark for every 32 frames: graphs do not run shorter quanta (default.clock.min-quantum), and
 * shorter pushed blocks only fill the ring sooner. At least a few, as one is always in use. */
#define SBX_FRAMES_PER_MARK 32U
#define SBX_MIN_MARKS 8U

struct sbx_mark {
    uint64_t position;    /* of the block's first frame */
    int64_t time_ns;      /* CLOCK_MONOTONIC of that frame */
    uint64_t lost_frames; /* dropped between the frame before and this one */
};

struct sbx_ring {
    /* fixed after init */
    float *samples;
    struct sbx_mark *marks;
    uint32_t channels;
    uint32_t capacity;      /* frames, a power of two */
    uint32_t mark_capacity; /* a power of two */

    /* written by the producer; a cache line away from the consumer's */
    _Alignas(64) _Atomic uint64_t write_position;
    _Atomic uint64_t marks_written;

    /* written by the consumer */
    _Alignas(64) _Atomic uint64_t read_position;
    _Atomic uint64_t marks_read; /* the mark that covers read_position is never released */
};

static inline int64_t sbx_frames_to_ns(uint64_t frames)
{
    return (int64_t)frames * SBX_NS_PER_SEC / SBX_RATE_HZ;
}

static inline int64_t sbx_ns_to_frames(int64_t ns)
{
    return ns / 1000 * (SBX_RATE_HZ / 1000) / 1000; /* in this order no age overflows */
}

/* When a block's frame at `position` was captured, or is due to be played. */
static inline int64_t sbx_mark_time(const struct sbx_mark *mark, uint64_t position)
{
    return mark->time_ns + sbx_frames_to_ns(position - mark->position);
}

/* How long the graph paused between a block of `count` frames and the time of the next one, 0 if
 * it did not: a pause, be it one skipped cycle, shows as at least half a block's time too much. */
static inline int64_t sbx_gap_ns(int64_t block_ns, uint64_t count, int64_t next_ns)
{
    const int64_t length_ns = sbx_frames_to_ns(count);
    const int64_t gap_ns = next_ns - (block_ns + length_ns);

    return gap_ns > length_ns / 2 ? gap_ns : 0;
}

/* Memory of its own, every page of it there now, so that the data thread never takes a page fault;
 * from malloc a ring's megabyte would be kept, and scattered over arenas, when the ring ends. */
static inline void *sbx_map(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return memory != MAP_FAILED ? memory : NULL;
}

static inline size_t sbx_ring_sample_bytes(const struct sbx_ring *ring)
{
    return (size_t)ring->capacity * ring->channels * sizeof(float);
}

static inline size_t sbx_ring_mark_bytes(const struct sbx_ring *ring)
{
    return ring->mark_capacity * sizeof(struct sbx_mark);
}

/* Thread: control, after both sides have stopped. */
static inline void sbx_ring_clear(struct sbx_ring *ring)
{
    if (ring->samples != NULL)
        munmap(ring->samples, sbx_ring_sample_bytes(ring));
    if (ring->marks != NULL)
        munmap(ring->marks, sbx_ring_mark_bytes(ring));
}

/* Thread: control, before either side runs. `capacity` is a power of two. 0 or -ENOMEM. */
static inline int sbx_ring_init(struct sbx_ring *ring, uint32_t channels, uint32_t capacity)
{
    memset(ring, 0, sizeof(*ring));
    ring->channels = channels;
    ring->capacity = capacity;
    ring->mark_capacity = capacity / SBX_FRAMES_PER_MARK;
    if (ring->mark_capacity < SBX_MIN_MARKS)
        ring->mark_capacity = SBX_MIN_MARKS;
    ring->samples = sbx_map(sbx_ring_sample_bytes(ring));
    ring->marks = sbx_map(sbx_ring_mark_bytes(ring));
    if (ring->samples == NULL || ring->marks == NULL) {
        sbx_ring_clear(ring);
        return -ENOMEM;
    }
    return 0;
}

/* --- producer ------------------------------------------------------------------------- */

static inline struct sbx_mark *sbx_ring_mark(const struct sbx_ring *ring, uint64_t index)
{
    return &ring->marks[index & (ring->mark_capacity - 1)];
}

/* Where `count` frames at `position` lie: `first` of them from `start`, the rest from 0. */
struct sbx_span {
    size_t start; /* samples */
    size_t first; /* samples */
    size_t rest;  /* samples */
};

static inline struct sbx_span sbx_ring_span(const struct sbx_ring *ring, uint64_t position,
                                            uint32_t count)
{
    const uint32_t start = (uint32_t)position & (ring->capacity - 1);
    const uint32_t first = count < ring->capacity - start ? count : ring->capacity - start;
    const size_t channels = ring->channels;

    return (struct sbx_span){start * channels, first * channels, (count - first) * channels};
}

static inline void sbx_copy(float *to, const float *from, size_t samples)
{
    memcpy(to, from, samples * sizeof(float));
}

/* Clipped to full scale. NaN and infinities become silence: an exponent of all ones is neither. */
static inline void sbx_copy_clipped(float *to, const float *from, size_t samples)
{
    for (size_t i = 0; i < samples; i++) {
        uint32_t bits;
        float sample;
        memcpy(&bits, &from[i], sizeof(bits));
        bits = (bits & 0x7f800000U) == 0x7f800000U ? 0 : bits;
        memcpy(&sample, &bits, sizeof(sample));
        sample = sample > 1.0F ? 1.0F : sample;
        to[i] = sample < -1.0F ? -1.0F : sample;
    }
}

typedef void (*sbx_copier)(float *to, const float *from, size_t samples);

/* Thread: producer. All of the block or nothing: false when it does not fit. */
static inline bool sbx_ring_write_with(struct sbx_ring *ring, const float *frames, uint32_t count,
                                       int64_t time_ns, uint64_t lost_frames, sbx_copier copy)
{
    const uint64_t written = atomic_load_explicit(&ring->write_position, memory_order_relaxed);
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_acquire);
    const uint64_t mark = atomic_load_explicit(&ring->marks_written, memory_order_relaxed);
    const uint64_t mark_read = atomic_load_explicit(&ring->marks_read, memory_order_acquire);
    const struct sbx_span span = sbx_ring_span(ring, written, count);

    if (count > ring->capacity - (written - read) || mark - mark_read >= ring->mark_capacity)
        return false;
    *sbx_ring_mark(ring, mark) = (struct sbx_mark){written, time_ns, lost_frames};
    copy(ring->samples + span.start, frames, span.first);
    copy(ring->samples, frames + span.first, span.rest);
    atomic_store_explicit(&ring->marks_written, mark + 1, memory_order_release);
    atomic_store_explicit(&ring->write_position, written + count, memory_order_release);
    return true;
}

/* Thread: producer. PCM that is not ours to change. */
static inline bool sbx_ring_write(struct sbx_ring *ring, const float *frames, uint32_t count,
                                  int64_t time_ns, uint64_t lost_frames)
{
    return sbx_ring_write_with(ring, frames, count, time_ns, lost_frames, sbx_copy);
}

/* Thread: producer. PCM that people will hear: within full scale, and a number. */
static inline bool sbx_ring_write_clipped(struct sbx_ring *ring, const float *frames,
                                          uint32_t count, int64_t time_ns)
{
    return sbx_ring_write_with(ring, frames, count, time_ns, 0, sbx_copy_clipped);
}

/* --- consumer ------------------------------------------------------------------------- */

/* Thread: consumer; another thread gets a figure that may be a moment old. */
static inline uint32_t sbx_ring_depth(const struct sbx_ring *ring)
{
    /* Acquired for the other thread: the write position, loaded next, is then not before it. */
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_acquire);
    const uint64_t written = atomic_load_explicit(&ring->write_position, memory_order_acquire);
    return (uint32_t)(written - read);
}

/* Release the marks of blocks that lie wholly before `position`. Thread: consumer. */
static inline void sbx_ring_release_marks(struct sbx_ring *ring, uint64_t position)
{
    const uint64_t written = atomic_load_explicit(&ring->marks_written, memory_order_acquire);
    uint64_t mark = atomic_load_explicit(&ring->marks_read, memory_order_relaxed);

    while (mark + 1 < written && sbx_ring_mark(ring, mark + 1)->position <= position)
        mark++;
    atomic_store_explicit(&ring->marks_read, mark, memory_order_release);
}

/* What is known of the oldest frame in the ring. Thread: consumer; the ring is not empty. */
static inline struct sbx_mark sbx_ring_front(struct sbx_ring *ring)
{
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_relaxed);

    sbx_ring_release_marks(ring, read);
    struct sbx_mark front =
        *sbx_ring_mark(ring, atomic_load_explicit(&ring->marks_read, memory_order_relaxed));
    if (front.position != read)
        front.lost_frames = 0; /* told already, with the block's first frame */
    front.time_ns = sbx_mark_time(&front, read);
    front.position = read;
    return front;
}

/* Whether sound is missing between two blocks: frames were lost, or the graph paused. */
static inline bool sbx_marks_part(const struct sbx_mark *before, const struct sbx_mark *after)
{
    const uint64_t count = after->position - before->position;

    return after->lost_frames > 0 || sbx_gap_ns(before->time_ns, count, after->time_ns) > 0;
}

/* Frames from the oldest one up to where sound is missing, at most `depth`. Thread: consumer, who
 * has looked at the front. */
static inline uint32_t sbx_ring_contiguous(const struct sbx_ring *ring, uint32_t depth)
{
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_relaxed);
    const uint64_t written = atomic_load_explicit(&ring->marks_written, memory_order_acquire);
    uint64_t mark = atomic_load_explicit(&ring->marks_read, memory_order_relaxed);

    for (; mark + 1 < written; mark++) {
        const struct sbx_mark *next = sbx_ring_mark(ring, mark + 1);
        if (next->position >= read + depth)
            break;
        if (next->position > read && sbx_marks_part(sbx_ring_mark(ring, mark), next))
            return (uint32_t)(next->position - read);
    }
    return depth;
}

/* Frames that were due before `cutoff_ns`, at most `depth`. Thread: consumer, who has looked at
 * the front. */
static inline uint32_t sbx_ring_older_than(const struct sbx_ring *ring, int64_t cutoff_ns,
                                           uint32_t depth)
{
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_relaxed);
    const uint64_t written = atomic_load_explicit(&ring->marks_written, memory_order_acquire);
    uint64_t mark = atomic_load_explicit(&ring->marks_read, memory_order_relaxed);
    uint32_t old = 0;

    for (; mark < written && old < depth; mark++) {
        const struct sbx_mark *block = sbx_ring_mark(ring, mark);
        if (block->position >= read + depth || sbx_mark_time(block, read + old) >= cutoff_ns)
            break;
        const uint64_t end =
            mark + 1 < written ? sbx_ring_mark(ring, mark + 1)->position : read + depth;
        const uint64_t late = (uint64_t)sbx_ns_to_frames(cutoff_ns - block->time_ns);
        const uint64_t fresh = SBX_MIN(block->position + late, SBX_MIN(end, read + depth));
        old = (uint32_t)(fresh - read);
        if (fresh < end)
            break;
    }
    return old;
}

/* Drop the oldest `count` frames, which must be there. Thread: consumer. */
static inline void sbx_ring_skip(struct sbx_ring *ring, uint32_t count)
{
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_relaxed) + count;

    sbx_ring_release_marks(ring, read);
    atomic_store_explicit(&ring->read_position, read, memory_order_release);
}

/* Where the oldest `count` frames lie, which must be there. Thread: consumer. */
static inline struct sbx_span sbx_ring_oldest(const struct sbx_ring *ring, uint32_t count)
{
    const uint64_t read = atomic_load_explicit(&ring->read_position, memory_order_relaxed);

    return sbx_ring_span(ring, read, count);
}

/* When the newest block was captured or pushed. Thread: consumer; the ring is not empty. */
static inline int64_t sbx_ring_newest_ns(const struct sbx_ring *ring)
{
    const uint64_t written = atomic_load_explicit(&ring->marks_written, memory_order_acquire);

    return sbx_ring_mark(ring, written - 1)->time_ns;
}

/* Copy out the oldest `count` frames, which must be there. Thread: consumer. */
static inline void sbx_ring_read(struct sbx_ring *ring, float *frames, uint32_t count)
{
    const struct sbx_span span = sbx_ring_oldest(ring, count);

    sbx_copy(frames, ring->samples + span.start, span.first);
    sbx_copy(frames + span.first, ring->samples, span.rest);
    sbx_ring_skip(ring, count);
}

#endif

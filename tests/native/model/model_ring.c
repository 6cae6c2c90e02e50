/* Every execution of a small ring: a producer, a consumer, and somebody who asks for its depth. */
#include "ring.h"

#include "checker.h"

#include <stddef.h>

#define CAPACITY 4U
#define BLOCKS 12U

/* Frames count from 1, those that were lost too. A block's frames are due this long after the
 * block before, so that a time tells which block it is. */
#define BLOCK_NS SBX_NS_PER_SEC

struct plan {
    uint32_t capacity;
    uint32_t marks;
    unsigned blocks;
    uint32_t lengths[BLOCKS];
    unsigned rounds;
    void (*look)(uint32_t depth);
};

static const struct plan *plan;
static struct sbx_ring ring;

/* the producer's */
static uint32_t sent; /* frames, kept or lost */
static uint32_t kept;
static uint64_t lost_since_mark;

/* the consumer's */
static uint32_t expected; /* the frame read last, or lost before the next */
static uint64_t taken;    /* frames read or skipped: the ring's read_position */
static uint64_t newest;   /* write_position as far as it is known */

static void set_up(void)
{
    if (ring.samples != NULL)
        sbx_ring_clear(&ring);
    MODEL_CHECK(sbx_ring_init(&ring, 1, plan->capacity) == 0);
    ring.mark_capacity = plan->marks;
    model_name(&ring.write_position, "write_position");
    model_name(&ring.read_position, "read_position");
    model_name(&ring.marks_written, "marks_written");
    model_name(&ring.marks_read, "marks_read");
    sent = kept = expected = 0;
    lost_since_mark = taken = newest = 0;
}

/* --- the producer ----------------------------------------------------------------------------- */

static void produce_block(unsigned block)
{
    float frames[CAPACITY];
    const uint32_t count = plan->lengths[block];

    for (uint32_t i = 0; i < count; i++)
        frames[i] = (float)(sent + i + 1);
    sent += count;
    if (sbx_ring_write(&ring, frames, count, block * BLOCK_NS, lost_since_mark)) {
        lost_since_mark = 0;
        kept += count;
    } else {
        MODEL_CHECK(kept + count > plan->capacity || block >= plan->marks);
        lost_since_mark += count;
    }
}

static void produce(void)
{
    for (unsigned block = 0; block < plan->blocks; block++)
        produce_block(block);
}

/* --- the consumer ----------------------------------------------------------------------------- */

static unsigned block_of(uint32_t frame)
{
    unsigned block = 0;

    for (; frame > plan->lengths[block]; block++)
        frame -= plan->lengths[block];
    return block;
}

static uint32_t first_of(unsigned block)
{
    uint32_t first = 1;

    for (unsigned i = 0; i < block; i++)
        first += plan->lengths[i];
    return first;
}

/* The front tells which frame comes next, when it was due and what was lost before it. */
static void look_at_front(void)
{
    const struct sbx_mark front = sbx_ring_front(&ring);

    expected += (uint32_t)front.lost_frames;
    const unsigned block = block_of(expected + 1);
    MODEL_CHECK(front.position == taken);
    MODEL_CHECK(front.time_ns ==
                block * BLOCK_NS + sbx_frames_to_ns(expected + 1 - first_of(block)));
}

static void read_frames(uint32_t count)
{
    float frames[CAPACITY];

    MODEL_CHECK(count > 0 && count <= CAPACITY);
    sbx_ring_read(&ring, frames, count);
    for (uint32_t i = 0; i < count; i++)
        MODEL_CHECK(frames[i] == (float)++expected);
    taken += count;
}

static void skip_frames(uint32_t count)
{
    sbx_ring_skip(&ring, count);
    expected += count;
    taken += count;
}

static void read_all(uint32_t depth)
{
    look_at_front();
    read_frames(sbx_ring_contiguous(&ring, depth));
}

static void read_one(uint32_t depth)
{
    (void)depth;
    look_at_front();
    read_frames(1);
}

static void skip_one(uint32_t depth)
{
    (void)depth;
    look_at_front();
    skip_frames(1);
}

/* What is older than the third block are exactly the frames of the two before it. */
static void read_old(uint32_t depth)
{
    const uint32_t third = first_of(2);

    look_at_front();
    const uint32_t old = sbx_ring_older_than(&ring, 2 * BLOCK_NS, depth);
    MODEL_CHECK(old <= depth);
    for (uint32_t i = 0; i < depth; i++) {
        if (i > 0)
            look_at_front();
        MODEL_CHECK((expected + 1 < third) == (i < old));
        read_frames(1);
    }
}

static void do_anything(uint32_t depth)
{
    static void (*const looks[])(uint32_t) = {read_all, read_one, skip_one, read_old};

    looks[model_choose(4)](depth);
}

static void consume(void)
{
    for (unsigned round = 0; round < plan->rounds; round++) {
        const uint32_t depth = sbx_ring_depth(&ring);

        MODEL_CHECK(depth <= plan->capacity);
        MODEL_CHECK(taken + depth >= newest);
        newest = taken + depth;
        if (depth > 0)
            plan->look(depth);
    }
}

/* --- somebody else, and the end -----------------------------------------------------------------
 */

/* It may be a moment old, but was never less than nothing. */
static void ask_for_depth(void)
{
    uint32_t most = 0;

    for (unsigned block = 0; block < plan->blocks; block++)
        most += plan->lengths[block];
    MODEL_CHECK(sbx_ring_depth(&ring) <= most);
    MODEL_CHECK(sbx_ring_depth(&ring) <= most);
}

static void drain(void)
{
    while (sbx_ring_depth(&ring) > 0)
        read_all(sbx_ring_depth(&ring));
    MODEL_CHECK(taken == kept);
    MODEL_CHECK(expected + lost_since_mark == sent);
}

static void check(const char *name, bool observed, struct plan checked)
{
    struct model model = {.name = name,
                          .setup = set_up,
                          .threads = {produce, consume, observed ? ask_for_depth : NULL},
                          .finish = drain};

    plan = &checked;
    model_check(&model);
}

int main(int argc, char **argv)
{
    const bool full = argc > 1 && argv[1][0] == 'f';

    check("anybody_may_ask_for_the_depth", true, (struct plan){2, 8, 2, {1, 2}, 2, read_all});
    check("what_is_skipped_makes_room", false, (struct plan){2, 8, 3, {2, 1, 1}, 3, skip_one});
    check("frames_come_in_order_through_a_ring_that_wraps_and_fills", false,
          (struct plan){2, 8, 4, {1, 1, 2, 1}, 3, read_all});
    check("few_marks_are_never_written_while_they_are_read", false,
          (struct plan){4, 2, 4, {1, 1, 1, 1}, 3, read_one});
    check("what_is_old_is_told_from_what_is_not", false,
          (struct plan){4, 8, 3, {2, 1, 1}, 2, read_old});
    if (!full)
        return 0;
    check("whatever_the_consumer_does", false,
          (struct plan){4, 2, 4, {2, 3, 1, 2}, 3, do_anything});
    return 0;
}

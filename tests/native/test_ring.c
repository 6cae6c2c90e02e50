/* The ring, one thread: what goes in comes out, marks tell the truth, full means full. */
#include "heap.h"
#include "ring.h"

#include "check.h"

#include <math.h>

#define CAPACITY 64U

static struct sbx_ring ring;
static float block[CAPACITY * 2];

static void open_ring(uint32_t channels)
{
    CHECK(sbx_ring_init(&ring, channels, CAPACITY) == 0);
}

/* `count` frames that count on from `first`, on every channel. */
static bool put(float first, uint32_t count, int64_t time_ns, uint64_t lost)
{
    for (uint32_t i = 0; i < count * ring.channels; i++)
        block[i] = first + (float)(i / ring.channels);
    return sbx_ring_write(&ring, block, count, time_ns, lost);
}

static void expect(float first, uint32_t count)
{
    float out[CAPACITY * 2] = {0};

    sbx_ring_read(&ring, out, count);
    for (uint32_t i = 0; i < count * ring.channels; i++)
        CHECK(out[i] == first + (float)(i / ring.channels));
}

static void frames_come_out_in_order_across_the_wrap(void)
{
    open_ring(2);
    float next_in = 0;
    float next_out = 0;
    for (uint32_t round = 0; round < 200; round++) {
        const uint32_t count = 1 + round % 40;
        CHECK(put(next_in, count, 0, 0));
        next_in += (float)count;
        CHECK(sbx_ring_depth(&ring) == count);
        expect(next_out, count);
        next_out += (float)count;
    }
    sbx_ring_clear(&ring);
}

static void a_block_that_does_not_fit_is_refused_whole(void)
{
    open_ring(1);
    CHECK(put(0, 60, 0, 0));
    CHECK(!put(60, 5, 0, 0));
    CHECK(sbx_ring_depth(&ring) == 60);
    CHECK(put(60, 4, 0, 0));
    CHECK(!put(64, 1, 0, 0));
    expect(0, 64);
    sbx_ring_clear(&ring);
}

static void more_blocks_than_marks_are_refused_not_mixed_up(void)
{
    open_ring(1);
    for (uint32_t i = 0; i < SBX_MIN_MARKS; i++)
        CHECK(put((float)i, 1, i, 0));
    CHECK(!put(99, 1, 99, 0));
    expect(0, 2);
    CHECK(put(SBX_MIN_MARKS, 1, 0, 0));
    sbx_ring_clear(&ring);
}

static void the_front_knows_the_time_of_its_frame(void)
{
    open_ring(1);
    CHECK(put(0, 48, 1000, 0));
    CHECK(put(48, 10, 5000, 0));
    CHECK(sbx_ring_front(&ring).time_ns == 1000);
    expect(0, 24);
    CHECK(sbx_ring_front(&ring).time_ns == 1000 + sbx_frames_to_ns(24));
    expect(24, 24);
    CHECK(sbx_ring_front(&ring).time_ns == 5000);
    sbx_ring_clear(&ring);
}

static void a_loss_is_told_once_with_the_first_frame_after_it(void)
{
    open_ring(1);
    CHECK(put(0, 8, 0, 0));
    CHECK(put(8, 8, 0, 0));
    CHECK(put(100, 8, 0, 84));
    sbx_ring_front(&ring);
    CHECK(sbx_ring_contiguous(&ring, sbx_ring_depth(&ring)) == 16);
    expect(0, 4);
    CHECK(sbx_ring_contiguous(&ring, 5) == 5);
    CHECK(sbx_ring_contiguous(&ring, sbx_ring_depth(&ring)) == 12);
    expect(4, 12);
    CHECK(sbx_ring_front(&ring).lost_frames == 84);
    CHECK(sbx_ring_contiguous(&ring, sbx_ring_depth(&ring)) == 8);
    expect(100, 1);
    CHECK(sbx_ring_front(&ring).lost_frames == 0);
    sbx_ring_clear(&ring);
}

static uint32_t older_than(int64_t cutoff_ns)
{
    const uint32_t depth = sbx_ring_depth(&ring);

    if (depth > 0)
        sbx_ring_front(&ring);
    return sbx_ring_older_than(&ring, cutoff_ns, depth);
}

static void a_frame_is_as_old_as_the_time_it_was_due(void)
{
    const int64_t ms = 1000000;

    open_ring(1);
    CHECK(older_than(1000 * ms) == 0);
    CHECK(put(0, 24, 100 * ms, 0)); /* half a millisecond each */
    CHECK(put(24, 24, 200 * ms, 0));
    CHECK(older_than(100 * ms) == 0);
    CHECK(older_than(100 * ms + ms / 4) == 12);
    CHECK(older_than(150 * ms) == 24);
    CHECK(older_than(200 * ms) == 24);
    CHECK(older_than(200 * ms + ms / 4) == 36);
    CHECK(older_than(INT64_C(90) * 24 * 3600 * 1000 * ms) == 48); /* a season */
    sbx_ring_skip(&ring, 30);
    CHECK(older_than(200 * ms) == 0);
    CHECK(older_than(200 * ms + ms / 4) == 6);
    sbx_ring_skip(&ring, 18);
    CHECK(older_than(1000 * ms) == 0);
    CHECK(put(48, 10, 900 * ms, 0)); /* the mark of the block before is still held: not counted */
    CHECK(older_than(500 * ms) == 0);
    sbx_ring_clear(&ring);
}

static void a_run_ends_where_the_graph_paused(void)
{
    const int64_t begin_ns = 5000;

    open_ring(1);
    CHECK(put(0, 16, begin_ns, 0));
    CHECK(put(16, 16, begin_ns + sbx_frames_to_ns(16 + 4), 0));      /* late by a quarter: jitter */
    CHECK(put(32, 16, begin_ns + sbx_frames_to_ns(16 + 4 + 32), 0)); /* a block is missing */
    sbx_ring_front(&ring);
    CHECK(sbx_ring_contiguous(&ring, 48) == 32);
    expect(0, 32);
    CHECK(sbx_ring_front(&ring).lost_frames == 0);
    CHECK(sbx_ring_contiguous(&ring, 16) == 16);
    sbx_ring_clear(&ring);
}

static void what_people_hear_is_within_full_scale(void)
{
    const float in[] = {0.5F, NAN, -NAN, INFINITY, -INFINITY, -0.25F, 3.4e38F, 1e-40F, -1, -1.5F};
    const float want[] = {0.5F, 0, 0, 0, 0, -0.25F, 1, 1e-40F, -1, -1};
    float out[10];

    open_ring(1);
    CHECK(sbx_ring_write_clipped(&ring, in, 10, 0));
    sbx_ring_read(&ring, out, 10);
    for (int i = 0; i < 10; i++)
        CHECK(out[i] == want[i]);
    sbx_ring_clear(&ring);
}

static void a_skip_frees_room(void)
{
    open_ring(1);
    CHECK(put(0, 64, 0, 0));
    sbx_ring_skip(&ring, 30);
    CHECK(put(64, 30, 0, 0));
    expect(30, 64);
    sbx_ring_clear(&ring);
}

int main(void)
{
    RUN(frames_come_out_in_order_across_the_wrap);
    RUN(a_block_that_does_not_fit_is_refused_whole);
    RUN(more_blocks_than_marks_are_refused_not_mixed_up);
    RUN(the_front_knows_the_time_of_its_frame);
    RUN(a_loss_is_told_once_with_the_first_frame_after_it);
    RUN(a_frame_is_as_old_as_the_time_it_was_due);
    RUN(a_run_ends_where_the_graph_paused);
    RUN(what_people_hear_is_within_full_scale);
    RUN(a_skip_frees_room);
    return 0;
}

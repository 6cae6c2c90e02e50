/* The ring between two threads, to be run under ThreadSanitizer: every frame once, in order,
 * and what the producer could not fit is exactly what the marks say was lost. */
#include "ring.h"

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define CAPACITY 256U
#define BLOCKS 200000U
#define CHANNELS 2U

static struct sbx_ring ring;
static atomic_bool finished;

/* Frame n holds n (exact in a float below 2^24) and its negative. */
static void *produce(void *unused)
{
    float block[64 * CHANNELS];
    uint32_t next = 0;
    uint64_t lost = 0;

    for (uint32_t i = 0; i < BLOCKS; i++) {
        const uint32_t count = 1 + i * 7 % 64;
        for (uint32_t k = 0; k < count; k++) {
            block[k * CHANNELS] = (float)(next + k);
            block[k * CHANNELS + 1] = -(float)(next + k);
        }
        if (sbx_ring_write(&ring, block, count, next, lost))
            lost = 0;
        else
            lost += count;
        next += count;
        if (i % 16 == 0)
            sched_yield();
    }
    atomic_store(&finished, true);
    return unused;
}

static uint64_t take_one_block(uint64_t expected)
{
    float out[CAPACITY * CHANNELS];
    const struct sbx_mark front = sbx_ring_front(&ring);
    const uint32_t count = sbx_ring_contiguous(&ring, sbx_ring_depth(&ring));

    expected += front.lost_frames;
    CHECK(count > 0);
    sbx_ring_read(&ring, out, count);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(out[i * CHANNELS] == (float)(expected + i));
        CHECK(out[i * CHANNELS + 1] == -(float)(expected + i));
    }
    return expected + count;
}

int main(void)
{
    pthread_t producer;
    uint64_t expected = 0;

    CHECK(sbx_ring_init(&ring, CHANNELS, CAPACITY) == 0);
    CHECK(pthread_create(&producer, NULL, produce, NULL) == 0);
    while (!atomic_load(&finished) || sbx_ring_depth(&ring) > 0) {
        if (sbx_ring_depth(&ring) > 0)
            expected = take_one_block(expected);
        else
            sched_yield();
    }
    pthread_join(producer, NULL);
    CHECK(expected > BLOCKS);
    sbx_ring_clear(&ring);
    printf("ok every_frame_comes_once_and_in_order_between_two_threads\n");
    return 0;
}

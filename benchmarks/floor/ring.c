/* What a ring costs beside a plain copy: ring [SECONDS].
 *
 * For each block length, by turns: a block is written to a ring and read from it, or copied into a
 * buffer of the ring's size and out of it, the same way round it. Prints JSON: the frames a second
 * of each, for 64 to 4096 frames. */
#include "bench.h"

#include "ring.h"

#define RING_FRAMES (1U << 17)
#define LONGEST 4096U
#define BURST 64U

static float from[LONGEST * CHANNELS];
static float to[LONGEST * CHANNELS];
static float buffer[RING_FRAMES * CHANNELS];

static void through_ring(struct sbx_ring *ring, uint32_t frames)
{
    for (uint32_t i = 0; i < BURST; i++) {
        if (!sbx_ring_write(ring, from, frames, 1, 0))
            die("the ring is full");
        sbx_ring_read(ring, to, frames);
    }
}

static void by_memcpy(uint32_t *at, uint32_t frames)
{
    for (uint32_t i = 0; i < BURST; i++) {
        memcpy(&buffer[*at * CHANNELS], from, frames * STRIDE);
        __asm__ volatile("" ::: "memory"); /* both copies are made */
        memcpy(to, &buffer[*at * CHANNELS], frames * STRIDE);
        __asm__ volatile("" ::: "memory");
        *at = (*at + frames) % RING_FRAMES;
    }
}

int main(int argc, char *argv[])
{
    const int64_t turn_ns = (int64_t)((argc > 1 ? atof(argv[1]) : 0.1) * 1e9);
    struct sbx_ring ring;

    if (sbx_ring_init(&ring, CHANNELS, RING_FRAMES) < 0)
        die("sbx_ring_init");
    memset(buffer, 1, sizeof(buffer)); /* its pages are there, as the ring's are */
    printf("{");
    for (uint32_t frames = 64; frames <= LONGEST; frames *= 2) {
        int64_t ring_ns = 0;
        int64_t copy_ns = 0;
        uint64_t bursts = 0;
        uint32_t at = 0;
        while (ring_ns + copy_ns < turn_ns) {
            const int64_t begin = clock_ns(CLOCK_MONOTONIC);
            through_ring(&ring, frames);
            const int64_t middle = clock_ns(CLOCK_MONOTONIC);
            by_memcpy(&at, frames);
            copy_ns += clock_ns(CLOCK_MONOTONIC) - middle;
            ring_ns += middle - begin;
            bursts++;
        }
        const double moved = (double)bursts * BURST * frames * 1e9;
        printf("%s\"%u\": {\"ring\": %.0f, \"memcpy\": %.0f}", frames > 64 ? ", " : "", frames,
               moved / (double)ring_ns, moved / (double)copy_ns);
    }
    printf("}\n");
    sbx_ring_clear(&ring);
    return 0;
}

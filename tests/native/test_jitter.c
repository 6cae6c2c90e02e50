/* The microphone's ring policy, cycle by cycle. */
#include "jitter.h"

#include "check.h"

#define MS(n) ((int64_t)(n) * 1000000)
#define QUANTUM 256U
#define CYCLE_NS sbx_frames_to_ns(QUANTUM)
#define BLOCK 960U
#define TARGET (QUANTUM + BLOCK)

static struct sbx_jitter jitter;
static struct sbx_cycle cycle;

static void begin(bool playing)
{
    jitter = (struct sbx_jitter){.playing = playing};
    cycle = (struct sbx_cycle){.quantum = QUANTUM, .target = TARGET, .block = BLOCK};
}

/* The next cycle, with this much in the ring, pushed just now. */
static struct sbx_plan step(uint32_t depth)
{
    cycle.now_ns += CYCLE_NS;
    cycle.oldest_ns = cycle.now_ns;
    cycle.depth = depth;
    return sbx_jitter_step(&jitter, &cycle);
}

static void nothing_plays_before_the_target_is_there(void)
{
    begin(false);
    CHECK(step(0).play == 0);
    CHECK(step(TARGET - 1).play == 0);
    CHECK(!jitter.playing);
    CHECK(step(TARGET).play == QUANTUM);
    CHECK(jitter.playing);
}

static void priming_is_no_underrun_and_no_reprime(void)
{
    begin(false);
    const struct sbx_plan plan = step(TARGET - 1);
    CHECK(!plan.underrun && !plan.reprimed && plan.stale == 0 && plan.trimmed == 0);
}

/* A cycle with `depth` frames of which the oldest has waited for `waited` frames. */
static struct sbx_plan step_waited(uint32_t depth, uint32_t waited)
{
    cycle.now_ns += CYCLE_NS;
    cycle.oldest_ns = cycle.now_ns - sbx_frames_to_ns(waited);
    cycle.depth = depth;
    return sbx_jitter_step(&jitter, &cycle);
}

static void it_plays_once_the_next_block_will_reach_the_target(void)
{
    begin(false);
    CHECK(step_waited(BLOCK, QUANTUM - 1).play == 0);
    CHECK(step_waited(BLOCK, QUANTUM).play == QUANTUM);
}

static void short_blocks_wait_for_10_ms_beside_the_quantum(void)
{
    begin(false);
    cycle.block = 240;
    cycle.target = sbx_jitter_target(QUANTUM, 240);
    CHECK(step_waited(480, QUANTUM + 239).play == 0);
    CHECK(step_waited(480, QUANTUM + 240).play == QUANTUM);
}

static void a_target_fixed_below_the_block_does_not_wait(void)
{
    begin(false);
    cycle.target = 100;
    CHECK(step_waited(0, 0).play == 0);
    CHECK(step_waited(1, 0).play == 1);
}

static void a_block_that_nothing_follows_plays_too(void)
{
    begin(false);
    const struct sbx_plan plan = step_waited(100, QUANTUM);
    CHECK(plan.play == 100 && plan.underrun);
}

static void a_short_underrun_is_silence_and_goes_on(void)
{
    begin(true);
    const struct sbx_plan plan = step(QUANTUM - 1);
    CHECK(plan.play == QUANTUM - 1 && plan.underrun && !plan.reprimed);
    CHECK(jitter.playing);
    CHECK(step(QUANTUM).play == QUANTUM); /* far below the target: no new priming */
}

static void a_full_drain_primes_again(void)
{
    begin(true);
    const struct sbx_plan plan = step(0);
    CHECK(plan.play == 0 && plan.reprimed && !plan.underrun);
    CHECK(!jitter.playing);
    CHECK(step(TARGET - 1).play == 0);
    CHECK(!step(0).reprimed); /* told once */
    CHECK(step(TARGET).play == QUANTUM);
}

static void more_than_a_quantum_over_the_target_is_cut_from_the_oldest(void)
{
    begin(true);
    CHECK(step(TARGET + QUANTUM).trimmed == 0);
    const struct sbx_plan plan = step(TARGET + QUANTUM + 77);
    CHECK(plan.trimmed == 77 && plan.play == QUANTUM);
}

static void a_burst_during_priming_is_cut_too(void)
{
    begin(false);
    const struct sbx_plan plan = step(10000);
    CHECK(plan.trimmed == 10000 - TARGET - QUANTUM && plan.play == QUANTUM);
}

static void what_is_too_old_never_plays(void)
{
    begin(true);
    cycle.old = 5000;
    struct sbx_plan plan = step(5000 + QUANTUM);
    CHECK(plan.stale == 5000 && plan.play == QUANTUM && plan.trimmed == 0);
    cycle.old = 5000;
    plan = step(5000);
    CHECK(plan.stale == 5000 && plan.play == 0 && plan.reprimed);
}

static void without_a_recorder_for_a_second_all_of_the_ring_is_stale(void)
{
    begin(true);
    step(TARGET);
    cycle.now_ns += SBX_STALE_NS - CYCLE_NS; /* and step adds one cycle: exactly a second */
    const struct sbx_plan plan = step(TARGET);
    CHECK(plan.stale == TARGET && plan.play == 0);
    CHECK(!jitter.playing);
    CHECK(step(TARGET).play == QUANTUM);
}

static void a_recorder_away_for_less_than_a_second_misses_nothing(void)
{
    begin(true);
    step(TARGET);
    cycle.now_ns += SBX_STALE_NS - CYCLE_NS - 1;
    CHECK(step(TARGET).stale == 0);
}

static void the_target_is_a_quantum_and_the_longer_of_10_ms_and_the_longest_block(void)
{
    CHECK(sbx_jitter_target(256, 0) == 256 + 480);
    CHECK(sbx_jitter_target(256, 480) == 256 + 480);
    CHECK(sbx_jitter_target(1024, 481) == 1024 + 481);
    CHECK(sbx_jitter_target(64, 5760) == 64 + 5760);
}

static void the_longest_block_is_remembered_for_some_seconds(void)
{
    struct sbx_blocks blocks = {0};
    int64_t now = MS(10000);

    CHECK(sbx_blocks_note(&blocks, 960, now) == 960);
    CHECK(sbx_blocks_note(&blocks, 240, now + MS(1999)) == 960);
    CHECK(sbx_blocks_note(&blocks, 240, now + MS(2000)) == 960);
    CHECK(sbx_blocks_note(&blocks, 480, now + MS(3999)) == 960);
    CHECK(sbx_blocks_note(&blocks, 240, now + MS(4000)) == 480);
    CHECK(sbx_blocks_note(&blocks, 240, now + MS(60000)) == 240);
}

/* Frames pushed by the time of `frame` when a block comes every `block` frames from 0 on. */
static uint64_t pushed_by(uint64_t frame, uint64_t block)
{
    return (frame / block + 1) * block;
}

/* Blocks that arrive on time: whatever their size and the recorder's quantum, all of it plays,
 * from the first frame on, without a gap or a cut, and the ring stays at the target. */
static void steady_blocks_play_whole(void)
{
    static const uint32_t sizes[] = {120, 240, 480, 960, 1920, 2880, 5760, 24000, 48000};
    static const uint32_t quanta[] = {64, 128, 240, 256, 279, 512, 1024, 2048};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (size_t q = 0; q < sizeof(quanta) / sizeof(quanta[0]); q++) {
            uint64_t fetched = 0;
            uint32_t deepest = 0;
            begin(false);
            cycle.quantum = quanta[q];
            cycle.block = sizes[s];
            cycle.target = sbx_jitter_target(cycle.quantum, sizes[s]);
            for (uint64_t frame = 7; frame < 480000; frame += cycle.quantum) {
                const bool was_playing = jitter.playing;
                cycle.now_ns = sbx_frames_to_ns(frame);
                cycle.oldest_ns = sbx_frames_to_ns(fetched / sizes[s] * sizes[s]);
                cycle.depth = (uint32_t)(pushed_by(frame, sizes[s]) - fetched);
                const struct sbx_plan plan = sbx_jitter_step(&jitter, &cycle);
                CHECK(!plan.underrun && !plan.reprimed && plan.stale == 0 && plan.trimmed == 0);
                CHECK(!was_playing || plan.play == cycle.quantum);
                deepest = cycle.depth > deepest ? cycle.depth : deepest;
                fetched += plan.play;
            }
            CHECK(jitter.playing);
            CHECK(deepest <= cycle.target + cycle.quantum);
        }
    }
}

int main(void)
{
    RUN(nothing_plays_before_the_target_is_there);
    RUN(priming_is_no_underrun_and_no_reprime);
    RUN(it_plays_once_the_next_block_will_reach_the_target);
    RUN(short_blocks_wait_for_10_ms_beside_the_quantum);
    RUN(a_target_fixed_below_the_block_does_not_wait);
    RUN(a_block_that_nothing_follows_plays_too);
    RUN(a_short_underrun_is_silence_and_goes_on);
    RUN(a_full_drain_primes_again);
    RUN(more_than_a_quantum_over_the_target_is_cut_from_the_oldest);
    RUN(a_burst_during_priming_is_cut_too);
    RUN(what_is_too_old_never_plays);
    RUN(without_a_recorder_for_a_second_all_of_the_ring_is_stale);
    RUN(a_recorder_away_for_less_than_a_second_misses_nothing);
    RUN(the_target_is_a_quantum_and_the_longer_of_10_ms_and_the_longest_block);
    RUN(the_longest_block_is_remembered_for_some_seconds);
    RUN(steady_blocks_play_whole);
    return 0;
}

/* The microphone's ring policy, cycle by cycle. */
#include "jitter.h"

#include "check.h"

#define MS(n) ((int64_t)(n) * 1000000)
#define QUANTUM 256U
#define CYCLE_NS sbx_frames_to_ns(QUANTUM)
#define TARGET (QUANTUM + 960U)

static struct sbx_jitter jitter;
static struct sbx_cycle cycle;

static void begin(bool playing)
{
    jitter = (struct sbx_jitter){.playing = playing};
    cycle = (struct sbx_cycle){.quantum = QUANTUM, .target = TARGET};
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

static void a_short_block_that_nothing_follows_plays_once_it_has_waited_the_target(void)
{
    begin(false);
    cycle.now_ns = MS(100);
    cycle.oldest_ns = cycle.now_ns - sbx_frames_to_ns(TARGET) + 1;
    cycle.depth = 100;
    jitter.last_cycle_ns = cycle.now_ns;
    CHECK(sbx_jitter_step(&jitter, &cycle).play == 0);
    cycle.oldest_ns -= 1;
    const struct sbx_plan plan = sbx_jitter_step(&jitter, &cycle);
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

/* Blocks that arrive on time: whatever their size and the recorder's quantum, once primed it
 * never runs dry, and cuts only while the phase between the two settles (one beat of theirs). */
static void steady_blocks_play_without_a_gap(void)
{
    static const uint32_t sizes[] = {120, 240, 480, 960, 1920, 2880, 5760};
    static const uint32_t quanta[] = {64, 128, 240, 256, 279, 512, 1024, 2048};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (size_t q = 0; q < sizeof(quanta) / sizeof(quanta[0]); q++) {
            const uint64_t block = sizes[s];
            uint64_t pushed = 0;
            uint64_t fetched = 0;
            begin(false);
            cycle.quantum = quanta[q];
            cycle.target = sbx_jitter_target(cycle.quantum, sizes[s]);
            for (uint64_t frame = 0; frame < 480000; frame += cycle.quantum) {
                while (pushed + block <= frame)
                    pushed += block;
                const bool was_playing = jitter.playing;
                const struct sbx_plan plan = step((uint32_t)(pushed - fetched));
                CHECK(!plan.underrun && !plan.reprimed && plan.stale == 0);
                CHECK(!was_playing || plan.play == cycle.quantum);
                CHECK(plan.trimmed == 0 || frame < 4 * SBX_RATE_HZ);
                fetched += plan.play + plan.trimmed;
            }
            CHECK(jitter.playing);
        }
    }
}

int main(void)
{
    RUN(nothing_plays_before_the_target_is_there);
    RUN(priming_is_no_underrun_and_no_reprime);
    RUN(a_short_block_that_nothing_follows_plays_once_it_has_waited_the_target);
    RUN(a_short_underrun_is_silence_and_goes_on);
    RUN(a_full_drain_primes_again);
    RUN(more_than_a_quantum_over_the_target_is_cut_from_the_oldest);
    RUN(a_burst_during_priming_is_cut_too);
    RUN(what_is_too_old_never_plays);
    RUN(without_a_recorder_for_a_second_all_of_the_ring_is_stale);
    RUN(a_recorder_away_for_less_than_a_second_misses_nothing);
    RUN(the_target_is_a_quantum_and_the_longer_of_10_ms_and_the_longest_block);
    RUN(the_longest_block_is_remembered_for_some_seconds);
    RUN(steady_blocks_play_without_a_gap);
    return 0;
}

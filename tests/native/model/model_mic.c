/* Every execution of a small microphone: what was discarded never plays, and every frame's fate is
 * told. The data thread runs sbx_mic_process, the others what stagebox.h has. */
#include "pipewire.h"

#include <mic.c>
#include <mic_rt.c>
#include <stream.c>

#include "checker.h"

#define CAPACITY 4U
#define FULL_SCALE 16.0F

static struct sbx_mic mic;

static uint32_t begin_with; /* frames that are there before all begins */

static uint32_t said;       /* the pusher's: frames */
static uint32_t also_said;  /* the other pusher's */
static float last_recorded; /* the data thread's: they count from 1 */

/* No time passes: nothing is stale. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    *now = (struct timespec){.tv_sec = 1};
    return (int)clock - CLOCK_MONOTONIC;
}

/* Frame n holds n of so many, exactly: a microphone clips what is beyond 1. */
static float value_of(uint32_t frame)
{
    return (float)frame / FULL_SCALE;
}

static void push(uint32_t count)
{
    float frames[CAPACITY];

    for (uint32_t i = 0; i < count; i++)
        frames[i] = value_of(++said);
    MODEL_CHECK(sbx_mic_push(&mic, frames, count) == 1);
}

static void set_up(void)
{
    if (mic.rt.ring.samples != NULL)
        sbx_ring_clear(&mic.rt.ring);
    mic = (struct sbx_mic){.rt = {.fixed_target = 1, .jitter.last_cycle_ns = SBX_NS_PER_SEC}};
    mic.stream.state = SBX_STREAMING;
    MODEL_CHECK(sbx_ring_init(&mic.rt.ring, 1, CAPACITY) == 0);
    model_name(&mic.rt.ring.write_position, "write_position");
    model_name(&mic.rt.ring.read_position, "read_position");
    model_name(&mic.rt.ring.marks_written, "marks_written");
    model_name(&mic.rt.ring.marks_read, "marks_read");
    model_name(&mic.rt.discard_before, "discard_before");
    model_name(&mic.pusher, "mutex");
    said = also_said = 0;
    last_recorded = 0;
    if (begin_with > 0)
        push(begin_with);
}

/* --- the data thread -------------------------------------------------------------------------- */

static void run_cycle(void)
{
    const uint64_t gone =
        atomic_load_explicit(&mic.rt.discard_before, memory_order_relaxed); /* the callback too
                                                                               will know of it */
    cycle_out.requested = 1;
    sbx_mic_process(&mic.rt);
    const float recorded = cycle_frames[0] * FULL_SCALE;
    if (recorded == 0)
        return;
    MODEL_CHECK(recorded > last_recorded);
    MODEL_CHECK(recorded > (float)gone);
    last_recorded = recorded;
}

static void run_two_cycles(void)
{
    run_cycle();
    run_cycle();
}

/* --- control threads -------------------------------------------------------------------------- */

static void push_some(void)
{
    push(1);
    push(2);
}

static void push_discard_push(void)
{
    push(2);
    sbx_mic_discard(&mic);
    push(1);
}

static void push_too_much(void)
{
    push(2);
    push(2);
    push(1);
}

static void push_another(void)
{
    const float frame = value_of(1);

    MODEL_CHECK(sbx_mic_push(&mic, &frame, 1) == 1);
    also_said++;
}

static void discard(void)
{
    sbx_mic_discard(&mic);
}

/* What is asked from outside may be a moment old, but was never less than nothing. */
static void ask(void)
{
    struct sbx_mic_stats stats;

    sbx_mic_get_stats(&mic, &stats);
    MODEL_CHECK(stats.depth <= CAPACITY);
}

static void account(void)
{
    struct sbx_mic_stats stats;

    sbx_mic_get_stats(&mic, &stats);
    MODEL_CHECK(stats.pushed == said + also_said);
    MODEL_CHECK(stats.pushed == stats.played + stats.dropped + stats.trimmed + stats.stale +
                                    stats.discarded + stats.depth);
}

static void check(const char *name, uint32_t said_before, void (*one)(void), void (*two)(void),
                  void (*three)(void))
{
    const struct model model = {
        .name = name, .setup = set_up, .threads = {one, two, three}, .finish = account};

    begin_with = said_before;
    model_check(&model);
}

int main(int argc, char **argv)
{
    const bool full = argc > 1 && argv[1][0] == 'f';
    void (*const run)(void) = full ? run_two_cycles : run_cycle;

    check("anybody_may_ask_for_the_pushers_figures", 0, push_discard_push, ask, NULL);
    check("anybody_may_ask_for_the_players_figures", 3, run_cycle, ask, NULL);
    check("many_may_push", 0, push_some, push_another, NULL);
    check("what_was_discarded_never_plays", 0, run, push_discard_push, NULL);
    check("what_is_pushed_plays_in_order", 0, run, push_some, NULL);
    check("what_does_not_fit_is_dropped", 1, run, push_too_much, NULL);
    check("anybody_may_discard", 0, run, push_some, discard);
    return 0;
}

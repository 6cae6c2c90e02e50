/* Every execution of a capture's alarm: no reader sleeps while the frames it waits for are there,
 * or after the end. The data thread runs sbx_capture_process, readers what stagebox.h has. */
#include "pipewire.h"

#include <capture.c>
#include <capture_rt.c>
#include <stream.c>

#include "checker.h"

#define FOR_EVER (-1)
#define WAKE_FD 3

struct plan {
    const char *name;
    unsigned cycles; /* of one frame */
    void (*reader)(void);
    void (*other)(void);
};

static const struct plan *plan;
static struct sbx_capture capture;

/* the reader's */
static uint32_t got; /* frames */

static void set_up(void)
{
    static uint32_t capacity = 4;

    if (capture.rt.ring.samples != NULL)
        sbx_ring_clear(&capture.rt.ring);
    capture = (struct sbx_capture){.rt = {.alarm = 1, .wake_fd = WAKE_FD}}; /* as opening does */
    capture.stream.state = SBX_STREAMING;
    capture.stream.setup.on_gone = wake_owner;
    capture.stream.setup.owner = &capture;
    MODEL_CHECK(sbx_ring_init(&capture.rt.ring, 1, capacity) == 0);
    model_name(&capture.rt.alarm, "alarm");
    model_name(&capture.rt.ring.write_position, "write_position");
    model_name(&capture.rt.ring.read_position, "read_position");
    model_name(&capture.stream.state, "state");
    model_name(&capture.reader, "mutex");
    got = 0;
}

static void run_cycles(void)
{
    cycle_chunk = (struct spa_chunk){.size = sizeof(float)};
    for (unsigned i = 0; i < plan->cycles; i++) {
        cycle_frames[0] = (float)(i + 1);
        cycle_ns = i * SBX_NS_PER_SEC;
        sbx_capture_process(&capture.rt);
    }
}

/* --- readers ---------------------------------------------------------------------------------- */

static void take(uint32_t most)
{
    float frames[4];
    const uint32_t count = read_up_to(&capture, frames, most);

    for (uint32_t i = 0; i < count; i++)
        MODEL_CHECK(frames[i] == (float)(got + i + 1));
    got += count;
}

/* As a language binding waits: until they are there, whatever else wakes it. */
static void wait_for(uint32_t frames)
{
    while (await_frames(&capture, frames, FOR_EVER) < frames)
        ;
}

static void wait_for_each_frame(void)
{
    while (got < plan->cycles) {
        wait_for(1);
        take(1);
    }
}

static void wait_for_two_frames(void)
{
    while (got < plan->cycles) {
        wait_for(2);
        take(1);
        take(1);
    }
}

static void wait_for_one_then_two(void)
{
    wait_for(1);
    take(1);
    wait_for(2);
    take(1);
    take(1);
}

static void poll_the_eventfd(void)
{
    struct pollfd woken = {.fd = sbx_capture_fd(&capture), .events = POLLIN};

    while (got < plan->cycles) {
        poll(&woken, 1, FOR_EVER);
        take(1);
    }
}

/* A wait that timed out leaves the eventfd as a read does. */
static void time_out_and_poll(void)
{
    await_frames(&capture, plan->cycles + 1, 100);
    poll_the_eventfd();
}

static void drain_and_wait(void)
{
    wait_for(1);
    sbx_capture_drain(&capture);
    got = (uint32_t)atomic_load(&capture.rt.ring.read_position);
    MODEL_CHECK(got > 0);
    wait_for_each_frame();
}

static void read_until(int64_t end)
{
    int64_t depth;

    while ((depth = await_frames(&capture, 1, FOR_EVER)) >= 0)
        take(4);
    MODEL_CHECK(depth == end);
}

static void read_until_closed(void)
{
    read_until(SBX_CLOSED);
    MODEL_CHECK(await_frames(&capture, 1, FOR_EVER) == SBX_CLOSED);
}

static void read_until_dead(void)
{
    read_until(SBX_DEAD);
}

/* One of two readers. */
static void take_what_is_there(void)
{
    float frame;

    if (await_frames(&capture, 1, FOR_EVER) > 0)
        read_up_to(&capture, &frame, 1);
}

/* --- others ----------------------------------------------------------------------------------- */

static void close_it(void)
{
    sbx_capture_close(&capture);
}

static void lose_the_daemon(void)
{
    die(&capture.stream, "the daemon is gone");
}

static void check(struct plan checked)
{
    const struct model model = {.name = checked.name,
                                .setup = set_up,
                                .threads = {run_cycles, checked.reader, checked.other}};

    plan = &checked;
    model_check(&model);
}

static void run_cycles_and_close(void)
{
    run_cycles();
    close_it();
}

/* Whichever gets the frame, neither sleeps on. */
static void check_two_readers(void)
{
    static const struct plan one_cycle = {.cycles = 1};
    const struct model model = {
        .name = "two_readers_are_both_woken",
        .setup = set_up,
        .threads = {run_cycles_and_close, take_what_is_there, take_what_is_there}};

    plan = &one_cycle;
    model_check(&model);
}

int main(int argc, char **argv)
{
    const bool full = argc > 1 && argv[1][0] == 'f';
    const unsigned some = full ? 3 : 2;

    check((struct plan){"a_close_wakes_the_reader", 1, read_until_closed, close_it});
    check((struct plan){"a_death_wakes_the_reader", 1, read_until_dead, lose_the_daemon});
    check((struct plan){"a_reader_is_woken_by_the_second_frame", 2, wait_for_two_frames, NULL});
    check((struct plan){"an_eventfd_tells_of_each_frame", some, poll_the_eventfd, NULL});
    check((struct plan){"a_reader_is_woken_by_each_frame", some, wait_for_each_frame, NULL});
    check((struct plan){"a_reader_is_woken_after_a_drain", some, drain_and_wait, NULL});
    check((struct plan){"a_wait_that_timed_out_leaves_the_eventfd_right", 2, time_out_and_poll,
                        NULL});
    if (!full)
        return 0;
    check((struct plan){"a_reader_may_wait_for_more_than_before", 3, wait_for_one_then_two, NULL});
    check_two_readers();
    return 0;
}

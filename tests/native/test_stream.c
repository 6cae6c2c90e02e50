/* A capture and a microphone on a real daemon, from open to free, with every thread that a host may
 * have: to be run under sanitizers and valgrind. Its argument is the daemon's socket; something
 * must record "stagebox-mic". */
#include "stagebox.h"

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS 20000
#define CHANNELS 2U
#define QUANTUM 256U
#define BLOCK 480U
#define ROOM (1U << 17) /* all that can wait */
#define CAPTURED (48000U / 2)
#define PLAYED (48000U / 2)

static sbx_capture *capture;
static sbx_mic *mic;
static atomic_bool read_enough;
static atomic_bool pushed_enough;

static void pause_ms(long ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000};

    nanosleep(&time, NULL);
}

/* Reads until somebody closes the capture. */
static void *read_on(void *unused)
{
    static float frames[ROOM * CHANNELS];
    uint64_t got = 0;
    int64_t count = 0;

    while (count >= 0) {
        struct sbx_block block;
        count = sbx_capture_next(capture, frames, ROOM, TIMEOUT_MS, &block);
        if (count > 0) {
            CHECK(block.time_ns > 0);
            got += (uint64_t)count;
        }
        if (got > CAPTURED)
            atomic_store(&read_enough, true);
    }
    CHECK(count == SBX_CLOSED);
    return unused;
}

static void *push_on(void *unused)
{
    static const float silence[BLOCK * CHANNELS];

    while (!atomic_load(&pushed_enough)) {
        CHECK(sbx_mic_push(mic, silence, BLOCK) == 1);
        pause_ms(10);
    }
    return unused;
}

/* What a host asks now and then. */
static void look(void)
{
    struct sbx_capture_stats of_capture;
    struct sbx_mic_stats of_mic;
    char text[64];

    sbx_capture_get_stats(capture, &of_capture);
    CHECK(sbx_capture_alive(capture) && of_capture.state != SBX_GONE);
    sbx_capture_error(capture, text, sizeof(text));
    sbx_mic_get_stats(mic, &of_mic);
    CHECK(sbx_mic_alive(mic) && of_mic.state != SBX_GONE);
    sbx_mic_error(mic, text, sizeof(text));
    if (of_mic.played > PLAYED)
        atomic_store(&pushed_enough, true);
}

static sbx_capture *open_capture(sbx_connection *connection)
{
    int error = 0;
    sbx_capture *opened = sbx_capture_open(connection, CHANNELS, NULL, NULL, QUANTUM, &error);

    CHECK(opened != NULL && error == 0);
    CHECK(sbx_capture_wait_open(opened, TIMEOUT_MS) == 1);
    return opened;
}

static void open_all(sbx_connection *connection)
{
    int error = 0;

    capture = open_capture(connection);
    mic = sbx_mic_open(connection, CHANNELS, "stagebox-mic", "Microphone", NULL, 3000, QUANTUM,
                       &error);
    CHECK(mic != NULL && error == 0);
    CHECK(sbx_mic_wait_open(mic, TIMEOUT_MS) == 1);
}

static void stream(void)
{
    pthread_t reader;
    pthread_t pushers[2];

    CHECK(pthread_create(&reader, NULL, read_on, NULL) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&pushers[i], NULL, push_on, NULL) == 0);
    for (int ms = 0; !atomic_load(&read_enough) || !atomic_load(&pushed_enough); ms++) {
        CHECK(ms < TIMEOUT_MS);
        look();
        if (ms % 100 == 99)
            sbx_mic_discard(mic);
        if (ms % 100 == 50)
            sbx_capture_drain(capture);
        sbx_mic_set_target(mic, ms % 200 < 100 ? 0 : 1024);
        pause_ms(1);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(pushers[i], NULL);
    sbx_capture_close(capture); /* while it is read */
    pthread_join(reader, NULL);
}

static void close_all(void)
{
    static const float silence[CHANNELS];

    sbx_capture_close(capture); /* a second time */
    sbx_capture_free(capture);
    sbx_mic_close(mic);
    CHECK(sbx_mic_push(mic, silence, 1) == 0);
    sbx_mic_free(mic);
}

static void open_stream_and_close(const char *socket)
{
    char names[256];
    char text[64];
    int error = 0;
    sbx_connection *connection = sbx_connection_open(socket, &error);

    CHECK(connection != NULL && error == 0);
    CHECK(sbx_connection_wait(connection, sbx_connection_sync(connection), TIMEOUT_MS) == 1);
    CHECK(sbx_connection_sinks(connection, names, sizeof(names)) > 0);
    CHECK(strstr(names, " stagebox-sink") != NULL);
    open_all(connection);
    stream();
    sbx_capture_free(open_capture(connection)); /* unread, not closed */
    close_all();
    CHECK(sbx_connection_alive(connection));
    sbx_connection_error(connection, text, sizeof(text));
    sbx_connection_release(connection);
}

int main(int count, char **arguments)
{
    int error = 0;

    CHECK(count == 2);
    CHECK(sbx_connection_open("/nonexistent/pipewire", &error) == NULL && error < 0);
    open_stream_and_close(arguments[1]);
    printf("ok a_capture_and_a_microphone_open_stream_and_close\n");
    return 0;
}

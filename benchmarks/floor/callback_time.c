/* callback_time SOCKET SECONDS: how long the process callbacks take on a real graph. The C core
 * runs as it is, a capture that is read and a microphone that is pushed to; the linker puts a clock
 * around its two callbacks (--wrap). Prints JSON. Somebody must play, and record `bench-mic`. */
#include <pthread.h>

#include "bench.h"

#include "stagebox.h"

#define QUANTUM 256U
#define PUSHED 480U
#define TIMEOUT_MS 5000
#define MOST (1U << 20)

struct times {
    uint32_t ns[MOST];
    uint32_t count;
};

static struct times of_capture;
static struct times of_mic;
static _Atomic bool stopping;

void __real_sbx_capture_process(void *data);
void __real_sbx_mic_process(void *data);
void __wrap_sbx_capture_process(void *data);
void __wrap_sbx_mic_process(void *data);

static void note_time(struct times *times, int64_t begin_ns)
{
    if (times->count < MOST)
        times->ns[times->count++] = (uint32_t)(clock_ns(CLOCK_MONOTONIC) - begin_ns);
}

/* Thread: data. */
void __wrap_sbx_capture_process(void *data)
{
    const int64_t begin_ns = clock_ns(CLOCK_MONOTONIC);

    __real_sbx_capture_process(data);
    note_time(&of_capture, begin_ns);
}

/* Thread: data. */
void __wrap_sbx_mic_process(void *data)
{
    const int64_t begin_ns = clock_ns(CLOCK_MONOTONIC);

    __real_sbx_mic_process(data);
    note_time(&of_mic, begin_ns);
}

static void *read_on(void *capture)
{
    static float frames[(1U << 17) * CHANNELS];
    struct sbx_block block;

    while (!atomic_load(&stopping))
        sbx_capture_next(capture, frames, 1U << 17, 100, &block);
    return NULL;
}

static int by_size(const void *one, const void *other)
{
    const uint32_t a = *(const uint32_t *)one;
    const uint32_t b = *(const uint32_t *)other;

    return (a > b) - (a < b);
}

static void print(const char *name, struct times *times)
{
    if (times->count == 0)
        die(name);
    qsort(times->ns, times->count, sizeof(times->ns[0]), by_size);
    printf("\"%s\": {\"cycles\": %u, \"p50_us\": %.3f, \"p99_us\": %.3f, \"worst_us\": %.3f}", name,
           times->count, times->ns[times->count / 2] / 1e3,
           times->ns[(uint64_t)times->count * 99 / 100] / 1e3, times->ns[times->count - 1] / 1e3);
}

int main(int argc, char *argv[])
{
    static const float block[PUSHED * CHANNELS];
    pthread_t reader;
    int error = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: callback_time SOCKET SECONDS\n");
        return 2;
    }
    sbx_connection *connection = sbx_connection_open(argv[1], &error);
    if (connection == NULL ||
        sbx_connection_wait(connection, sbx_connection_sync(connection), TIMEOUT_MS) != 1)
        die("no daemon");
    sbx_capture *capture = sbx_capture_open(connection, CHANNELS, NULL, NULL, QUANTUM, &error);
    sbx_mic *mic =
        sbx_mic_open(connection, CHANNELS, "bench-mic", "bench-mic", NULL, 50, QUANTUM, &error);
    if (capture == NULL || mic == NULL || sbx_capture_wait_open(capture, TIMEOUT_MS) != 1 ||
        sbx_mic_wait_open(mic, TIMEOUT_MS) != 1)
        die("no stream");
    pthread_create(&reader, NULL, read_on, capture);
    const int64_t end_ns = clock_ns(CLOCK_MONOTONIC) + (int64_t)(atof(argv[2]) * 1e9);
    while (clock_ns(CLOCK_MONOTONIC) < end_ns) {
        sbx_mic_push(mic, block, PUSHED);
        usleep(10000);
    }
    atomic_store(&stopping, true);
    pthread_join(reader, NULL);
    sbx_capture_close(capture);
    sbx_mic_close(mic);
    sbx_capture_free(capture);
    sbx_mic_free(mic);
    sbx_connection_release(connection);
    printf("{");
    print("capture", &of_capture);
    printf(", ");
    print("mic", &of_mic);
    printf("}\n");
    return 0;
}

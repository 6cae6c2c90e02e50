/* What the benchmarks' C programs share: the time, and a log of blocks that Python maps. */
#ifndef BENCH_H
#define BENCH_H

#include <fcntl.h>
#include <pipewire/conf.h>
#include <pipewire/pipewire.h>
#include <spa/param/audio/format-utils.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RATE_HZ 48000
#define CHANNELS 2
#define STRIDE (CHANNELS * (uint32_t)sizeof(float))

/* A float holds every integer up to here exactly: a sample says which frame it is. */
#define RAMP_SCALE (1U << 24)

/* benchmarks/kit/timeline.py reads this as it lies here. */
struct block {
    int64_t time_ns; /* CLOCK_MONOTONIC: written by the player's callback, or held by the reader */
    float first;     /* the first and the last frame's sample on the first channel */
    float last;
    uint32_t frames;
    uint32_t unused;
};

struct block_log {
    struct block *blocks;
    uint32_t capacity;
    uint32_t count;
};

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* With a data thread in real time, which clients had to ask for until libpipewire 1.3. */
static inline struct pw_core *connect_in_real_time(struct pw_loop *loop)
{
    static const char realtime[] = "client-rt.conf";
    struct pw_properties *props = pw_properties_new(NULL, NULL);

    if (pw_conf_load_conf(NULL, realtime, props) >= 0) {
        pw_properties_clear(props);
        pw_properties_set(props, PW_KEY_CONFIG_NAME, realtime);
    }
    struct pw_context *context = pw_context_new(loop, props, 0);
    struct pw_core *core = context != NULL ? pw_context_connect(context, NULL, 0) : NULL;
    if (core == NULL)
        die("pw_context_connect");
    return core;
}

/* All that hangs on it is destroyed too. */
static inline void disconnect(struct pw_core *core)
{
    pw_context_destroy(pw_core_get_context(core));
}

/* A file that grows no more and is there at once: no page fault while sound flows. */
static inline struct block_log open_log(const char *path, uint32_t capacity)
{
    const size_t size = capacity * sizeof(struct block);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        die(path);
    void *blocks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (blocks == MAP_FAILED)
        die(path);
    close(fd);
    return (struct block_log){.blocks = blocks, .capacity = capacity};
}

static inline void note(struct block_log *log, int64_t time_ns, const float *samples,
                        uint32_t frames)
{
    if (frames == 0 || log->count == log->capacity)
        return;
    log->blocks[log->count++] = (struct block){
        .time_ns = time_ns,
        .first = samples[0],
        .last = samples[(frames - 1) * CHANNELS],
        .frames = frames,
    };
}

static inline const struct spa_pod *stereo(struct spa_pod_builder *builder)
{
    struct spa_audio_info_raw info = {
        .format = SPA_AUDIO_FORMAT_F32,
        .rate = RATE_HZ,
        .channels = CHANNELS,
        .position = {SPA_AUDIO_CHANNEL_FL, SPA_AUDIO_CHANNEL_FR},
    };

    return spa_format_audio_raw_build(builder, SPA_PARAM_EnumFormat, &info);
}

#endif

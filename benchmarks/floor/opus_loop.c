/* opus_loop FILE TIMES: decode packets with libopus in a plain loop, so many times over, and print
 * the CPU that one took, as JSON. FILE holds packets, each after its length (uint32). */
#include <opus/opus.h>

#include "bench.h"

#define MAX_PACKETS 100000
#define MAX_FRAMES 5760

static unsigned char *packets[MAX_PACKETS];
static uint32_t lengths[MAX_PACKETS];
static float pcm[MAX_FRAMES * CHANNELS];

static uint32_t load(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint32_t count = 0;

    if (file == NULL)
        die(path);
    while (count < MAX_PACKETS && fread(&lengths[count], sizeof(uint32_t), 1, file) == 1) {
        packets[count] = malloc(lengths[count]);
        if (packets[count] == NULL || fread(packets[count], 1, lengths[count], file) == 0)
            die(path);
        count++;
    }
    fclose(file);
    return count;
}

int main(int argc, char *argv[])
{
    int error = 0;
    OpusDecoder *decoder = opus_decoder_create(RATE_HZ, CHANNELS, &error);

    if (argc != 3 || decoder == NULL) {
        fprintf(stderr, "usage: opus_loop FILE TIMES\n");
        return 2;
    }
    const uint32_t count = load(argv[1]);
    const int times = atoi(argv[2]);
    const int64_t begin_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int turn = 0; turn < times; turn++) {
        for (uint32_t i = 0; i < count; i++) {
            if (opus_decode_float(decoder, packets[i], (opus_int32)lengths[i], pcm, MAX_FRAMES, 0) <
                0)
                die("opus_decode_float");
        }
    }
    const int64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns;
    printf("{\"us\": %.4f}\n", (double)cpu_ns / 1e3 / ((double)count * times));
    opus_decoder_destroy(decoder);
    return 0;
}

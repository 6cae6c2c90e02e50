/* Counters that one thread writes and any thread reads. */
#ifndef SBX_COUNTER_H
#define SBX_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t sbx_counter;

static inline uint64_t sbx_counter_get(const sbx_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Thread: the counter's one writer, which is why no read-modify-write is needed. */
static inline void sbx_counter_add(sbx_counter *counter, uint64_t amount)
{
    atomic_store_explicit(counter, sbx_counter_get(counter) + amount, memory_order_relaxed);
}

#endif

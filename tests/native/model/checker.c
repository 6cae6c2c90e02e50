/* A model checker for C11 atomics that runs the code itself.
 *
 * The code under test is compiled, unchanged, with -fsanitize=thread, which makes the compiler call
 * a function for every access to memory, atomic ones with their memory order. This file is that run
 * time instead of libtsan's. It runs the threads of a small program as coroutines, one operation
 * at a time, and repeats it until it has seen every execution that the memory model allows:
 *
 * - at every operation on something shared, each thread that could go on does, in some execution;
 * - every atomic load reads, in some execution, each store that it may read.
 *
 * THE MEMORY MODEL is RC11 (Lahav, Vafeiadis, Kang, Hur, Dreyer, "Repairing sequential
 * consistency in C/C++11", PLDI 2017). It allows all that C11 as written does (5.1.2.4, 7.17.3; but
 * see below), and of mixed seq_cst and weaker operations on one object a little more, as C++20
 * does. litmus.c shows what it makes of the well-known small programs.
 *
 * - Every atomic object keeps all its stores, in modification order. Each thread has, for each
 *   object, the oldest store it may still read: the newest it has written, read, or come to know
 *   of. A release store carries what its thread knows; an acquire load that reads it learns that.
 *   A relaxed store carries nothing, even behind a release by the same thread (as in C++20).
 * - A read-modify-write operation reads the newest store, and what that one carries its own carries
 *   on, whatever its order (a release sequence).
 * - seq_cst operations must have a total order (RC11's psc is acyclic): a load may not read a
 *   store if that would close a cycle. It is checked as a graph, not by the order of running.
 * - Two plain accesses to the same word by different threads, one of them a write, of which neither
 *   happens before the other, are a data race and a failure (by vector clocks).
 *
 * What it does not explore: loads that read from the future (load buffering; RC11 forbids it too),
 * and modification orders that differ from the order of running (only the objects that two threads
 * write, such as a capture's alarm, could have one). Stacks are taken to be private. Fences and
 * read-modify-write operations that the code does not use are not there: they do not link.
 *
 * THE SYSTEM: a mutex is one; read, write and poll work on a counter like an eventfd's.
 * Its lock orders reads and writes of it. poll gives no order at all, since the kernel promises
 * none. A poll with a negative time-out waits for ever; with another it times out where it would
 * wait.
 *
 * TO END EARLY: an execution that arrives where another has been is not run further. Where it is
 * means what each thread has done and which stores it read: two orders of running that differ in
 * nothing else are one. (It is kept as a hash of 63 bits: with ten million states the odds that
 * two share one are about five millionths.) An operation on an object that no other thread uses, or
 * a load of one that only its own thread writes, is no occasion to switch; which those are is found
 * out by running, and when another thread turns out to use one, everything begins again. And no
 * thread reads the same store more than PATIENCE times while there are newer ones.
 *
 * Prior work in this way of testing: CDSChecker (Norris, Demsky, OOPSLA 2013) and GenMC
 * (Kokologiannakis, Vafeiadis, CAV 2021).
 */
#include "checker.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define LOCATIONS 48
#define STORES 96
#define EVENTS 600
#define SC_EVENTS 128
#define CHOICES 1200
#define WORDS 4096
#define STACK_BYTES (256 * 1024)
#define PATIENCE 12

typedef unsigned __int128 bits; /* a set of seq_cst events */

/* What a thread knows, or a store tells who acquires it. */
struct knowledge {
    uint16_t events[MODEL_THREADS]; /* how many of each thread's happen before */
    uint8_t oldest[LOCATIONS];      /* store that may still be read */
};

struct store {
    uint64_t value;
    bool releases;
    struct knowledge known;
};

/* An atomic object; or a mutex or an eventfd, of which each use is a store. */
struct location {
    const volatile void *address;
    const char *name;
    unsigned users;   /* a bit for each thread */
    unsigned writers; /* a bit for each thread */
    unsigned stores;
    struct store store[STORES];
};

enum kind { LOAD, STORE, SYSTEM };

struct event {
    unsigned thread;
    unsigned number; /* among the thread's, from 1 */
    enum kind kind;
    int order;
    const struct location *location;
    unsigned store; /* read or written */
    bool is_stale;
    uint64_t value;
    const char *what;
    uint16_t known[MODEL_THREADS];      /* struct knowledge, afterwards */
    const struct event *last_elsewhere; /* the thread's last one before on another object */
    unsigned next_elsewhere;            /* its next one after on another object, or 0 */
};

struct thread {
    jmp_buf base; /* where its stack is empty */
    jmp_buf here; /* where it stopped */
    char *stack;
    void (*body)(void);
    bool done;
    bool (*ready)(void *argument); /* what it waits for, or NULL */
    void *argument;
    uint64_t hash; /* of all it has done */
    struct knowledge known;
    uint8_t repeats[LOCATIONS]; /* times that it has read known.oldest */
    unsigned events;
    struct event *event[EVENTS];
};

/* When a word of plain memory was last written, and last read by each thread. */
struct word {
    uintptr_t address;
    unsigned execution;
    unsigned writer;
    unsigned written;
    unsigned read[MODEL_THREADS];
};

static struct thread threads[MODEL_THREADS];
static unsigned thread_count;
static struct thread *running; /* NULL outside the model */
static jmp_buf scheduler;

static struct location locations[LOCATIONS];
static unsigned location_count;
static bool more_is_shared; /* than was known when this pass began */

static struct event history[EVENTS];
static unsigned event_count;
static const struct event *sc[SC_EVENTS];
static bits sc_after[SC_EVENTS]; /* transitively */
static unsigned sc_count;

static struct word words[WORDS];
static unsigned execution; /* of this pass, from 1 */

/* The path through the tree of choices; those up to `made` were repeated in this execution. */
static struct {
    unsigned taken;
    unsigned count;
} path[CHOICES];
static unsigned path_length;
static unsigned made;

static uint64_t *seen; /* hashes; 0 is a free place */
static size_t seen_places;
static size_t seen_count;

/* --- failing -------------------------------------------------------------------------------- */

static void print_event(const struct event *event)
{
    static const char *const orders[] = {"relaxed", "consume", "acquire",
                                         "release", "acq_rel", "seq_cst"};
    const struct location *at = event->location;

    fprintf(stderr, "  %u%*s %s %s", event->thread, 24 * (int)event->thread, "", event->what,
            at->name);
    if (event->kind != SYSTEM)
        fprintf(stderr, " %s %s", event->kind == STORE ? ":=" : "==", orders[event->order]);
    fprintf(stderr, " %lld%s\n", (long long)event->value,
            event->is_stale ? " (there is a newer one)" : "");
}

_Noreturn void model_fail(const char *why, const char *where, int line)
{
    fprintf(stderr, "failed: %s (%s:%d), execution %u, thread %d\n", why, where, line, execution,
            running != NULL ? (int)(running - threads) : -1);
    for (unsigned i = 0; i < event_count; i++)
        print_event(&history[i]);
    exit(1);
}

/* --- choosing ------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return hash ^ (hash >> 32);
}

static unsigned choose(unsigned count)
{
    if (count == 1)
        return 0;
    MODEL_CHECK(made < CHOICES);
    if (made == path_length) {
        path[path_length].taken = 0;
        path[path_length++].count = count;
    }
    return path[made++].taken;
}

unsigned model_choose(unsigned count)
{
    const unsigned chosen = choose(count);

    running->hash = mix(running->hash, chosen + 1);
    return chosen;
}

/* Go to the next path in the tree; false when there is none. */
static bool next_path(void)
{
    while (path_length > 0 && path[path_length - 1].taken + 1 == path[path_length - 1].count)
        path_length--;
    if (path_length == 0)
        return false;
    path[path_length - 1].taken++;
    return true;
}

static void insert(uint64_t hash)
{
    size_t at = hash & (seen_places - 1);

    while (seen[at] != 0)
        at = (at + 1) & (seen_places - 1);
    seen[at] = hash;
}

static void grow_seen(void)
{
    uint64_t *const old = seen;
    const size_t old_places = seen_places;

    seen_places = old_places > 0 ? 2 * old_places : 1 << 16;
    seen = calloc(seen_places, sizeof(*seen));
    MODEL_CHECK(seen != NULL);
    for (size_t i = 0; i < old_places; i++)
        if (old[i] != 0)
            insert(old[i]);
    free(old);
}

/* Whether another execution has been here. */
static bool been_here(void)
{
    uint64_t hash = 1;

    for (unsigned i = 0; i < thread_count; i++)
        hash = mix(hash, threads[i].hash);
    hash |= 1;
    for (size_t at = hash & (seen_places - 1); seen[at] != 0; at = (at + 1) & (seen_places - 1))
        if (seen[at] == hash)
            return true;
    insert(hash);
    if (++seen_count > seen_places / 2)
        grow_seen();
    return false;
}

/* --- threads -------------------------------------------------------------------------------- */

static void run_thread(void)
{
    struct thread *const self = running;

    if (_setjmp(self->base) == 0)
        _longjmp(scheduler, 1);
    running->body(); /* each execution comes back to here, however the last one ended */
    running->done = true;
    _longjmp(scheduler, 1);
}

static void make_thread(struct thread *thread)
{
    ucontext_t context;
    ucontext_t unused;

    thread->stack = malloc(STACK_BYTES);
    MODEL_CHECK(thread->stack != NULL && getcontext(&context) == 0);
    context.uc_stack.ss_sp = thread->stack;
    context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&context, run_thread, 0);
    running = thread;
    if (_setjmp(scheduler) == 0)
        swapcontext(&unused, &context);
    running = NULL;
}

/* Let a thread run up to its next operation on something shared. */
static void resume(struct thread *thread, jmp_buf from)
{
    running = thread;
    if (_setjmp(scheduler) == 0)
        _longjmp(from, 1);
    running = NULL;
}

static void yield(void)
{
    if (_setjmp(running->here) == 0)
        _longjmp(scheduler, 1);
}

static bool can_go_on(const struct thread *thread)
{
    return !thread->done && (thread->ready == NULL || thread->ready(thread->argument));
}

/* --- locations and events ------------------------------------------------------------------- */

static struct location *location_of(const volatile void *address)
{
    for (unsigned i = 0; i < location_count; i++)
        if (locations[i].address == address)
            return &locations[i];
    MODEL_CHECK(location_count < LOCATIONS);
    struct location *const made_now = &locations[location_count++];
    *made_now = (struct location){.address = address, .name = "something"};
    return made_now;
}

void model_name(const volatile void *object, const char *name)
{
    location_of(object)->name = name;
}

static unsigned self(void)
{
    return (unsigned)(running - threads);
}

/* About to use a location: let others go first, if that can make a difference. */
static void arrive(struct location *at, bool writes)
{
    const unsigned me = 1U << self();
    const unsigned others = (writes ? at->users : at->writers) & ~me;
    const bool is_new = (at->users & me) == 0 || (writes && (at->writers & me) == 0);

    more_is_shared |= is_new && (at->users & ~me) != 0;
    at->users |= me;
    at->writers |= writes ? me : 0;
    if (others != 0 || !can_go_on(running))
        yield();
    running->ready = NULL;
}

static void add_knowledge(struct knowledge *known, const struct knowledge *news)
{
    for (unsigned i = 0; i < MODEL_THREADS; i++)
        if (known->events[i] < news->events[i])
            known->events[i] = news->events[i];
    for (unsigned i = 0; i < location_count; i++)
        if (known->oldest[i] < news->oldest[i])
            known->oldest[i] = news->oldest[i];
}

static void join(const struct knowledge *news)
{
    for (unsigned i = 0; i < location_count; i++)
        if (running->known.oldest[i] < news->oldest[i])
            running->repeats[i] = 0;
    add_knowledge(&running->known, news);
}

static struct event event_at(const struct location *at, enum kind kind, int order, unsigned store)
{
    struct event event = {.thread = self(),
                          .number = running->events + 1,
                          .kind = kind,
                          .order = order,
                          .location = at,
                          .store = store};

    memcpy(event.known, running->known.events, sizeof(event.known));
    event.known[event.thread] = (uint16_t)event.number;
    if (running->events > 0) {
        const struct event *const last = running->event[running->events - 1];
        event.last_elsewhere = last->location == at ? last->last_elsewhere : last;
    }
    return event;
}

static void note_oldest(const struct event *event)
{
    const ptrdiff_t at = event->location - locations;

    if (running->known.oldest[at] != event->store || event->kind != LOAD)
        running->repeats[at] = 0;
    running->known.oldest[at] = (uint8_t)event->store;
    if (running->repeats[at] < PATIENCE)
        running->repeats[at]++;
}

static void record(const struct event *event)
{
    MODEL_CHECK(event_count < EVENTS);
    for (unsigned i = running->events; i-- > 0 && running->event[i]->location != event->location;) {
        if (running->event[i]->next_elsewhere != 0)
            break;
        running->event[i]->next_elsewhere = event->number;
    }
    note_oldest(event);
    history[event_count] = *event;
    running->event[running->events++] = &history[event_count++];
    running->known.events[event->thread] = (uint16_t)event->number;
    running->hash = mix(running->hash, (uint64_t)(event->location - locations) << 32 |
                                           (uint64_t)event->kind << 16 | (event->store + 1));
}

static unsigned append(struct location *at, uint64_t value, bool releases)
{
    MODEL_CHECK(at->stores < STORES);
    struct store *const store = &at->store[at->stores];
    store->value = value;
    store->releases = releases;
    return at->stores++;
}

/* The knowledge that goes with a store includes the store itself. */
static void publish(struct location *at)
{
    at->store[at->stores - 1].known = running->known;
}

/* --- the order of seq_cst events -------------------------------------------------------------- */

/* RC11: sb without the same location; hb; sb without the same location. */
static bool sc_around(const struct event *before, const struct event *after)
{
    return before->next_elsewhere != 0 && after->last_elsewhere != NULL &&
           after->last_elsewhere->known[before->thread] >= before->next_elsewhere;
}

/* Whether `event`, the newest, comes after `other` in the order of seq_cst events. */
static bool sc_follows(const struct event *event, const struct event *other)
{
    if (other->thread == event->thread)
        return true;
    if (other->location == event->location &&
        (event->kind == STORE || event->known[other->thread] >= other->number))
        return true; /* modification order, read from a store before it, or happens before */
    return sc_around(other, event);
}

/* Whether `event`, the newest, comes before `other`: it reads from a store that other's follows. */
static bool sc_precedes(const struct event *event, const struct event *other)
{
    return event->kind == LOAD && other->kind == STORE && event->location == other->location &&
           event->store < other->store;
}

/* Whether the order of seq_cst events stays one with `event`; keep it there. */
static bool sc_place(const struct event *event, bool keep)
{
    bits before = 0;
    bits after = 0;

    for (unsigned i = 0; i < sc_count; i++) {
        if (sc_follows(event, sc[i]))
            before |= (bits)1 << i;
        if (sc_precedes(event, sc[i]))
            after |= (bits)1 << i | sc_after[i];
    }
    if ((before & after) != 0)
        return false;
    if (!keep)
        return true;
    MODEL_CHECK(sc_count < SC_EVENTS);
    for (unsigned i = 0; i < sc_count; i++)
        if ((before >> i & 1) != 0 || (sc_after[i] & before) != 0)
            sc_after[i] |= after | (bits)1 << sc_count;
    sc_after[sc_count] = after;
    sc[sc_count++] = &history[event_count];
    return true;
}

/* --- atomic operations ------------------------------------------------------------------------ */

static bool acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static bool releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static struct event load_event(const struct location *at, unsigned store, int order)
{
    struct event event = event_at(at, LOAD, order, store);
    const struct store *from = &at->store[store];

    event.value = from->value;
    event.is_stale = store + 1 < at->stores;
    event.what = "load";
    if (acquires(order) && from->releases)
        for (unsigned i = 0; i < MODEL_THREADS; i++)
            if (event.known[i] < from->known.events[i])
                event.known[i] = from->known.events[i];
    return event;
}

/* The value that the object has before the first store, which everybody may read. */
static void first_use(struct location *at, uint64_t value)
{
    if (at->stores == 0) {
        append(at, value, false);
        memset(&at->store[0].known, 0, sizeof(at->store[0].known));
    }
}

/* Stores become visible "within a reasonable amount of time" (C11 7.17.3): a thread that has read
 * one often enough reads a newer one, if there is any. Otherwise it could go round for ever. */
static unsigned oldest_to_read(const struct location *at)
{
    const ptrdiff_t i = at - locations;

    return running->known.oldest[i] + (running->repeats[i] == PATIENCE ? 1U : 0U);
}

static uint64_t load(const volatile void *address, uint64_t now, int order)
{
    unsigned may_read[STORES];
    unsigned count = 0;

    if (running == NULL)
        return now;
    struct location *const at = location_of(address);
    first_use(at, now);
    arrive(at, false);
    may_read[count++] = at->stores - 1;
    for (unsigned i = at->stores - 1; i-- > oldest_to_read(at);) {
        const struct event event = load_event(at, i, order);
        if (order != __ATOMIC_SEQ_CST || sc_place(&event, false))
            may_read[count++] = i;
    }
    const struct event event = load_event(at, may_read[choose(count)], order);
    if (order == __ATOMIC_SEQ_CST)
        sc_place(&event, true);
    if (acquires(order) && at->store[event.store].releases)
        join(&at->store[event.store].known);
    record(&event);
    return event.value;
}

/* The memory itself is written too: there `finish` finds the last value. */
static void store(volatile void *address, uint64_t before, uint64_t value, int order)
{
    struct location *const at = location_of(address);

    first_use(at, before);
    arrive(at, true);
    struct event event = event_at(at, STORE, order, append(at, value, releases(order)));
    event.value = value;
    event.what = "store";
    if (order == __ATOMIC_SEQ_CST)
        sc_place(&event, true);
    record(&event);
    publish(at);
}

/* Replace the value, or add to it. What it was comes back. */
static uint64_t modify(volatile void *address, uint64_t before, uint64_t value, bool adds,
                       int order)
{
    struct location *const at = location_of(address);

    MODEL_CHECK(order != __ATOMIC_SEQ_CST); /* their place among seq_cst events is not thought of */
    first_use(at, before);
    arrive(at, true);
    const struct store *const last = &at->store[at->stores - 1];
    if (acquires(order) && last->releases)
        join(&last->known);
    const uint64_t now = adds ? last->value + value : value;
    struct event event =
        event_at(at, STORE, order, append(at, now, releases(order) || last->releases));
    event.value = now;
    event.what = adds ? "add to" : "exchange";
    record(&event);
    struct store *const own = &at->store[at->stores - 1];
    own->known = releases(order) ? running->known : (struct knowledge){0};
    if (last->releases)
        add_knowledge(&own->known, &last->known);
    return last->value;
}

#define ATOMIC(bits)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *object, int order);   \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *object, uint##bits##_t value,        \
                                     int order);                                                   \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *object,                 \
                                                  uint##bits##_t value, int order);                \
    uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t *object,                \
                                                   uint##bits##_t value, int order);               \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *object, int order)    \
    {                                                                                              \
        return (uint##bits##_t)load(object, *object, order);                                       \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *object, uint##bits##_t value,        \
                                     int order)                                                    \
    {                                                                                              \
        if (running != NULL)                                                                       \
            store(object, *object, value, order);                                                  \
        *object = value;                                                                           \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *object,                 \
                                                  uint##bits##_t value, int order)                 \
    {                                                                                              \
        const uint64_t was =                                                                       \
            running != NULL ? modify(object, *object, value, false, order) : *object;              \
        *object = value;                                                                           \
        return (uint##bits##_t)was;                                                                \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t *object,                \
                                                   uint##bits##_t value, int order)                \
    {                                                                                              \
        const uint64_t was =                                                                       \
            running != NULL ? modify(object, *object, value, true, order) : *object;               \
        *object = (uint##bits##_t)(was + value);                                                   \
        return (uint##bits##_t)was;                                                                \
    }

ATOMIC(8)
ATOMIC(32)
ATOMIC(64)

/* --- plain memory ----------------------------------------------------------------------------- */

static struct word *word_at(uintptr_t address)
{
    size_t at = mix(address, 0) % WORDS;

    for (unsigned tries = 0; tries < WORDS; tries++, at = (at + 1) % WORDS) {
        struct word *const word = &words[at];
        if (word->execution != execution)
            *word = (struct word){.address = address, .execution = execution};
        if (word->address == address)
            return word;
    }
    model_fail("too much memory is in use", __func__, __LINE__);
}

static bool is_on_a_stack(uintptr_t address)
{
    for (unsigned i = 0; i < thread_count; i++)
        if (address - (uintptr_t)threads[i].stack < STACK_BYTES)
            return true;
    return false;
}

static void touch(const volatile void *memory, size_t size, bool writes)
{
    const uintptr_t begin = (uintptr_t)memory;

    if (running == NULL || is_on_a_stack(begin))
        return;
    /* What a thread does now happens before whoever knows of its next event. */
    const unsigned now = running->events + 1;
    const uint16_t *const known = running->known.events;
    for (uintptr_t at = begin / 4; at <= (begin + size - 1) / 4 && size > 0; at++) {
        struct word *const word = word_at(at);
        if (word->written > known[word->writer] && word->writer != self())
            model_fail("a data race with a write", writes ? "write" : "read", 0);
        for (unsigned i = 0; writes && i < thread_count; i++)
            if (word->read[i] > known[i] && i != self())
                model_fail("a data race with a read", "write", 0);
        if (writes) {
            word->writer = self();
            word->written = now;
        } else {
            word->read[self()] = now;
        }
    }
}

#define PLAIN(size)                                                                                \
    void __tsan_read##size(void *memory);                                                          \
    void __tsan_write##size(void *memory);                                                         \
    void __tsan_unaligned_read##size(void *memory);                                                \
    void __tsan_unaligned_write##size(void *memory);                                               \
    void __tsan_read##size(void *memory)                                                           \
    {                                                                                              \
        touch(memory, size, false);                                                                \
    }                                                                                              \
    void __tsan_write##size(void *memory)                                                          \
    {                                                                                              \
        touch(memory, size, true);                                                                 \
    }                                                                                              \
    void __tsan_unaligned_read##size(void *memory)                                                 \
    {                                                                                              \
        touch(memory, size, false);                                                                \
    }                                                                                              \
    void __tsan_unaligned_write##size(void *memory)                                                \
    {                                                                                              \
        touch(memory, size, true);                                                                 \
    }

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_read_range(void *memory, unsigned long size);
void __tsan_write_range(void *memory, unsigned long size);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);

void __tsan_read_range(void *memory, unsigned long size)
{
    touch(memory, size, false);
}

void __tsan_write_range(void *memory, unsigned long size)
{
    touch(memory, size, true);
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

void __tsan_init(void)
{
}

void *model_memcpy(void *to, const void *from, unsigned long size)
{
    touch(from, size, false);
    touch(to, size, true);
    return memcpy(to, from, size);
}

void *model_memset(void *to, int byte, unsigned long size)
{
    touch(to, size, true);
    return memset(to, byte, size);
}

/* --- the system ------------------------------------------------------------------------------- */

/* A mutex or an eventfd: its value is that of the last store. */
static uint64_t value_of(void *address)
{
    const struct location *const at = location_of(address);

    return at->stores > 0 ? at->store[at->stores - 1].value : 0;
}

static bool is_zero(void *address)
{
    return value_of(address) == 0;
}

static bool is_not_zero(void *address)
{
    return value_of(address) != 0;
}

/* Wait until the object is `ready`, then replace its value; one user sees all that the user
 * before it did. What the value was comes back. */
static uint64_t use(void *address, bool (*ready)(void *), uint64_t value, const char *what)
{
    struct location *const at = location_of(address);

    first_use(at, 0);
    running->ready = ready;
    running->argument = address;
    arrive(at, true);
    const struct store *const last = &at->store[at->stores - 1];
    if (last->releases)
        join(&last->known);
    struct event event = event_at(at, SYSTEM, 0, append(at, value, true));
    event.value = value;
    event.what = what;
    record(&event);
    publish(at);
    return last->value;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (running != NULL)
        use(mutex, is_zero, 1, "lock");
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    if (running != NULL)
        use(mutex, NULL, 0, "unlock");
    return 0;
}

static void *eventfd_of(int fd)
{
    static char counters[64];

    return &counters[fd];
}

ssize_t write(int fd, const void *data, size_t size)
{
    (void)data;
    use(eventfd_of(fd), NULL, 1, "write"); /* how much is in it is nobody's business */
    return (ssize_t)size;
}

ssize_t read(int fd, void *data, size_t size)
{
    *(uint64_t *)data = use(eventfd_of(fd), NULL, 0, "read");
    return *(uint64_t *)data > 0 ? (ssize_t)size : -1;
}

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" /* glibc says that poll only writes to it   \
                                                        */
int poll(struct pollfd *polled, nfds_t count, int timeout_ms)
{
    void *const object = eventfd_of(polled->fd);
    struct location *const at = location_of(object);

    MODEL_CHECK(count == 1);
    first_use(at, 0);
    running->ready = timeout_ms < 0 ? is_not_zero : NULL;
    running->argument = object;
    arrive(at, false);
    struct event event = event_at(at, SYSTEM, 0, at->stores - 1);
    event.value = value_of(object);
    event.what = "poll";
    record(&event);
    return event.value > 0 ? 1 : 0;
}

/* --- exploring -------------------------------------------------------------------------------- */

static void begin_execution(const struct model *model)
{
    execution++;
    made = 0;
    event_count = sc_count = 0;
    for (unsigned i = 0; i < location_count; i++)
        locations[i].stores = 0;
    model->setup();
    for (unsigned i = 0; i < thread_count; i++) {
        struct thread *const thread = &threads[i];
        memset(&thread->known, 0, sizeof(thread->known));
        memset(thread->repeats, 0, sizeof(thread->repeats));
        thread->hash = i + 1;
        thread->events = 0;
        thread->done = false;
        thread->ready = NULL;
        resume(thread, thread->base);
    }
}

/* Run the program once, along the path and beyond it. False: another execution went on the same. */
static bool execute(const struct model *model)
{
    begin_execution(model);
    for (;;) {
        unsigned can[MODEL_THREADS];
        unsigned count = 0;
        bool done = true;

        for (unsigned i = 0; i < thread_count; i++) {
            done &= threads[i].done;
            if (can_go_on(&threads[i]))
                can[count++] = i;
        }
        if (done)
            break;
        if (count == 0)
            model_fail("somebody sleeps for ever", "scheduler", 0);
        if (made == path_length && been_here())
            return false;
        struct thread *const next = &threads[can[choose(count)]];
        resume(next, next->here);
    }
    if (model->finish != NULL)
        model->finish();
    return true;
}

/* Run every execution. False when operations turned out to be shared that were taken not to be. */
static bool explore(const struct model *model, unsigned *whole)
{
    free(seen);
    seen = NULL;
    seen_places = seen_count = 0;
    grow_seen();
    *whole = 0;
    path_length = 0;
    more_is_shared = false;
    do {
        *whole += execute(model) ? 1 : 0;
        if (more_is_shared)
            return false;
    } while (next_path());
    return true;
}

void model_check(const struct model *model)
{
    const clock_t begin = clock();
    unsigned whole;

    location_count = 0;
    while (thread_count < MODEL_THREADS && threads[thread_count].stack != NULL)
        thread_count++;
    for (thread_count = 0; thread_count < MODEL_THREADS && model->threads[thread_count] != NULL;
         thread_count++) {
        struct thread *const thread = &threads[thread_count];
        if (thread->stack == NULL)
            make_thread(thread);
        thread->body = model->threads[thread_count];
    }
    unsigned before;
    do
        before = execution;
    while (!explore(model, &whole));
    printf("ok %s: %u executions, %u of them to the end, %zu states, %.2f s\n", model->name,
           execution - before, whole, seen_count, (double)(clock() - begin) / CLOCKS_PER_SEC);
    fflush(stdout);
}

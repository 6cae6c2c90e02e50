/* Does the checker know its memory model? Small programs with known outcomes: each is run in every
 * execution, and what can be read must be exactly what C11 and RC11 allow. */
#include "checker.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define RELAXED memory_order_relaxed
#define ACQUIRE memory_order_acquire
#define RELEASE memory_order_release
#define SEQ_CST memory_order_seq_cst

static _Atomic unsigned x;
static _Atomic unsigned y;
static memory_order store_order;
static memory_order load_order;
static memory_order y_store_order;

static unsigned result[4];
static bool outcomes[256]; /* by the results' digits, base 4 */

static void begin(void)
{
    x = y = 0;
    memset(result, 0, sizeof(result));
}

static void note(void)
{
    outcomes[result[0] << 6 | result[1] << 4 | result[2] << 2 | result[3]] = true;
}

/* `allowed` lists the outcomes, such as "01 11", the first `width` results each. */
static void expect(const char *name, const char *allowed, unsigned width, void (*one)(void),
                   void (*two)(void), void (*three)(void))
{
    const struct model model = {
        .name = name, .setup = begin, .threads = {one, two, three}, .finish = note};

    memset(outcomes, 0, sizeof(outcomes));
    model_check(&model);
    for (unsigned outcome = 0; outcome < 256; outcome++) {
        char digits[5];
        for (unsigned i = 0; i < 4; i++)
            digits[i] = (char)('0' + (outcome >> (6 - 2 * i) & 3));
        digits[width] = 0;
        if ((outcome & ((1U << (8 - 2 * width)) - 1)) != 0)
            continue;
        if (outcomes[outcome] != (strstr(allowed, digits) != NULL)) {
            fprintf(stderr, "failed: %s: %s is %s\n", name, digits,
                    outcomes[outcome] ? "there" : "missing");
            model_fail(name, allowed, 0);
        }
    }
}

static void use_orders(memory_order store, memory_order load)
{
    store_order = y_store_order = store;
    load_order = load;
}

/* --- store buffering: both store, then look at the other's -------------------------------------
 */

static void store_x_load_y(void)
{
    atomic_store_explicit(&x, 1, store_order);
    result[0] = atomic_load_explicit(&y, load_order);
}

static void store_y_load_x(void)
{
    atomic_store_explicit(&y, 1, y_store_order);
    result[1] = atomic_load_explicit(&x, load_order);
}

/* --- message passing ----------------------------------------------------------------------------
 */

static void store_x_store_y(void)
{
    atomic_store_explicit(&x, 1, RELAXED);
    atomic_store_explicit(&y, 1, store_order);
}

static void load_y_load_x(void)
{
    result[0] = atomic_load_explicit(&y, load_order);
    result[1] = atomic_load_explicit(&x, RELAXED);
}

/* --- coherence ----------------------------------------------------------------------------------
 */

static void store_x_twice(void)
{
    atomic_store_explicit(&x, 1, RELAXED);
    atomic_store_explicit(&x, 2, RELAXED);
}

static void load_x_twice(void)
{
    result[0] = atomic_load_explicit(&x, RELAXED);
    result[1] = atomic_load_explicit(&x, RELAXED);
}

/* --- write to read causality: one tells another, who tells a third -------------------------------
 */

static void store_x(void)
{
    atomic_store_explicit(&x, 1, store_order);
}

static void load_x_store_y(void)
{
    result[0] = atomic_load_explicit(&x, load_order);
    atomic_store_explicit(&y, 1, store_order);
}

static void load_y_then_x(void)
{
    result[1] = atomic_load_explicit(&y, load_order);
    result[2] = atomic_load_explicit(&x, RELAXED);
}

/* --- read to write causality: one looks at both, in a total order? -------------------------------
 */

static void load_x_load_y(void)
{
    result[0] = atomic_load_explicit(&x, load_order);
    result[1] = atomic_load_explicit(&y, load_order);
}

static void store_y_then_load_x(void)
{
    atomic_store_explicit(&y, 1, store_order);
    result[2] = atomic_load_explicit(&x, load_order);
}

/* --- store buffering by way of an object that both modify
 */

static void store_x_add_to_y(void)
{
    atomic_store_explicit(&x, 1, RELAXED);
    result[0] = atomic_fetch_add_explicit(&y, 0, store_order);
}

static void exchange_y_load_x(void)
{
    atomic_exchange_explicit(&y, 1, load_order);
    result[1] = atomic_load_explicit(&x, RELAXED);
}

/* --- release sequence: who modifies a store carries on its news
 */

static void add_to_y(void)
{
    atomic_fetch_add_explicit(&y, 1, RELAXED);
}

int main(void)
{
    use_orders(SEQ_CST, SEQ_CST);
    expect("store_buffering_seq_cst", "01 10 11", 2, store_x_load_y, store_y_load_x, NULL);
    use_orders(RELEASE, ACQUIRE);
    expect("store_buffering_release", "00 01 10 11", 2, store_x_load_y, store_y_load_x, NULL);
    use_orders(RELEASE, SEQ_CST);
    expect("store_buffering_loads_seq_cst", "00 01 10 11", 2, store_x_load_y, store_y_load_x, NULL);
    use_orders(SEQ_CST, SEQ_CST);
    y_store_order = RELEASE;
    expect("store_buffering_but_one_seq_cst", "00 01 10 11", 2, store_x_load_y, store_y_load_x,
           NULL);
    use_orders(SEQ_CST, ACQUIRE);
    expect("store_buffering_stores_seq_cst", "00 01 10 11", 2, store_x_load_y, store_y_load_x,
           NULL);

    use_orders(RELEASE, ACQUIRE);
    expect("modified_by_both", "01 10 11", 2, store_x_add_to_y, exchange_y_load_x, NULL);
    use_orders(RELAXED, ACQUIRE);
    expect("modified_by_both_released_by_none", "00 01 10 11", 2, store_x_add_to_y,
           exchange_y_load_x, NULL);
    use_orders(RELEASE, RELAXED);
    expect("modified_by_both_acquired_by_none", "00 01 10 11", 2, store_x_add_to_y,
           exchange_y_load_x, NULL);
    use_orders(RELEASE, ACQUIRE);
    expect("release_sequence", "00 01 10 11 21", 2, store_x_store_y, load_y_load_x, add_to_y);
    use_orders(RELAXED, ACQUIRE);
    expect("release_sequence_of_nothing", "00 01 10 11 20 21", 2, store_x_store_y, load_y_load_x,
           add_to_y);
    use_orders(RELEASE, ACQUIRE);
    expect("message_passing", "00 01 11", 2, store_x_store_y, load_y_load_x, NULL);
    use_orders(RELAXED, ACQUIRE);
    expect("message_passing_stored_relaxed", "00 01 10 11", 2, store_x_store_y, load_y_load_x,
           NULL);
    use_orders(RELEASE, RELAXED);
    expect("message_passing_loaded_relaxed", "00 01 10 11", 2, store_x_store_y, load_y_load_x,
           NULL);

    expect("coherence", "00 01 02 11 12 22", 2, store_x_twice, load_x_twice, NULL);

    use_orders(RELEASE, ACQUIRE);
    expect("causality", "000 001 010 011 100 101 111", 3, store_x, load_x_store_y, load_y_then_x);
    use_orders(RELAXED, RELAXED);
    expect("causality_relaxed", "000 001 010 011 100 101 110 111", 3, store_x, load_x_store_y,
           load_y_then_x);

    use_orders(SEQ_CST, SEQ_CST);
    expect("two_observers_seq_cst", "000 001 010 011 101 110 111", 3, store_x, load_x_load_y,
           store_y_then_load_x);
    use_orders(RELEASE, ACQUIRE);
    expect("two_observers_release", "000 001 010 011 100 101 110 111", 3, store_x, load_x_load_y,
           store_y_then_load_x);
    return 0;
}

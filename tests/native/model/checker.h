/* A model checker for C11 atomics that runs the code itself: see checker.c. */
#ifndef CHECKER_H
#define CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_THREADS 3

/* A small program around the code under test. `setup` runs before the threads and `finish` (if any)
 * after all of them have returned, outside the model; both run once for each execution. */
struct model {
    const char *name;
    void (*setup)(void);
    void (*threads[MODEL_THREADS])(void);
    void (*finish)(void);
};

/* Run every execution of the program, and print how many; or print the first that fails a check,
 * has a data race, sleeps for ever or does not end, and exit(1). */
void model_check(const struct model *model);

/* One of 0 to count - 1: every execution is run with each. */
unsigned model_choose(unsigned count);

/* What to call an atomic object in the report of a failure. */
void model_name(const volatile void *object, const char *name);

_Noreturn void model_fail(const char *why, const char *where, int line);

#define MODEL_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            model_fail(#condition, __func__, __LINE__);                                            \
    } while (0)

/* What the code under test is compiled to call instead of string.h's. */
void *model_memcpy(void *to, const void *from, unsigned long size);
void *model_memset(void *to, int byte, unsigned long size);

#endif

/* A library to preload: counts what a stream's process callback asks of the system.
 *
 * It puts itself between pw_stream_add_listener and the callback. While the callback runs:
 *
 * - every system call raises SIGSYS (Syscall User Dispatch, Linux 5.11, x86-64), also one made
 *   without libc or by libpipewire; the handler counts it, and makes it in the callback's place;
 * - allocations and locks are counted in functions that stand in front of libc's;
 * - page faults are what getrusage says before and after.
 *
 * The time that clock_gettime tells is read in user space and raises nothing. At exit a line of
 * JSON for each stream goes to the file named by RT_PROBE_REPORT.
 *
 * RT_PROBE_TEST makes it a program instead, which runs callbacks that break each of the rules.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pipewire/stream.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STREAMS 16
#define SYSCALLS 512
#define WARM_UP 20 /* callbacks that may be the first to touch a page of PipeWire's buffers */

#define SA_RESTORER 0x04000000UL

struct counts {
    unsigned long allocations;
    unsigned long locks;
    unsigned long syscalls;
    unsigned long by_number[SYSCALLS];
    int written_fd; /* the last */
};

/* One callback; written by its thread. */
struct probe {
    char name[64];
    struct pw_stream_events events;
    void (*process)(void *data);
    void *data;
    unsigned long callbacks;
    long longest_ns;
    unsigned long most_syscalls; /* in one callback */
    long faults_in_warm_up;
    long faults;
    struct counts counts;
};

static struct probe probes[STREAMS];
static atomic_uint probe_count;

/* What the callback of this thread is counted in; NULL outside. */
static _Thread_local struct counts *counting __attribute__((tls_model("initial-exec")));
static _Thread_local volatile char selector __attribute__((tls_model("initial-exec")));

/* --- system calls ------------------------------------------------------------------------------
 *
 * Calls from here raise nothing: the one in the callback's place, and the handler's return. */
long rt_probe_syscall(long number, const greg_t *registers);
void rt_probe_return(void);
extern const char rt_probe_begin[];
extern const char rt_probe_end[];

__asm__(".text\n"
        ".globl rt_probe_begin, rt_probe_syscall, rt_probe_return, rt_probe_end\n"
        "rt_probe_begin:\n"
        "rt_probe_syscall:\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %r11\n"
        "    mov 64(%r11), %rdi\n" /* REG_RDI */
        "    mov 72(%r11), %rsi\n" /* REG_RSI */
        "    mov 96(%r11), %rdx\n" /* REG_RDX */
        "    mov 16(%r11), %r10\n" /* REG_R10 */
        "    mov 0(%r11), %r8\n"   /* REG_R8 */
        "    mov 8(%r11), %r9\n"   /* REG_R9 */
        "    syscall\n"
        "    ret\n"
        "rt_probe_return:\n"
        "    mov $15, %eax\n" /* rt_sigreturn */
        "    syscall\n"
        "    ud2\n" /* the kernel looks at the address behind the call */
        "rt_probe_end:\n");

static void on_syscall(int signal, siginfo_t *info, void *context)
{
    greg_t *const registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const long number = info->si_syscall;
    struct counts *const counts = counting;

    (void)signal;
    counts->syscalls++;
    counts->by_number[number >= 0 && number < SYSCALLS ? number : SYSCALLS - 1]++;
    if (number == SYS_write)
        counts->written_fd = (int)registers[REG_RDI];
    registers[REG_RAX] = rt_probe_syscall(number, registers);
}

/* libc's own sigaction would have the handler return through libc, where that call is caught. */
static void catch_syscalls(void)
{
    const struct {
        void (*handler)(int, siginfo_t *, void *);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } action = {on_syscall, SA_SIGINFO | SA_RESTORER, rt_probe_return, 0};

    if (syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, sizeof(action.mask)) < 0 ||
        prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, rt_probe_begin,
              rt_probe_end - rt_probe_begin, &selector) < 0) {
        perror("rt_probe: Syscall User Dispatch");
        _exit(77);
    }
}

/* --- the callback ------------------------------------------------------------------------------
 */

static long faults_now(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

static long now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void run_counted(void *data)
{
    static _Thread_local bool prepared;
    struct probe *const probe = data;
    const unsigned long syscalls = probe->counts.syscalls;

    if (!prepared)
        catch_syscalls();
    prepared = true;

    const long faults = faults_now();
    const long begin_ns = now_ns();
    counting = &probe->counts;
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    probe->process(probe->data);
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    counting = NULL;
    const long took_ns = now_ns() - begin_ns;
    const long new_faults = faults_now() - faults;

    if (probe->callbacks++ < WARM_UP)
        probe->faults_in_warm_up += new_faults;
    else
        probe->faults += new_faults;
    if (probe->longest_ns < took_ns)
        probe->longest_ns = took_ns;
    if (probe->most_syscalls < probe->counts.syscalls - syscalls)
        probe->most_syscalls = probe->counts.syscalls - syscalls;
}

static struct probe *make_probe(const char *name, void (*process)(void *data), void *data)
{
    const unsigned index = atomic_fetch_add(&probe_count, 1);

    if (index >= STREAMS)
        abort();
    struct probe *const probe = &probes[index];
    snprintf(probe->name, sizeof(probe->name), "%s", name);
    probe->process = process;
    probe->data = data;
    probe->counts.written_fd = -1;
    return probe;
}

static void report(FILE *file, const struct probe *probe)
{
    fprintf(file,
            "{\"stream\": \"%s\", \"callbacks\": %lu, \"longest_ns\": %ld, \"allocations\": %lu, "
            "\"locks\": %lu, \"faults_in_warm_up\": %ld, \"faults\": %ld, \"most_syscalls\": %lu, "
            "\"written_fd\": %d, \"syscalls\": {",
            probe->name, probe->callbacks, probe->longest_ns, probe->counts.allocations,
            probe->counts.locks, probe->faults_in_warm_up, probe->faults, probe->most_syscalls,
            probe->counts.written_fd);
    const char *separator = "";
    for (int i = 0; i < SYSCALLS; i++) {
        if (probe->counts.by_number[i] == 0)
            continue;
        fprintf(file, "%s\"%d\": %lu", separator, i, probe->counts.by_number[i]);
        separator = ", ";
    }
    fprintf(file, "}}\n");
}

/* --- what stands in front of libc ---------------------------------------------------------------
 *
 * glibc's names for its own are called, not looked up: looking up allocates. */
#define PUBLIC __attribute__((visibility("default")))

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static void count_allocation(void)
{
    if (counting != NULL)
        counting->allocations++;
}

PUBLIC void *malloc(size_t size)
{
    count_allocation();
    return __libc_malloc(size);
}

PUBLIC void *calloc(size_t count, size_t size)
{
    count_allocation();
    return __libc_calloc(count, size);
}

PUBLIC void *realloc(void *memory, size_t size)
{
    count_allocation();
    return __libc_realloc(memory, size);
}

PUBLIC void *memalign(size_t alignment, size_t size)
{
    count_allocation();
    return __libc_memalign(alignment, size);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size)
{
    count_allocation();
    return __libc_memalign(alignment, size);
}

PUBLIC int posix_memalign(void **memory, size_t alignment, size_t size)
{
    count_allocation();
    *memory = __libc_memalign(alignment, size);
    return *memory != NULL ? 0 : ENOMEM;
}

PUBLIC void free(void *memory)
{
    count_allocation();
    __libc_free(memory);
}

#define LOCK(name, type)                                                                           \
    PUBLIC int name(type *object)                                                                  \
    {                                                                                              \
        static int (*real)(type *);                                                                \
        if (counting != NULL)                                                                      \
            counting->locks++;                                                                     \
        if (real == NULL)                                                                          \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return real(object);                                                                       \
    }

LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_mutex_unlock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCK(pthread_spin_lock, pthread_spinlock_t)
LOCK(pthread_cond_signal, pthread_cond_t)
LOCK(pthread_cond_broadcast, pthread_cond_t)
LOCK(sem_wait, sem_t)
LOCK(sem_trywait, sem_t)
LOCK(sem_post, sem_t)

#ifndef RT_PROBE_TEST

/* libpipewire's own: it came with the extension, so that RTLD_NEXT does not see it. */
static void find(void *function, const char *name)
{
    void *const library = dlopen("libpipewire-0.3.so.0", RTLD_LAZY | RTLD_NOLOAD);

    *(void **)function = dlsym(library, name);
}

PUBLIC void pw_stream_add_listener(struct pw_stream *stream, struct spa_hook *listener,
                                   const struct pw_stream_events *events, void *data)
{
    void (*add)(struct pw_stream *, struct spa_hook *, const struct pw_stream_events *, void *);
    const char *(*name)(struct pw_stream *);

    find(&add, "pw_stream_add_listener");
    find(&name, "pw_stream_get_name");
    if (events->process == NULL) {
        add(stream, listener, events, data);
        return;
    }
    struct probe *const probe = make_probe(name(stream), events->process, data);
    probe->events = (struct pw_stream_events){.version = events->version, .process = run_counted};
    add(stream, listener, &probe->events, probe);
}

__attribute__((destructor)) static void report_all(void)
{
    const char *const path = getenv("RT_PROBE_REPORT");
    FILE *const file = path != NULL ? fopen(path, "w") : NULL;

    if (file == NULL)
        return;
    for (unsigned i = 0; i < atomic_load(&probe_count); i++)
        report(file, &probes[i]);
    fclose(file);
}

#else

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile char *fresh; /* memory that nobody has touched */

static void does_nothing_wrong(void *data)
{
    *(long *)data = now_ns();
}

static void allocates(void *data)
{
    void *volatile memory = malloc(10);

    (void)data;
    free(memory);
}

static void locks(void *data)
{
    (void)data;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
}

static void asks_the_kernel(void *data)
{
    *(long *)data = getppid();
}

static void asks_the_kernel_by_itself(void *data)
{
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    *(long *)data = result;
}

static void passes_six_arguments(void *data)
{
    *(void **)data = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void touches_fresh_memory(void *data)
{
    (void)data;
    fresh[0] = 1;
    fresh += 4096;
}

int main(void)
{
    const long parent = getppid();
    union {
        long number;
        void *memory;
    } result = {0};
    const struct {
        const char *name;
        void (*process)(void *data);
    } callbacks[] = {
        {"does_nothing_wrong", does_nothing_wrong},
        {"allocates", allocates},
        {"locks", locks},
        {"asks_the_kernel", asks_the_kernel},
        {"asks_the_kernel_by_itself", asks_the_kernel_by_itself},
        {"passes_six_arguments", passes_six_arguments},
        {"touches_fresh_memory", touches_fresh_memory},
    };

    fresh =
        mmap(NULL, 2 * WARM_UP * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < sizeof(callbacks) / sizeof(*callbacks); i++) {
        struct probe *const probe = make_probe(callbacks[i].name, callbacks[i].process, &result);
        for (unsigned k = 0; k < WARM_UP + 1; k++)
            run_counted(probe);
        report(stdout, probe);
        /* the calls were made all the same */
        if (strstr(probe->name, "kernel") != NULL && result.number != parent)
            return 1;
        if (strcmp(probe->name, "passes_six_arguments") == 0 && munmap(result.memory, 4096) != 0)
            return 1;
    }
    return 0;
}

#endif

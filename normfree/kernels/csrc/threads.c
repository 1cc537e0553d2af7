/* Dividing work among threads, and the memory that each of them keeps.
 *
 * The threads are PyTorch's own where its OpenMP library is known: after each of its operators, its
 * threads wait for the next by spinning, and threads of ours would have to share cores with them. */

#define _DEFAULT_SOURCE /* madvise */

#include "variant.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { MOST_THREADS = 64 };

typedef struct {
    Work *work;
    const void *job;
    int64_t first, last;
    int failed, started;
    pthread_t thread;
} Share;

typedef struct {
    Share *shares;
    int count;
} Team;

static void do_share(Share *share) {
    share->failed = share->work(share->job, share->first, share->last);
}

/* ---- PyTorch's threads ---- */

typedef void Parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags);
typedef int Number(void);

static Parallel *parallel;
static Number *thread_number, *team_size;

static void forget_pool(void) { parallel = NULL; } /* a forked process has no threads but one */

/* Take the functions GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
EXPORT void normfree_use_pool(void *parallel_, void *thread_number_, void *team_size_) {
    static int registered;
    if (!registered) registered = !pthread_atfork(NULL, NULL, forget_pool);
    thread_number = (Number *)thread_number_;
    team_size = (Number *)team_size_;
    parallel = registered ? (Parallel *)parallel_ : NULL;
}

static void do_shares(void *given) {
    const Team *team = given;
    for (int i = thread_number(); i < team->count; i += team_size()) do_share(team->shares + i);
}

/* ---- Our own ---- */

static void *in_thread(void *share) {
    do_share(share);
    return NULL;
}

static void in_own_threads(Share *shares, int count) {
    for (int i = 1; i < count; i++)
        shares[i].started = !pthread_create(&shares[i].thread, NULL, in_thread, shares + i);
    for (int i = 0; i < count; i++) /* also the ranges for which no thread could start */
        if (!shares[i].started) do_share(shares + i);
    for (int i = 0; i < count; i++)
        if (shares[i].started) pthread_join(shares[i].thread, NULL);
}

int divide(Work *work, const void *job, int64_t n, int64_t threads) {
    Share shares[MOST_THREADS];
    threads = threads > MOST_THREADS ? MOST_THREADS : threads;
    threads = threads > n ? n : threads;
    threads = threads < 1 ? 1 : threads;
    for (int64_t i = 0; i < threads; i++)
        shares[i] = (Share){
            .work = work, .job = job, .first = n * i / threads, .last = n * (i + 1) / threads};
    Team team = {shares, (int)threads};
    if (threads == 1) do_share(shares);
    else if (parallel) parallel(do_shares, &team, (unsigned)threads, 0);
    else in_own_threads(shares, (int)threads);
    int failed = DONE;
    for (int64_t i = 0; i < threads; i++)
        failed = shares[i].failed > failed ? shares[i].failed : failed;
    return failed;
}

/* ---- Memory ---- */

typedef struct {
    void *memory[SLOTS];
    int64_t bytes[SLOTS];
} Kept;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_kept(void *given) {
    Kept *kept = given;
    for (int slot = 0; slot < SLOTS; slot++) free(kept->memory[slot]);
    free(kept);
}

static void make_key(void) { pthread_key_create(&key, free_kept); }

void *scratch(int slot, int64_t bytes) {
    pthread_once(&once, make_key);
    Kept *kept = pthread_getspecific(key);
    if (!kept) {
        kept = calloc(1, sizeof(Kept));
        if (!kept || pthread_setspecific(key, kept)) {
            free(kept);
            return NULL;
        }
    }
    if (bytes > kept->bytes[slot]) {
        free(kept->memory[slot]);
        void *memory = NULL;
        if (posix_memalign(&memory, 64, (size_t)bytes)) memory = NULL;
        kept->memory[slot] = memory;
        kept->bytes[slot] = memory ? bytes : 0;
    }
    return kept->memory[slot];
}

void ask_for_huge_pages(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, from = ((uintptr_t)start + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)start + bytes) / page * page;
    if (from < to) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}

EXPORT void normfree_ask_for_huge_pages(void *start, int64_t bytes) {
    ask_for_huge_pages(start, bytes);
}

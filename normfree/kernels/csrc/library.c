/* The functions that Python calls through ctypes, which take pointers and sizes. They need no
 * Python headers, so one binary works with every Python version. Each returns DONE or an error code.
 */

#include "variant.h"

#include <string.h>

/* Digest of the sources this was built from; see sources.py. */
EXPORT const char *normfree_sources(void) { return NORMFREE_SOURCES; }

#define AS_NAME(NAME, ARGUMENTS) #NAME " "
EXPORT const char *normfree_operations(void) { return OPERATIONS(AS_NAME); }

/* ---- Instruction sets ---- */

const Variant *chosen;

static int processor_has(const Variant *variant) {
#ifdef __x86_64__
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                     __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (variant == &normfree_avx2) return avx2;
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi");
#else
    return variant != NULL;
#endif
}

/* Select an instruction set, or the best for "". Returns its name, or "" if unsupported. */
EXPORT const char *normfree_use(const char *name) {
#if defined(__x86_64__)
    const Variant *variants[] = {&normfree_avx512, &normfree_avx2, NULL};
#elif defined(__aarch64__)
    const Variant *variants[] = {&normfree_neon, NULL};
#else
    const Variant *variants[] = {NULL};
#endif
    for (const Variant **variant = variants; *variant; variant++)
        if (processor_has(*variant) && (!*name || !strcmp(name, (*variant)->name))) {
            chosen = *variant;
            return chosen->name;
        }
    return "";
}

/* ---- The operators ---- */

EXPORT int normfree_randaugment(
    const byte *images, byte *result, int64_t n, int64_t channels, int64_t height, int64_t width,
    const Operation *operations, int64_t kinds, int64_t layers, const int64_t *codes,
    const int64_t *rows, const int64_t *columns, int64_t threads) {
    const Augmentation job = {images, result, {channels, height, width}, operations, kinds, n,
                              layers, codes,  rows,                      columns};
    ask_for_huge_pages(result, n * bytes_of(job.shape));
    return divide(chosen->augment, &job, n, threads);
}

EXPORT int normfree_mix_bytes(
    const void *images, const void *others, byte *result, int64_t n, int64_t channels,
    int64_t height, int64_t width, int64_t floats, const float *ratios, const int64_t *boxes,
    const byte *cutmix, int64_t threads) {
    const Mixture job = {images, others, result, {channels, height, width}, floats,
                         ratios, boxes,  cutmix};
    ask_for_huge_pages(result, n * bytes_of(job.shape));
    return divide(chosen->mix, &job, n, threads);
}

EXPORT int normfree_normalize(
    const byte *images, float *result, int64_t n, int64_t channels, int64_t height, int64_t width,
    const float *means, const float *deviations, int64_t threads) {
    const Normalization job = {images, result, {channels, height, width}, means, deviations};
    ask_for_huge_pages(result, n * bytes_of(job.shape) * (int64_t)sizeof(float));
    return divide(chosen->normalize, &job, n, threads);
}

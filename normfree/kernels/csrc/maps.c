/* What Python calls for work on feature maps. */

#include "variant.h"

#include <stddef.h>

#define AS_ACTIVATION_NAME(NAME) #NAME " "
EXPORT const char *normfree_activations(void) { return ACTIVATIONS(AS_ACTIVATION_NAME); }

/* Fresh memory of at least this many bytes is mapped in huge pages. */
enum { LARGE = 1 << 21 };

static void prepare(float *result, int64_t elements) {
    const int64_t bytes = elements * (int64_t)sizeof(float);
    if (bytes >= LARGE) ask_for_huge_pages(result, bytes);
}

/* scale f(x), or with `grad` its gradient. */
EXPORT int normfree_activate(
    const float *x, const float *grad, float *result, int64_t elements, int64_t kind, float scale,
    int64_t threads) {
    const Activation job = {x, grad, result, kind, scale};
    prepare(result, elements);
    return divide(chosen->activate, &job, elements, threads);
}

/* x gate + skip or shift, which may be NULL. */
EXPORT int normfree_gate(
    const float *x, const float *gate, const float *skip, const float *shift, float *result,
    int64_t n, int64_t channels, int64_t pixels, int64_t channels_last, int64_t threads) {
    const Gating job = {.x = x,
                        .gate = gate,
                        .skip = skip,
                        .shift = shift,
                        .result = result,
                        .channels = channels,
                        .pixels = pixels,
                        .channels_last = channels_last};
    prepare(result, n * channels * pixels);
    return divide(chosen->gate, &job, n * (channels_last ? pixels : channels), threads);
}

/* Sums over pixels of x, or of x and `other`; and x gate if `gate` is not NULL. */
EXPORT int normfree_sum(
    const float *x, const float *other, const float *gate, float *result, float *sums, int64_t n,
    int64_t channels, int64_t pixels, int64_t channels_last, int64_t threads) {
    const Gating job = {.x = x,
                        .other = other,
                        .gate = gate,
                        .result = result,
                        .sums = sums,
                        .channels = channels,
                        .pixels = pixels,
                        .channels_last = channels_last};
    if (gate) prepare(result, n * channels * pixels);
    const int64_t tiles = (channels + CHANNELS_OF_TILE - 1) / CHANNELS_OF_TILE;
    return divide(chosen->sum, &job, n * (channels_last ? tiles : channels), threads);
}

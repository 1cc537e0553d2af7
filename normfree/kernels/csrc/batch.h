/* Processing a range of images in a batch. All operations of an image are applied in sequence while
 * it is in the L2 cache. This file is compiled once per instruction set; see kernels.h.
 */

#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "activations.h"
#include "maps.h"
#include "linear.h"
#include "operations.h"
#include "rows.h"

#include "convolution.h"
#include "jpeg_region.h"
#include "resize.h"

/* ---- RandAugment ---- */

typedef struct {
    byte *image, *framed;
    float *rows;
} Scratch;

#define AS_CASE(NAME, ARGUMENTS)                                                                   \
    case KIND_##NAME: NAME ARGUMENTS; break;

static void apply(
    const Operation *how, const byte *in, byte *out, Shape shape, int64_t row, int64_t column,
    const Scratch *scratch) {
    switch (how->kind) { OPERATIONS(AS_CASE) }
}

static int augment_images(const void *given, int64_t first, int64_t last) {
    const Augmentation *job = given;
    const int64_t size = bytes_of(job->shape), width = job->shape.width;
    Scratch scratch = {malloc(size), malloc(pixels_of(job->shape) + 1), NULL};
    scratch.rows = malloc(3 * width * sizeof(float));
    int failed = scratch.image && scratch.framed && scratch.rows ? DONE : NO_MEMORY;
    for (int64_t i = first; i < last && !failed; i++) {
        byte *result = job->result + i * size;
        const byte *image = job->images + i * size;
        for (int64_t at = i; at < job->layers * job->n; at += job->n) {
            const int64_t code = job->codes[at];
            if (code < 0 || code >= job->kinds) {
                failed = UNKNOWN_OPERATION;
                break;
            }
            const Operation *how = job->operations + code;
            if (how->kind < 0 || how->kind >= KINDS) continue;
            byte *out = image == result ? scratch.image : result;
            apply(how, image, out, job->shape, job->rows[at], job->columns[at], &scratch);
            image = out;
        }
        if (image != result) memcpy(result, image, size);
    }
    free(scratch.image);
    free(scratch.framed);
    free(scratch.rows);
    return failed;
}

/* ---- MixUp and CutMix ---- */

/* PyTorch's lerp, which starts from the nearer endpoint, then clipped. */
#define DEFINE_BLEND(NAME, PIXEL)                                                                  \
    static void NAME(const PIXEL *restrict a, const PIXEL *restrict b, byte *restrict out,         \
                     int64_t n, float weight) {                                                    \
        const int to_b = fabsf(weight) < 0.5f;                                                     \
        const PIXEL *near = to_b ? b : a, *far = to_b ? a : b;                                     \
        const float share = to_b ? weight : 1.0f - weight;                                         \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const float x = near[i];                                                               \
            out[i] = to_byte(fmaf(share, (float)far[i] - x, x));                                   \
        }                                                                                          \
    }

DEFINE_BLEND(blend_bytes, byte)
DEFINE_BLEND(blend_floats, float)

/* Mix `n` pixels starting at index `at` with the given weight of the first image. */
static void mix_pixels(const Mixture *job, int64_t at, int64_t n, float weight) {
    byte *out = job->result + at;
    if (job->floats) {
        const float *a = job->images, *b = job->others;
        blend_floats(a + at, b + at, out, n, weight);
    } else {
        const byte *a = job->images, *b = job->others;
        if (weight == 0.0f || weight == 1.0f) memcpy(out, (weight == 0.0f ? b : a) + at, n);
        else blend_bytes(a + at, b + at, out, n, weight);
    }
}

static int mix_images(const void *given, int64_t first, int64_t last) {
    const Mixture *job = given;
    const int64_t height = job->shape.height, width = job->shape.width;
    for (int64_t i = first; i < last; i++) {
        const int64_t *box = job->boxes + 4 * i;
        const int64_t top = within(box[0], height), bottom = within(box[1], height);
        const int64_t left = within(box[2], width), right = within(box[3], width);
        const float weight = job->cutmix[i] ? 1.0f : job->ratios[i];
        const int64_t rows = job->shape.channels * height;
        for (int64_t row = 0; row < rows; row++) {
            const int64_t at = (i * rows + row) * width, y = row % height;
            if (y < top || y >= bottom || left >= right) {
                mix_pixels(job, at, width, 0.0f);
                continue;
            }
            mix_pixels(job, at, left, 0.0f);
            mix_pixels(job, at + left, right - left, weight);
            mix_pixels(job, at + right, width - right, 0.0f);
        }
    }
    return 0;
}

/* ---- Normalization ---- */

static int normalize_images(const void *given, int64_t first, int64_t last) {
    const Normalization *job = given;
    const int64_t n = pixels_of(job->shape), channels = job->shape.channels;
    for (int64_t plane = first * channels; plane < last * channels; plane++) {
        const byte *restrict in = job->images + plane * n;
        float *restrict out = job->result + plane * n;
        const float mean = job->means[plane % channels];
        const float deviation = job->deviations[plane % channels];
        for (int64_t i = 0; i < n; i++) out[i] = ((float)in[i] - mean) / deviation;
    }
    return 0;
}

const Variant VARIANT = {
    .name = VARIANT_NAME,
    .augment = augment_images,
    .mix = mix_images,
    .normalize = normalize_images,
    .resize = resize_rows,
    .decode = decode_region,
    .pack = pack_filters,
    .multiply = multiply_blocks,
    .weight_gradient = gradient_of_rows,
    .tile_rows = TILE_ROWS,
    .standardize = standardize_rows,
    .standardize_gradient = standardize_gradient_rows,
    .sum_pieces = sum_pieces,
    .update = update_rows,
    .activate = activate_elements,
    .gate = gate_maps,
    .linear = linear,
    .linear_gradient = linear_gradient,
    .sum = sum_maps,
};

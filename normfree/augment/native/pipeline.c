/* Mixing, RandAugment and normalization on a processor: whole batches, image after image.
 *
 * An image meets its operations one by one while it lies in the second-level cache. Images are
 * contiguous (n, channels, height, width).
 */

#define _DEFAULT_SOURCE /* madvise */

#include "operations.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { MOST_THREADS = 64 };

/* ---- Whole batches, divided among threads ---- */

/* New memory costs the system more, in pages of 4 KiB, than what is to be written there. */
static void ask_for_huge_pages(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, from = ((uintptr_t)start + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)start + bytes) / page * page;
    if (from < to) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}

/* Images first ... last - 1 of a job; 0 if there was memory for it. */
typedef int Work(const void *job, int64_t first, int64_t last);

typedef struct {
    Work *work;
    const void *job;
    int64_t first, last;
    int failed, started;
    pthread_t thread;
} Share;

static void *do_share(void *given) {
    Share *share = given;
    share->failed = share->work(share->job, share->first, share->last);
    return NULL;
}

static int divide(Work *work, const void *job, int64_t n, int64_t threads) {
    Share shares[MOST_THREADS];
    threads = threads > MOST_THREADS ? MOST_THREADS : threads;
    threads = threads > n ? n : threads < 1 ? 1 : threads;
    int failed = 0;
    for (int64_t i = 0; i < threads; i++) {
        shares[i] = (Share){.work = work, .job = job};
        shares[i].first = n * i / threads;
        shares[i].last = n * (i + 1) / threads;
        if (i) shares[i].started = !pthread_create(&shares[i].thread, NULL, do_share, &shares[i]);
    }
    for (int64_t i = 0; i < threads; i++) /* also those for which there was no thread */
        if (!shares[i].started) do_share(&shares[i]);
    for (int64_t i = 0; i < threads; i++) {
        if (shares[i].started) pthread_join(shares[i].thread, NULL);
        failed |= shares[i].failed;
    }
    return failed;
}

/* In the order of randaugment.OPERATIONS. */
enum {
    AUTO_CONTRAST, EQUALIZE, INVERT, ROTATE, POSTERIZE, SOLARIZE, COLOR, CONTRAST, BRIGHTNESS,
    SHARPNESS, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, CUTOUT, SOLARIZE_ADD,
};

/* An operation and its strength. Of those that move pixels, `list` has either runs, and `number` is
 * how many, or, where `number` is 0, places. */
typedef struct {
    int32_t active; /* 0 if it does nothing */
    int32_t number; /* bits, threshold, pad, addition, quirks or runs */
    float factor;
    const int32_t *list;
} Operation;

typedef struct {
    const byte *images;
    byte *result;
    Shape shape;
    const Operation *operations; /* of each code: 2 kind, and 1 more if it goes the other way */
    int64_t n, layers;
    const int64_t *codes, *rows, *columns; /* (layers, n); rows and columns of Cutout's centres */
} Augmentation;

typedef struct {
    byte *image, *framed;
    float *rows;
} Scratch;

static void apply(
    int kind, Operation how, const byte *in, byte *out, Shape shape, int64_t row, int64_t column,
    Scratch scratch) {
    switch (kind) {
    case AUTO_CONTRAST: auto_contrast(in, out, shape); break;
    case EQUALIZE: equalize(in, out, shape); break;
    case INVERT: invert(in, out, shape); break;
    case POSTERIZE: posterize(in, out, shape, how.number); break;
    case SOLARIZE: solarize(in, out, shape, how.number); break;
    case COLOR: color(in, out, shape, how.factor); break;
    case CONTRAST: contrast(in, out, shape, how.factor, how.number); break;
    case BRIGHTNESS: brightness(in, out, shape, how.factor); break;
    case SHARPNESS: sharpness(in, out, shape, how.factor, scratch.rows); break;
    case CUTOUT: cutout(in, out, shape, row, column, how.number); break;
    case SOLARIZE_ADD: solarize_add(in, out, shape, how.number); break;
    default:
        if (how.number) move_runs(in, out, shape, how.list, how.number);
        else move_pixels(in, out, shape, how.list, scratch.framed);
    }
}

static int augment_images(const void *given, int64_t first, int64_t last) {
    const Augmentation *job = given;
    const int64_t size = bytes_of(job->shape), width = job->shape.width;
    Scratch scratch = {malloc(size), malloc(pixels_of(job->shape) + 1), NULL};
    scratch.rows = malloc(3 * width * sizeof(float));
    const int failed = !scratch.image || !scratch.framed || !scratch.rows;
    for (int64_t i = first; i < last && !failed; i++) {
        byte *result = job->result + i * size;
        const byte *image = job->images + i * size;
        for (int64_t at = i; at < job->layers * job->n; at += job->n) {
            const Operation how = job->operations[job->codes[at]];
            if (!how.active) continue;
            byte *out = image == result ? scratch.image : result;
            apply(job->codes[at] / 2, how, image, out, job->shape, job->rows[at], job->columns[at],
                  scratch);
            image = out;
        }
        if (image != result) memcpy(result, image, size);
    }
    free(scratch.image);
    free(scratch.framed);
    free(scratch.rows);
    return failed;
}

int randaugment(
    const byte *images, byte *result, int64_t n, int64_t channels, int64_t height, int64_t width,
    const Operation *operations, int64_t layers, const int64_t *codes, const int64_t *rows,
    const int64_t *columns, int64_t threads) {
    const Augmentation job = {images, result, {channels, height, width}, operations,
                              n,      layers, codes, rows, columns};
    ask_for_huge_pages(result, n * bytes_of(job.shape));
    return divide(augment_images, &job, n, threads);
}

/* ---- MixUp and CutMix ---- */

/* PyTorch's lerp, from whichever of the two is nearer, then clipped. */
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

typedef struct {
    const void *images, *others;
    byte *result;
    Shape shape;
    int floats;           /* whether images and others are float32, rather than bytes */
    const float *ratios;  /* (n) */
    const int64_t *boxes; /* (n, 4): top, bottom, left and right */
    const byte *cutmix;   /* (n) */
} Mixture;

/* `n` pixels from place `at` on, of which the first image has the weight. */
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

void mix_bytes(
    const void *images, const void *others, byte *result, int64_t n, int64_t channels,
    int64_t height, int64_t width, int64_t floats, const float *ratios, const int64_t *boxes,
    const byte *cutmix, int64_t threads) {
    const Mixture job = {images, others, result, {channels, height, width}, floats,
                         ratios, boxes,  cutmix};
    ask_for_huge_pages(result, n * bytes_of(job.shape));
    divide(mix_images, &job, n, threads);
}

/* ---- Normalization ---- */

typedef struct {
    const byte *images;
    float *result;
    Shape shape;
    const float *means, *deviations; /* (channels) */
} Normalization;

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

void normalize(
    const byte *images, float *result, int64_t n, int64_t channels, int64_t height, int64_t width,
    const float *means, const float *deviations, int64_t threads) {
    const Normalization job = {images, result, {channels, height, width}, means, deviations};
    ask_for_huge_pages(result, n * bytes_of(job.shape) * (int64_t)sizeof(float));
    divide(normalize_images, &job, n, threads);
}

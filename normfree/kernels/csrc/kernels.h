/* Declarations shared by all files here. Images are contiguous (n, channels, height, width).
 *
 * The instruction set is selected when the library is loaded, not when it is compiled: batch.h is
 * compiled once for each of them (avx2.c, avx512.c, neon.c), and library.c selects one. All of them
 * compute the same bytes.
 */

#ifndef NORMFREE_KERNELS_H
#define NORMFREE_KERNELS_H

#include <stdint.h>

typedef uint8_t byte;

typedef struct {
    int64_t channels, height, width;
} Shape;

static inline int64_t pixels_of(Shape shape) { return shape.height * shape.width; }
static inline int64_t bytes_of(Shape shape) { return shape.channels * pixels_of(shape); }

/* ---- Jobs: arguments for a whole batch ---- */

enum { DONE = 0, NO_MEMORY = 1, UNKNOWN_OPERATION = 2 };

/* Process images first ... last - 1 of a job. */
typedef int Work(const void *job, int64_t first, int64_t last);

/* The RandAugment operations on one image, and their arguments. This is the only list of them in C;
 * Python looks up the index of an operation by name. */
#define OPERATIONS(X)                                                                              \
    X(auto_contrast, (in, out, shape))                                                             \
    X(brightness, (in, out, shape, how->factor))                                                   \
    X(color, (in, out, shape, how->factor))                                                        \
    X(contrast, (in, out, shape, how->factor, how->number))                                        \
    X(cutout, (in, out, shape, how->number, row, column))                                          \
    X(equalize, (in, out, shape))                                                                  \
    X(invert, (in, out, shape))                                                                    \
    X(move_pixels, (in, out, shape, how->list, scratch->framed))                                   \
    X(move_runs, (in, out, shape, how->list, how->number))                                         \
    X(posterize, (in, out, shape, how->number))                                                    \
    X(sharpness, (in, out, shape, how->factor, scratch->rows))                                     \
    X(solarize, (in, out, shape, how->number))                                                     \
    X(solarize_add, (in, out, shape, how->number))

#define AS_ENUMERATOR(NAME, ARGUMENTS) KIND_##NAME,
enum { OPERATIONS(AS_ENUMERATOR) KINDS };

/* An operation at one strength. */
typedef struct {
    int32_t kind;   /* index in the list above; negative if it does nothing */
    int32_t number; /* bits, threshold, pad, addition, quirks flag, or number of runs */
    float factor;
    const int32_t *list; /* places or runs of pixels */
} Operation;

typedef struct {
    const byte *images;
    byte *result;
    Shape shape;
    const Operation *operations; /* one operation per code */
    int64_t kinds, n, layers;
    const int64_t *codes, *rows, *columns; /* (layers, n); rows and columns of Cutout's centers */
} Augmentation;

typedef struct {
    const void *images, *others;
    byte *result;
    Shape shape;
    int64_t floats;       /* whether images and others are float32 rather than bytes */
    const float *ratios;  /* (n) */
    const int64_t *boxes; /* (n, 4): top, bottom, left and right */
    const byte *cutmix;   /* (n) */
} Mixture;

typedef struct {
    const byte *images;
    float *result;
    Shape shape;
    const float *means, *deviations; /* (channels) */
} Normalization;

/* ---- Activations, of all elements of dense memory ---- */

#define ACTIVATIONS(X) X(gelu) X(relu) X(silu)

#define AS_ACTIVATION_ENUMERATOR(NAME) ACTIVATION_##NAME,
enum { ACTIVATIONS(AS_ACTIVATION_ENUMERATOR) };

typedef struct {
    const float *x, *grad; /* grad: NULL for the value */
    float *result;
    int64_t kind; /* index in the list above */
    float scale;
} Activation;

/* ---- Feature maps: (n, channels, pixels), or (n, pixels, channels) with the channels last ---- */

enum { CHANNELS_OF_TILE = 512 };

typedef struct {
    const float *x, *other, *skip; /* maps */
    const float *gate, *shift;     /* (n, channels) */
    float *result, *sums;          /* a map; (n, channels) */
    int64_t channels, pixels, channels_last;
} Gating;

/* ---- The same work compiled for several instruction sets ---- */

typedef struct {
    const char *name;
    Work *augment, *mix, *normalize;
    Work *activate, *gate, *sum;
} Variant;

#if defined(__x86_64__)
extern const Variant normfree_avx2, normfree_avx512;
#elif defined(__aarch64__)
extern const Variant normfree_neon;
#endif

/* Process n images, divided among threads. */
int divide(Work *work, const void *job, int64_t n, int64_t threads);

/* Request huge pages: otherwise page faults on new memory cost more than writing to it. */
void ask_for_huge_pages(void *start, int64_t bytes);

#endif

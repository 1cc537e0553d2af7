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

enum { DONE = 0, NO_MEMORY = 1, UNKNOWN_OPERATION = 2, OUTSIDE = 3, UNSUPPORTED = 4 };

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

/* ---- Resizing ---- */

/* Where each output's taps are along an axis, at `origin + step * input`, and their weights. */
typedef struct {
    const int32_t *inputs; /* (outputs, taps) */
    const float *weights;  /* (outputs, taps) */
    int64_t outputs, taps, origin, step;
} Axis;

typedef struct {
    const byte *image; /* rows of (width, channels), `stride` bytes apart */
    int64_t width, channels, stride;
    Axis rows, columns;
    void *result;  /* (channels, rows.outputs, columns.outputs) */
    int64_t bytes; /* whether the result is bytes rather than float32 */
} Resizing;

/* ---- Convolutions, of maps with the channels last: (n, height, width, channels) ---- */

typedef struct {
    int64_t n, groups;
    int64_t in_height, in_width, in_channels;
    int64_t out_height, out_width, out_channels;
    int64_t kernel_height, kernel_width, stride_height, stride_width;
    int64_t dilation_height, dilation_width, top, left; /* top, left: padding */
} Geometry;

/* Filters of out_channels rows. A row is (depth, taps), or (taps, depth) if `taps_first`, where
 * depth is in_channels / groups. With gains, the filters applied are the standardized ones. */
typedef struct {
    const float *weight, *gain; /* gain: (out_channels) or NULL */
    float eps;
    int64_t taps_first;
} Filters;

enum { PANEL = 32 };

static inline int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

/* Filters in panels of columns, ready to be multiplied: (groups, panels, taps, depth, PANEL). */
typedef struct {
    const Geometry *shape;
    const Filters *filters;
    float *packed;
    int64_t transposed; /* whether columns are input channels, for the gradient of the input */
} Packing;

/* Output pixels that sum over the same taps. A plain convolution has one class; the gradient of the
 * input of a strided one has one for each position within a stride. */
typedef struct {
    int64_t pixels, taps;   /* pixels: of one image */
    int32_t *tap;           /* (taps): which ones */
    int32_t *target;        /* (pixels): number of the output pixel */
    int32_t *source;        /* (taps, pixels): number of the input pixel, or -1 in the padding */
} PixelClass;

typedef struct {
    const float *in, *packed, *bias; /* bias: (groups * width) or NULL */
    float *out;
    int64_t n, groups, taps, depth, width; /* depth, width: channels in and out of a group */
    int64_t in_pixels, out_pixels;         /* of one image */
    int64_t classes;
    const PixelClass *class;
    int64_t block; /* most rows processed together */
} Product;

/* The rows of a class are split into blocks of nearly equal size. */
static inline int64_t blocks_of(const Product *job, const PixelClass *class) {
    return (job->n * class->pixels + job->block - 1) / job->block;
}

typedef struct {
    const Geometry *shape;
    const Filters *filters;
    const float *in, *out_grad;
    float *weight_grad, *gain_grad, *bias_grad; /* the last two may be NULL */
    const PixelClass *class;
} WeightGradient;

/* ---- Linear layers of few rows ---- */

enum { LINE = 64 }; /* columns that are divided among threads together */

typedef struct {
    const float *x, *weight; /* (n, in); (out, in) */
    const float *bias;       /* (out) or NULL */
    float *result;           /* (n, out) */
    const float *grad;       /* of the result; these three only for the gradient */
    float *x_grad, *weight_grad;
    int64_t n, in, out;
} Linear;

/* ---- Weights: rows of `fan_in` numbers, one for each output unit ---- */

typedef struct {
    const float *weight, *grad, *gain; /* gain: one for each row; grad: of the standardized weight */
    float *result, *gain_grad;         /* grad and gain_grad: only for the gradient */
    int64_t fan_in;
    float eps;
} Standardization;

enum { PIECE = 1 << 14 };

/* A parameter with its state. A unit larger than a piece is the whole tensor, and is split. */
typedef struct {
    float *w;
    const float *grad;
    float *v, *a;              /* velocity and average, or NULL */
    int64_t first, size, unit; /* elements in the tensors before it, of it, and of a unit */
    int64_t scale, sum;        /* places of its first unit's scale, and of its pieces' sums or -1 */
} Tensor;

typedef struct {
    const Tensor *tensors;
    int64_t count, clips, nesterov;
    float clipping, eps, lr, momentum, weight_decay, average_weight;
    float *scales; /* one for each unit */
    double *sums;  /* of squares of a piece of the parameter and of its gradient */
} Update;

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
    Work *augment, *mix, *normalize, *resize, *decode;
    Work *pack, *multiply, *weight_gradient;
    int64_t tile_rows;
    Work *standardize, *standardize_gradient, *sum_pieces, *update;
    Work *activate, *gate, *sum;
    Work *linear, *linear_gradient;
} Variant;

#if defined(__x86_64__)
extern const Variant normfree_avx2, normfree_avx512;
#elif defined(__aarch64__)
extern const Variant normfree_neon;
#endif

/* Process n images, divided among threads. */
int divide(Work *work, const void *job, int64_t n, int64_t threads);

/* Memory of the calling thread that is kept between calls, in numbered slots; NULL if there is none
 * left. */
enum { PACKED_SLOT, ROWS_SLOT, OTHER_SLOT, SLOTS };
void *scratch(int slot, int64_t bytes);

/* Request huge pages: otherwise page faults on new memory cost more than writing to it. */
void ask_for_huge_pages(void *start, int64_t bytes);

#endif

/* Convolutions and their gradients: which pixels are summed, and the order of the work. */

#include "variant.h"

#include <stdlib.h>
#include <string.h>

enum { PANEL = 32, BLOCK_BYTES = 512 << 10 };

/* ---- Which input pixels an output pixel sums over ---- */

static void free_classes(PixelClass *classes, int64_t count) {
    for (int64_t c = 0; classes && c < count; c++) {
        free(classes[c].tap);
        free(classes[c].target);
        free(classes[c].source);
    }
    free(classes);
}

static int room(PixelClass *class, int64_t pixels, int64_t taps) {
    class->tap = malloc((taps + 1) * sizeof(int32_t));
    class->target = malloc((pixels + 1) * sizeof(int32_t));
    class->source = malloc((pixels * taps + 1) * sizeof(int32_t));
    return class->tap && class->target && class->source;
}

static PixelClass *forward_class(const Geometry *shape) {
    const int64_t taps = shape->kernel_height * shape->kernel_width;
    const int64_t pixels = shape->out_height * shape->out_width;
    PixelClass *class = calloc(1, sizeof(PixelClass));
    if (!class || !room(class, pixels, taps)) {
        free_classes(class, 1);
        return NULL;
    }
    class->pixels = pixels;
    class->taps = taps;
    for (int64_t pixel = 0; pixel < pixels; pixel++) class->target[pixel] = (int32_t)pixel;
    for (int64_t tap = 0; tap < taps; tap++) {
        class->tap[tap] = (int32_t)tap;
        const int64_t down = tap / shape->kernel_width * shape->dilation_height - shape->top;
        const int64_t right = tap % shape->kernel_width * shape->dilation_width - shape->left;
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            const int64_t y = pixel / shape->out_width * shape->stride_height + down;
            const int64_t x = pixel % shape->out_width * shape->stride_width + right;
            const int inside = y >= 0 && y < shape->in_height && x >= 0 && x < shape->in_width;
            class->source[tap * pixels + pixel] = inside ? (int32_t)(y * shape->in_width + x) : -1;
        }
    }
    return class;
}

/* An input pixel gets a part of the gradient of the output pixels that summed over it. Input pixels
 * with the same position within a stride sum over the same taps. */
static PixelClass *backward_classes(const Geometry *shape) {
    const int64_t sh = shape->stride_height, sw = shape->stride_width, count = sh * sw;
    const int64_t taps = shape->kernel_height * shape->kernel_width;
    PixelClass *classes = calloc(count, sizeof(PixelClass));
    for (int64_t c = 0; classes && c < count; c++) {
        PixelClass *class = classes + c;
        const int64_t y0 = c / sw, x0 = c % sw;
        const int64_t height = y0 < shape->in_height ? (shape->in_height - y0 + sh - 1) / sh : 0;
        const int64_t width = x0 < shape->in_width ? (shape->in_width - x0 + sw - 1) / sw : 0;
        class->pixels = height * width;
        if (!room(class, class->pixels, taps)) {
            free_classes(classes, count);
            return NULL;
        }
        for (int64_t i = 0; i < class->pixels; i++)
            class->target[i] =
                (int32_t)((y0 + i / width * sh) * shape->in_width + x0 + i % width * sw);
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t ky = tap / shape->kernel_width, kx = tap % shape->kernel_width;
            const int64_t down = y0 + shape->top - ky * shape->dilation_height;
            const int64_t right = x0 + shape->left - kx * shape->dilation_width;
            if (down % sh || right % sw) continue;
            int32_t *source = class->source + class->taps * class->pixels;
            class->tap[class->taps++] = (int32_t)tap;
            for (int64_t i = 0; i < class->pixels; i++) {
                const int64_t y = down / sh + i / width, x = right / sw + i % width;
                const int inside =
                    y >= 0 && y < shape->out_height && x >= 0 && x < shape->out_width;
                source[i] = inside ? (int32_t)(y * shape->out_width + x) : -1;
            }
        }
    }
    return classes;
}

/* ---- The order of the work ---- */

static int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

/* Pack the filters, then multiply. `product` says which pixels, and how many channels. */
static int convolve(const Geometry *shape, const Filters *filters, Product *product,
                    int transposed, int64_t threads) {
    const int64_t tile = chosen->tile_rows, groups = shape->groups;
    const int64_t panels = panels_of(product->width), size = product->taps * product->depth;
    float *packed = scratch(PACKED_SLOT, groups * panels * size * PANEL * sizeof(float));
    if (!packed) return NO_MEMORY;
    const Packing packing = {shape, filters, packed, transposed};
    const int64_t rows = panels_of(shape->out_channels / groups) * groups;
    int failed = divide(chosen->pack, &packing, rows, threads);
    if (failed) return failed;
    product->packed = packed;
    product->groups = groups;
    product->n = shape->n;
    const int64_t most = BLOCK_BYTES / (size * (int64_t)sizeof(float)) / tile;
    product->block = tile * (most < 1 ? 1 : most > 16 ? 16 : most);
    int64_t items = 0;
    for (int64_t c = 0; c < product->classes; c++)
        items += blocks_of(product, product->class + c) * groups * panels;
    return divide(chosen->multiply, product, items, threads);
}

EXPORT int normfree_convolve(const Geometry *shape, const float *weight, const float *gain,
                             float eps, int64_t taps_first, const float *in, const float *bias,
                             float *out, int64_t threads) {
    const Filters filters = {weight, gain, eps, taps_first};
    PixelClass *class = forward_class(shape);
    if (!class) return NO_MEMORY;
    Product product = {
        .in = in,
        .bias = bias,
        .out = out,
        .taps = shape->kernel_height * shape->kernel_width,
        .depth = shape->in_channels / shape->groups,
        .width = shape->out_channels / shape->groups,
        .in_pixels = shape->in_height * shape->in_width,
        .out_pixels = shape->out_height * shape->out_width,
        .classes = 1,
        .class = class,
    };
    const int failed = convolve(shape, &filters, &product, 0, threads);
    free_classes(class, 1);
    return failed;
}

EXPORT int normfree_convolve_input_gradient(const Geometry *shape, const float *weight,
                                            const float *gain, float eps, int64_t taps_first,
                                            const float *out_grad, float *in_grad,
                                            int64_t threads) {
    const Filters filters = {weight, gain, eps, taps_first};
    const int64_t classes = shape->stride_height * shape->stride_width;
    PixelClass *class = backward_classes(shape);
    if (!class) return NO_MEMORY;
    Product product = {
        .in = out_grad,
        .out = in_grad,
        .taps = shape->kernel_height * shape->kernel_width,
        .depth = shape->out_channels / shape->groups,
        .width = shape->in_channels / shape->groups,
        .in_pixels = shape->out_height * shape->out_width,
        .out_pixels = shape->in_height * shape->in_width,
        .classes = classes,
        .class = class,
    };
    const int failed = convolve(shape, &filters, &product, 1, threads);
    free_classes(class, classes);
    return failed;
}

EXPORT int normfree_convolve_weight_gradient(const Geometry *shape, const float *weight,
                                             const float *gain, float eps, int64_t taps_first,
                                             const float *in, const float *out_grad,
                                             float *weight_grad, float *gain_grad,
                                             float *bias_grad, int64_t threads) {
    const Filters filters = {weight, gain, eps, taps_first};
    PixelClass *class = forward_class(shape);
    if (!class) return NO_MEMORY;
    const WeightGradient job = {shape,       &filters,  in,        out_grad,
                                weight_grad, gain_grad, bias_grad, class};
    const int64_t width = shape->out_channels / shape->groups;
    const int64_t tiles = (width + chosen->tile_rows - 1) / chosen->tile_rows * shape->groups;
    const int failed = divide(chosen->weight_gradient, &job, tiles, threads);
    free_classes(class, 1);
    return failed;
}

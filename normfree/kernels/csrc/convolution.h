/* The work of a convolution, by blocks: packing filters, multiplying, and the filters' gradient.
 * convolution.c divides it among threads. */

#include "tile.h"

#include <string.h>

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

/* ---- Packing ---- */

/* From PANEL rows of `n` values to (n, PANEL). */
static void transpose_panel(const float *rows, int64_t n, float *out) {
    const int64_t whole = n / 4 * 4;
    for (int64_t i = 0; i < whole; i += 4)
        for (int64_t r = 0; r < PANEL; r += 4)
            transpose_4(rows + r * n + i, n, out + i * PANEL + r, PANEL);
    for (int64_t i = whole; i < n; i++)
        for (int64_t r = 0; r < PANEL; r++) out[i * PANEL + r] = rows[r * n + i];
}

/* Row `o` of the applied filters, as (taps, depth). */
static void applied_row(const Packing *job, int64_t o, int64_t taps, int64_t depth,
                        float *restrict out) {
    const Filters *filters = job->filters;
    const float *restrict row = filters->weight + o * taps * depth;
    float mean = 0.0f, scale = 1.0f;
    if (filters->gain) {
        const RowStatistics found = statistics_of(row, taps * depth, filters->eps);
        mean = found.mean;
        scale = found.inverse * filters->gain[o];
    }
    if (filters->taps_first || taps == 1) {
        for (int64_t k = 0; k < taps * depth; k++) out[k] = (row[k] - mean) * scale;
        return;
    }
    for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t i = 0; i < depth; i++)
            out[tap * depth + i] = (row[i * taps + tap] - mean) * scale;
}

/* Panels are numbered over groups: 32 output channels each. */
static int pack_filters(const void *given, int64_t first, int64_t last) {
    const Packing *job = given;
    const Geometry *shape = job->shape;
    const int64_t taps = shape->kernel_height * shape->kernel_width;
    const int64_t depth = shape->in_channels / shape->groups;
    const int64_t width = shape->out_channels / shape->groups;
    const int64_t size = taps * depth, panels = panels_of(width);
    float *rows = scratch(ROWS_SLOT, PANEL * size * sizeof(float));
    if (!rows) return NO_MEMORY;
    for (int64_t item = first; item < last; item++) {
        const int64_t group = item / panels, start = item % panels * PANEL;
        const int64_t count = least(PANEL, width - start);
        for (int64_t r = 0; r < count; r++)
            applied_row(job, group * width + start + r, taps, depth, rows + r * size);
        if (!job->transposed) {
            memset(rows + count * size, 0, (PANEL - count) * size * sizeof(float));
            transpose_panel(rows, size, job->packed + item * size * PANEL);
            continue;
        }
        const int64_t in_panels = panels_of(depth), panel = taps * width * PANEL;
        float *packed = job->packed + group * in_panels * panel;
        for (int64_t r = 0; r < count; r++)
            for (int64_t p = 0; p < in_panels; p++)
                for (int64_t tap = 0; tap < taps; tap++) {
                    const int64_t columns = least(PANEL, depth - p * PANEL);
                    float *to = packed + p * panel + (tap * width + start + r) * PANEL;
                    memcpy(to, rows + r * size + tap * depth + p * PANEL, columns * sizeof(float));
                    memset(to + columns, 0, (PANEL - columns) * sizeof(float));
                }
    }
    return DONE;
}

/* ---- Multiplying: the convolution itself, and the gradient of its input ---- */

/* Copy what the rows of a block sum over, tap by tap, next to each other. */
static void gather(const Product *job, const PixelClass *class, int64_t group, int64_t first,
                   int64_t rows, float *out) {
    const int64_t stride = job->groups * job->depth, bytes = job->depth * sizeof(float);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t image = (first + r) / class->pixels, pixel = (first + r) % class->pixels;
        const float *in = job->in + image * job->in_pixels * stride + group * job->depth;
        for (int64_t tap = 0; tap < class->taps; tap++, out += job->depth) {
            const int32_t source = class->source[tap * class->pixels + pixel];
            if (source < 0) memset(out, 0, bytes);
            else memcpy(out, in + source * stride, bytes);
        }
    }
}

/* Whether the pixels that a class sums over are its own, in the same order. */
static int is_pointwise(const Product *job, const PixelClass *class) {
    return class->taps == 1 && class->pixels == job->in_pixels && job->classes == 1 &&
           job->in_pixels == job->out_pixels && job->taps == 1;
}

/* One panel of columns, for the rows of a block. */
static void multiply_panel(const Product *job, const PixelClass *class, int64_t group,
                           int64_t panel, int64_t first, int64_t rows, const float *a,
                           int64_t a_row) {
    const int64_t segment = job->depth * PANEL, start = panel * PANEL;
    const int64_t columns = least(PANEL, job->width - start);
    const float *packed =
        job->packed + (group * panels_of(job->width) + panel) * job->taps * segment;
    const float *segments[class->taps + 1];
    const int whole = class->taps == job->taps; /* all taps, in order: one long segment */
    for (int64_t tap = 0; tap < class->taps; tap++)
        segments[tap] = packed + class->tap[tap] * segment;
    float partial[TILE_ROWS * PANEL], bias[PANEL] = {0}, *y[TILE_ROWS];
    const int64_t stride = job->groups * job->width;
    float *out = job->out + group * job->width + start;
    RowProduct tile = {.a_row = a_row, .b = segments, .y = y};
    tile.segments = whole && class->taps ? 1 : class->taps;
    tile.depth = whole ? class->taps * job->depth : job->depth;
    if (job->bias) {
        memcpy(bias, job->bias + group * job->width + start, columns * sizeof(float));
        tile.bias = bias;
    }
    for (int64_t t = 0; t < tiles_of(rows); t++) {
        const int64_t begin = tile_start(rows, t), count = tile_start(rows, t + 1) - begin;
        float *place[TILE_ROWS];
        for (int64_t m = 0; m < count; m++) {
            const int64_t at = first + begin + m, image = at / class->pixels;
            const int64_t pixel = class->target[at % class->pixels];
            place[m] = out + (image * job->out_pixels + pixel) * stride;
            y[m] = columns == PANEL ? place[m] : partial + m * PANEL;
        }
        tile.a = a + begin * a_row;
        multiply_tile(count, &tile);
        for (int64_t m = 0; m < count && columns < PANEL; m++)
            memcpy(place[m], y[m], columns * sizeof(float));
    }
}

/* Items are numbered over classes, blocks of rows, groups and panels. */
static int multiply_blocks(const void *given, int64_t item, int64_t last) {
    const Product *job = given;
    const int64_t panels = panels_of(job->width);
    float *rows = scratch(ROWS_SLOT, job->block * job->taps * job->depth * sizeof(float));
    if (!rows) return NO_MEMORY;
    int64_t before = 0; /* items of the classes before */
    for (int64_t c = 0; c < job->classes; c++) {
        const PixelClass *class = job->class + c;
        const int64_t total = job->n * class->pixels;
        const int64_t blocks = blocks_of(job, class);
        const int64_t items = blocks * job->groups * panels;
        const int direct = is_pointwise(job, class);
        int64_t gathered = -1;
        for (; item < last && item < before + items; item++) {
            const int64_t panel = (item - before) % panels, part = (item - before) / panels;
            const int64_t group = part % job->groups, block = part / job->groups;
            const int64_t first = total * block / blocks;
            const int64_t count = total * (block + 1) / blocks - first;
            const int64_t stride = job->groups * job->depth;
            const float *a = direct ? job->in + first * stride + group * job->depth : rows;
            if (!direct && gathered != part) gather(job, class, group, first, count, rows);
            gathered = part;
            multiply_panel(job, class, group, panel, first, count, a,
                           direct ? stride : class->taps * job->depth);
        }
        before += items;
    }
    return DONE;
}

/* ---- The gradient of the filters ---- */

enum { PIXELS = 256, GRADIENT_ROWS_BYTES = 1 << 18 };

/* The pixels of a block, and for each tap those of its pixels that are not in the padding. */
typedef struct {
    const float **outs, **ins; /* (taps, PIXELS) */
    int64_t *counts;           /* (taps) */
    float *columns;            /* (PIXELS, size) where a row is not whole panels for each tap */
} Block;

typedef struct {
    int64_t taps, depth, width, size; /* size: of a row, in whole panels */
    int64_t in_stride, out_stride, total;
    int flat; /* whether taps and channels together are one axis of columns */
} Rows;

static void list_pixels(const WeightGradient *job, const Rows *rows, int64_t group, int64_t first,
                        int64_t count, Block *block) {
    const PixelClass *class = job->class;
    const int64_t in_pixels = job->shape->in_height * job->shape->in_width;
    const float *in = job->in + group * rows->depth, *out = job->out_grad + group * rows->width;
    for (int64_t tap = 0; tap < rows->taps; tap++) {
        int64_t found = 0;
        const float **ins = block->ins + tap * PIXELS, **outs = block->outs + tap * PIXELS;
        for (int64_t p = first; p < first + count; p++) {
            const int64_t image = p / class->pixels;
            const int32_t source = class->source[tap * class->pixels + p % class->pixels];
            const float *from = in + (image * in_pixels + source) * rows->in_stride;
            if (rows->flat) {
                float *to = block->columns + (p - first) * rows->size + tap * rows->depth;
                if (source < 0) memset(to, 0, rows->depth * sizeof(float));
                else memcpy(to, from, rows->depth * sizeof(float));
            } else if (source >= 0) {
                ins[found] = from;
                outs[found++] = out + p * rows->out_stride;
            }
        }
        block->counts[tap] = found;
    }
    if (!rows->flat) return;
    for (int64_t p = 0; p < count; p++) {
        block->ins[p] = block->columns + p * rows->size;
        block->outs[p] = out + (first + p) * rows->out_stride;
    }
    block->counts[0] = count;
}

/* Add what a block gives to rows [first, first + count) of a group. */
static void add_block(const Rows *rows, const Block *block, int64_t first, int64_t count,
                      float *gradient) {
    const int64_t taps = rows->flat ? 1 : rows->taps, size = rows->size / taps;
    for (int64_t tap = 0; tap < taps; tap++) {
        OuterProduct tile = {
            .a = block->outs + tap * PIXELS,
            .b = block->ins + tap * PIXELS,
            .count = block->counts[tap],
            .y_row = rows->size,
        };
        for (int64_t column = 0; column < size; column += PANEL)
            for (int64_t t = 0; t < tiles_of(count); t++) {
                const int64_t begin = tile_start(count, t), end = tile_start(count, t + 1);
                /* add_outer offsets y by a rows and b columns */
                tile.y = gradient + tap * size - first * rows->size;
                add_outer_tile(end - begin, &tile, first + begin, column);
            }
    }
}

/* From the gradient of an applied filter, (taps, depth), to that of the filter. */
static void finish_row(const WeightGradient *job, const Rows *rows, int64_t o,
                       const float *gradient, float *space) {
    const Filters *filters = job->filters;
    const int64_t taps = rows->taps, depth = rows->depth, size = taps * depth;
    float *out = job->weight_grad + o * size;
    if (!filters->taps_first && taps > 1) {
        for (int64_t i = 0; i < depth; i++)
            for (int64_t tap = 0; tap < taps; tap++)
                space[i * taps + tap] = gradient[tap * depth + i];
        gradient = space;
    }
    if (!filters->gain) memcpy(out, gradient, size * sizeof(float));
    else
        job->gain_grad[o] = standardize_gradient(filters->weight + o * size, gradient, out, size,
                                                 filters->gain[o], filters->eps);
}

/* Items are numbered over groups and tiles of output channels. */
static int gradient_of_rows(const void *given, int64_t item, int64_t last) {
    const WeightGradient *job = given;
    const Geometry *shape = job->shape;
    Rows rows = {
        .taps = shape->kernel_height * shape->kernel_width,
        .depth = shape->in_channels / shape->groups,
        .width = shape->out_channels / shape->groups,
        .in_stride = shape->in_channels,
        .out_stride = shape->out_channels,
        .total = shape->n * shape->out_height * shape->out_width,
    };
    rows.flat = rows.depth % PANEL != 0;
    rows.size = rows.flat ? panels_of(rows.taps * rows.depth) * PANEL : rows.taps * rows.depth;
    const int64_t tiles = tiles_of(rows.width);
    int64_t most = GRADIENT_ROWS_BYTES / (rows.size * (int64_t)sizeof(float)) / TILE_ROWS;
    most = most < 1 ? 1 : most; /* tiles at a time */
    const int64_t lists = rows.taps * PIXELS * sizeof(float *), kept = most * TILE_ROWS * rows.size;
    const int64_t columns = rows.flat ? PIXELS * rows.size : 0;
    char *memory = scratch(ROWS_SLOT, 2 * lists + rows.taps * sizeof(int64_t) +
                                          (kept + columns + rows.size) * sizeof(float));
    if (!memory) return NO_MEMORY;
    Block block = {(const float **)memory, (const float **)(memory + lists),
                   (int64_t *)(memory + 2 * lists), NULL};
    float *gradient = (float *)(memory + 2 * lists + rows.taps * sizeof(int64_t));
    block.columns = gradient + kept;
    memset(block.columns, 0, columns * sizeof(float));
    while (item < last) {
        const int64_t group = item / tiles, tile = item % tiles;
        const int64_t end = least(least(tiles, tile + most), tile + last - item);
        const int64_t first = tile_start(rows.width, tile);
        const int64_t count = tile_start(rows.width, end) - first;
        float *bias = job->bias_grad ? job->bias_grad + group * rows.width + first : NULL;
        memset(gradient, 0, count * rows.size * sizeof(float));
        if (bias) memset(bias, 0, count * sizeof(float));
        for (int64_t p = 0; p < rows.total; p += PIXELS) {
            list_pixels(job, &rows, group, p, least(PIXELS, rows.total - p), &block);
            add_block(&rows, &block, first, count, gradient);
            if (bias) {
                const float *out = job->out_grad + group * rows.width + first;
                for (int64_t k = p; k < least(p + PIXELS, rows.total); k++)
                    for (int64_t m = 0; m < count; m++) bias[m] += out[k * rows.out_stride + m];
            }
        }
        for (int64_t r = 0; r < count; r++)
            finish_row(job, &rows, group * rows.width + first + r, gradient + r * rows.size,
                       block.columns + columns);
        item += end - tile;
    }
    return DONE;
}

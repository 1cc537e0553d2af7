/* Decoding a part of a JPEG image: the coefficients of all blocks before its last must be passed
 * over, or those since a restart, but only the blocks that it needs are transformed. */

#include "jpeg.h"

#include "jpeg_bits.h"

#include "jpeg_transform.h"

#include "jpeg_colors.h"

/* The blocks of a component that a region needs, and their samples. */
typedef struct {
    Plane plane;
    int64_t top, bottom, left, right; /* in blocks, exclusive at the end */
} Needed;

static int64_t down_to(int64_t x, int64_t step) { return x / step; }
static int64_t up_to(int64_t x, int64_t step) { return (x + step - 1) / step; }

/* Of `n` samples from `first` of the image, those of a component: with `scale` 2, half as many and
 * one more on either side, but none beyond the component's `length`. In blocks. */
static void needed_blocks(
    int64_t first, int64_t n, int64_t scale, int64_t length, int64_t *from, int64_t *to) {
    int64_t start = first / scale, stop = (first + n - 1) / scale + 1;
    if (scale == 2) {
        start = start > 0 ? start - 1 : 0;
        stop = stop < length ? stop + 1 : length;
    }
    *from = down_to(start, 8);
    *to = up_to(stop, 8);
}

static int allocate(const Region *region, Needed needed[COMPONENTS]) {
    const Jpeg *jpeg = region->jpeg;
    for (int64_t i = 0; i < jpeg->components; i++) {
        const Component *component = jpeg->component + i;
        Needed *found = needed + i;
        const int64_t across = jpeg->component->across / component->across;
        const int64_t down = jpeg->component->down / component->down;
        needed_blocks(region->top, region->height, down, component->height, &found->top,
                      &found->bottom);
        needed_blocks(region->left, region->width, across, component->width, &found->left,
                      &found->right);
        const int64_t height = 8 * (found->bottom - found->top);
        const int64_t width = 8 * (found->right - found->left);
        found->plane = (Plane){malloc((size_t)(height * width)), 8 * found->top, 8 * found->left,
                               height, width, component->height, component->width};
        if (!found->plane.samples) return NO_MEMORY;
    }
    return DONE;
}

INLINE int decode_block(
    Reader *in, const Component *component, const Needed *needed, int64_t y, int64_t x,
    int32_t *mean) {
    int16_t block[BLOCK] __attribute__((aligned(64))) = {0};
    byte *out = needed->plane.samples + 8 * ((y - needed->top) * needed->plane.width +
                                             (x - needed->left));
    int last;
    if (take_block(in, component, mean, block, &last)) return UNSUPPORTED;
    if (last) transform_block(block, out, needed->plane.width);
    else fill_block(block[0], out, needed->plane.width);
    return DONE;
}

/* All blocks of one unit of the scan. */
INLINE int decode_unit(
    Reader *in, const Jpeg *jpeg, const Needed *needed, int64_t row, int64_t column,
    int32_t *means) {
    for (int64_t i = 0; i < jpeg->components; i++) {
        const Component *component = jpeg->component + i;
        const Needed *part = needed + i;
        for (int64_t v = 0; v < component->down; v++)
            for (int64_t h = 0; h < component->across; h++) {
                const int64_t y = row * component->down + v, x = column * component->across + h;
                const int wanted = y >= part->top && y < part->bottom && x >= part->left &&
                                   x < part->right;
                if (wanted ? decode_block(in, component, part, y, x, means + i)
                           : skip_block(in, component, means + i))
                    return UNSUPPORTED;
            }
    }
    return DONE;
}

static int decode_planes(const Region *region, const Needed *needed) {
    const Jpeg *jpeg = region->jpeg;
    const int64_t across = up_to(jpeg->width, 8 * jpeg->component->across);
    int64_t first = 0, last = 0, right = 0; /* rows of units, and how many columns of the last */
    for (int64_t i = 0; i < jpeg->components; i++) {
        const int64_t down = jpeg->component[i].down;
        const int64_t top = down_to(needed[i].top, down), bottom = up_to(needed[i].bottom, down);
        const int64_t columns = up_to(needed[i].right, jpeg->component[i].across);
        first = i && first < top ? first : top;
        last = last > bottom ? last : bottom;
        right = right > columns ? right : columns;
    }
    const int64_t end = (last - 1) * across + right;
    const int64_t every = jpeg->restart ? jpeg->restart : across * last + 1;
    Reader in = {0};
    int32_t means[COMPONENTS] = {0};
    int64_t piece = first * across / every - 1; /* nothing before it is read */
    for (int64_t unit = (piece + 1) * every; unit < end; unit++) {
        if (unit % every == 0) {
            if (++piece >= region->pieces) return UNSUPPORTED;
            in = (Reader){region->bits + region->starts[piece], 0, 0};
            memset(means, 0, sizeof means);
        }
        if (decode_unit(&in, jpeg, needed, unit / across, unit % across, means)) return UNSUPPORTED;
        const byte *used = in.at - in.count / 8; /* the data may end early */
        if (used > region->bits + region->starts[piece + 1]) return UNSUPPORTED;
    }
    return DONE;
}

static int convert(const Region *region, const Needed *needed) {
    const Jpeg *jpeg = region->jpeg;
    const int64_t n = region->width, room = n + 32;
    byte *rows = malloc((size_t)(room * (2 + (int64_t)sizeof(uint16_t))));
    if (!rows) return NO_MEMORY;
    uint16_t *sums = (uint16_t *)(rows + 2 * room);
    for (int64_t i = 0; i < region->height; i++) {
        const int64_t y = region->top + i;
        const byte *samples[COMPONENTS] = {row_of(&needed[0].plane, y) + region->left};
        byte *out = region->result + i * n * region->channels;
        for (int64_t j = 1; j < jpeg->components; j++)
            samples[j] = upsample(&needed[j].plane, jpeg->component->across,
                                  jpeg->component->down, y, region->left, n, sums,
                                  rows + (j - 1) * room);
        if (jpeg->components == 3) to_rgb(samples[0], samples[1], samples[2], n, out);
        else if (region->channels == 3) repeat(samples[0], n, out);
        else memcpy(out, samples[0], (size_t)n);
    }
    free(rows);
    return DONE;
}

static int decode_region(const void *given, int64_t first, int64_t last) {
    const Region *region = given;
    Needed needed[COMPONENTS] = {{{0}, 0, 0, 0, 0}};
    (void)first, (void)last;
    int failed = allocate(region, needed);
    if (!failed) failed = decode_planes(region, needed);
    if (!failed) failed = convert(region, needed);
    for (int i = 0; i < COMPONENTS; i++) free(needed[i].plane.samples);
    return failed;
}

/* From planes of brightness and colors to pixels: colors are interpolated, as libjpeg's "fancy"
 * upsampling does, then converted. */

/* Samples of a component of which a part was decoded. */
typedef struct {
    byte *samples;       /* (height, width) of whole blocks */
    int64_t top, left;   /* of that part, in samples */
    int64_t height, width;
    int64_t rows, columns; /* of the whole component */
} Plane;

static const byte *row_of(const Plane *plane, int64_t y) {
    y = y < 0 ? 0 : y >= plane->rows ? plane->rows - 1 : y;
    return plane->samples + (y - plane->top) * plane->width - plane->left;
}

/* Between two rows, if `down` is 2: three quarters of the near one, times `down * down`. */
static void mix_rows(
    const Plane *plane, int64_t y, int64_t down, int64_t first, int64_t n, uint16_t *restrict out) {
    if (down == 1) {
        const byte *restrict row = row_of(plane, y) + first;
        for (int64_t i = 0; i < n; i++) out[i] = row[i];
    } else {
        const byte *restrict near = row_of(plane, y >> 1) + first;
        const byte *restrict far = row_of(plane, (y >> 1) + (y & 1 ? 1 : -1)) + first;
        for (int64_t i = 0; i < n; i++) out[i] = (uint16_t)(3 * near[i] + far[i]);
    }
}

/* Twice as many samples as `n`; `in` has one more on either side. */
static void widen(const uint16_t *restrict in, int64_t n, int64_t down, byte *restrict out) {
    const int shift = down == 2 ? 4 : 2, left = down == 2 ? 8 : 1, right = down == 2 ? 7 : 2;
    for (int64_t i = 0; i < n; i++) {
        out[2 * i] = (byte)((3 * in[i] + in[i - 1] + left) >> shift);
        out[2 * i + 1] = (byte)((3 * in[i] + in[i + 1] + right) >> shift);
    }
}

/* Samples of row y of the image, from column `left`. `sums` and `out` have room for 2 more blocks. */
static const byte *upsample(
    const Plane *plane, int64_t across, int64_t down, int64_t y, int64_t left, int64_t n,
    uint16_t *sums, byte *out) {
    if (across == 1 && down == 1) return row_of(plane, y) + left;
    if (across == 1) {
        mix_rows(plane, y, down, left, n, sums);
        for (int64_t i = 0; i < n; i++) out[i] = (byte)((sums[i] + (y & 1 ? 2 : 1)) >> 2);
        return out;
    }
    const int64_t first = left >> 1, last = (left + n - 1) >> 1;
    const int64_t from = first > 0 ? first - 1 : 0;
    const int64_t to = last + 1 < plane->columns ? last + 1 : plane->columns - 1;
    uint16_t *inner = sums + 1; /* of `first` */
    mix_rows(plane, y, down, from, to - from + 1, inner + from - first);
    if (from == first) inner[-1] = inner[0];
    if (to == last) inner[last - first + 1] = inner[last - first];
    widen(inner, last - first + 1, down, out);
    return out + (left & 1);
}

INLINE byte clipped(int32_t x) { return (byte)(x < 0 ? 0 : x > 255 ? 255 : x); }

/* R = Y + 1.402 Cr, G = Y - 0.34414 Cb - 0.71414 Cr, B = Y + 1.772 Cb, in 16 bits of fraction. */
static void to_rgb(
    const byte *restrict y, const byte *restrict cb, const byte *restrict cr, int64_t n,
    byte *restrict out) {
    enum { HALF = 1 << 15 };
    for (int64_t i = 0; i < n; i++) {
        const int32_t blue = cb[i] - 128, red = cr[i] - 128;
        out[3 * i] = clipped(y[i] + ((91881 * red + HALF) >> 16));
        out[3 * i + 1] = clipped(y[i] + ((-22554 * blue - 46802 * red + HALF) >> 16));
        out[3 * i + 2] = clipped(y[i] + ((116130 * blue + HALF) >> 16));
    }
}

static void repeat(const byte *restrict y, int64_t n, byte *restrict out) {
    for (int64_t i = 0; i < n; i++) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = y[i];
}

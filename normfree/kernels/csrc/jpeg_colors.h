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
enum { RED_OF_RED = 91881, GREEN_OF_BLUE = -22554, GREEN_OF_RED = -46802, BLUE_OF_BLUE = 116130 };
enum { HALF = 1 << 15 };

static void to_rgb(const byte *y, const byte *cb, const byte *cr, int64_t n, byte *out) {
    int64_t i = 0;
#ifdef __x86_64__ /* eight pixels at a time, of which the last four write the next pixel, too */
    const __m256i three_of_four = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    for (; i + 10 <= n; i += 8) {
        const Signed level = (Signed)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(y + i)));
        const Signed blue = (Signed)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(cb + i))) - 128;
        const Signed red = (Signed)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(cr + i))) - 128;
        const Lanes r = clip_lanes(level + ((RED_OF_RED * red + HALF) >> 16));
        const Lanes g = clip_lanes(
            level + ((GREEN_OF_BLUE * blue + GREEN_OF_RED * red + HALF) >> 16));
        const Lanes b = clip_lanes(level + ((BLUE_OF_BLUE * blue + HALF) >> 16));
        const __m256i pixels = _mm256_shuffle_epi8((__m256i)(r | g << 8 | b << 16), three_of_four);
        _mm_storeu_si128((void *)(out + 3 * i), _mm256_castsi256_si128(pixels));
        _mm_storeu_si128((void *)(out + 3 * i + 12), _mm256_extracti128_si256(pixels, 1));
    }
#endif
    for (; i < n; i++) {
        const int32_t blue = cb[i] - 128, red = cr[i] - 128;
        out[3 * i] = clipped(y[i] + ((RED_OF_RED * red + HALF) >> 16));
        out[3 * i + 1] = clipped(
            y[i] + ((GREEN_OF_BLUE * blue + GREEN_OF_RED * red + HALF) >> 16));
        out[3 * i + 2] = clipped(y[i] + ((BLUE_OF_BLUE * blue + HALF) >> 16));
    }
}

static void repeat(const byte *restrict y, int64_t n, byte *restrict out) {
    for (int64_t i = 0; i < n; i++) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = y[i];
}

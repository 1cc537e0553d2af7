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

/* R = Y + 1.402 Cr, G = Y - 0.34414 Cb - 0.71414 Cr and B = Y + 1.772 Cb, with factors of 16 bits of
 * fraction, less the whole parts 1, -1 and 2. */
enum { RED_OF_RED = 26345, GREEN_OF_BLUE = -22554, GREEN_OF_RED = 18734, BLUE_OF_BLUE = -14942 };
enum { HALF = 1 << 15 };

static void to_rgb_one(byte level, byte cb, byte cr, byte *out) {
    const int32_t blue = cb - 128, red = cr - 128;
    out[0] = clipped(level + red + ((RED_OF_RED * red + HALF) >> 16));
    out[1] = clipped(level - red + ((GREEN_OF_BLUE * blue + GREEN_OF_RED * red + HALF) >> 16));
    out[2] = clipped(level + 2 * blue + ((BLUE_OF_BLUE * blue + HALF) >> 16));
}

#ifdef __x86_64__

INLINE __m256i widened(const byte *from) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)from));
}

/* Eight pixels in each half: of_blue * blue + of_red * red, rounded, added to `rest` and clipped. */
INLINE __m256i mixed(__m256i blue, __m256i red, int of_blue, int of_red, __m256i rest) {
    const __m256i factors =
        _mm256_set1_epi32((int)((uint32_t)(uint16_t)of_blue | (uint32_t)of_red << 16));
    const __m256i half = _mm256_set1_epi32(HALF);
    const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(blue, red), factors);
    const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(blue, red), factors);
    const __m256i sum = _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(low, half), 16),
                                           _mm256_srai_epi32(_mm256_add_epi32(high, half), 16));
    const __m256i levels = _mm256_add_epi16(sum, rest);
    return _mm256_packus_epi16(levels, levels);
}

/* Sixteen pixels; four bytes beyond theirs are written, too. */
INLINE void to_rgb_vector(const byte *y, const byte *cb, const byte *cr, byte *out) {
    const __m256i three_of_four = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    const __m256i middle = _mm256_set1_epi16(128), level = widened(y);
    const __m256i blue = _mm256_sub_epi16(widened(cb), middle);
    const __m256i red = _mm256_sub_epi16(widened(cr), middle);
    const __m256i r = mixed(blue, red, 0, RED_OF_RED, _mm256_add_epi16(level, red));
    const __m256i g = mixed(blue, red, GREEN_OF_BLUE, GREEN_OF_RED, _mm256_sub_epi16(level, red));
    const __m256i b =
        mixed(blue, red, BLUE_OF_BLUE, 0, _mm256_add_epi16(level, _mm256_slli_epi16(blue, 1)));
    const __m256i rg = _mm256_unpacklo_epi8(r, g), bb = _mm256_unpacklo_epi8(b, b);
    const __m256i first = _mm256_shuffle_epi8(_mm256_unpacklo_epi16(rg, bb), three_of_four);
    const __m256i last = _mm256_shuffle_epi8(_mm256_unpackhi_epi16(rg, bb), three_of_four);
    _mm_storeu_si128((void *)out, _mm256_castsi256_si128(first));
    _mm_storeu_si128((void *)(out + 12), _mm256_castsi256_si128(last));
    _mm_storeu_si128((void *)(out + 24), _mm256_extracti128_si256(first, 1));
    _mm_storeu_si128((void *)(out + 36), _mm256_extracti128_si256(last, 1));
}

#endif

static void to_rgb(const byte *y, const byte *cb, const byte *cr, int64_t n, byte *out) {
    int64_t i = 0;
#ifdef __x86_64__
    for (; i + 18 <= n; i += 16) to_rgb_vector(y + i, cb + i, cr + i, out + 3 * i);
#endif
    for (; i < n; i++) to_rgb_one(y[i], cb[i], cr[i], out + 3 * i);
}

static void repeat(const byte *restrict y, int64_t n, byte *restrict out) {
    for (int64_t i = 0; i < n; i++) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = y[i];
}

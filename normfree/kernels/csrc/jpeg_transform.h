/* The inverse cosine transform of a block, with the integers of libjpeg's "slow" method.
 *
 * In each direction, with E and O the even and the odd part,
 *
 *     x(n) = E(n) + O(n),  x(7 - n) = E(n) - O(n),  n = 0 ... 3,
 *
 * where E and O are sums of four products with cosines times 2^13, rounded as libjpeg rounds its
 * own constants. The sum is exact; it is divided, and rounded, at the end: by 2^11 after the first
 * direction, and by 2^18 after the second. So the factors below give its bytes, in fewer steps. */

typedef uint32_t Lanes __attribute__((vector_size(32))); /* of 8 integers; sums wrap around */
typedef int32_t Signed __attribute__((vector_size(32)));

/* a times the low halves plus b times the high halves of 8 pairs of 16 bits. */
INLINE Lanes of_pairs(Lanes pairs, int a, int b) {
#ifdef __x86_64__
    const __m256i factors = _mm256_set1_epi32((int)((uint32_t)(uint16_t)a | (uint32_t)b << 16));
    return (Lanes)_mm256_madd_epi16((__m256i)pairs, factors);
#else
    const Signed low = (Signed)(pairs << 16) >> 16, high = (Signed)pairs >> 16;
    return (Lanes)low * (uint32_t)a + (Lanes)high * (uint32_t)b;
#endif
}

INLINE Lanes shifted(Lanes x, int bits) {
    return (Lanes)((Signed)(x + (1u << (bits - 1))) >> bits);
}

/* From pairs (0, 4), (2, 6), (1, 3) and (5, 7) of coefficients, 8 values. */
INLINE void transform_lanes(const Lanes pairs[4], int bits, Lanes out[8]) {
    const Lanes sum = of_pairs(pairs[0], 8192, 8192), difference = of_pairs(pairs[0], 8192, -8192);
    const Lanes outer = of_pairs(pairs[1], 10703, 4433), inner = of_pairs(pairs[1], 4433, -10704);
    const Lanes even[4] = {sum + outer, difference + inner, difference - inner, sum - outer};
    const Lanes odd[4] = {
        of_pairs(pairs[2], 11363, 9633) + of_pairs(pairs[3], 6437, 2260),
        of_pairs(pairs[2], 9633, -2259) + of_pairs(pairs[3], -11362, -6436),
        of_pairs(pairs[2], 6437, -11362) + of_pairs(pairs[3], 2261, 9633),
        of_pairs(pairs[2], 2260, -6436) + of_pairs(pairs[3], 9633, -11363),
    };
    for (int n = 0; n < 4; n++) {
        out[n] = shifted(even[n] + odd[n], bits);
        out[7 - n] = shifted(even[n] - odd[n], bits);
    }
}

INLINE void transpose_lanes(Lanes x[8]) {
#ifdef __x86_64__
    __m256i a[8], b[8], *rows = (__m256i *)x;
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_unpacklo_epi64(a[i + j], a[i + j + 2]);
            b[i + 2 * j + 1] = _mm256_unpackhi_epi64(a[i + j], a[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
#else
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++) {
            const uint32_t swapped = x[i][j];
            x[i][j] = x[j][i];
            x[j][i] = swapped;
        }
#endif
}

/* In 16 bits, which undamaged images do not exceed; others are saturated, as in libjpeg-turbo. */
INLINE Lanes to_pairs(Lanes low, Lanes high) {
#ifdef __x86_64__
    const __m256i both = _mm256_packs_epi32((__m256i)low, (__m256i)high);
    return (Lanes)_mm256_unpacklo_epi16(both, _mm256_srli_si256(both, 8));
#else
    return (low & 0xFFFF) | high << 16;
#endif
}

/* From four columns of levels around 0, four bytes for each row: the levels from 0 to 255. */
INLINE Lanes to_words(const Lanes x[4]) {
#ifdef __x86_64__
    const __m256i by_row = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i low = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]);
    const __m256i high = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
    const __m256i columns = _mm256_packs_epi16(low, high);
    return (Lanes)_mm256_shuffle_epi8(columns, by_row) ^ 0x80808080u;
#else
    Lanes words = {0};
    for (int column = 0; column < 4; column++) {
        const Signed level = (Signed)(x[column] + 128), positive = level & (level > 0);
        words |= ((Lanes)(positive | ((255 - positive) >> 31)) & 255) << (8 * column);
    }
    return words;
#endif
}

/* Eight rows of eight pixels, `stride` bytes apart. Coefficients lie as `places` says. */
INLINE void transform_block(const int16_t *block, byte *out, int64_t stride) {
    Lanes pairs[4], x[8], words[2];
    memcpy(pairs, block, sizeof pairs);
    transform_lanes(pairs, 11, x); /* a lane is a column */
    transpose_lanes(x);            /* a lane is a row */
    const int first[4] = {0, 2, 1, 5}, second[4] = {4, 6, 3, 7};
    for (int i = 0; i < 4; i++) pairs[i] = to_pairs(x[first[i]], x[second[i]]);
    transform_lanes(pairs, 18, x);
    for (int half = 0; half < 2; half++) words[half] = to_words(x + 4 * half);
    for (int row = 0; row < 8; row++) {
        const uint32_t pixels[2] = {words[0][row], words[1][row]};
        memcpy(out + row * stride, pixels, sizeof pixels);
    }
}

/* A block of nothing but a mean. */
INLINE void fill_block(int32_t mean, byte *out, int64_t stride) {
    const int32_t level = ((mean + 4) >> 3) + 128;
    for (int row = 0; row < 8; row++)
        memset(out + row * stride, level < 0 ? 0 : level > 255 ? 255 : level, 8);
}

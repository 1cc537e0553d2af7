/* RandAugment operations on one image. They match the equations in normfree.augment bit for bit; see
 * there for explanations.
 *
 * Float arithmetic rounds after every step (compile with -ffp-contract=off), except in fmaf:
 * PyTorch's add with alpha is a fused multiply-add.
 *
 * An image is contiguous (channels, height, width). Every operation reads `in` and writes all of
 * `out`, which do not overlap.
 */

enum { LEVELS = 256, FILL = 128 };

/* Clip to 0 ... 255 and drop the fraction. */
static inline byte to_byte(float x) {
    x = x > 0.0f ? x : 0.0f;
    return (byte)(int32_t)(x < 255.0f ? x : 255.0f);
}

/* other + factor (x - other), rounded after each step and clipped. */
static inline byte blend(float x, float other, float factor) {
    float change = (x - other) * factor;
    return to_byte(change + other);
}

/* ---- Pointwise operations: a lookup table of 256 gray levels ---- */

static void look_up(const byte *restrict in, byte *restrict out, int64_t n, const byte *table) {
    int64_t i = 0;
#if defined(LOOK_UP_AVX512) /* 64 at a time: look up in both halves of the table, then select */
    const __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
    const __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
    for (; i + 64 <= n; i += 64) {
        const __m512i x = _mm512_loadu_si512(in + i);
        const __m512i lower = _mm512_permutex2var_epi8(a, x, b);
        const __m512i upper = _mm512_permutex2var_epi8(c, x, d);
        _mm512_storeu_si512(out + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), lower, upper));
    }
#elif defined(LOOK_UP_AVX2) /* 32 at a time: each sixteenth of the table gives 0 elsewhere */
    __m256i parts[16];
    for (int part = 0; part < 16; part++) {
        const __m128i levels = _mm_loadu_si128((const void *)(table + 16 * part));
        parts[part] = _mm256_broadcastsi128_si256(levels);
    }
    for (; i + 32 <= n; i += 32) {
        const __m256i x = _mm256_loadu_si256((const void *)(in + i));
        __m256i found = _mm256_setzero_si256();
        for (int part = 0; part < 16; part++) {
            const __m256i place = _mm256_xor_si256(x, _mm256_set1_epi8((char)(16 * part)));
            const __m256i inside = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
            found = _mm256_or_si256(found, _mm256_shuffle_epi8(parts[part], inside));
        }
        _mm256_storeu_si256((void *)(out + i), found);
    }
#endif
    for (; i < n; i++) out[i] = table[in[i]];
}

static void auto_contrast(const byte *restrict in, byte *restrict out, Shape shape) {
    const int64_t n = pixels_of(shape);
    for (int64_t channel = 0; channel < shape.channels; channel++, in += n, out += n) {
        byte low = 255, high = 0, table[LEVELS];
        for (int64_t i = 0; i < n; i++) low = in[i] < low ? in[i] : low;
        for (int64_t i = 0; i < n; i++) high = in[i] > high ? in[i] : high;
        if (low == high) {
            memcpy(out, in, n);
            continue;
        }
        const float scale = 255.0f / (float)(high - low), offset = -(float)low * scale;
        for (int x = low; x <= high; x++) table[x] = (byte)(int32_t)((float)x * scale + offset);
        look_up(in, out, n, table);
    }
}

static void count_levels(const byte *in, int64_t n, int64_t counts[LEVELS]) {
    uint32_t parts[4][LEVELS] = {{0}}; /* four, so that equal neighbors do not stall */
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int part = 0; part < 4; part++) parts[part][in[i + part]]++;
    for (; i < n; i++) parts[0][in[i]]++;
    for (int x = 0; x < LEVELS; x++)
        counts[x] = (int64_t)parts[0][x] + parts[1][x] + parts[2][x] + parts[3][x];
}

static void equalize(const byte *restrict in, byte *restrict out, Shape shape) {
    const int64_t n = pixels_of(shape);
    for (int64_t channel = 0; channel < shape.channels; channel++, in += n, out += n) {
        int64_t counts[LEVELS], below = 0;
        byte table[LEVELS];
        count_levels(in, n, counts);
        int highest = LEVELS - 1;
        while (highest > 0 && !counts[highest]) highest--;
        const int64_t step = (n - counts[highest]) / 255;
        if (!step) {
            memcpy(out, in, n);
            continue;
        }
        for (int x = 0; x < LEVELS; below += counts[x++]) {
            const int64_t level = (below + step / 2) / step;
            table[x] = level < 255 ? level : 255;
        }
        look_up(in, out, n, table);
    }
}

static void invert(const byte *restrict in, byte *restrict out, Shape shape) {
    for (int64_t i = 0; i < bytes_of(shape); i++) out[i] = 255 - in[i];
}

static void posterize(const byte *restrict in, byte *restrict out, Shape shape, int bits) {
    const byte kept = 255 - (255 >> (bits < 0 ? 0 : bits > 8 ? 8 : bits));
    for (int64_t i = 0; i < bytes_of(shape); i++) out[i] = in[i] & kept;
}

static void solarize(const byte *restrict in, byte *restrict out, Shape shape, int threshold) {
    byte table[LEVELS];
    for (int x = 0; x < LEVELS; x++) table[x] = x < threshold ? x : 255 - x;
    look_up(in, out, bytes_of(shape), table);
}

static void solarize_add(const byte *restrict in, byte *restrict out, Shape shape, int addition) {
    byte table[LEVELS];
    for (int x = 0; x < LEVELS; x++)
        table[x] = x >= 128 ? x : addition < 255 - x ? x + addition : 255;
    look_up(in, out, bytes_of(shape), table);
}

static void brightness(const byte *restrict in, byte *restrict out, Shape shape, float factor) {
    byte table[LEVELS];
    for (int x = 0; x < LEVELS; x++) table[x] = to_byte((float)x * factor);
    look_up(in, out, bytes_of(shape), table);
}

/* The rounded mean of the gray image, in integer arithmetic as in Pillow. */
static float mean_gray(const byte *in, Shape shape) {
    const int64_t n = pixels_of(shape);
    int64_t total = 0;
    if (shape.channels == 3)
        for (int64_t i = 0; i < n; i++)
            total += (in[i] * 19595 + in[n + i] * 38470 + in[2 * n + i] * 7471 + 0x8000) >> 16;
    else
        for (int64_t i = 0; i < bytes_of(shape); i++) total += in[i];
    return (float)((2 * total + n) / (2 * n));
}

/* With `quirks`, the authors' gray level: the number of pixels / 256 instead of the mean. */
static void contrast(
    const byte *restrict in, byte *restrict out, Shape shape, float factor, int quirks) {
    const int64_t count = pixels_of(shape) / LEVELS;
    const float middle = quirks ? (float)(count < 255 ? count : 255) : mean_gray(in, shape);
    byte table[LEVELS];
    for (int x = 0; x < LEVELS; x++) table[x] = blend((float)x, middle, factor);
    look_up(in, out, bytes_of(shape), table);
}

/* ---- Operations that read other channels or neighboring pixels ---- */

static void color(const byte *restrict in, byte *restrict out, Shape shape, float factor) {
    const int64_t n = pixels_of(shape);
    const float unit = 1.0 / 255;
    if (shape.channels != 3) {
        memcpy(out, in, bytes_of(shape));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const float red = in[i], green = in[n + i], blue = in[2 * n + i];
        float gray = red * unit * 0.2989f;
        gray = fmaf(green * unit, 0.5870f, gray);
        gray = fmaf(blue * unit, 0.1140f, gray);
        gray = (float)(int32_t)(gray * 255.5f);
        out[i] = blend(red, gray, factor);
        out[n + i] = blend(green, gray, factor);
        out[2 * n + i] = blend(blue, gray, factor);
    }
}

static void to_floats(const byte *restrict in, float *restrict out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = in[i];
}

/* One row except its ends. The order of the sum, which affects rounding, is the authors'. */
static void sharpen_row(
    const float *restrict above, const float *restrict here, const float *restrict below,
    byte *restrict out, int64_t width, float factor) {
    const float one = 1.0 / 13, five = 5.0 / 13;
    for (int64_t x = 1; x < width - 1; x++) {
        float sum = above[x - 1] * one;
        sum = fmaf(above[x], one, sum);
        sum = fmaf(above[x + 1], one, sum);
        sum = fmaf(here[x - 1], one, sum);
        sum = fmaf(here[x], five, sum);
        sum = fmaf(here[x + 1], one, sum);
        sum = fmaf(below[x - 1], one, sum);
        sum = fmaf(below[x], one, sum);
        sum = fmaf(below[x + 1], one, sum);
        out[x] = blend(here[x], (float)(int32_t)sum, factor);
    }
}

/* `rows` has room for three rows of floats. Border pixels are unchanged. */
static void sharpness(
    const byte *restrict in, byte *restrict out, Shape shape, float factor, float *rows) {
    const int64_t n = pixels_of(shape), width = shape.width, height = shape.height;
    if (height < 3 || width < 3) {
        memcpy(out, in, bytes_of(shape));
        return;
    }
    for (int64_t channel = 0; channel < shape.channels; channel++, in += n, out += n) {
        memcpy(out, in, width);
        to_floats(in, rows, width);
        to_floats(in + width, rows + width, width);
        for (int64_t y = 1; y < height - 1; y++) {
            float *above = rows + (y - 1) % 3 * width, *here = rows + y % 3 * width;
            float *below = rows + (y + 1) % 3 * width;
            to_floats(in + (y + 1) * width, below, width);
            sharpen_row(above, here, below, out + y * width, width, factor);
            out[y * width] = in[y * width];
            out[(y + 1) * width - 1] = in[(y + 1) * width - 1];
        }
        memcpy(out + n - width, in + n - width, width);
    }
}

/* ---- Operations that move pixels, by a list precomputed for all images ---- */

/* `places` has the input index of each pixel; the number of pixels means outside the image. `framed`
 * has room for one channel followed by a gray pixel. */
static void move_pixels(
    const byte *restrict in, byte *restrict out, Shape shape, const int32_t *restrict places,
    byte *restrict framed) {
    const int64_t n = pixels_of(shape);
    framed[n] = FILL;
    for (int64_t channel = 0; channel < shape.channels; channel++, in += n, out += n) {
        memcpy(framed, in, n);
        for (int64_t i = 0; i < n; i++) out[i] = framed[places[i]];
    }
}

/* `runs` of pixels that move together: first index, first source index, length. */
static void move_runs(
    const byte *restrict in, byte *restrict out, Shape shape, const int32_t *runs, int64_t count) {
    const int64_t n = pixels_of(shape);
    memset(out, FILL, bytes_of(shape));
    for (int64_t channel = 0; channel < shape.channels; channel++, in += n, out += n)
        for (const int32_t *run = runs; run < runs + 3 * count; run += 3)
            memcpy(out + run[0], in + run[1], run[2]);
}

static int64_t within(int64_t place, int64_t length) {
    return place < 0 ? 0 : place < length ? place : length;
}

static void cutout(
    const byte *restrict in, byte *restrict out, Shape shape, int64_t pad, int64_t row,
    int64_t column) {
    const int64_t top = within(row - pad, shape.height), bottom = within(row + pad, shape.height);
    const int64_t left = within(column - pad, shape.width);
    const int64_t right = within(column + pad, shape.width);
    memcpy(out, in, bytes_of(shape));
    for (int64_t channel = 0; channel < shape.channels; channel++, out += pixels_of(shape))
        for (int64_t y = top; y < bottom; y++)
            memset(out + y * shape.width + left, FILL, right - left);
}

/* Feature maps and the gate of each of their channels.
 *
 * A map is contiguous, either (n, channels, pixels), or (n, pixels, channels) if its channels are
 * last. Sums over pixels have a fixed order, so that they depend neither on the instruction set nor
 * on the number of threads; the sums of blocks are added in double precision.
 */

enum { BLOCK_PIXELS = 32, SUM_LANES = 64, BLOCK_NUMBERS = 2048 };

/* ---- A row of numbers ---- */

/* x gate + add, where the addend is a row, a number or nothing. */
INLINE void gate_row(
    const float *restrict x, float gate, const float *restrict row, float number,
    float *restrict out, int64_t n) {
    if (row) for (int64_t i = 0; i < n; i++) out[i] = fmaf(x[i], gate, row[i]);
    else for (int64_t i = 0; i < n; i++) out[i] = fmaf(x[i], gate, number);
}

/* The same with a gate for each number. */
INLINE void gate_each(
    const float *restrict x, const float *restrict gate, const float *restrict row,
    float *restrict out, int64_t n) {
    if (row) for (int64_t i = 0; i < n; i++) out[i] = fmaf(x[i], gate[i], row[i]);
    else for (int64_t i = 0; i < n; i++) out[i] = x[i] * gate[i];
}

/* The sum of at most BLOCK_NUMBERS of x, or of x y. */
INLINE float sum_block(const float *restrict x, const float *restrict y, int64_t n) {
    float lanes[SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + SUM_LANES <= n; i += SUM_LANES)
        for (int lane = 0; lane < SUM_LANES; lane++)
            lanes[lane] = y ? fmaf(x[i + lane], y[i + lane], lanes[lane]) : lanes[lane] + x[i + lane];
    float *left = lanes;
    for (; i + 16 <= n; i += 16, left += 16)
        for (int lane = 0; lane < 16; lane++)
            left[lane] = y ? fmaf(x[i + lane], y[i + lane], left[lane]) : left[lane] + x[i + lane];
    for (; i < n; i++, left++) *left = y ? fmaf(x[i], y[i], *left) : *left + x[i];
    for (int half = SUM_LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

/* The sum of x, or of x y. */
INLINE float sum_row(const float *x, const float *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK_NUMBERS) {
        const int64_t left = n - i, count = left < BLOCK_NUMBERS ? left : BLOCK_NUMBERS;
        sum += y ? sum_block(x + i, y + i, count) : sum_block(x + i, NULL, count);
    }
    return (float)sum;
}

/* Add up to four rows of x, or of x y, to the sums. Rows are `stride` apart. */
INLINE void add_rows(
    const float *restrict x, const float *restrict y, int64_t rows, int64_t stride,
    float *restrict sums, int64_t n) {
    if (rows == 4) {
        const float *x1 = x + stride, *x2 = x1 + stride, *x3 = x2 + stride;
        if (y) {
            const float *y1 = y + stride, *y2 = y1 + stride, *y3 = y2 + stride;
            for (int64_t i = 0; i < n; i++)
                sums[i] += fmaf(x[i], y[i], x1[i] * y1[i]) + fmaf(x2[i], y2[i], x3[i] * y3[i]);
        } else
            for (int64_t i = 0; i < n; i++) sums[i] += (x[i] + x1[i]) + (x2[i] + x3[i]);
        return;
    }
    for (int64_t row = 0; row < rows; row++, x += stride, y = y ? y + stride : y)
        if (y) for (int64_t i = 0; i < n; i++) sums[i] = fmaf(x[i], y[i], sums[i]);
        else for (int64_t i = 0; i < n; i++) sums[i] += x[i];
}

/* ---- Products with gates ---- */

/* Rows are the pixels of a channel, or the channels of a pixel if they are last. */
static int gate_maps(const void *given, int64_t first, int64_t last) {
    const Gating *job = given;
    const int64_t n = job->channels_last ? job->channels : job->pixels;
    for (int64_t row = first; row < last; row++) {
        const float *x = job->x + row * n, *skip = job->skip ? job->skip + row * n : NULL;
        float *out = job->result + row * n;
        if (job->channels_last) {
            const int64_t image = row / job->pixels * n;
            const float *shift = job->shift ? job->shift + image : NULL;
            gate_each(x, job->gate + image, skip ? skip : shift, out, n);
        } else gate_row(x, job->gate[row], skip, job->shift ? job->shift[row] : 0.0f, out, n);
    }
    return DONE;
}

/* ---- Sums over pixels ---- */

/* One tile of the channels of an image, whose channels are last. */
static void sum_tile(const Gating *job, int64_t image, int64_t channel, int64_t count) {
    const int64_t stride = job->channels, from = image * job->pixels * stride + channel;
    const float *gate = job->gate ? job->gate + image * stride + channel : NULL;
    float block[CHANNELS_OF_TILE];
    double total[CHANNELS_OF_TILE] = {0};
    for (int64_t pixel = 0; pixel < job->pixels; pixel += BLOCK_PIXELS) {
        const int64_t left = job->pixels - pixel, end = left < BLOCK_PIXELS ? left : BLOCK_PIXELS;
        memset(block, 0, sizeof block);
        for (int64_t row = 0; row < end; row += 4) {
            const int64_t at = from + (pixel + row) * stride, rows = end - row < 4 ? end - row : 4;
            add_rows(job->x + at, job->other ? job->other + at : NULL, rows, stride, block, count);
            for (int64_t i = 0; gate && i < rows; i++)
                gate_each(job->x + at + i * stride, gate, NULL, job->result + at + i * stride, count);
        }
        for (int64_t i = 0; i < count; i++) total[i] += block[i];
    }
    float *sums = job->sums + image * stride + channel;
    for (int64_t i = 0; i < count; i++) sums[i] = (float)total[i];
}

/* Sums of x, or of x and another map's product, and x times the gate if there is one. A unit is a
 * channel, or a tile of channels if they are last. */
static int sum_maps(const void *given, int64_t first, int64_t last) {
    const Gating *job = given;
    const int64_t n = job->pixels, tiles = (job->channels + CHANNELS_OF_TILE - 1) / CHANNELS_OF_TILE;
    for (int64_t unit = first; unit < last; unit++) {
        if (job->channels_last) {
            const int64_t channel = unit % tiles * CHANNELS_OF_TILE, left = job->channels - channel;
            sum_tile(job, unit / tiles, channel, left < CHANNELS_OF_TILE ? left : CHANNELS_OF_TILE);
            continue;
        }
        const float *x = job->x + unit * n;
        job->sums[unit] = sum_row(x, job->other ? job->other + unit * n : NULL, n);
        if (job->gate) gate_row(x, job->gate[unit], NULL, 0.0f, job->result + unit * n, n);
    }
    return DONE;
}

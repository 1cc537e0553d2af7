/* Resizing an image by weighted sums of its pixels, first of rows, then of columns.
 *
 * The sums are those of normfree.data.resize bit for bit: one product and one addition after the
 * other, in the order of the taps, without fused multiply-adds. A row of the result is made at a
 * time, so that the weighted row it comes from stays in the L1 cache.
 */

enum { TAPS = 4 }; /* taps come in multiples of this; the last ones may have weight 0 */

typedef float Quad __attribute__((vector_size(16)));

INLINE Quad load_quad(const float *from) {
    Quad x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* Add four weighted rows of bytes to a row, or with `begin`, begin it with them. */
INLINE void weigh_rows(
    const byte *const in[TAPS], const float weights[TAPS], float *restrict row, int64_t n,
    int begin) {
    const byte *restrict a = in[0], *restrict b = in[1], *restrict c = in[2], *restrict d = in[3];
    const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
    if (begin)
        for (int64_t i = 0; i < n; i++)
            row[i] = wa * (float)a[i] + wb * (float)b[i] + wc * (float)c[i] + wd * (float)d[i];
    else
        for (int64_t i = 0; i < n; i++)
            row[i] = row[i] + wa * (float)a[i] + wb * (float)b[i] + wc * (float)c[i] +
                     wd * (float)d[i];
}

static void weigh_image(const Resizing *job, int64_t y, float *row) {
    const int64_t taps = job->rows.taps, n = job->width * job->channels;
    const int32_t *places = job->rows.inputs + y * taps;
    for (int64_t tap = 0; tap < taps; tap += TAPS) {
        const byte *in[TAPS];
        for (int i = 0; i < TAPS; i++)
            in[i] = job->image + job->stride * (job->rows.origin + places[tap + i]);
        weigh_rows(in, job->rows.weights + y * taps + tap, row, n, tap == 0);
    }
}

/* Three channels are added at once; the fourth of a quad is the next pixel's, and is dropped. */
INLINE Quad weigh_pixels(const float *row, const int32_t *places, const float *weights, int64_t n) {
    Quad sum = weights[0] * load_quad(row + places[0]);
    for (int64_t tap = 1; tap < n; tap++) sum += weights[tap] * load_quad(row + places[tap]);
    return sum;
}

INLINE void weigh_colors(
    const float *row, const int32_t *places, const float *weights, int64_t taps, int64_t n,
    float *const out[3]) {
    int64_t x = 0;
    for (; x + 4 <= n; x += 4) {
        Quad pixels[4], planes[4];
        for (int64_t i = 0; i < 4; i++)
            pixels[i] = weigh_pixels(row, places + (x + i) * taps, weights + (x + i) * taps, taps);
        transpose_4((const float *)pixels, 4, (float *)planes, 4);
        for (int channel = 0; channel < 3; channel++)
            memcpy(out[channel] + x, planes + channel, sizeof(Quad));
    }
    for (; x < n; x++) {
        const Quad pixel = weigh_pixels(row, places + x * taps, weights + x * taps, taps);
        for (int channel = 0; channel < 3; channel++) out[channel][x] = pixel[channel];
    }
}

static void weigh_columns(
    const Resizing *job, const float *row, const int32_t *places, float *const out[]) {
    const int64_t taps = job->columns.taps, n = job->columns.outputs;
    const float *weights = job->columns.weights;
    if (job->channels == 3 && taps == TAPS) weigh_colors(row, places, weights, TAPS, n, out);
    else if (job->channels == 3) weigh_colors(row, places, weights, taps, n, out);
    else
        for (int64_t channel = 0; channel < job->channels; channel++)
            for (int64_t x = 0; x < n; x++) {
                const int32_t *place = places + x * taps;
                float sum = weights[x * taps] * row[place[0] + channel];
                for (int64_t tap = 1; tap < taps; tap++)
                    sum += weights[x * taps + tap] * row[place[tap] + channel];
                out[channel][x] = sum;
            }
}

/* Clip to 0 ... 255 and round to the nearest, half to even. */
static void round_to_bytes(const float *restrict in, byte *restrict out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float x = in[i] > 0.0f ? in[i] : 0.0f;
        out[i] = (byte)(int32_t)rintf(x < 255.0f ? x : 255.0f);
    }
}

static int resize_rows(const void *given, int64_t first, int64_t last) {
    const Resizing *job = given;
    const int64_t height = job->rows.outputs, n = job->columns.outputs, channels = job->channels;
    const int64_t places = n * job->columns.taps, pixels = job->width * channels + 4;
    float *row = malloc((pixels + channels * n + places) * sizeof(float));
    float **out = malloc(channels * sizeof *out);
    if (!row || !out) {
        free(row);
        free(out);
        return NO_MEMORY;
    }
    float *found = row + pixels;
    int32_t *place = (int32_t *)(found + channels * n);
    for (int64_t i = 0; i < places; i++)
        place[i] = (int32_t)(channels * (job->columns.origin +
                                         job->columns.step * job->columns.inputs[i]));
    memset(row + pixels - 4, 0, 4 * sizeof(float)); /* what the last quads read beyond the row */
    for (int64_t y = first; y < last; y++) {
        weigh_image(job, y, row);
        for (int64_t channel = 0; channel < channels; channel++)
            out[channel] = job->bytes ? found + channel * n
                                      : (float *)job->result + (channel * height + y) * n;
        weigh_columns(job, row, place, out);
        if (job->bytes)
            for (int64_t channel = 0; channel < channels; channel++)
                round_to_bytes(out[channel], (byte *)job->result + (channel * height + y) * n, n);
    }
    free(row);
    free(out);
    return DONE;
}

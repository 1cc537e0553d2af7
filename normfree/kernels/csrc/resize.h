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

#ifdef __x86_64__

/* LANES bytes, as floats. */
INLINE Vector load_levels(const byte *from) {
#ifdef LOOK_UP_AVX512
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)from)));
#else
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)from)));
#endif
}

#endif

/* Add four weighted rows of bytes to a row, or with `begin`, begin it with them. */
INLINE void weigh_rows(
    const byte *const in[TAPS], const float weights[TAPS], float *restrict row, int64_t n,
    int begin) {
    const byte *restrict a = in[0], *restrict b = in[1], *restrict c = in[2], *restrict d = in[3];
    const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
    int64_t i = 0;
#ifdef __x86_64__
    for (; i + LANES <= n; i += LANES) {
        Vector sum = wa * load_levels(a + i);
        if (!begin) sum = load(row + i) + sum;
        sum = sum + wb * load_levels(b + i);
        sum = sum + wc * load_levels(c + i);
        store(row + i, sum + wd * load_levels(d + i));
    }
#endif
    for (; i < n; i++) {
        const float first = begin ? wa * (float)a[i] : row[i] + wa * (float)a[i];
        row[i] = first + wb * (float)b[i] + wc * (float)c[i] + wd * (float)d[i];
    }
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

#ifdef __x86_64__

enum { RUN = 3 * TAPS }; /* floats of the four pixels beside each other that an output needs */

/* Where the run of each output starts, and a weight for each of its floats. Where the image ends,
 * there are fewer taps; the others have weight 0, so runs may begin and end further inside. */
static void find_runs(
    const Axis *columns, const int32_t *places, int64_t pixels, int32_t *starts, float *weights) {
    for (int64_t x = 0; x < columns->outputs; x++) {
        const int32_t *place = places + x * TAPS;
        const float *weight = columns->weights + x * TAPS;
        int32_t start = place[0] < place[TAPS - 1] ? place[0] : place[TAPS - 1];
        if (start > 3 * (pixels - TAPS)) start = (int32_t)(3 * (pixels - TAPS));
        starts[x] = start;
        float *run = weights + x * RUN;
        memset(run, 0, RUN * sizeof(float));
        for (int tap = 0; tap < TAPS; tap++)
            if (weight[tap] != 0.0f)
                for (int channel = 0; channel < 3; channel++)
                    run[place[tap] - start + channel] = weight[tap];
    }
}

/* As weigh_pixels, of a run; the sum begins at its other end if the image is mirrored. */
INLINE Quad weigh_run(const float *run, const float *weights, int mirrored) {
    const __m256i after_three = _mm256_setr_epi32(3, 4, 5, 6, 7, 7, 7, 7);
    const __m256 most = _mm256_mul_ps(_mm256_loadu_ps(run), _mm256_loadu_ps(weights));
    const __m128 rest = _mm_mul_ps(_mm_loadu_ps(run + 8), _mm_loadu_ps(weights + 8));
    const __m128i high = _mm_castps_si128(_mm256_extractf128_ps(most, 1));
    const __m128i low = _mm_castps_si128(rest);
    const __m128 pixels[TAPS] = {
        _mm256_castps256_ps128(most),
        _mm256_castps256_ps128(_mm256_permutevar8x32_ps(most, after_three)),
        _mm_castsi128_ps(_mm_alignr_epi8(low, high, 8)),
        _mm_castsi128_ps(_mm_srli_si128(low, 4)),
    };
    __m128 sum = pixels[mirrored ? 3 : 0];
    for (int tap = 1; tap < TAPS; tap++)
        sum = _mm_add_ps(sum, pixels[mirrored ? 3 - tap : tap]);
    return (Quad)sum;
}

INLINE void weigh_runs(
    const float *row, const int32_t *starts, const float *weights, int mirrored, int64_t n,
    float *const out[3]) {
    int64_t x = 0;
    for (; x + 4 <= n; x += 4) {
        Quad pixels[4], planes[4];
        for (int64_t i = 0; i < 4; i++)
            pixels[i] = weigh_run(row + starts[x + i], weights + (x + i) * RUN, mirrored);
        transpose_4((const float *)pixels, 4, (float *)planes, 4);
        for (int channel = 0; channel < 3; channel++)
            memcpy(out[channel] + x, planes + channel, sizeof(Quad));
    }
    for (; x < n; x++) {
        const Quad pixel = weigh_run(row + starts[x], weights + x * RUN, mirrored);
        for (int channel = 0; channel < 3; channel++) out[channel][x] = pixel[channel];
    }
}

#endif

/* Taps of all columns, and with `runs` (of floats) their starts and weights. */
typedef struct {
    int32_t *places, *starts;
    float *runs;
} Columns;

static void weigh_columns(
    const Resizing *job, const float *row, const Columns *columns, float *const out[]) {
    const int64_t taps = job->columns.taps, n = job->columns.outputs;
    const int32_t *places = columns->places;
    const float *weights = job->columns.weights;
#ifdef __x86_64__
    if (columns->runs) {
        if (job->columns.step < 0) weigh_runs(row, columns->starts, columns->runs, 1, n, out);
        else weigh_runs(row, columns->starts, columns->runs, 0, n, out);
        return;
    }
#endif
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

/* Whether the taps of every output, but for those of weight 0, are ascending pixels of a run. */
static int in_runs(const Axis *columns) {
    if (columns->taps != TAPS) return 0;
    for (int64_t x = 0; x < columns->outputs; x++) {
        const int32_t *place = columns->inputs + x * TAPS;
        int64_t last = -1;
        if (place[TAPS - 1] < place[0]) return 0;
        for (int tap = 0; tap < TAPS; tap++) {
            const int64_t from_first = (int64_t)place[tap] - place[0];
            if (columns->weights[x * TAPS + tap] == 0.0f) continue;
            if (from_first <= last || from_first >= TAPS) return 0;
            last = from_first;
        }
        if (place[TAPS - 1] - place[0] >= TAPS) return 0;
    }
    return 1;
}

static int resize_rows(const void *given, int64_t first, int64_t last) {
    const Resizing *job = given;
    const int64_t height = job->rows.outputs, n = job->columns.outputs, channels = job->channels;
    const int64_t places = n * job->columns.taps, pixels = job->width * channels + TAPS;
    const int64_t numbers = pixels + channels * n + places + n * (1 + 3 * TAPS);
    float *row = malloc(numbers * sizeof(float));
    float **out = malloc(channels * sizeof *out);
    if (!row || !out) {
        free(row);
        free(out);
        return NO_MEMORY;
    }
    float *found = row + pixels;
    Columns columns = {(int32_t *)(found + channels * n), NULL, NULL};
    for (int64_t i = 0; i < places; i++)
        columns.places[i] = (int32_t)(channels * (job->columns.origin +
                                                  job->columns.step * job->columns.inputs[i]));
    memset(row + pixels - TAPS, 0, TAPS * sizeof(float)); /* what quads read beyond the row */
#ifdef __x86_64__
    if (channels == 3 && job->width >= TAPS && in_runs(&job->columns)) {
        columns.starts = columns.places + places;
        columns.runs = (float *)(columns.starts + n);
        find_runs(&job->columns, columns.places, job->width, columns.starts, columns.runs);
    }
#endif
    for (int64_t y = first; y < last; y++) {
        weigh_image(job, y, row);
        for (int64_t channel = 0; channel < channels; channel++)
            out[channel] = job->bytes ? found + channel * n
                                      : (float *)job->result + (channel * height + y) * n;
        weigh_columns(job, row, &columns, out);
        if (job->bytes)
            for (int64_t channel = 0; channel < channels; channel++)
                round_to_bytes(out[channel], (byte *)job->result + (channel * height + y) * n, n);
    }
    free(row);
    free(out);
    return DONE;
}

/* Linear layers of few rows, y = x W' + b, where reading W from memory is most of the work.
 *
 * Both passes read W once. The backward pass writes the gradient of W, which is as large, past the
 * cache: W and its gradient would only push each other out of it. Every sum has a fixed order, so
 * the number of threads does not matter.
 */

enum { IMAGES = 4, UNITS = LANES == 16 ? 4 : 2 }; /* IMAGES * UNITS registers accumulate */
enum { STRETCH = 1024 }; /* columns of x and of its gradient that stay in the cache */

#if defined(LOOK_UP_AVX512)
INLINE void store_past_cache(float *to, Vector x) { _mm512_stream_ps(to, x); }
INLINE void finish_past_cache(void) { _mm_sfence(); }
#elif defined(LOOK_UP_AVX2)
INLINE void store_past_cache(float *to, Vector x) { _mm256_stream_ps(to, x); }
INLINE void finish_past_cache(void) { _mm_sfence(); }
#else
INLINE void store_past_cache(float *to, Vector x) { store(to, x); }
INLINE void finish_past_cache(void) {}
#endif

INLINE void store_first(float *to, Vector x, int64_t count) {
    float lanes[LANES];
    store(lanes, x);
    memcpy(to, lanes, count * sizeof(float));
}

/* ---- Forward: a tile of images and units ---- */

INLINE void dot_tile(const Linear *job, int64_t image, int images, int64_t unit, int units) {
    const int64_t n = job->in;
    const float *x = job->x + image * n, *w = job->weight + unit * n;
    const int ahead = image == 0; /* the next units; the other images find these in the cache */
    Vector sums[IMAGES][UNITS];
    for (int i = 0; i < images; i++)
        for (int u = 0; u < units; u++) sums[i][u] = all(0.0f);
    for (int64_t k = 0; k < n; k += LANES) {
        const int64_t count = n - k;
        Vector rows[UNITS];
        for (int u = 0; u < units; u++) {
            if (ahead) __builtin_prefetch(w + (u + units) * n + k);
            rows[u] = count >= LANES ? load(w + u * n + k) : load_first(w + u * n + k, count);
        }
        for (int i = 0; i < images; i++) {
            const Vector value = count >= LANES ? load(x + i * n + k) : load_first(x + i * n + k, count);
            for (int u = 0; u < units; u++) sums[i][u] = multiply_add(value, rows[u], sums[i][u]);
        }
    }
    for (int i = 0; i < images; i++)
        for (int u = 0; u < units; u++)
            job->result[(image + i) * job->out + unit + u] =
                sum_lanes(sums[i][u]) + (job->bias ? job->bias[unit + u] : 0.0f);
}

/* Call TILE with constant numbers, so that the sums stay in registers. */
#define WITH_CONSTANT(COUNT, MOST, CALL)                                                           \
    switch (COUNT) {                                                                               \
    case 4: if (MOST >= 4) { CALL(4); } break;                                                     \
    case 3: if (MOST >= 3) { CALL(3); } break;                                                     \
    case 2: CALL(2); break;                                                                        \
    default: CALL(1);                                                                              \
    }

static void dot_images(const Linear *job, int64_t image, int images, int64_t unit, int units) {
#define FULL(I) dot_tile(job, image, I, unit, UNITS)
#define SINGLE(I) dot_tile(job, image, I, unit + u, 1)
    if (units == UNITS) {
        WITH_CONSTANT(images, IMAGES, FULL)
    } else
        for (int u = 0; u < units; u++) { WITH_CONSTANT(images, IMAGES, SINGLE) }
#undef FULL
#undef SINGLE
}

/* Units first ... last - 1 of the result. */
static int linear(const void *given, int64_t first, int64_t last) {
    const Linear *job = given;
    for (int64_t unit = first; unit < last; unit += UNITS)
        for (int64_t image = 0; image < job->n; image += IMAGES) {
            const int64_t images = job->n - image, units = last - unit;
            dot_images(job, image, images < IMAGES ? (int)images : IMAGES, unit,
                       units < UNITS ? (int)units : UNITS);
        }
    return DONE;
}

/* ---- Backward: some columns of a few units ---- */

/* x_grad += grad W and weight_grad = grad' x, of columns first ... last - 1. */
INLINE void gradient_tile(
    const Linear *job, int64_t unit, int units, int64_t first, int64_t last, int past_cache) {
    const int64_t n = job->in;
    const float *w = job->weight + unit * n, *grad = job->grad + unit;
    float *w_grad = job->weight_grad + unit * n;
    for (int64_t k = first; k < last; k += LANES) {
        const int64_t count = last - k < LANES ? last - k : LANES;
        const int whole = past_cache || count == LANES;
        Vector rows[UNITS], sums[UNITS];
        for (int u = 0; u < units; u++) {
            __builtin_prefetch(w + (u + units) * n + k);
            rows[u] = whole ? load(w + u * n + k) : load_first(w + u * n + k, count);
            sums[u] = all(0.0f);
        }
        for (int64_t i = 0; i < job->n; i++) {
            const float *from = job->x + i * n + k, *g = grad + i * job->out;
            float *to = job->x_grad + i * n + k;
            const Vector value = whole ? load(from) : load_first(from, count);
            Vector slope = whole ? load(to) : load_first(to, count);
            for (int u = 0; u < units; u++) {
                const Vector factor = all(g[u]);
                slope = multiply_add(factor, rows[u], slope);
                sums[u] = multiply_add(factor, value, sums[u]);
            }
            if (whole) store(to, slope);
            else store_first(to, slope, count);
        }
        for (int u = 0; u < units; u++)
            if (past_cache) store_past_cache(w_grad + u * n + k, sums[u]);
            else if (whole) store(w_grad + u * n + k, sums[u]);
            else store_first(w_grad + u * n + k, sums[u], count);
    }
}

/* Columns first * LINE ... last * LINE - 1 of the gradients. */
static int linear_gradient(const void *given, int64_t first_line, int64_t last_line) {
    const Linear *job = given;
    const int64_t end = last_line * LINE < job->in ? last_line * LINE : job->in;
    const int past_cache = job->in % LANES == 0 && (uintptr_t)job->weight_grad % sizeof(Vector) == 0;
    for (int64_t first = first_line * LINE; first < end; first += STRETCH) {
        const int64_t last = end - first < STRETCH ? end : first + STRETCH;
        for (int64_t i = 0; i < job->n; i++)
            memset(job->x_grad + i * job->in + first, 0, (last - first) * sizeof(float));
        int64_t unit = 0;
        for (; unit + UNITS <= job->out; unit += UNITS)
            if (past_cache) gradient_tile(job, unit, UNITS, first, last, 1);
            else gradient_tile(job, unit, UNITS, first, last, 0);
        for (; unit < job->out; unit++) gradient_tile(job, unit, 1, first, last, 0);
    }
    finish_past_cache();
    return DONE;
}

/* Work on the rows of weights: an output unit and its fan-in, which is contiguous. A row is visited
 * several times while it is in the cache, and read from memory once.
 *
 * Sums have a fixed order, so that results depend neither on the instruction set nor on the number
 * of threads. C does not let a compiler reorder a sum, so the lanes of vectors are written out.
 */

enum { WIDE = 16, STREAMS = 4 };

/* Lowered to the vectors that the instruction set has. */
typedef float Wide __attribute__((vector_size(WIDE * sizeof(float)), aligned(4), may_alias));

#define ROW_INLINE static inline __attribute__((always_inline))

/* What follows i, at most WIDE numbers, and then `pad`. */
ROW_INLINE void load_tail(Wide *out, const float *x, int64_t i, int64_t n, float pad) {
    float kept[WIDE];
    for (int lane = 0; lane < WIDE; lane++) kept[lane] = i + lane < n ? x[i + lane] : pad;
    memcpy(out, kept, sizeof kept);
}

/* The sum over lanes and streams. */
ROW_INLINE float total(const Wide *streams) {
    const Wide sum = (streams[0] + streams[1]) + (streams[2] + streams[3]);
    float lanes[WIDE];
    memcpy(lanes, &sum, sizeof lanes);
    for (int half = WIDE / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

/* Run ADD(stream, x, y) over two rows of n numbers, which are padded to whole vectors. */
#define FOR_EACH_PAIR(ADD, A, PAD_A, B, PAD_B, N)                                                  \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + STREAMS * WIDE <= (N); i += STREAMS * WIDE)                                     \
            for (int stream = 0; stream < STREAMS; stream++) {                                     \
                const Wide x = *(const Wide *)((A) + i + stream * WIDE);                           \
                const Wide y = *(const Wide *)((B) + i + stream * WIDE);                           \
                ADD(stream, x, y);                                                                 \
            }                                                                                      \
        for (; i + WIDE <= (N); i += WIDE) {                                                       \
            const Wide x = *(const Wide *)((A) + i), y = *(const Wide *)((B) + i);                 \
            ADD(0, x, y);                                                                          \
        }                                                                                          \
        if (i < (N)) {                                                                             \
            Wide x, y;                                                                             \
            load_tail(&x, A, i, N, PAD_A);                                                         \
            load_tail(&y, B, i, N, PAD_B);                                                         \
            ADD(1, x, y);                                                                          \
        }                                                                                          \
    } while (0)

/* Both sums of two rows. */
ROW_INLINE void sums(const float *a, const float *b, int64_t n, float *sum_a, float *sum_b) {
    Wide as[STREAMS] = {{0}}, bs[STREAMS] = {{0}};
#define ADD(STREAM, X, Y) as[STREAM] += X, bs[STREAM] += Y
    FOR_EACH_PAIR(ADD, a, 0.0f, b, 0.0f, n);
#undef ADD
    *sum_a = total(as);
    *sum_b = total(bs);
}

/* The sums of squares of two rows. */
ROW_INLINE void squares(const float *a, const float *b, int64_t n, float *of_a, float *of_b) {
    Wide as[STREAMS] = {{0}}, bs[STREAMS] = {{0}};
#define ADD(STREAM, X, Y) as[STREAM] += X * X, bs[STREAM] += Y * Y
    FOR_EACH_PAIR(ADD, a, 0.0f, b, 0.0f, n);
#undef ADD
    *of_a = total(as);
    *of_b = total(bs);
}

/* The sums of (a - mean)^2 and (a - mean) b. */
ROW_INLINE void moments(
    const float *a, float mean, const float *b, int64_t n, float *square, float *product) {
    Wide aa[STREAMS] = {{0}}, ab[STREAMS] = {{0}};
#define ADD(STREAM, X, Y)                                                                          \
    const Wide centered = X - mean;                                                                \
    aa[STREAM] += centered * centered;                                                             \
    ab[STREAM] += centered * Y
    FOR_EACH_PAIR(ADD, a, mean, b, 0.0f, n);
#undef ADD
    *square = total(aa);
    *product = total(ab);
}

/* ---- Scaled Weight Standardization ---- */

/* Not fmaxf: the larger of x and the bound, or NaN if x is. */
ROW_INLINE float at_least(float x, float bound) { return x < bound ? bound : x; }

/* What turns a row into its standardized form, (row - mean) * gain * inverse. */
typedef struct {
    float mean, square, inverse; /* square: sum of squares around the mean */
} RowStatistics;

ROW_INLINE RowStatistics statistics_of(const float *row, int64_t n, float eps) {
    float sum, square, unused;
    sums(row, row, n, &sum, &unused);
    const float mean = sum / (float)n;
    moments(row, mean, row, n, &square, &unused);
    return (RowStatistics){mean, square, 1.0f / sqrtf(at_least(square, eps))};
}

static int standardize_rows(const void *given, int64_t first, int64_t last) {
    const Standardization *job = given;
    const int64_t n = job->fan_in;
    for (int64_t row = first; row < last; row++) {
        const float *restrict w = job->weight + row * n;
        float *restrict out = job->result + row * n;
        const RowStatistics found = statistics_of(w, n, job->eps);
        const float scale = found.inverse * job->gain[row];
        for (int64_t i = 0; i < n; i++) out[i] = (w[i] - found.mean) * scale;
    }
    return DONE;
}

/* With x = w - mean(w), r = 1 / sqrt(max(sum(x^2), eps)) and s = sum(x grad):
 * gain's gradient is r s, and w's is gain r (grad - mean(grad) - r^2 s x), without the last term
 * where eps is the larger. Returns that of the gain. */
static float standardize_gradient(
    const float *restrict w, const float *restrict grad, float *restrict out, int64_t n, float gain,
    float eps) {
    float sum, grad_sum, square, product;
    sums(w, grad, n, &sum, &grad_sum);
    const float mean = sum / (float)n, grad_mean = grad_sum / (float)n;
    moments(w, mean, grad, n, &square, &product);
    const float r = 1.0f / sqrtf(at_least(square, eps)), scale = gain * r;
    const float along = square >= eps ? r * r * product : 0.0f;
    for (int64_t i = 0; i < n; i++)
        out[i] = (grad[i] - grad_mean - along * (w[i] - mean)) * scale;
    return r * product;
}

static int standardize_gradient_rows(const void *given, int64_t first, int64_t last) {
    const Standardization *job = given;
    const int64_t n = job->fan_in;
    for (int64_t row = first; row < last; row++)
        job->gain_grad[row] =
            standardize_gradient(job->weight + row * n, job->grad + row * n, job->result + row * n,
                                 n, job->gain[row], job->eps);
    return DONE;
}

/* ---- The optimizer ---- */

/* PyTorch's lerp, which starts from the nearer endpoint. */
ROW_INLINE float average_of(float average, float w, float weight, int near_average) {
    return near_average ? fmaf(weight, w - average, average)
                        : fmaf(1.0f - weight, average - w, w);
}

/* Update n numbers. All but the pointers, n and scale are constants where this is inlined. */
ROW_INLINE void update_numbers(
    const Update *job, float *restrict w, const float *restrict grad, float *restrict v,
    float *restrict a, int64_t n, float scale, int decay, int momentum, int nesterov, int average) {
    const float lr = job->lr, mu = job->momentum, omega = job->weight_decay;
    const float weight = job->average_weight;
    const int near_average = fabsf(weight) < 0.5f;
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * scale;
        if (decay) g = omega * w[i] + g;
        if (momentum) {
            const float velocity = mu * v[i] + g;
            v[i] = velocity;
            g = nesterov ? mu * velocity + g : velocity;
        }
        const float new = w[i] - g * lr;
        w[i] = new;
        if (average) a[i] = average_of(a[i], new, weight, near_average);
    }
}

static void update_span(
    const Update *job, const Tensor *tensor, int64_t at, int64_t n, float scale) {
    float *w = tensor->w + at, *v = tensor->v ? tensor->v + at : NULL;
    float *a = tensor->a ? tensor->a + at : NULL;
    const float *grad = tensor->grad + at;
#define CASE(DECAY, MOMENTUM, NESTEROV, AVERAGE)                                                   \
    case DECAY + 2 * MOMENTUM + 4 * NESTEROV + 8 * AVERAGE:                                        \
        update_numbers(job, w, grad, v, a, n, scale, DECAY, MOMENTUM, NESTEROV, AVERAGE);          \
        break;
#define CASES(AVERAGE)                                                                             \
    CASE(0, 0, 0, AVERAGE) CASE(1, 0, 0, AVERAGE) CASE(0, 1, 0, AVERAGE)                           \
    CASE(1, 1, 0, AVERAGE) CASE(0, 1, 1, AVERAGE) CASE(1, 1, 1, AVERAGE)
    switch ((job->weight_decay != 0.0f) + 2 * (v != NULL) + 4 * (v && job->nesterov) + 8 * !!a) {
        CASES(0)
        CASES(1)
    }
#undef CASES
#undef CASE
}

/* The factor by which adaptive gradient clipping scales a unit's gradient. */
ROW_INLINE float clip_scale(const Update *job, float square, float grad_square) {
    const float largest = job->clipping * at_least(sqrtf(square), job->eps);
    const float norm = sqrtf(grad_square);
    return norm > largest ? largest / at_least(norm, 1e-6f) : 1.0f;
}

/* The scale of a unit that is larger than a piece, from the sums of its pieces. */
static float scale_of_pieces(const Update *job, const Tensor *tensor) {
    double square = 0.0, grad_square = 0.0;
    const double *sum = job->sums + 2 * tensor->sum;
    for (int64_t at = 0; at < tensor->size; at += PIECE, sum += 2) {
        square += sum[0];
        grad_square += sum[1];
    }
    return clip_scale(job, (float)square, (float)grad_square);
}

/* The first tensor that ends after a place in the list of all elements. */
static const Tensor *tensor_at(const Update *job, int64_t place) {
    int64_t low = 0, high = job->count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (job->tensors[middle].first + job->tensors[middle].size > place) high = middle;
        else low = middle + 1;
    }
    return job->tensors + low;
}

/* Visit the spans (units, or pieces of large ones) that start among the elements first ... last - 1
 * of all tensors together. */
typedef void Visit(const Update *job, const Tensor *tensor, int64_t at, int64_t n);

ROW_INLINE int visit_spans(const Update *job, int64_t first, int64_t last, Visit *visit) {
    const Tensor *end = job->tensors + job->count;
    for (const Tensor *tensor = tensor_at(job, first); tensor < end; tensor++) {
        const int64_t from = first > tensor->first ? first - tensor->first : 0;
        const int64_t to = last - tensor->first < tensor->size ? last - tensor->first
                                                                : tensor->size;
        if (to <= 0) break;
        const int64_t span = tensor->sum < 0 && job->clips ? tensor->unit : PIECE;
        for (int64_t at = (from + span - 1) / span * span; at < to; at += span)
            visit(job, tensor, at, tensor->size - at < span ? tensor->size - at : span);
    }
    return DONE;
}

static void sum_piece(const Update *job, const Tensor *tensor, int64_t at, int64_t n) {
    if (tensor->sum < 0) return;
    float square, grad_square;
    squares(tensor->w + at, tensor->grad + at, n, &square, &grad_square);
    double *sum = job->sums + 2 * (tensor->sum + at / PIECE);
    sum[0] = square;
    sum[1] = grad_square;
}

static void step_span(const Update *job, const Tensor *tensor, int64_t at, int64_t n) {
    float scale = 1.0f;
    if (job->clips && tensor->sum >= 0) {
        scale = scale_of_pieces(job, tensor);
        if (at == 0) job->scales[tensor->scale] = scale;
    } else if (job->clips) {
        float square, grad_square;
        squares(tensor->w + at, tensor->grad + at, n, &square, &grad_square);
        scale = clip_scale(job, square, grad_square);
        job->scales[tensor->scale + at / tensor->unit] = scale;
    }
    update_span(job, tensor, at, n, scale);
}

static int sum_pieces(const void *job, int64_t first, int64_t last) {
    return visit_spans(job, first, last, sum_piece);
}

static int update_rows(const void *job, int64_t first, int64_t last) {
    return visit_spans(job, first, last, step_span);
}

/* Scaled activations and their gradients, one pass over dense memory.
 *
 * The sigmoid is 1 / (1 + 2^t), for GELU too: 0.5 (1 + tanh u) = sigmoid(2 u). Every element takes
 * the same steps with every instruction set, so results are the same to the bit.
 */

#include "vector.h"

typedef int32_t Bits __attribute__((vector_size(LANES * sizeof(float))));

/* The larger and the smaller of x and a bound, or NaN if x is. */
#if defined(LOOK_UP_AVX512)
INLINE Vector at_least_all(Vector x, float bound) { return _mm512_max_ps(all(bound), x); }
INLINE Vector at_most_all(Vector x, float bound) { return _mm512_min_ps(all(bound), x); }
#elif defined(LOOK_UP_AVX2)
INLINE Vector at_least_all(Vector x, float bound) { return _mm256_max_ps(all(bound), x); }
INLINE Vector at_most_all(Vector x, float bound) { return _mm256_min_ps(all(bound), x); }
#else
INLINE Vector at_least_all(Vector x, float bound) { return vmaxq_f32(all(bound), x); }
INLINE Vector at_most_all(Vector x, float bound) { return vminq_f32(all(bound), x); }
#endif

/* 2^t for t in [-127, 128], 0 and infinity included: 2^n 2^r with n the nearest integer and a
 * minimax polynomial of relative error 2e-9 in r. */
INLINE Vector power_of_two(Vector t) {
    const Vector shift = all(0x1.8p23f), shifted = t + shift; /* n is in the lowest bits */
    const Vector r = t - (shifted - shift);
    const Bits scale = (((Bits)shifted) + 127) << 23;
    Vector p = all(0x1.41d324p-13f);
    p = multiply_add(p, r, all(0x1.5f4582p-10f));
    p = multiply_add(p, r, all(0x1.3b2dbcp-7f));
    p = multiply_add(p, r, all(0x1.c6aed4p-5f));
    p = multiply_add(p, r, all(0x1.ebfbdap-3f));
    p = multiply_add(p, r, all(0x1.62e430p-1f));
    p = multiply_add(p, r, all(1.0f));
    return p * (Vector)scale;
}

/* 1 / (1 + 2^t), exactly 0 or 1 for large |t|. */
INLINE Vector logistic(Vector t) {
    const Vector one = all(1.0f);
    return one / (one + power_of_two(at_most_all(at_least_all(t, -127.0f), 128.0f)));
}

/* sqrt(2 / pi) and the cubic coefficient of GELU's tanh form; log2(e). */
#define ROOT 0.7978845608028654
#define CUBIC 0.044715
#define LOG2E 1.4426950408889634

INLINE Vector gelu(Vector x) {
    const Vector line = all((float)(-2 * ROOT * LOG2E));
    const Vector cube = all((float)(-2 * ROOT * LOG2E * CUBIC));
    return x * logistic(x * multiply_add(x * x, cube, line));
}

/* s + x s (1 - s) 2 u', whose second term vanishes in float32 beyond |x| = 10. */
INLINE Vector gelu_slope(Vector x) {
    x = at_most_all(at_least_all(x, -10.0f), 10.0f);
    const Vector line = all((float)(-2 * ROOT * LOG2E));
    const Vector cube = all((float)(-2 * ROOT * LOG2E * CUBIC));
    const Vector square = x * x, one = all(1.0f);
    const Vector s = one / (one + power_of_two(x * multiply_add(square, cube, line)));
    const Vector slope = multiply_add(square, all((float)(6 * ROOT * CUBIC)), all((float)(2 * ROOT)));
    return multiply_add(s - s * s, x * slope, s);
}

INLINE Vector silu(Vector x) { return x * logistic(x * all((float)-LOG2E)); }

/* s + x s (1 - s), whose second term vanishes in float32 beyond |x| = 87. */
INLINE Vector silu_slope(Vector x) {
    x = at_most_all(at_least_all(x, -87.0f), 87.0f);
    const Vector one = all(1.0f);
    const Vector s = one / (one + power_of_two(x * all((float)-LOG2E)));
    return multiply_add(s - s * s, x, s);
}

INLINE Vector relu(Vector x) { return at_least_all(x, 0.0f); }

/* 0 where x <= 0, otherwise 1, for NaN too. */
INLINE Vector relu_slope(Vector x) {
    const Bits negative = x <= all(0.0f);
    return (Vector)(~negative & (Bits)all(1.0f));
}

#undef ROOT
#undef CUBIC
#undef LOG2E

/* Define NAME_elements, which computes elements first ... last - 1 of `EACH` vector by vector; the
 * last vector is padded with zeros. */
#define DEFINE_ACTIVATION(NAME)                                                                    \
    INLINE Vector NAME##_forward(const Activation *job, Vector x, Vector grad, Vector skip_grad) { \
        (void)grad, (void)skip_grad;                                                               \
        return all(job->scale) * NAME(x);                                                          \
    }                                                                                              \
    INLINE Vector NAME##_gradient(const Activation *job, Vector x, Vector grad, Vector skip_grad) {\
        return multiply_add(grad * all(job->scale), NAME##_slope(x), skip_grad);                   \
    }                                                                                              \
    static void NAME##_elements(const Activation *job, int64_t first, int64_t last) {              \
        if (!job->grad) over_elements(NAME##_forward, job, first, last, 0, 0);                     \
        else if (!job->skip_grad) over_elements(NAME##_gradient, job, first, last, 1, 0);          \
        else over_elements(NAME##_gradient, job, first, last, 1, 1);                               \
    }

typedef Vector Each(const Activation *job, Vector x, Vector grad, Vector skip_grad);

INLINE Vector load_first(const float *from, int64_t count) {
    float lanes[LANES] = {0};
    memcpy(lanes, from, count * sizeof(float));
    return load(lanes);
}

INLINE void over_elements(
    Each *each, const Activation *job, int64_t first, int64_t last, int has_grad, int has_skip) {
    const float *x = job->x, *grad = job->grad, *skip = job->skip_grad;
    const Vector zero = all(0.0f);
    int64_t i = first;
    for (; i + LANES <= last; i += LANES) {
        const Vector g = has_grad ? load(grad + i) : zero, s = has_skip ? load(skip + i) : zero;
        store(job->result + i, each(job, load(x + i), g, s));
    }
    if (i < last) {
        const int64_t count = last - i;
        const Vector g = has_grad ? load_first(grad + i, count) : zero;
        const Vector s = has_skip ? load_first(skip + i, count) : zero;
        float lanes[LANES];
        store(lanes, each(job, load_first(x + i, count), g, s));
        memcpy(job->result + i, lanes, count * sizeof(float));
    }
}

#define AS_DEFINITION(NAME) DEFINE_ACTIVATION(NAME)
ACTIVATIONS(AS_DEFINITION)

#define AS_ACTIVATION_CASE(NAME)                                                                   \
    case ACTIVATION_##NAME: NAME##_elements(job, first, last); break;

static int activate_elements(const void *given, int64_t first, int64_t last) {
    const Activation *job = given;
    switch (job->kind) { ACTIVATIONS(AS_ACTIVATION_CASE) }
    return DONE;
}

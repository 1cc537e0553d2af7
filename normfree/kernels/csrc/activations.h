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
    const Vector e = power_of_two(x * multiply_add(square, cube, line)), s = one / (one + e);
    const Vector slope = multiply_add(square, all((float)(6 * ROOT * CUBIC)), all((float)(2 * ROOT)));
    return multiply_add(e * s * s, x * slope, s); /* e s = 1 - s, without cancellation */
}

INLINE Vector silu(Vector x) { return x * logistic(x * all((float)-LOG2E)); }

/* s + x s (1 - s), whose second term vanishes in float32 beyond |x| = 87. */
INLINE Vector silu_slope(Vector x) {
    x = at_most_all(at_least_all(x, -87.0f), 87.0f);
    const Vector one = all(1.0f);
    const Vector e = power_of_two(x * all((float)-LOG2E)), s = one / (one + e);
    return multiply_add(e * s * s, x, s);
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

typedef Vector Each(Vector x, Vector grad, Vector scale);

INLINE Vector load_first(const float *from, int64_t count) {
    float lanes[LANES] = {0};
    memcpy(lanes, from, count * sizeof(float));
    return load(lanes);
}

/* Elements first ... last - 1 of `each`; the last vector is padded with zeros. */
INLINE void over_elements(
    Each *each, const Activation *job, int64_t first, int64_t last, int has_grad) {
    const float *x = job->x, *grad = job->grad;
    const Vector zero = all(0.0f), scale = all(job->scale);
    float *out = job->result;
    int64_t i = first;
    for (; i + LANES <= last; i += LANES)
        store(out + i, each(load(x + i), has_grad ? load(grad + i) : zero, scale));
    if (i < last) {
        const int64_t count = last - i;
        const Vector g = has_grad ? load_first(grad + i, count) : zero;
        float lanes[LANES];
        store(lanes, each(load_first(x + i, count), g, scale));
        memcpy(out + i, lanes, count * sizeof(float));
    }
}

#define DEFINE_ACTIVATION(NAME)                                                                    \
    INLINE Vector NAME##_value(Vector x, Vector grad, Vector scale) {                              \
        (void)grad;                                                                                \
        return scale * NAME(x);                                                                    \
    }                                                                                              \
    INLINE Vector NAME##_gradient(Vector x, Vector grad, Vector scale) {                           \
        return grad * scale * NAME##_slope(x);                                                     \
    }                                                                                              \
    static void NAME##_elements(const Activation *job, int64_t first, int64_t last) {              \
        if (job->grad) over_elements(NAME##_gradient, job, first, last, 1);                        \
        else over_elements(NAME##_value, job, first, last, 0);                                     \
    }

ACTIVATIONS(DEFINE_ACTIVATION)

#define AS_ACTIVATION_CASE(NAME)                                                                   \
    case ACTIVATION_##NAME: NAME##_elements(job, first, last); break;

static int activate_elements(const void *given, int64_t first, int64_t last) {
    const Activation *job = given;
    switch (job->kind) { ACTIVATIONS(AS_ACTIVATION_CASE) }
    return DONE;
}

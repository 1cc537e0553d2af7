/* Standardizing a row of a weight matrix, and its gradient; and the layout of packed filters. */

#include "tile.h"

#include <math.h>

INLINE float sum_of(Vector x) {
    float lanes[LANES], sum = 0.0f;
    store(lanes, x);
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}

static float row_sum(const float *row, int64_t n) {
    Vector a = all(0.0f), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        a += load(row + i);
        b += load(row + i + LANES);
        c += load(row + i + 2 * LANES);
        d += load(row + i + 3 * LANES);
    }
    float rest = 0.0f;
    for (; i < n; i++) rest += row[i];
    return sum_of((a + b) + (c + d)) + rest;
}

/* The sum of (a - mean) * b. */
static float centered_dot(const float *a, float mean, const float *b, float other, int64_t n) {
    const Vector m = all(mean), o = all(other);
    Vector x = all(0.0f), y = x, z = x, w = x;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        x = multiply_add(load(a + i) - m, load(b + i) - o, x);
        y = multiply_add(load(a + i + LANES) - m, load(b + i + LANES) - o, y);
        z = multiply_add(load(a + i + 2 * LANES) - m, load(b + i + 2 * LANES) - o, z);
        w = multiply_add(load(a + i + 3 * LANES) - m, load(b + i + 3 * LANES) - o, w);
    }
    float rest = 0.0f;
    for (; i < n; i++) rest += (a[i] - mean) * (b[i] - other);
    return sum_of((x + y) + (z + w)) + rest;
}

typedef struct {
    float mean, inverse; /* inverse: 1 / sqrt(max(sum of squares, eps)) */
    int clamped;
} RowStatistics;

static RowStatistics row_statistics(const float *row, int64_t n, float eps) {
    const float mean = row_sum(row, n) / (float)n;
    const float squares = centered_dot(row, mean, row, mean, n);
    const int clamped = squares < eps;
    return (RowStatistics){mean, 1.0f / sqrtf(clamped ? eps : squares), clamped};
}

/* From the gradient of a standardized row to that of the row, in place; returns that of the gain. */
static float standardize_backward_row(const float *row, float *grad, int64_t n, float gain,
                                      float eps) {
    const RowStatistics found = row_statistics(row, n, eps);
    const float grad_mean = row_sum(grad, n) / (float)n;
    const float dot = centered_dot(row, found.mean, grad, 0.0f, n);
    const float scale = gain * found.inverse;
    const float along = found.clamped ? 0.0f : scale * found.inverse * found.inverse * dot;
    for (int64_t i = 0; i < n; i++)
        grad[i] = scale * (grad[i] - grad_mean) - along * (row[i] - found.mean);
    return found.inverse * dot;
}

/* From PANEL rows of `n` values to (n, PANEL). */
static void transpose_panel(const float *rows, int64_t n, float *out) {
    const int64_t whole = n / 4 * 4;
    for (int64_t i = 0; i < whole; i += 4)
        for (int64_t r = 0; r < PANEL; r += 4)
            transpose_4(rows + r * n + i, n, out + i * PANEL + r, PANEL);
    for (int64_t i = whole; i < n; i++)
        for (int64_t r = 0; r < PANEL; r++) out[i * PANEL + r] = rows[r * n + i];
}

/* The two inner loops of a convolution: a small tile of a matrix product, kept in registers.
 *
 * Both compute sums of outer products: each step multiplies TILE_ROWS scalars of one operand by
 * TILE_COLUMNS consecutive values of the other. Columns come in panels of PANEL, whatever the
 * instruction set, so the layout of packed filters does not depend on it. */

#ifndef NORMFREE_TILE_H
#define NORMFREE_TILE_H

#include "vector.h"

enum { PANEL = 32 };

/* y[m][j] = bias[j] + sum over segments s and depths i of a[m][s * depth + i] * b[s][i][j] */
typedef struct {
    const float *a;         /* rows of `segments * depth` values, `a_row` apart */
    int64_t a_row;
    const float *const *b;  /* for each segment, (depth, PANEL) */
    int64_t segments, depth;
    const float *bias;      /* (PANEL) or NULL */
    float *const *y;        /* where to write PANEL values of each row */
} RowProduct;

INLINE void multiply_rows(const int rows, const RowProduct *job, const int64_t column) {
    Vector sum[TILE_ROWS][TILE_VECTORS];
    const float *a[(TILE_ROWS + 2) / 3]; /* every third row: with the stride, few registers do */
    const int64_t stride = job->a_row;
#pragma GCC unroll 16
    for (int v = 0; v < TILE_VECTORS; v++) {
        const Vector start = job->bias ? load(job->bias + column + v * LANES) : all(0.0f);
#pragma GCC unroll 16
        for (int m = 0; m < rows; m++) sum[m][v] = start;
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; m += 3) a[m / 3] = job->a + m * stride;
    for (int64_t s = 0; s < job->segments; s++) {
        const float *b = job->b[s] + column;
        for (int64_t i = 0; i < job->depth; i++, b += PANEL) {
            Vector right[TILE_VECTORS];
#pragma GCC unroll 16
            for (int v = 0; v < TILE_VECTORS; v++) right[v] = load(b + v * LANES);
#pragma GCC unroll 16
            for (int m = 0; m < rows; m++) {
                const Vector left = all(a[m / 3][(m % 3) * stride]);
#pragma GCC unroll 16
                for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] = multiply_add(left, right[v], sum[m][v]);
            }
#pragma GCC unroll 16
            for (int m = 0; m < rows; m += 3) a[m / 3]++;
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 16
        for (int v = 0; v < TILE_VECTORS; v++) store(job->y[m] + column + v * LANES, sum[m][v]);
}

/* y[m][j] += sum over k of a[k][m] * b[k][j] */
typedef struct {
    const float *const *a, *const *b; /* for each k, where the values begin */
    int64_t count;
    float *y; /* rows `y_row` apart */
    int64_t y_row;
} OuterProduct;

INLINE void add_outer(const int rows, const OuterProduct *job, const int64_t a, const int64_t b) {
    Vector sum[TILE_ROWS][TILE_VECTORS];
    float *y = job->y + a * job->y_row + b;
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 16
        for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] = load(y + m * job->y_row + v * LANES);
    for (int64_t k = 0; k < job->count; k++) {
        const float *left = job->a[k] + a, *right = job->b[k] + b;
        Vector x[TILE_VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < TILE_VECTORS; v++) x[v] = load(right + v * LANES);
#pragma GCC unroll 16
        for (int m = 0; m < rows; m++) {
            const Vector factor = all(left[m]);
#pragma GCC unroll 16
            for (int v = 0; v < TILE_VECTORS; v++) sum[m][v] = multiply_add(factor, x[v], sum[m][v]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 16
        for (int v = 0; v < TILE_VECTORS; v++) store(y + m * job->y_row + v * LANES, sum[m][v]);
}

/* The loops are compiled once for every number of rows. */
#if defined(LOOK_UP_AVX512)
#define EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#else
#define EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif

static void multiply_tile(int64_t rows, const RowProduct *job) {
    for (int64_t column = 0; column < PANEL; column += TILE_COLUMNS) {
        switch (rows) {
#define CASE(ROWS) case ROWS: multiply_rows(ROWS, job, column); break;
            EACH_ROW_COUNT(CASE)
#undef CASE
        }
    }
}

static void add_outer_tile(int64_t rows, const OuterProduct *job, int64_t a, int64_t b) {
    for (int64_t column = 0; column < PANEL; column += TILE_COLUMNS) {
        switch (rows) {
#define CASE(ROWS) case ROWS: add_outer(ROWS, job, a, b + column); break;
            EACH_ROW_COUNT(CASE)
#undef CASE
        }
    }
}

/* Split `total` rows into as few tiles as possible, of nearly equal height: the first row of one. */
static int64_t tiles_of(int64_t total) { return (total + TILE_ROWS - 1) / TILE_ROWS; }
static int64_t tile_start(int64_t total, int64_t tile) { return total * tile / tiles_of(total); }

#endif

/* What Python calls for linear layers. */

#include "variant.h"

/* y = x W' + b; b may be NULL. */
EXPORT int normfree_linear(
    const float *x, const float *weight, const float *bias, float *result, int64_t n, int64_t in,
    int64_t out, int64_t threads) {
    const Linear job = {
        .x = x, .weight = weight, .bias = bias, .result = result, .n = n, .in = in, .out = out};
    return divide(chosen->linear, &job, out, threads);
}

/* The gradients of x and W, given that of y. */
EXPORT int normfree_linear_gradient(
    const float *grad, const float *x, const float *weight, float *x_grad, float *weight_grad,
    int64_t n, int64_t in, int64_t out, int64_t threads) {
    const Linear job = {.grad = grad,
                        .x = x,
                        .weight = weight,
                        .x_grad = x_grad,
                        .weight_grad = weight_grad,
                        .n = n,
                        .in = in,
                        .out = out};
    return divide(chosen->linear_gradient, &job, (in + LINE - 1) / LINE, threads);
}

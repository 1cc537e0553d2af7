/* What Python calls for work on the rows of weights. */

#include "variant.h"

EXPORT int normfree_standardize(
    const float *weight, const float *gain, float *result, int64_t rows, int64_t fan_in, float eps,
    int64_t threads) {
    const Standardization job = {
        .weight = weight, .gain = gain, .result = result, .fan_in = fan_in, .eps = eps};
    return divide(chosen->standardize, &job, rows, threads);
}

EXPORT int normfree_standardize_gradient(
    const float *grad, const float *weight, const float *gain, float *weight_grad,
    float *gain_grad, int64_t rows, int64_t fan_in, float eps, int64_t threads) {
    const Standardization job = {.weight = weight,
                                 .grad = grad,
                                 .gain = gain,
                                 .result = weight_grad,
                                 .gain_grad = gain_grad,
                                 .fan_in = fan_in,
                                 .eps = eps};
    return divide(chosen->standardize_gradient, &job, rows, threads);
}

EXPORT int64_t normfree_piece(void) { return PIECE; }

/* Clip, decay, accumulate momentum, update and average the tensors of a list. `split`: whether any
 * has pieces, whose sums are needed before the first of them changes. */
EXPORT int normfree_update(
    const Tensor *tensors, int64_t count, int64_t split, int64_t clips, float clipping, float eps,
    float lr, float momentum, int64_t nesterov, float weight_decay, float average_weight,
    float *scales, double *sums, int64_t threads) {
    const Update job = {.tensors = tensors,
                        .count = count,
                        .clips = clips,
                        .nesterov = nesterov,
                        .clipping = clipping,
                        .eps = eps,
                        .lr = lr,
                        .momentum = momentum,
                        .weight_decay = weight_decay,
                        .average_weight = average_weight,
                        .scales = scales,
                        .sums = sums};
    if (!count) return DONE;
    const int64_t elements = tensors[count - 1].first + tensors[count - 1].size;
    if (split) divide(chosen->sum_pieces, &job, elements, threads);
    return divide(chosen->update, &job, elements, threads);
}

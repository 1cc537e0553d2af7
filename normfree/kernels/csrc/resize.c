/* What Python calls to resize an image. */

#include "variant.h"

static int inside(const Axis *axis, int64_t length) {
    for (int64_t i = 0; i < axis->outputs * axis->taps; i++) {
        const int64_t place = axis->origin + axis->step * axis->inputs[i];
        if (place < 0 || place >= length) return 0;
    }
    return 1;
}

/* Resize rows of pixels, `stride` bytes apart, into planes of floats or bytes. */
EXPORT int normfree_resize(
    const byte *image, int64_t height, int64_t width, int64_t channels, int64_t stride,
    const Axis *rows, const Axis *columns, void *result, int64_t bytes) {
    const Resizing job = {image, width, channels, stride, *rows, *columns, result, bytes};
    if (!inside(rows, height) || !inside(columns, width)) return OUTSIDE;
    return chosen->resize(&job, 0, rows->outputs);
}

/* What Python calls to decode a part of a JPEG image. */

#include "jpeg_file.h"
#include "variant.h"

#include <stddef.h>
#include <stdlib.h>

/* Of the last file of this thread: its tables are most likely those of the next. */
static __thread Jpeg kept;

/* Height, width, components, and whether there is metadata; only of files that can be decoded. */
EXPORT int normfree_jpeg_header(const byte *file, int64_t bytes, int64_t found[4]) {
    if (read_headers(file, bytes, &kept)) return UNSUPPORTED;
    found[0] = kept.height;
    found[1] = kept.width;
    found[2] = kept.components;
    found[3] = kept.metadata;
    return DONE;
}

/* The most pieces that restarts divide the scan into. */
static int64_t pieces_of(const Jpeg *jpeg) {
    const int64_t across = 8 * jpeg->component->across, down = 8 * jpeg->component->down;
    const int64_t units = ((jpeg->width + across - 1) / across) *
                          ((jpeg->height + down - 1) / down);
    return jpeg->restart ? (units + jpeg->restart - 1) / jpeg->restart : 1;
}

/* Rows of (width, channels): 3 channels of color or 1 of gray, or 3 of gray, repeated. */
EXPORT int normfree_jpeg_region(
    const byte *file, int64_t bytes, int64_t top, int64_t left, int64_t height, int64_t width,
    int64_t channels, byte *result) {
    if (read_headers(file, bytes, &kept)) return UNSUPPORTED;
    const int64_t most = pieces_of(&kept);
    if (top < 0 || left < 0 || height < 1 || width < 1 || top + height > kept.height ||
        left + width > kept.width)
        return OUTSIDE;
    if (channels != 3 && (channels != 1 || kept.components != 1)) return UNSUPPORTED;
    if (most > bytes) return UNSUPPORTED;
    byte *bits = malloc((size_t)(bytes + OVERRUN));
    Pieces pieces = {malloc((size_t)(most + 1) * sizeof(int64_t)), 0, most};
    int failed = bits && pieces.starts ? DONE : NO_MEMORY;
    if (!failed) {
        pieces.starts[0] = 0;
        failed = read_scan_bytes(&kept, file + bytes, bits, &pieces);
    }
    if (!failed && pieces.count != most) failed = UNSUPPORTED;
    if (!failed) {
        const Region region = {&kept,  bits, pieces.starts, pieces.count, top,
                               left,   height, width,       channels,     result};
        failed = chosen->decode(&region, 0, 1);
    }
    free(bits);
    free(pieces.starts);
    return failed;
}

/* Reading a JPEG file up to its pixels. */

#ifndef NORMFREE_JPEG_FILE_H
#define NORMFREE_JPEG_FILE_H

#include "jpeg.h"

/* Where the pieces between restarts start, and the end of the last: count + 1 numbers. */
typedef struct {
    int64_t *starts, count, most;
} Pieces;

/* The headers of a file; tables of an earlier file that `jpeg` holds are used again if they fit. */
int read_headers(const byte *file, int64_t bytes, Jpeg *jpeg);

/* The scan without stuffing, for which `bits` needs the size of the file and OVERRUN bytes. */
int read_scan_bytes(const Jpeg *jpeg, const byte *end, byte *bits, Pieces *pieces);

#endif

/* What is known of a JPEG file before its pixels are decoded. */

#ifndef NORMFREE_JPEG_H
#define NORMFREE_JPEG_H

#include "kernels.h"

enum { BLOCK = 64, LOOK = 11, LOOKS = 1 << LOOK, COMPONENTS = 3, LONGEST = 16 };

/* A code and the number that follows it: from the low end, 8 bits each: how many bits both have; the
 * symbol, which is the number's bits below the zeros before it; how many bits the code has. 0: no code
 * of at most LOOK bits. */
typedef uint32_t Code;

static inline Code code_of(int bits, int symbol) {
    return (Code)(bits + (symbol & 15)) | (Code)symbol << 8 | (Code)bits << 16;
}
static inline int all_bits(Code code) { return code & 63; }
static inline int size_of(Code code) { return code >> 8 & 15; }
static inline int run_of(Code code) { return code >> 12 & 15; }
static inline int code_bits(Code code) { return code >> 16 & 63; }

/* All symbols whose codes are complete within LOOK bits. */
typedef struct {
    byte coefficients, bits, ends;
} Skip;

typedef struct {
    int64_t built, defined; /* built: for these counts and symbols; defined: by this file */
    byte counts[LONGEST], symbols[256]; /* as in the file */
    Code codes[LOOKS];
    Skip skips[LOOKS];
    uint32_t limits[LONGEST + 2]; /* of each length: above its last code, in LONGEST bits */
    int32_t offsets[LONGEST + 1]; /* of each length: of its first symbol, less its first code */
} Huffman;

typedef struct {
    int64_t across, down; /* blocks in a unit: 1 or 2 */
    int64_t width, height;
    uint16_t *quantization; /* in the order of the file */
    Huffman *dc, *ac;
} Component;

typedef struct {
    int64_t height, width, components, restart; /* restart: units between restarts, or 0 */
    int64_t metadata;                           /* whether there may be an orientation */
    Component component[COMPONENTS];
    const byte *scan; /* what follows the last header */
    uint16_t quantizations[4][BLOCK];
    int64_t known; /* bits: which of them were defined */
    Huffman dc[4], ac[4];
} Jpeg;

/* A part of an image, and where to put its pixels: rows of (width, channels). */
typedef struct {
    const Jpeg *jpeg;
    const byte *bits;       /* the scan without stuffing, followed by OVERRUN zeros */
    const int64_t *starts;  /* of each piece between restarts, and the end of the last */
    int64_t pieces;
    int64_t top, left, height, width, channels;
    byte *result;
} Region;

enum { OVERRUN = 512 }; /* bytes, more than a block takes at most */

#endif

/* The headers of a JPEG file. Files may be hostile: nothing is read past the end, and what is not
 * understood, or is unusual, is UNSUPPORTED: the caller has another decoder for it. */

#include "jpeg_file.h"

#include <string.h>

enum {
    START = 0xD8, END = 0xD9, SCAN = 0xDA, QUANTIZATION = 0xDB, HUFFMAN = 0xC4, RESTART = 0xDD,
    BASELINE = 0xC0, SEQUENTIAL = 0xC1, JFIF = 0xE0, METADATA = 0xE1, ADOBE = 0xEE, COMMENT = 0xFE
};

enum { LARGEST = 11 }; /* bits of a difference of means */

typedef struct {
    const byte *at, *end;
} Bytes;

static int64_t left(const Bytes *in) { return in->end - in->at; }
static int take(Bytes *in) { return *in->at++; }
static int take_two(Bytes *in) {
    in->at += 2;
    return in->at[-2] << 8 | in->at[-1];
}

/* ---- Huffman codes ---- */

/* How far the codes within LOOK bits lead, up to the end of the block. */
static void fill_skips(Huffman *table) {
    for (uint32_t bits = 0; bits < LOOKS; bits++) {
        int coefficients = 0, used = 0, ends = 0;
        while (!ends) {
            const Code code = table->codes[bits << used & (LOOKS - 1)];
            if (!code || used + code_bits(code) > LOOK) break;
            used += all_bits(code);
            ends = !size_of(code) && run_of(code) != 15;
            coefficients += ends ? 0 : run_of(code) + 1;
            if (used >= LOOK) break;
        }
        table->skips[bits] = (Skip){(byte)(coefficients > 255 ? 255 : coefficients), (byte)used,
                                    (byte)ends};
    }
}

static int build_codes(Huffman *table, const byte *counts, const byte *symbols, int is_ac) {
    uint32_t code = 0;
    int symbol = 0;
    table->built = 0;
    memcpy(table->counts, counts, LONGEST);
    memset(table->codes, 0, sizeof table->codes);
    for (int length = 1; length <= LONGEST; length++, code <<= 1) {
        table->offsets[length] = symbol - (int32_t)code;
        for (int of_length = 0; of_length < counts[length - 1]; of_length++, symbol++, code++) {
            if (code >= 1u << length || (!is_ac && symbols[symbol] > LARGEST)) return UNSUPPORTED;
            table->symbols[symbol] = symbols[symbol];
            const uint32_t first = code << (LONGEST - length) >> (LONGEST - LOOK);
            for (int i = 0; length <= LOOK && i < LOOKS >> length; i++)
                table->codes[first + i] = code_of(length, symbols[symbol]);
        }
        table->limits[length] = code << (LONGEST - length);
    }
    if (is_ac) fill_skips(table);
    table->built = 1;
    return DONE;
}

static int read_huffman(Bytes *in, Jpeg *jpeg) {
    while (left(in) >= 1 + LONGEST) {
        const int kind = take(in), is_ac = kind >> 4;
        if ((kind & 15) > 3 || is_ac > 1) return UNSUPPORTED;
        Huffman *table = (is_ac ? jpeg->ac : jpeg->dc) + (kind & 15);
        int total = 0;
        for (int i = 0; i < LONGEST; i++) total += in->at[i];
        if (total > 256 || left(in) < LONGEST + total) return UNSUPPORTED;
        const byte *counts = in->at, *symbols = in->at + LONGEST;
        in->at += LONGEST + total;
        table->defined = 1;
        if (table->built && !memcmp(table->counts, counts, LONGEST) &&
            !memcmp(table->symbols, symbols, (size_t)total))
            continue; /* the tables of most files are the standard's */
        if (build_codes(table, counts, symbols, is_ac)) return UNSUPPORTED;
    }
    return left(in) ? UNSUPPORTED : DONE;
}

/* ---- Other headers ---- */

static int read_quantization(Bytes *in, Jpeg *jpeg) {
    while (left(in)) {
        const int kind = take(in), wide = kind >> 4;
        if ((kind & 15) > 3 || wide > 1 || left(in) < BLOCK << wide) return UNSUPPORTED;
        for (int i = 0; i < BLOCK; i++)
            jpeg->quantizations[kind & 15][i] = (uint16_t)(wide ? take_two(in) : take(in));
        jpeg->known |= 1 << (kind & 15);
    }
    return DONE;
}

/* Sizes of the components; ids: as in the file. */
static int read_frame(Bytes *in, Jpeg *jpeg, byte ids[COMPONENTS]) {
    if (jpeg->components || left(in) < 6 || take(in) != 8) return UNSUPPORTED;
    jpeg->height = take_two(in);
    jpeg->width = take_two(in);
    jpeg->components = take(in);
    if (!jpeg->height || !jpeg->width || left(in) != 3 * jpeg->components) return UNSUPPORTED;
    if (jpeg->components != 1 && jpeg->components != 3) return UNSUPPORTED;
    for (int64_t i = 0; i < jpeg->components; i++) {
        Component *component = jpeg->component + i;
        ids[i] = (byte)take(in);
        const int sampling = take(in), table = take(in);
        component->across = jpeg->components == 1 ? 1 : sampling >> 4;
        component->down = jpeg->components == 1 ? 1 : sampling & 15;
        const int most = i ? 1 : 2;
        if (component->across < 1 || component->across > most || component->down < 1 ||
            component->down > most || sampling >> 4 > 4 || (sampling & 15) > 4 || table > 3)
            return UNSUPPORTED;
        component->quantization = jpeg->quantizations[table];
    }
    for (int64_t i = 0; i < jpeg->components; i++) {
        Component *component = jpeg->component + i;
        const int64_t across = jpeg->component->across, down = jpeg->component->down;
        component->width = (jpeg->width * component->across + across - 1) / across;
        component->height = (jpeg->height * component->down + down - 1) / down;
        if (across == 2 && component->width < 3) return UNSUPPORTED; /* not interpolated */
    }
    return DONE;
}

static int read_scan(Bytes *in, Jpeg *jpeg, const byte ids[COMPONENTS]) {
    const int64_t n = jpeg->components;
    if (!n || left(in) != 4 + 2 * n || take(in) != n) return UNSUPPORTED;
    for (int64_t i = 0; i < n; i++) {
        Component *component = jpeg->component + i;
        if (take(in) != ids[i]) return UNSUPPORTED;
        const int tables = take(in);
        if (tables >> 4 > 3 || (tables & 15) > 3) return UNSUPPORTED;
        component->dc = jpeg->dc + (tables >> 4);
        component->ac = jpeg->ac + (tables & 15);
        const int64_t table = (component->quantization - jpeg->quantizations[0]) / BLOCK;
        if (!component->dc->defined || !component->ac->defined || !(jpeg->known >> table & 1))
            return UNSUPPORTED;
    }
    return take(in) == 0 && take(in) == 63 && take(in) == 0 ? DONE : UNSUPPORTED;
}

static int begins(const Bytes *in, const char *name, int64_t n) {
    return left(in) >= n && !memcmp(in->at, name, (size_t)n);
}

int read_headers(const byte *file, int64_t bytes, Jpeg *jpeg) {
    Bytes in = {file, file + bytes};
    byte ids[COMPONENTS] = {0};
    int jfif = 0, adobe = -1, failed = DONE;
    jpeg->components = jpeg->restart = jpeg->metadata = jpeg->known = 0;
    for (int i = 0; i < 4; i++) jpeg->dc[i].defined = jpeg->ac[i].defined = 0;
    if (bytes < 4 || take(&in) != 0xFF || take(&in) != START) return UNSUPPORTED;
    while (!failed) {
        if (left(&in) < 4 || take(&in) != 0xFF) return UNSUPPORTED;
        const int marker = take(&in), length = take_two(&in) - 2;
        if (length < 0 || length > left(&in)) return UNSUPPORTED;
        Bytes body = {in.at, in.at + length};
        in.at += length;
        if (marker == HUFFMAN) failed = read_huffman(&body, jpeg);
        else if (marker == QUANTIZATION) failed = read_quantization(&body, jpeg);
        else if (marker == BASELINE || marker == SEQUENTIAL) failed = read_frame(&body, jpeg, ids);
        else if (marker == RESTART && length == 2) jpeg->restart = take_two(&body);
        else if (marker == METADATA) jpeg->metadata = 1;
        else if (marker == JFIF) jfif |= begins(&body, "JFIF\0", 5);
        else if (marker == ADOBE && begins(&body, "Adobe", 5)) adobe = length < 12 ? 0 : body.at[11];
        else if (marker == SCAN) {
            failed = read_scan(&body, jpeg, ids);
            break;
        } else if (marker != COMMENT && (marker & 0xF0) != JFIF) return UNSUPPORTED;
    }
    jpeg->scan = in.at;
    const int numbered = ids[0] == 1 && ids[1] == 2 && ids[2] == 3;
    if (jpeg->components == 3 && (adobe == -1 ? !jfif && !numbered : adobe != 1))
        return UNSUPPORTED; /* the colors may not be YCbCr */
    return failed;
}

/* ---- The scan ---- */

int read_scan_bytes(const Jpeg *jpeg, const byte *end, byte *bits, Pieces *pieces) {
    const byte *in = jpeg->scan;
    byte *out = bits;
    while (1) {
        const byte *marker = memchr(in, 0xFF, (size_t)(end - in));
        if (!marker || marker + 1 >= end) return UNSUPPORTED; /* the file is truncated */
        const int kind = marker[1];
        memcpy(out, in, (size_t)(marker - in));
        out += marker - in;
        in = marker + 2;
        if (!kind) *out++ = 0xFF;
        else if (kind == END) break;
        else if (kind >> 3 == 0xD0 >> 3 && jpeg->restart) {
            if ((kind & 7) != (pieces->count & 7) || pieces->count + 2 > pieces->most)
                return UNSUPPORTED;
            pieces->starts[++pieces->count] = out - bits;
        } else return UNSUPPORTED;
    }
    pieces->starts[++pieces->count] = out - bits;
    memset(out, 0, OVERRUN);
    return DONE;
}

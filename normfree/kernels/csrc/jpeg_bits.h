/* Decoding the coefficients of a block, or passing over them. */

/* Where coefficients are stored, from low to high frequency: in pairs of rows, (0, 4), (2, 6), (1, 3)
 * and (5, 7), as the transform takes them. */
#define PLACE(ROW, COLUMN) (16 * PAIR(ROW) + 2 * (COLUMN) + HALF(ROW))
#define PAIR(ROW) ((ROW) == 0 || (ROW) == 4 ? 0 : (ROW) == 2 || (ROW) == 6 ? 1 : (ROW) < 4 ? 2 : 3)
#define HALF(ROW) ((ROW) == 4 || (ROW) == 6 || (ROW) == 3 || (ROW) == 7)
#define P PLACE
static const byte places[BLOCK] = {
    P(0, 0), P(0, 1), P(1, 0), P(2, 0), P(1, 1), P(0, 2), P(0, 3), P(1, 2), P(2, 1), P(3, 0),
    P(4, 0), P(3, 1), P(2, 2), P(1, 3), P(0, 4), P(0, 5), P(1, 4), P(2, 3), P(3, 2), P(4, 1),
    P(5, 0), P(6, 0), P(5, 1), P(4, 2), P(3, 3), P(2, 4), P(1, 5), P(0, 6), P(0, 7), P(1, 6),
    P(2, 5), P(3, 4), P(4, 3), P(5, 2), P(6, 1), P(7, 0), P(7, 1), P(6, 2), P(5, 3), P(4, 4),
    P(3, 5), P(2, 6), P(1, 7), P(2, 7), P(3, 6), P(4, 5), P(5, 4), P(6, 3), P(7, 2), P(7, 3),
    P(6, 4), P(5, 5), P(4, 6), P(3, 7), P(4, 7), P(5, 6), P(6, 5), P(7, 4), P(7, 5), P(6, 6),
    P(5, 7), P(6, 7), P(7, 6), P(7, 7)};
#undef P

typedef struct {
    const byte *at;
    uint64_t bits; /* the next ones, from the top */
    int count;     /* how many of them are valid */
} Reader;

/* At least 56 bits are valid after this. */
INLINE void refill(Reader *in) {
    uint64_t next;
    memcpy(&next, in->at, sizeof next);
    in->bits |= __builtin_bswap64(next) >> in->count; /* all machines here store the low byte first */
    in->at += (63 - in->count) >> 3;
    in->count |= 56;
}

INLINE void drop(Reader *in, int bits) {
    in->bits <<= bits;
    in->count -= bits;
}

/* A code longer than LOOK bits, of the first of `bits`; 0 if there is none. It does not get a Reader,
 * so that readers can stay in registers. */
static Code long_code(uint64_t bits, const Huffman *table) {
    const uint32_t first = (uint32_t)(bits >> (64 - LONGEST));
    for (int length = LOOK + 1; length <= LONGEST; length++)
        if (first < table->limits[length]) {
            const int32_t place = table->offsets[length] + (int32_t)(first >> (LONGEST - length));
            return code_of(length, table->symbols[place & 255]);
        }
    return 0;
}

INLINE Code look(const Reader *in, const Huffman *table) {
    return table->codes[in->bits >> (64 - LOOK)];
}

/* Drop a code and the number after it. Of numbers of so many bits, those that begin with 0 are
 * negative: the complement of their magnitude. */
INLINE int32_t take_number(Reader *in, Code code) {
    const uint64_t bits = in->bits << code_bits(code);
    const uint64_t flip = (bits >> 63) - 1; /* all ones if it is negative */
    const uint64_t magnitude = (bits ^ flip) >> 1 >> (63 - size_of(code));
    drop(in, all_bits(code));
    return (int32_t)((magnitude ^ flip) - flip);
}

/* The mean of a block is stored as its difference to that of the block before. */
INLINE int take_mean(Reader *in, const Huffman *table, int32_t *mean) {
    refill(in);
    Code code = look(in, table);
    if (!code) code = long_code(in->bits, table);
    if (!code) return UNSUPPORTED;
    if (size_of(code)) *mean += take_number(in, code);
    else drop(in, all_bits(code));
    return *mean == (int16_t)*mean ? DONE : UNSUPPORTED;
}

/* A block of coefficients times their quantization, as it is read. */
typedef struct {
    int16_t *block;
    const uint16_t *factors;
    int next, last; /* places of the next coefficient, and of the last one that is not 0 */
} Filling;

INLINE int put_number(Reader *in, Code code, Filling *filling) {
    const int place = filling->next + run_of(code);
    if (place >= BLOCK) return UNSUPPORTED;
    filling->block[places[place]] =
        (int16_t)(take_number(in, code) * filling->factors[place]);
    filling->last = place;
    filling->next = place + 1;
    return DONE;
}

/* Coefficients times their quantization, into a block of zeros. `last`: place of the last one. */
INLINE int take_block(
    Reader *in, const Component *component, int32_t *mean, int16_t *block, int *last) {
    Filling filling = {block, component->quantization, 1, 0};
    const Huffman *table = component->ac;
    if (take_mean(in, component->dc, mean)) return UNSUPPORTED;
    block[0] = (int16_t)(*mean * filling.factors[0]);
    while (filling.next < BLOCK) {
        refill(in);
        Code code = look(in, table);
        if (size_of(code)) { /* at most 27 bits */
            if (put_number(in, code, &filling)) return UNSUPPORTED;
            if (filling.next == BLOCK) break;
            code = look(in, table);
            if (size_of(code)) {
                if (put_number(in, code, &filling)) return UNSUPPORTED;
                continue;
            }
            refill(in);
        }
        if (!code) code = long_code(in->bits, table);
        if (!code) return UNSUPPORTED;
        if (size_of(code)) {
            if (put_number(in, code, &filling)) return UNSUPPORTED;
            continue;
        }
        drop(in, all_bits(code));
        if (run_of(code) != 15) break; /* the rest is 0 */
        filling.next += 16;
    }
    *last = filling.last;
    return DONE;
}

/* Codes that can be passed over at once, if the block does not end among them. */
INLINE int skip_codes(Reader *in, const Huffman *table, int *k, int *ends) {
    const Skip skip = table->skips[in->bits >> (64 - LOOK)];
    if (!skip.bits || *k + skip.coefficients + skip.ends > BLOCK) return 0;
    drop(in, skip.bits);
    *k += skip.coefficients;
    *ends = skip.ends;
    return 1;
}

/* Pass over a block, several symbols at a time; only its mean is needed. */
INLINE int skip_block(Reader *in, const Component *component, int32_t *mean) {
    const Huffman *table = component->ac;
    int k = 1, ends = 0;
    if (take_mean(in, component->dc, mean)) return UNSUPPORTED;
    while (k < BLOCK && !ends) {
        refill(in);
        if (skip_codes(in, table, &k, &ends)) { /* at most 27 bits, and as many again */
            if (!ends) skip_codes(in, table, &k, &ends);
            continue;
        }
        Code code = look(in, table);
        if (!code) code = long_code(in->bits, table);
        if (!code) return UNSUPPORTED;
        drop(in, all_bits(code));
        ends = !size_of(code) && run_of(code) != 15;
        k += ends ? 0 : run_of(code) + 1;
    }
    return k <= BLOCK ? DONE : UNSUPPORTED;
}

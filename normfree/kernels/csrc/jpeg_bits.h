/* Decoding the coefficients of a block, or passing over them. */

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
    filling->block[normfree_places[place]] =
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

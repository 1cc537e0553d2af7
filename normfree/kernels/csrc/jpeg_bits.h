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

INLINE uint32_t take_bits(Reader *in, int bits) { /* at least one */
    const uint32_t found = (uint32_t)(in->bits >> (64 - bits));
    drop(in, bits);
    return found;
}

/* The number that `size` bits stand for: the first half of them are negative. */
INLINE int32_t take_number(Reader *in, int size) {
    if (!size) return 0;
    const int32_t bits = (int32_t)take_bits(in, size);
    return bits + (bits < 1 << (size - 1) ? 1 - (1 << size) : 0);
}

/* A code longer than LOOK bits, of the first of `bits`; its length is 0 if there is none. Readers are
 * not passed to it, so that they can stay in registers. */
static Code long_code(uint64_t bits, const Huffman *table) {
    const uint32_t first = (uint32_t)(bits >> (64 - LONGEST));
    for (int length = LOOK + 1; length <= LONGEST; length++)
        if (first < table->limits[length]) {
            const int32_t place = table->offsets[length] + (int32_t)(first >> (LONGEST - length));
            return (Code){(byte)length, table->symbols[place & 255], 0};
        }
    return (Code){0, 0, 0};
}

INLINE Code look(const Reader *in, const Huffman *table) {
    return table->codes[in->bits >> (64 - LOOK)];
}

/* A symbol of any length, or -1. */
INLINE int take_symbol(Reader *in, const Huffman *table, Code code) {
    if (!code.bits) code = long_code(in->bits, table);
    if (!code.bits) return -1;
    drop(in, code.bits);
    return code.symbol;
}

/* The difference of this block's mean to the one before. */
INLINE int take_difference(Reader *in, const Huffman *table, int32_t *mean) {
    refill(in);
    const Code code = look(in, table);
    if (code.value) {
        drop(in, code.bits);
        *mean += code.value;
    } else {
        const int size = take_symbol(in, table, code);
        if (size < 0) return UNSUPPORTED;
        *mean += take_number(in, size);
    }
    return *mean == (int16_t)*mean ? DONE : UNSUPPORTED;
}

/* Coefficients times their quantization, into a block of zeros. `last`: place of the last one. */
INLINE int take_block(
    Reader *in, const Component *component, int32_t *mean, int16_t *block, int *last) {
    const uint16_t *factors = component->quantization;
    const Huffman *table = component->ac;
    if (take_difference(in, component->dc, mean)) return UNSUPPORTED;
    block[0] = (int16_t)(*mean * factors[0]);
    *last = 0;
    for (int k = 1; k < BLOCK; k++) {
        refill(in);
        Code code = look(in, table);
        for (int ahead = 0; ahead < 2 && code.value; ahead++) { /* of 56 bits, 34 remain */
            drop(in, code.bits);
            k += code.symbol >> 4;
            if (k >= BLOCK) return UNSUPPORTED;
            block[normfree_places[k]] = (int16_t)(code.value * factors[k]);
            *last = k;
            if (++k == BLOCK) return DONE;
            code = look(in, table);
        }
        int32_t value = code.value;
        int symbol = code.symbol;
        if (value) drop(in, code.bits);
        else {
            symbol = take_symbol(in, table, code);
            if (symbol < 0) return UNSUPPORTED;
            value = take_number(in, symbol & 15);
        }
        const int run = symbol >> 4;
        if (!value && run != 15) return DONE; /* the rest is 0 */
        k += run;
        if (k >= BLOCK) return UNSUPPORTED;
        block[normfree_places[k]] = (int16_t)(value * factors[k]);
        *last = k;
    }
    return DONE;
}

/* Pass over a block, several symbols at a time; only its mean is needed. */
INLINE int skip_block(Reader *in, const Component *component, int32_t *mean) {
    const Huffman *table = component->ac;
    if (take_difference(in, component->dc, mean)) return UNSUPPORTED;
    for (int k = 1; k < BLOCK;) {
        refill(in);
        const Skip skip = table->skips[in->bits >> (64 - LOOK)];
        if (skip.bits && k + skip.coefficients + skip.ends <= BLOCK) {
            drop(in, skip.bits);
            k += skip.coefficients;
            if (skip.ends) return DONE;
            continue;
        }
        Code code = look(in, table);
        if (code.value) code.bits = (byte)(code.bits - (code.symbol & 15));
        const int symbol = take_symbol(in, table, code);
        if (symbol < 0) return UNSUPPORTED;
        const int size = symbol & 15;
        if (!size && symbol >> 4 != 15) return DONE;
        drop(in, size);
        k += (symbol >> 4) + 1;
        if (k > BLOCK) return UNSUPPORTED;
    }
    return DONE;
}

/* Vectors of floats, and the shape of the matrix kernels' tiles, for one instruction set. */

#ifndef NORMFREE_VECTOR_H
#define NORMFREE_VECTOR_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(LOOK_UP_AVX512)

typedef __m512 Vector;
enum { LANES = 16, TILE_ROWS = 14, TILE_VECTORS = 2 }; /* 28 of 32 registers accumulate */

INLINE Vector load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store(float *to, Vector x) { _mm512_storeu_ps(to, x); }
INLINE Vector all(float x) { return _mm512_set1_ps(x); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

#elif defined(LOOK_UP_AVX2)

typedef __m256 Vector;
enum { LANES = 8, TILE_ROWS = 6, TILE_VECTORS = 2 }; /* 12 of 16 registers accumulate */

INLINE Vector load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void store(float *to, Vector x) { _mm256_storeu_ps(to, x); }
INLINE Vector all(float x) { return _mm256_set1_ps(x); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

#else /* NEON */

#include <arm_neon.h>

typedef float32x4_t Vector;
enum { LANES = 4, TILE_ROWS = 6, TILE_VECTORS = 4 }; /* 24 of 32 registers accumulate */

INLINE Vector load(const float *from) { return vld1q_f32(from); }
INLINE void store(float *to, Vector x) { vst1q_f32(to, x); }
INLINE Vector all(float x) { return vdupq_n_f32(x); }
INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

#endif

/* Transpose 4 x 4 values; rows are `stride` apart. */
INLINE void transpose_4(const float *in, int64_t in_stride, float *out, int64_t out_stride) {
#if defined(__x86_64__)
    __m128 a = _mm_loadu_ps(in), b = _mm_loadu_ps(in + in_stride);
    __m128 c = _mm_loadu_ps(in + 2 * in_stride), d = _mm_loadu_ps(in + 3 * in_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, a);
    _mm_storeu_ps(out + out_stride, b);
    _mm_storeu_ps(out + 2 * out_stride, c);
    _mm_storeu_ps(out + 3 * out_stride, d);
#else
    const float32x4x2_t ab = vtrnq_f32(vld1q_f32(in), vld1q_f32(in + in_stride));
    const float32x4x2_t cd =
        vtrnq_f32(vld1q_f32(in + 2 * in_stride), vld1q_f32(in + 3 * in_stride));
    for (int half = 0; half < 2; half++) {
        vst1q_f32(out + half * out_stride,
                  vcombine_f32(vget_low_f32(ab.val[half]), vget_low_f32(cd.val[half])));
        vst1q_f32(out + (half + 2) * out_stride,
                  vcombine_f32(vget_high_f32(ab.val[half]), vget_high_f32(cd.val[half])));
    }
#endif
}

enum { TILE_COLUMNS = LANES * TILE_VECTORS };

/* The compilers' vector extensions provide + - * / for all of them. */

#endif

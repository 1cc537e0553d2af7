/* For x86-64 with AVX-512 and VBMI, which looks up 64 bytes at a time (Intel since 2019, AMD since
 * 2022). */

#include "kernels.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi"))),    \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")
#endif

#define LOOK_UP_AVX512
#define VARIANT normfree_avx512
#define VARIANT_NAME "avx512"
#include "batch.h"

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif

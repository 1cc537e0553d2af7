/* For x86-64 with AVX2 and fused multiply-adds (Intel since 2013, AMD since 2015). */

#include "kernels.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif

#define LOOK_UP_AVX2
#define VARIANT normfree_avx2
#define VARIANT_NAME "avx2"
#include "batch.h"

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif

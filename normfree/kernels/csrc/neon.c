/* For 64-bit ARM, where NEON and fused multiply-adds are always available. */

#include "kernels.h"

#ifdef __aarch64__

#define VARIANT normfree_neon
#define VARIANT_NAME "neon"
#include "batch.h"

#endif

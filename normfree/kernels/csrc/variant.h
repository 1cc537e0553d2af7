/* The instruction set in use, and what Python may call. */

#ifndef NORMFREE_VARIANT_H
#define NORMFREE_VARIANT_H

#include "kernels.h"

#define EXPORT __attribute__((visibility("default")))

extern const Variant *chosen;

#endif

/* Every second element of two vectors, two vectors' elements in turns, half of each; elements moved
 * around by one. */
#ifndef HALFWAVE_TILES_SHUFFLES_H
#define HALFWAVE_TILES_SHUFFLES_H

#include "vector.h"

#define EVENS_2 0, 2
#define ODDS_2 1, 3
#define LOW_2 0, 2
#define HIGH_2 1, 3
#define HALVES_2 0, 3
#define BEFORE_2 1, 0
#define AFTER_2 1, 0
#define EVENS_4 0, 2, 4, 6
#define ODDS_4 1, 3, 5, 7
#define LOW_4 0, 4, 1, 5
#define HIGH_4 2, 6, 3, 7
#define HALVES_4 0, 1, 6, 7
#define BEFORE_4 3, 0, 1, 2
#define AFTER_4 1, 2, 3, 0
#define EVENS_8 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS_8 1, 3, 5, 7, 9, 11, 13, 15
#define LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define HALVES_8 0, 1, 2, 3, 12, 13, 14, 15
#define BEFORE_8 7, 0, 1, 2, 3, 4, 5, 6
#define AFTER_8 1, 2, 3, 4, 5, 6, 7, 0
#define EVENS_16 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS_16 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define HALVES_16 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31
#define BEFORE_16 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
#define AFTER_16 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0

/* F32_SHUFFLE(ODDS, a, b): so of the elements of a, followed by those of b. */
#if HW_BYTES == 64
#define F32_SHUFFLE(which, a, b) __builtin_shufflevector(a, b, which##_16)
#define F64_SHUFFLE(which, a, b) __builtin_shufflevector(a, b, which##_8)
#elif HW_BYTES == 32
#define F32_SHUFFLE(which, a, b) __builtin_shufflevector(a, b, which##_8)
#define F64_SHUFFLE(which, a, b) __builtin_shufflevector(a, b, which##_4)
#else
#define F32_SHUFFLE(which, a, b) __builtin_shufflevector(a, b, which##_4)
#define F64_SHUFFLE(which, a, b) __builtin_shufflevector(a, b, which##_2)
#endif

#endif

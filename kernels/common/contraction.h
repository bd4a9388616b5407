/* The lengths that CONTRACT.md section 3 freezes. */
#ifndef HALFWAVE_COMMON_CONTRACTION_H
#define HALFWAVE_COMMON_CONTRACTION_H

#define HW_SEGMENT 512         /* one chain of fused multiply-adds */
#define HW_SUPER_SEGMENT 16384 /* 32 segments, which fold before the next ones */

#endif

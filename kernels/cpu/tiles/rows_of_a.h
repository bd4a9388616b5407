/* How a tile of up to 14 rows addresses them: included by tiles that hold row0, row7 and steps. */
#ifndef HALFWAVE_TILES_ROWS_OF_A_H
#define HALFWAVE_TILES_ROWS_OF_A_H

/* Where row i of a stands, from few registers: rows 0 and 7 have pointers, and the others lie one,
 * two or four times a row, three rows or five rows further, which x86 adds while it loads. */
#define AT_0 row0
#define AT_1 (row0 + step1)
#define AT_2 (row0 + step1 * 2)
#define AT_3 (row0 + step3)
#define AT_4 (row0 + step1 * 4)
#define AT_5 (row0 + step5)
#define AT_6 (row0 + step3 * 2)
#define AT_7 row7
#define AT_8 (row7 + step1)
#define AT_9 (row7 + step1 * 2)
#define AT_10 (row7 + step3)
#define AT_11 (row7 + step1 * 4)
#define AT_12 (row7 + step5)
#define AT_13 (row7 + step3 * 2)

/* Emits nothing: the compiler must not look through the value, or it would compute the addresses of
 * all rows ahead, and run out of registers. */
#define OPAQUE(x) __asm__("" : "+r"(x));

#endif

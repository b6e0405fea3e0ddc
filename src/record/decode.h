/*
 * decode.h
 *	  The kinds of values whose text needs reading, for value.c.
 *
 * The texts come trimmed and are not empty.  False with a static reason if
 * they cannot be read, with NULL if there was no memory.
 */
#ifndef PFA_DECODE_H
#define PFA_DECODE_H

#include "record/record.h"

/*
 * A longer number, once written out, is refused: it cannot be meant, and the
 * column it goes to has its limits, too.
 */
#define PFA_NUMBER_MAX_DIGITS 1000

extern bool pfa_number_decode(const char *text, size_t len, PfaBatch *batch,
							  PfaValue *value, const char **reason);
extern bool pfa_date_decode(const char *text, size_t len, PfaValue *value,
							const char **reason);

#endif /* PFA_DECODE_H */

/*
 * cost.c
 *	  PEMS's rule for the cost of a rental, in integers.
 */
#include "record/record.h"

/* 3044 times 10 to this, doubled, still fits 128 bits. */
#define MAX_SCALE 30

/*
 * days / 30.44 * mantissa / 10^scale, in cents, is the fraction
 * days * mantissa * 10^4 / (3044 * 10^scale): one division, rounded once.
 */
bool
pfa_cost_rental(int32_t days, const PfaValue *rate, int64_t *cents)
{
	unsigned __int128 numerator;
	unsigned __int128 denominator = 3044;
	unsigned __int128 magnitude;
	bool negative = (days < 0) != (rate->mantissa < 0);
	uint64_t factor;
	int i;

	if (rate->isnull || rate->ptr != NULL || rate->scale < 0 ||
		rate->scale > MAX_SCALE)
		return false;

	/* at most 2^31 * 2^63 * 10^4, doubled: less than 2^109 */
	factor = rate->mantissa < 0 ? -(uint64_t) rate->mantissa :
								  (uint64_t) rate->mantissa;
	numerator = (unsigned __int128) factor * 10000 *
		(uint64_t) (days < 0 ? -(int64_t) days : days);
	for (i = 0; i < rate->scale; i++)
		denominator *= 10;

	magnitude = (2 * numerator + denominator) / (2 * denominator);
	if (magnitude > INT64_MAX)
		return false;
	*cents = negative ? -(int64_t) magnitude : (int64_t) magnitude;
	return true;
}

/*
 * cost.h
 *	  PEMS's rule for costs, for records as they are synced and as users have
 *	  changed them; and numbers in the server's stored form.
 */
#ifndef PFA_COST_H
#define PFA_COST_H

#include "postgres.h"
#include "utils/numeric.h"

#include "record/record.h"

typedef enum PfaPeriod
{
	PFA_PERIOD_PLAN,
	PFA_PERIOD_FORECAST,
	PFA_PERIOD_ACTUAL
} PfaPeriod;

#define PFA_NPERIODS 3

/* What the cost of one period is computed from; NULL: no value. */
typedef struct PfaCostTerms
{
	bool actualized;
	const PfaValue *source;
	const PfaValue *purchase_price;
	const PfaValue *monthly_rate;
	const PfaValue *start;
	const PfaValue *end;
} PfaCostTerms;

typedef enum PfaCostResult
{
	PFA_COST_NONE,  /* no value */
	PFA_COST_CENTS, /* in *cents */
	PFA_COST_LARGE  /* in *large, palloc'd */
} PfaCostResult;

extern PfaCostResult
pfa_cost_compute(const PfaCostTerms *terms, PfaPeriod period, int64 *cents,
				 Numeric *large);

/* Varlena header, numeric header, digits of a 128-bit number, padding. */
#define PFA_NUMERIC_BYTES 32
/* numeric.c: fraction digits that the short form of the header holds */
#define PFA_NUMERIC_MAX_DSCALE 63

/* A number that pfa_numeric_write does not take. */
static inline bool
pfa_value_is_odd(const PfaValue *value)
{
	return value->ptr != NULL || value->scale < 0 ||
		value->scale > PFA_NUMERIC_MAX_DSCALE;
}

/*
 * Write mantissa / 10^scale, shown with dscale >= scale digits of fraction, as
 * a numeric with a four-byte header.  Returns its size, at most
 * PFA_NUMERIC_BYTES.  dscale is at most PFA_NUMERIC_MAX_DSCALE.
 */
extern uint32
pfa_numeric_write(char *out, int64 mantissa, int scale, int dscale);

/* The value as the server's numeric, for arithmetic and odd sizes. */
extern Numeric pfa_value_numeric(const PfaValue *value);

#endif /* PFA_COST_H */

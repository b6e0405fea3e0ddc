/*
 * cost.c
 *	  PEMS's rule for costs, and numbers in the server's stored form.
 *
 * The format of numeric is the one on disk, which pg_upgrade keeps stable.
 * Nearly all costs are computed in 64 bits (record/cost.c); those that are too
 * large take the server's arithmetic, with the same result.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "catalog/cost.h"
#include "compat.h"

/* numeric.c: the stored form of a number with up to 63 digits of fraction */
#define NUMERIC_IS_SHORT       0x8000
#define NUMERIC_SHORT_NEGATIVE 0x2000
#define NUMERIC_SHORT_DSCALE   7 /* shift */
#define NUMERIC_SHORT_WEIGHT   0x7F

static const uint64 powers_of_ten[] = {UINT64CONST(1),
									   UINT64CONST(10),
									   UINT64CONST(100),
									   UINT64CONST(1000),
									   UINT64CONST(10000),
									   UINT64CONST(100000),
									   UINT64CONST(1000000),
									   UINT64CONST(10000000),
									   UINT64CONST(100000000),
									   UINT64CONST(1000000000),
									   UINT64CONST(10000000000),
									   UINT64CONST(100000000000),
									   UINT64CONST(1000000000000),
									   UINT64CONST(10000000000000),
									   UINT64CONST(100000000000000),
									   UINT64CONST(1000000000000000),
									   UINT64CONST(10000000000000000),
									   UINT64CONST(100000000000000000),
									   UINT64CONST(1000000000000000000)};

uint32
pfa_numeric_write(char *out, int64 mantissa, int scale, int dscale)
{
	uint64 rest = mantissa < 0 ? -(uint64) mantissa : (uint64) mantissa;
	int fraction = (scale + 3) / 4; /* base-10000 digits of it */
	int pad = fraction * 4 - scale;
	int16 digits[8];
	int ndigits = 0;
	int weight;
	int trailing = 0;
	uint16 header;

	/* The lowest base-10000 digit may be partly fraction, so shift first. */
	if (pad > 0 && rest != 0)
	{
		uint64 low = powers_of_ten[4 - pad];

		digits[ndigits++] = (int16) (rest % low * powers_of_ten[pad]);
		rest /= low;
	}
	while (rest != 0)
	{
		digits[ndigits++] = (int16) (rest % 10000);
		rest /= 10000;
	}
	while (ndigits > 0 && digits[ndigits - 1] == 0)
		ndigits--;
	while (trailing < ndigits && digits[trailing] == 0)
		trailing++;
	weight = ndigits == 0 ? 0 : ndigits - fraction - 1;

	header = NUMERIC_IS_SHORT | (dscale << NUMERIC_SHORT_DSCALE) |
		(weight & NUMERIC_SHORT_WEIGHT);
	if (mantissa < 0)
		header |= NUMERIC_SHORT_NEGATIVE;
	SET_VARSIZE(out,
				VARHDRSZ + sizeof(uint16) +
					(ndigits - trailing) * sizeof(int16));
	memcpy(out + VARHDRSZ, &header, sizeof(header));
	out += VARHDRSZ + sizeof(uint16);
	for (int i = ndigits - 1; i >= trailing; i--)
	{
		memcpy(out, &digits[i], sizeof(int16));
		out += sizeof(int16);
	}
	return VARHDRSZ + sizeof(uint16) + (ndigits - trailing) * sizeof(int16);
}

Numeric
pfa_value_numeric(const PfaValue *value)
{
	char *text;

	if (!pfa_value_is_odd(value))
	{
		char *out = palloc(PFA_NUMERIC_BYTES);

		pfa_numeric_write(out, value->mantissa, value->scale, value->scale);
		return (Numeric) out;
	}
	if (value->ptr != NULL)
		text = pnstrdup(value->ptr, value->len);
	else
		text = psprintf(INT64_FORMAT "e%d", value->mantissa, -value->scale);
	return DatumGetNumeric(
		DirectFunctionCall3(numeric_in, CStringGetDatum(text),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* Round to 2 decimals, half away from zero; false where it does not fit. */
static bool
round_to_cents(const PfaValue *value, int64 *cents)
{
	int64 unit;
	int64 rest;

	if (pfa_value_is_odd(value) || value->scale > 18)
		return false;
	if (value->scale <= 2)
		return !__builtin_mul_overflow(value->mantissa,
									   (int64) powers_of_ten[2 - value->scale],
									   cents);
	unit = (int64) powers_of_ten[value->scale - 2];
	*cents = value->mantissa / unit;
	rest = value->mantissa % unit;
	if (rest >= unit - rest)
		(*cents)++;
	else if (-rest >= unit + rest)
		(*cents)--;
	return true;
}

static Numeric
numeric_call(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(
		DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

/*
 * The rental rule where 64 bits do not suffice: trunc((2 |n| + 3044) / 6088)
 * cents for n = days * rate * 10000, every step of it exact.
 */
static Numeric
large_rental(int32 days, const PfaValue *rate)
{
	Numeric n = numeric_call(numeric_mul, pfa_value_numeric(rate),
							 int64_to_numeric((int64) days * 20000));
	Numeric cents = DatumGetNumeric(
		DirectFunctionCall1(numeric_abs, NumericGetDatum(n)));
	Numeric sign = DatumGetNumeric(
		DirectFunctionCall1(numeric_sign, NumericGetDatum(n)));

	cents = numeric_call(numeric_add, cents, int64_to_numeric(3044));
	cents = numeric_call(numeric_div_trunc, cents, int64_to_numeric(6088));
	cents = numeric_call(numeric_mul, cents, sign);
	return numeric_call(numeric_mul, cents, int64_div_fast_to_numeric(1, 2));
}

PfaCostResult
pfa_cost_compute(const PfaCostTerms *terms, PfaPeriod period, int64 *cents,
				 Numeric *large)
{
	const PfaValue *source = terms->source;
	const PfaValue *rate = terms->monthly_rate;
	int32 days;

	if (period == PFA_PERIOD_ACTUAL && !terms->actualized)
		return PFA_COST_NONE;
	if (source != NULL && source->len == 8 &&
		memcmp(source->ptr, "Purchase", 8) == 0)
	{
		const PfaValue *price = terms->purchase_price;

		if (price == NULL)
			return PFA_COST_NONE;
		if (round_to_cents(price, cents))
			return PFA_COST_CENTS;
		*large = DatumGetNumeric(
			DirectFunctionCall2(numeric_round,
								NumericGetDatum(pfa_value_numeric(price)),
								Int32GetDatum(2)));
		return PFA_COST_LARGE;
	}
	if (terms->start == NULL || terms->end == NULL || rate == NULL)
		return PFA_COST_NONE;
	days = terms->end->days - terms->start->days;
	if (!pfa_value_is_odd(rate) && pfa_cost_rental(days, rate, cents))
		return PFA_COST_CENTS;
	*large = large_rental(days, rate);
	return PFA_COST_LARGE;
}

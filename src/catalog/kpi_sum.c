/*
 * kpi_sum.c
 *	  Exact sums of numerics.
 *
 * Nearly all values are money: they are read from the stored form of numeric
 * and added as 128-bit integers, ten times faster than numeric_add.  What has
 * more than 20 digits before the point or more than 8 behind it is added as
 * numeric.  The format is the one on disk, which pg_upgrade keeps stable.
 *
 * Two numerics can have a sum that numeric cannot hold.  That is no error here,
 * where a mirror row is written: they stay apart, and only whoever asks for
 * their sum is told, as sum() would.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "catalog/kpi.h"

#ifndef HAVE_INT128
#error "pfa_vanguard needs 128-bit integers"
#endif

/* numeric.c: header and digits of a number in its short form */
#define NUMERIC_SIGN_MASK          0xC000
#define NUMERIC_IS_SHORT           0x8000
#define NUMERIC_SHORT_NEGATIVE     0x2000
#define NUMERIC_SHORT_DSCALE_MASK  0x1F80
#define NUMERIC_SHORT_DSCALE_SHIFT 7
#define NUMERIC_SHORT_WEIGHT_SIGN  0x0040
#define NUMERIC_SHORT_WEIGHT_MASK  0x003F
#define NUMERIC_BASE               10000

/* Base-10000 digits before and behind the point that units can hold. */
#define UNIT_DIGITS_BEFORE 5
#define UNIT_DIGITS_BEHIND (PFA_KPI_UNIT_SCALE / 4)

void
pfa_kpi_sum_init(PfaKpiSum *sum)
{
	memset(sum, 0, sizeof(*sum));
	sum->counts = sum->few;
}

/* ---- from numeric ---- */

/* False where the value is none for units; scale is set all the same, or -1. */
static bool
read_units(Datum value, int128 *units, int *scale)
{
	struct varlena *datum = (struct varlena *) DatumGetPointer(value);
	const char *data;
	int ndigits;
	uint16 header;
	int weight;
	int128 result = 0;

	*scale = -1;
	if (VARATT_IS_COMPRESSED(datum) || VARATT_IS_EXTERNAL(datum))
		return false;
	data = VARDATA_ANY(datum);
	ndigits = (VARSIZE_ANY_EXHDR(datum) - (int) sizeof(uint16)) /
		(int) sizeof(int16);
	memcpy(&header, data, sizeof(header));
	if ((header & NUMERIC_SIGN_MASK) != NUMERIC_IS_SHORT)
		return false;
	*scale = (header & NUMERIC_SHORT_DSCALE_MASK) >> NUMERIC_SHORT_DSCALE_SHIFT;
	weight = header & NUMERIC_SHORT_WEIGHT_MASK;
	if (header & NUMERIC_SHORT_WEIGHT_SIGN)
		weight |= ~NUMERIC_SHORT_WEIGHT_MASK;
	if (weight >= UNIT_DIGITS_BEFORE ||
		weight - ndigits + 1 < -UNIT_DIGITS_BEHIND)
		return false;

	data += sizeof(header);
	for (int i = 0; i < ndigits; i++)
	{
		int16 digit;

		memcpy(&digit, data + i * sizeof(int16), sizeof(int16));
		result = result * NUMERIC_BASE + digit;
	}
	if (ndigits > 0)
	{
		for (int i = weight - ndigits + 1 + UNIT_DIGITS_BEHIND; i > 0; i--)
			result *= NUMERIC_BASE;
	}
	*units = header & NUMERIC_SHORT_NEGATIVE ? -result : result;
	return true;
}

static int
read_scale(Numeric number)
{
	/* jsonb, where values come from, has neither of them. */
	if (numeric_is_nan(number) || numeric_is_inf(number))
		return 0;
	return DatumGetInt32(
		DirectFunctionCall1(numeric_scale, NumericGetDatum(number)));
}

/* ---- adding ---- */

static void
add_count(PfaKpiSum *sum, MemoryContext ctx, int scale, int64 n)
{
	if (unlikely(scale >= PFA_KPI_FEW_SCALES && scale >= sum->ncounts))
	{
		int64 *counts = MemoryContextAllocZero(ctx,
											   sizeof(int64) * (scale + 1));

		memcpy(counts, sum->counts, sizeof(int64) * sum->ncounts);
		sum->counts = counts;
	}
	if (scale >= sum->ncounts)
		sum->ncounts = scale + 1;
	sum->counts[scale] += n;
}

static void
add_large(PfaKpiSum *sum, MemoryContext ctx, Numeric number)
{
	MemoryContext caller = MemoryContextSwitchTo(ctx);

	for (int i = 0; i < sum->nlarge; i++)
	{
		bool overflow = false;
		Numeric both = numeric_add_opt_error(sum->large[i], number, &overflow);

		if (overflow)
			continue;
		pfree(sum->large[i]);
		sum->large[i] = both;
		MemoryContextSwitchTo(caller);
		return;
	}
	if (sum->nlarge == 0)
		sum->large = palloc(sizeof(Numeric));
	else
		sum->large = repalloc(sum->large, sizeof(Numeric) * (sum->nlarge + 1));
	sum->large[sum->nlarge++] = DatumGetNumericCopy(NumericGetDatum(number));
	MemoryContextSwitchTo(caller);
}

void
pfa_kpi_sum_value(PfaKpiSum *sum, MemoryContext ctx, Datum value, int sign)
{
	int128 units;
	int scale;
	Numeric number;

	if (likely(read_units(value, &units, &scale)))
	{
		sum->units += sign < 0 ? -units : units;
		add_count(sum, ctx, scale, sign);
		return;
	}
	number = DatumGetNumeric(value);
	add_count(sum, ctx, read_scale(number), sign);
	if (sign < 0)
		number = DatumGetNumeric(
			DirectFunctionCall1(numeric_uminus, NumericGetDatum(number)));
	add_large(sum, ctx, number);
}

void
pfa_kpi_sum_part(PfaKpiSum *sum, MemoryContext ctx, Datum part)
{
	int128 units;
	int scale;

	if (likely(read_units(part, &units, &scale)))
		sum->units += units;
	else
		add_large(sum, ctx, DatumGetNumeric(part));
}

void
pfa_kpi_sum_counts(PfaKpiSum *sum, MemoryContext ctx, const int64 *counts,
				   int ncounts)
{
	for (int i = ncounts - 1; i >= 0; i--)
	{
		if (counts[i] != 0)
			add_count(sum, ctx, i, counts[i]);
	}
}

void
pfa_kpi_sum_sum(PfaKpiSum *sum, MemoryContext ctx, const PfaKpiSum *other)
{
	sum->units += other->units;
	for (int i = 0; i < other->nlarge; i++)
		add_large(sum, ctx, other->large[i]);
	pfa_kpi_sum_counts(sum, ctx, other->counts, other->ncounts);
}

/* ---- what it comes to ---- */

static Numeric
rounded(Numeric number, int scale)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_round,
											   NumericGetDatum(number),
											   Int32GetDatum(scale)));
}

/* Units that 64 bits do not hold, by way of text. */
static Numeric
wide_units_numeric(int128 units)
{
	char text[64];
	char *at = text + sizeof(text);
	bool negative = units < 0;
	uint128 rest = negative ? -(uint128) units : (uint128) units;

	*--at = '\0';
	for (int i = 0; rest != 0 || i <= PFA_KPI_UNIT_SCALE; i++)
	{
		if (i == PFA_KPI_UNIT_SCALE)
			*--at = '.';
		*--at = '0' + (int) (rest % 10);
		rest /= 10;
	}
	if (negative)
		*--at = '-';
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(at),
											   ObjectIdGetDatum(InvalidOid),
											   Int32GetDatum(-1)));
}

static Numeric
units_numeric(int128 units)
{
	if (likely(units >= PG_INT64_MIN && units <= PG_INT64_MAX))
		return int64_div_fast_to_numeric((int64) units, PFA_KPI_UNIT_SCALE);
	return wide_units_numeric(units);
}

static bool
large_is_zero(const PfaKpiSum *sum)
{
	for (int i = 0; i < sum->nlarge; i++)
	{
		if (!DatumGetBool(
				DirectFunctionCall2(numeric_eq, NumericGetDatum(sum->large[i]),
									NumericGetDatum(int64_to_numeric(0)))))
			return false;
	}
	return true;
}

bool
pfa_kpi_sum_is_zero(const PfaKpiSum *sum)
{
	PfaKpiSum whole;

	for (int i = 0; i < sum->ncounts; i++)
	{
		if (sum->counts[i] != 0)
			return false;
	}
	if (sum->nlarge == 0)
		return sum->units == 0;
	if (sum->units == 0)
		return large_is_zero(sum);
	/* A large value may have gone as two smaller ones. */
	pfa_kpi_sum_init(&whole);
	for (int i = 0; i < sum->nlarge; i++)
		add_large(&whole, CurrentMemoryContext, sum->large[i]);
	add_large(&whole, CurrentMemoryContext, units_numeric(sum->units));
	return large_is_zero(&whole);
}

int64
pfa_kpi_sum_count(const PfaKpiSum *sum)
{
	int64 count = 0;

	for (int i = 0; i < sum->ncounts; i++)
		count += sum->counts[i];
	return count;
}

/* Units as a numeric of that scale, beyond which they have zeros only. */
static Numeric
units_scaled(int128 units, int scale)
{
	static const int64 powers[] = {INT64CONST(100000000), INT64CONST(10000000),
								   INT64CONST(1000000),   INT64CONST(100000),
								   INT64CONST(10000),     INT64CONST(1000),
								   INT64CONST(100),       INT64CONST(10),
								   INT64CONST(1)};

	StaticAssertStmt(lengthof(powers) == PFA_KPI_UNIT_SCALE + 1,
					 "one power of ten a scale");
	if (scale <= PFA_KPI_UNIT_SCALE && units >= PG_INT64_MIN &&
		units <= PG_INT64_MAX)
		return int64_div_fast_to_numeric((int64) units / powers[scale], scale);
	return rounded(units_numeric(units), scale);
}

bool
pfa_kpi_sum_total(const PfaKpiSum *sum, Numeric *total)
{
	int scale = sum->ncounts - 1;

	while (scale >= 0 && sum->counts[scale] == 0)
		scale--;
	if (scale < 0)
		return false;
	if (likely(sum->nlarge == 0))
	{
		*total = units_scaled(sum->units, scale);
		return true;
	}
	*total = units_numeric(sum->units);
	for (int i = 0; i < sum->nlarge; i++)
		*total = numeric_add_opt_error(*total, sum->large[i], NULL);
	*total = rounded(*total, scale);
	return true;
}

bool
pfa_kpi_sum_stored(const PfaKpiSum *sum, int i, Numeric *stored)
{
	bool overflow = false;
	Numeric number = units_numeric(sum->units);

	/* Units go with the first of the others, if the two can be one. */
	if (sum->nlarge > 0)
	{
		Numeric both = numeric_add_opt_error(number, sum->large[0], &overflow);

		if (!overflow && i == 0)
			number = both;
		else if (i > 0)
		{
			int at = overflow ? i - 1 : i;

			if (at >= sum->nlarge)
				return false;
			number = sum->large[at];
		}
	}
	else if (i > 0)
		return false;
	*stored = DatumGetNumeric(
		DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(number)));
	return true;
}

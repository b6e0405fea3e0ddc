/*
 * histogram.c
 *	  Histograms in shared memory: see histogram.h.
 */
#include "postgres.h"

#include "utils/float.h"

#include "metrics/histogram.h"

/* nanoseconds, but for the last */
#define US        UINT64CONST(1000)
#define MS        UINT64CONST(1000000)
#define S         UINT64CONST(1000000000)
#define SECOND_US UINT64CONST(1000000)

const PfaHistogramSpec pfa_histogram_statement = {1e9,
												  12,
												  {MS, 5 * MS, 10 * MS, 25 * MS,
												   50 * MS, 100 * MS, 250 * MS,
												   500 * MS, S, 2500 * MS,
												   5 * S, 10 * S}};

/* The specification's targets are bounds, and so is the alert's: 2 s. */
const PfaHistogramSpec pfa_histogram_api = {1e9,
											12,
											{5 * MS, 10 * MS, 25 * MS, 50 * MS,
											 100 * MS, 200 * MS, 500 * MS, S,
											 2 * S, 2500 * MS, 5 * S, 10 * S}};

const PfaHistogramSpec pfa_histogram_response = {1,
												 8,
												 {256, 1024, 4096, 16384, 65536,
												  262144, 1048576, 4194304}};

const PfaHistogramSpec pfa_histogram_cache = {1e9,
											  12,
											  {10 * US, 25 * US, 50 * US,
											   100 * US, 250 * US, 500 * US, MS,
											   2500 * US, 5 * MS, 10 * MS,
											   50 * MS, 100 * MS}};

const PfaHistogramSpec pfa_histogram_sync =
	{1e6,
	 12,
	 {SECOND_US / 2, SECOND_US, 5 * SECOND_US, 15 * SECOND_US, 30 * SECOND_US,
	  60 * SECOND_US, 120 * SECOND_US, 300 * SECOND_US, 600 * SECOND_US,
	  900 * SECOND_US, 1800 * SECOND_US, 3600 * SECOND_US}};

const PfaHistogramSpec pfa_histogram_records =
	{1, 10, {1, 10, 100, 1000, 5000, 10000, 50000, 100000, 500000, 1000000}};

void
pfa_histogram_observe(PfaHistogram *histogram, const PfaHistogramSpec *spec,
					  uint64 value)
{
	int i = 0;

	while (i < spec->nbounds && value > spec->bounds[i])
		i++;
	pg_atomic_fetch_add_u64(&histogram->buckets[i], 1);
	pg_atomic_fetch_add_u64(&histogram->sum, value);
}

void
pfa_histogram_read(PfaHistogram *histogram, PfaHistogramValues *values)
{
	for (int i = 0; i <= PFA_HISTOGRAM_BOUNDS; i++)
		values->buckets[i] += pg_atomic_read_u64(&histogram->buckets[i]);
	values->sum += pg_atomic_read_u64(&histogram->sum);
}

double
pfa_histogram_bound(const PfaHistogramSpec *spec, int i)
{
	return spec->bounds[i] / spec->divisor;
}

uint64
pfa_histogram_count(const PfaHistogramValues *values)
{
	uint64 count = 0;

	for (int i = 0; i <= PFA_HISTOGRAM_BOUNDS; i++)
		count += values->buckets[i];
	return count;
}

double
pfa_histogram_quantile(const PfaHistogramValues *values,
					   const PfaHistogramSpec *spec, double quantile)
{
	double rank = quantile * pfa_histogram_count(values);
	double below = 0;
	double lower = 0;

	if (pfa_histogram_count(values) == 0)
		return get_float8_nan();
	for (int i = 0; i < spec->nbounds; i++)
	{
		double upper = pfa_histogram_bound(spec, i);
		double here = values->buckets[i];

		if (here > 0 && below + here >= rank)
			return lower + (upper - lower) * (rank - below) / here;
		below += here;
		lower = upper;
	}
	return lower;
}

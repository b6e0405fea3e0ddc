/*
 * histogram.h
 *	  Histograms in shared memory: one atomic addition for the bucket, one for
 *	  the sum.
 *
 * Values are whole numbers of a small unit (nanoseconds, bytes, rows); what is
 * shown is the value times the unit.  The number of observations is the sum of
 * the buckets, read in one pass, so that it never contradicts them.
 */
#ifndef PFA_HISTOGRAM_H
#define PFA_HISTOGRAM_H

#include "postgres.h"
#include "port/atomics.h"

#define PFA_HISTOGRAM_BOUNDS 12

typedef struct PfaHistogram
{
	/* one more for what is above all bounds */
	pg_atomic_uint64 buckets[PFA_HISTOGRAM_BOUNDS + 1];
	pg_atomic_uint64 sum;
} PfaHistogram;

typedef struct PfaHistogramSpec
{
	double divisor; /* to what is shown; exact, where a factor
								 * such as 1e-9 is not */
	int nbounds;
	uint64 bounds[PFA_HISTOGRAM_BOUNDS]; /* upper, inclusive, rising */
} PfaHistogramSpec;

/* Buckets as they are counted: each observation in one of them. */
typedef struct PfaHistogramValues
{
	uint64 buckets[PFA_HISTOGRAM_BOUNDS + 1];
	uint64 sum;
} PfaHistogramValues;

extern const PfaHistogramSpec pfa_histogram_statement; /* ns */
extern const PfaHistogramSpec pfa_histogram_api;       /* ns */
extern const PfaHistogramSpec pfa_histogram_response;  /* bytes */
extern const PfaHistogramSpec pfa_histogram_cache;     /* ns */
extern const PfaHistogramSpec pfa_histogram_sync;      /* us */
extern const PfaHistogramSpec pfa_histogram_records;

extern void pfa_histogram_observe(PfaHistogram *histogram,
								  const PfaHistogramSpec *spec, uint64 value);
/* Add the histogram to values, which the caller has zeroed. */
extern void
pfa_histogram_read(PfaHistogram *histogram, PfaHistogramValues *values);
/* Upper bound i, as it is shown. */
extern double pfa_histogram_bound(const PfaHistogramSpec *spec, int i);
extern uint64 pfa_histogram_count(const PfaHistogramValues *values);
/*
 * The quantile (0 to 1) by interpolation within its bucket, as Prometheus
 * computes it; never above the highest bound.  NaN without observations.
 */
extern double
pfa_histogram_quantile(const PfaHistogramValues *values,
					   const PfaHistogramSpec *spec, double quantile);

#endif /* PFA_HISTOGRAM_H */

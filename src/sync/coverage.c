/*
 * coverage.c
 *	  Which part of a listing has been read.  See coverage.h for the idea.
 *
 * A run of ten million records has a thousand pages, so the intervals are kept
 * in a plain array and sorted when a gap is looked for, which happens once or
 * twice a run.
 */
#include "postgres.h"

#include "sync/coverage.h"

typedef struct Interval
{
	int64 page_no;
	const char *lower;
	const char *upper;
	bool upper_is_ours;
} Interval;

struct PfaCoverage
{
	MemoryContext ctx;
	bool closed;
	int nintervals;
	int capacity;
	Interval *intervals;
};

PfaCoverage *
pfa_coverage_create(MemoryContext ctx, bool closed)
{
	PfaCoverage *coverage = MemoryContextAllocZero(ctx, sizeof(PfaCoverage));

	coverage->ctx = ctx;
	coverage->closed = closed;
	coverage->capacity = 64;
	coverage->intervals = MemoryContextAlloc(ctx,
											 coverage->capacity *
												 sizeof(Interval));
	return coverage;
}

static const char *
keep_id(PfaCoverage *coverage, const char *id)
{
	return id == NULL ? NULL : MemoryContextStrdup(coverage->ctx, id);
}

void
pfa_coverage_add(PfaCoverage *coverage, int64 page_no, const char *lower,
				 const char *upper, bool upper_is_ours)
{
	Interval *interval;

	if (coverage->nintervals == coverage->capacity)
	{
		coverage->capacity *= 2;
		coverage->intervals = repalloc(coverage->intervals,
									   coverage->capacity * sizeof(Interval));
	}
	interval = &coverage->intervals[coverage->nintervals++];
	interval->page_no = page_no;
	interval->lower = keep_id(coverage, lower);
	interval->upper = keep_id(coverage, upper);
	interval->upper_is_ours = upper_is_ours;
}

static int
compare_lower(const void *a, const void *b)
{
	const Interval *x = a;
	const Interval *y = b;

	if (x->lower == NULL || y->lower == NULL)
		return (x->lower != NULL) - (y->lower != NULL);
	return strcmp(x->lower, y->lower);
}

bool
pfa_coverage_gap(PfaCoverage *coverage, PfaGap *gap)
{
	const char *reach = NULL;
	bool reach_is_ours = false;
	bool started = false;

	qsort(coverage->intervals, coverage->nintervals, sizeof(Interval),
		  compare_lower);
	memset(gap, 0, sizeof(PfaGap));
	gap->before_page = -1;

	for (int i = 0; i < coverage->nintervals; i++)
	{
		const Interval *interval = &coverage->intervals[i];

		if (interval->lower != NULL)
		{
			int order = started ? strcmp(interval->lower, reach) : 1;

			/*
			 * Intervals are open, so two that only touch leave the id where
			 * they touch to nobody.
			 */
			if (order > 0 || (order == 0 && !coverage->closed))
			{
				gap->after = reach;
				gap->after_is_ours = reach_is_ours;
				gap->before = interval->lower;
				gap->before_page = interval->page_no;
				return true;
			}
		}
		if (interval->upper == NULL)
			return false;
		if (!started || strcmp(interval->upper, reach) > 0)
		{
			reach = interval->upper;
			reach_is_ours = interval->upper_is_ours;
		}
		else if (strcmp(interval->upper, reach) == 0)
			reach_is_ours |= interval->upper_is_ours;
		started = true;
	}
	gap->after = reach;
	gap->after_is_ours = reach_is_ours;
	return true;
}

static const Interval *
find_page(const PfaCoverage *coverage, int64 page_no)
{
	for (int i = 0; i < coverage->nintervals; i++)
	{
		if (coverage->intervals[i].page_no == page_no)
			return &coverage->intervals[i];
	}
	return NULL;
}

const char *
pfa_coverage_upper_of(const PfaCoverage *coverage, int64 page_no, bool *is_ours)
{
	const Interval *interval = find_page(coverage, page_no);

	*is_ours = interval != NULL && interval->upper_is_ours;
	return interval == NULL ? NULL : interval->upper;
}

bool
pfa_coverage_has(const PfaCoverage *coverage, int64 page_no)
{
	return find_page(coverage, page_no) != NULL;
}

int64
pfa_coverage_max_page(const PfaCoverage *coverage)
{
	int64 max = -1;

	for (int i = 0; i < coverage->nintervals; i++)
		max = Max(max, coverage->intervals[i].page_no);
	return max;
}

int64
pfa_coverage_min_page(const PfaCoverage *coverage)
{
	int64 min = 0;

	for (int i = 0; i < coverage->nintervals; i++)
	{
		/* the second look at the first page has no number of its own */
		if (coverage->intervals[i].page_no != PG_INT64_MIN)
			min = Min(min, coverage->intervals[i].page_no);
	}
	return min;
}

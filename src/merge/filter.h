/*
 * filter.h
 *	  Filters of pfa_get, applied to stored and to merged records alike.
 */
#ifndef PFA_FILTER_H
#define PFA_FILTER_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "catalog/jsonb_items.h"
#include "catalog/mirror.h"
#include "catalog/overlay.h"

typedef enum PfaFilterOp
{
	PFA_FILTER_EQ, /* one of the values */
	PFA_FILTER_GE,
	PFA_FILTER_LE
} PfaFilterOp;

/* A column without a value meets no condition. */
typedef struct PfaCondition
{
	const PfaMirrorColumn *column;
	PfaFilterOp op;
	int nvalues;
	Datum *values; /* text, date or boolean, as the column */
	uint64 *texts; /* bits of each, see mirror.h; NULL: no texts */
} PfaCondition;

#define PFA_MAX_CONDITIONS 16

typedef struct PfaFilter
{
	PfaCondition conditions[PFA_MAX_CONDITIONS];
	int nconditions;
	uint32 states;      /* a bit each PfaSyncState; 0: any */
	const char *search; /* in lower case, or NULL */
	uint32 search_len;
	const char *search_ascii; /* the same for texts that are all ASCII */
	uint32 search_ascii_len;
	uint64 columns; /* changes of these matter, see
								 * pfa_mirror_touched */
} PfaFilter;

/* An error names the filter and what would do. */
extern void pfa_filter_parse(PfaFilter *filter, Jsonb *filters);

extern bool
pfa_condition_matches(const PfaCondition *condition, Datum value, bool isnull);

/* The search text alone. */
extern bool
pfa_filter_search(const PfaFilter *filter, const JsonbContainer *data);
extern bool pfa_filter_search_items(const PfaFilter *filter,
									const PfaJsonbItem *items, int n);

static inline bool
pfa_filter_state(const PfaFilter *filter, PfaSyncState state)
{
	return filter->states == 0 || (filter->states & (1u << state)) != 0;
}

#endif /* PFA_FILTER_H */

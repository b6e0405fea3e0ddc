/*
 * kpi.h
 *	  Counts and sums over pfa_mirror, kept while it changes.
 *
 * The tables pfa_kpi and pfa_kpi_delta have the same columns, and every row of
 * either is a summand: what holds of an organization is the sum over all its
 * rows that a snapshot sees.  Writers of the mirror only ever append to
 * pfa_kpi_delta, in their own transaction, so none of them waits for another,
 * and isolation levels, savepoints and prepared transactions need no thought.
 * Compaction (kpi/compact.c) adds deltas to pfa_kpi, from which readers then
 * need few rows.
 *
 * Lock order of the tables: pfa_mirror, pfa_kpi, pfa_kpi_delta, pfa_mv_change.
 * Rows are never waited for.
 */
#ifndef PFA_KPI_H
#define PFA_KPI_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/* ---- kpi_sum.c: an exact sum from which can be subtracted again ---- */

#define PFA_KPI_FEW_SCALES 4

/*
 * Sum of numerics, and how many of them have which number of decimal places.
 * The counts tell whether there is a value at all, what to divide by for an
 * average, and the scale that sum() and avg() of the server would show: a
 * difference of sums does not know any more that the one value with seven
 * decimal places has gone.
 */
typedef struct PfaKpiSum
{
	int128 units;   /* of 10^-PFA_KPI_UNIT_SCALE */
	Numeric *large; /* summands that do not fit units; more than
								 * one where they cannot be added up */
	int nlarge;
	int ncounts;
	int64 *counts; /* by decimal places */
	int64 few[PFA_KPI_FEW_SCALES];
} PfaKpiSum;

#define PFA_KPI_UNIT_SCALE 8

/* Memory is taken from ctx.  The sum must not be copied or moved. */
extern void pfa_kpi_sum_init(PfaKpiSum *sum);
/* Add a value and count it (sign 1), or take it away (sign -1). */
extern void
pfa_kpi_sum_value(PfaKpiSum *sum, MemoryContext ctx, Datum value, int sign);
/* Add what is a sum itself; counts are added by the other call. */
extern void pfa_kpi_sum_part(PfaKpiSum *sum, MemoryContext ctx, Datum part);
extern void pfa_kpi_sum_counts(PfaKpiSum *sum, MemoryContext ctx,
							   const int64 *counts, int ncounts);
extern void
pfa_kpi_sum_sum(PfaKpiSum *sum, MemoryContext ctx, const PfaKpiSum *other);
extern bool pfa_kpi_sum_is_zero(const PfaKpiSum *sum);
extern int64 pfa_kpi_sum_count(const PfaKpiSum *sum);
/* The sum with the scale that its values ask for; false where it has none. */
extern bool pfa_kpi_sum_total(const PfaKpiSum *sum, Numeric *total);
/* i-th of the numerics to be stored for it; false where there is none. */
extern bool pfa_kpi_sum_stored(const PfaKpiSum *sum, int i, Numeric *stored);

/* ---- kpi_group.c: sums by key ---- */

/* What a row of the tables counts, and which columns of its key it has. */
typedef enum PfaKpiFacet
{
	PFA_KPI_RECORDS,         /* all columns: deltas of few records */
	PFA_KPI_CATEGORY_SOURCE, /* records that are not discontinued */
	PFA_KPI_DOR,             /* records that are not discontinued */
	PFA_KPI_STATE            /* all records, by flags */
} PfaKpiFacet;

typedef enum PfaKpiMeasure
{
	PFA_KPI_PLAN_COST,
	PFA_KPI_FORECAST_COST,
	PFA_KPI_ACTUAL_COST,
	PFA_KPI_MONTHLY_RATE,
	PFA_KPI_NMEASURES
} PfaKpiMeasure;

typedef struct PfaKpiText
{
	const char *ptr; /* NULL: null, or not of this facet */
	int len;
} PfaKpiText;

#define PFA_KPI_NO_FLAG (-1)

typedef struct PfaKpiKey
{
	PfaKpiFacet facet;
	PfaKpiText organization;
	PfaKpiText category;
	PfaKpiText source;
	PfaKpiText dor;
	int8 is_actualized; /* 0, 1 or PFA_KPI_NO_FLAG */
	int8 is_discontinued;
	int8 is_funds_transferable;
} PfaKpiKey;

typedef struct PfaKpiGroup
{
	PfaKpiKey key;
	int64 records;
	PfaKpiSum sums[PFA_KPI_NMEASURES];
	/* for compaction: the row of pfa_kpi that the group is added to */
	bool has_home;
	ItemPointerData home;
} PfaKpiGroup;

typedef struct PfaKpiSet
{
	MemoryContext ctx; /* of all that it holds */
	MemoryContext row; /* of what reading one row leaves */
	struct kpihash_hash *hash;
	PfaKpiGroup **groups; /* in the order in which they came */
	int ngroups;
	int maxgroups;
} PfaKpiSet;

/* Lives in a child of the current context. */
extern PfaKpiSet *pfa_kpi_set_create(void);
extern void pfa_kpi_set_free(PfaKpiSet *set);
/* NULL where there is none. */
extern PfaKpiGroup *pfa_kpi_set_find(PfaKpiSet *set, const PfaKpiKey *key);
extern PfaKpiGroup *pfa_kpi_set_enter(PfaKpiSet *set, const PfaKpiKey *key);
extern void
pfa_kpi_group_add(PfaKpiSet *set, PfaKpiGroup *group, const PfaKpiGroup *other);
extern bool pfa_kpi_group_is_zero(const PfaKpiGroup *group);
/* The key of a facet that a record with all columns in its key belongs to. */
extern bool
pfa_kpi_facet_key(const PfaKpiKey *key, PfaKpiFacet facet, PfaKpiKey *out);
/* Groups by facets instead of groups of records. */
extern PfaKpiSet *pfa_kpi_set_expand(const PfaKpiSet *set);

/* ---- kpi.c: the tables ---- */

typedef enum PfaKpiAttribute
{
	PFA_KPI_ORGANIZATION_ID = 1,
	PFA_KPI_FACET,
	PFA_KPI_RECORD_COUNT,
	PFA_KPI_CATEGORY,
	PFA_KPI_SOURCE,
	PFA_KPI_DOR_KEY,
	PFA_KPI_IS_ACTUALIZED,
	PFA_KPI_IS_DISCONTINUED,
	PFA_KPI_IS_FUNDS_TRANSFERABLE,
	PFA_KPI_FIRST_MEASURE,
	PFA_KPI_VALUE_COUNTS = PFA_KPI_FIRST_MEASURE + PFA_KPI_NMEASURES,
	PFA_KPI_NATTS = PFA_KPI_VALUE_COUNTS
} PfaKpiAttribute;

/* A row of pfa_mirror comes (sign 1) or goes (-1): columns as in mirror.h. */
extern void pfa_kpi_record(PfaKpiSet *set, const Datum *values,
						   const bool *nulls, int sign);

/*
 * Append what the set holds, groups of records, to the pfa_kpi_delta of a
 * schema, and note that the mirror has changed.  Call it once a statement or
 * batch, with any row changed at all.
 */
extern void pfa_kpi_store(Oid schema, PfaKpiSet *set);

/* Whether this schema has the tables: an older version of it may not. */
extern bool pfa_kpi_exists(Oid schema);

/* Columns of a row; the key points into it. */
extern void pfa_kpi_row_key(TupleTableSlot *slot, PfaKpiKey *key);
/* Add the row to the group, whose key is the row's or a facet of it. */
extern void
pfa_kpi_row_add(PfaKpiSet *set, PfaKpiGroup *group, TupleTableSlot *slot);
/* Add the row to the groups of facets up to max that it belongs to. */
extern void
pfa_kpi_row_expand(PfaKpiSet *set, TupleTableSlot *slot, PfaKpiFacet max);

/* Each row of an organization, of facets up to max, that the snapshot sees. */
typedef void (*PfaKpiRowFunction)(TupleTableSlot *slot, void *arg);

extern void
pfa_kpi_scan(Relation rel, const PfaKpiText *organization, PfaKpiFacet max,
			 Snapshot snapshot, PfaKpiRowFunction function, void *arg);

/*
 * The rows of the organization, or of all where it is NULL, as the snapshot
 * sees them: facets up to max, added up by facet.  Returns how many deltas
 * there were.
 */
extern int pfa_kpi_read(Oid schema, const char *organization_id,
						PfaKpiFacet max, Snapshot snapshot, PfaKpiSet *set);

/* Fill a slot for the table with part i of the group; false: has no part i. */
extern bool
pfa_kpi_row_form(TupleTableSlot *slot, const PfaKpiGroup *group, int i);
/* Insert groups, which are not zero, into either table. */
extern void pfa_kpi_insert(Relation rel, PfaKpiGroup **groups, int ngroups);

/*
 * Delete the row if nobody else is about to; never waits.  False where the row
 * is somebody else's business.
 */
extern bool
pfa_kpi_try_delete(Relation rel, ItemPointer tid, Snapshot snapshot);

#endif /* PFA_KPI_H */

/*
 * stats.c
 *	  What the counts and sums come to: rows of pfa_kpi_stats().
 *
 * A few dozen rows of an organization are read by index and added up, which
 * takes about as long as fetching one record.  Where more deltas are met than
 * that allows, the scheduler is told to compact them.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "kpi/stats.h"
#include "registry.h"

/* With more deltas than this, have them compacted; not more often than that. */
#define MANY_DELTAS 32
#define WAKE_MS     250

/* Columns of pfa_kpi_stats(). */
enum
{
	STATS_ORGANIZATION_ID,
	STATS_CATEGORY,
	STATS_SOURCE,
	STATS_RECORD_COUNT,
	STATS_TOTAL_PLAN_COST,
	STATS_TOTAL_FORECAST_COST,
	STATS_TOTAL_ACTUAL_COST,
	STATS_AVG_MONTHLY_RATE,
	STATS_FORECAST_VARIANCE,
	STATS_ACTUAL_VARIANCE,
	STATS_NATTS
};

/* Columns of pfa_kpi_facets(). */
enum
{
	FACET_ORGANIZATION_ID,
	FACET_FACET,
	FACET_CATEGORY,
	FACET_SOURCE,
	FACET_DOR,
	FACET_IS_ACTUALIZED,
	FACET_IS_DISCONTINUED,
	FACET_IS_FUNDS_TRANSFERABLE,
	FACET_RECORD_COUNT,
	FACET_SUMS,
	FACET_AVG_MONTHLY_RATE = FACET_SUMS + PFA_KPI_MONTHLY_RATE,
	FACET_COUNTS,
	FACET_NATTS = FACET_COUNTS + PFA_KPI_NMEASURES
};

/* A row in the making. */
typedef struct Row
{
	Datum *values;
	bool *nulls;
} Row;

/* ---- values ---- */

static void
put_text(Row *row, int at, const PfaKpiText *text)
{
	row->nulls[at] = text->ptr == NULL;
	row->values[at] = text->ptr == NULL ?
		(Datum) 0 :
		PointerGetDatum(cstring_to_text_with_len(text->ptr, text->len));
}

static void
put_flag(Row *row, int at, int8 flag)
{
	row->nulls[at] = flag == PFA_KPI_NO_FLAG;
	row->values[at] = BoolGetDatum(flag == 1);
}

static void
put_int64(Row *row, int at, int64 value)
{
	row->nulls[at] = false;
	row->values[at] = Int64GetDatum(value);
}

static void
put_total(Row *row, int at, const PfaKpiSum *sum)
{
	Numeric total;

	row->nulls[at] = !pfa_kpi_sum_total(sum, &total);
	row->values[at] = row->nulls[at] ? (Datum) 0 : NumericGetDatum(total);
}

/* As avg() does it, to the digit. */
static void
put_average(Row *row, int at, const PfaKpiSum *sum)
{
	Numeric total;

	row->nulls[at] = !pfa_kpi_sum_total(sum, &total);
	if (!row->nulls[at])
		row->values[at] = DirectFunctionCall2(numeric_div,
											  NumericGetDatum(total),
											  NumericGetDatum(int64_to_numeric(
												  pfa_kpi_sum_count(sum))));
}

/* Difference of two columns of the row; null where one of them is. */
static void
put_difference(Row *row, int at, int a, int b)
{
	row->nulls[at] = row->nulls[a] || row->nulls[b];
	if (!row->nulls[at])
		row->values[at] = DirectFunctionCall2(numeric_sub, row->values[a],
											  row->values[b]);
}

/* ---- reading ---- */

static void
ask_for_compaction(int ndeltas)
{
	static TimestampTz asked_at;
	TimestampTz now;

	if (ndeltas <= MANY_DELTAS || !pfa_registry_available() ||
		RecoveryInProgress())
		return;
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(asked_at, now, WAKE_MS))
		return;
	asked_at = now;
	pfa_wake_scheduler_now(MyDatabaseId);
}

PfaKpiSet *
pfa_kpi_read_set(Oid schema, const char *organization_id, PfaKpiFacet max)
{
	PfaKpiSet *set = pfa_kpi_set_create();

	ask_for_compaction(
		pfa_kpi_read(schema, organization_id, max, GetActiveSnapshot(), set));
	return set;
}

/* ---- rows ---- */

static void
form_stats(Row *row, const PfaKpiGroup *group)
{
	const PfaKpiSum *sums = group->sums;

	put_text(row, STATS_ORGANIZATION_ID, &group->key.organization);
	put_text(row, STATS_CATEGORY, &group->key.category);
	put_text(row, STATS_SOURCE, &group->key.source);
	put_int64(row, STATS_RECORD_COUNT, group->records);
	put_total(row, STATS_TOTAL_PLAN_COST, &sums[PFA_KPI_PLAN_COST]);
	put_total(row, STATS_TOTAL_FORECAST_COST, &sums[PFA_KPI_FORECAST_COST]);
	put_total(row, STATS_TOTAL_ACTUAL_COST, &sums[PFA_KPI_ACTUAL_COST]);
	put_average(row, STATS_AVG_MONTHLY_RATE, &sums[PFA_KPI_MONTHLY_RATE]);
	put_difference(row, STATS_FORECAST_VARIANCE, STATS_TOTAL_FORECAST_COST,
				   STATS_TOTAL_PLAN_COST);
	put_difference(row, STATS_ACTUAL_VARIANCE, STATS_TOTAL_ACTUAL_COST,
				   STATS_TOTAL_PLAN_COST);
}

/* The answer for the organization last asked about: rows come in runs. */
typedef struct Allowed
{
	PfaKpiText organization;
	bool answer;
} Allowed;

static bool
is_allowed(PfaKpiFilter filter, Allowed *allowed,
		   const PfaKpiText *organization)
{
	if (allowed->organization.ptr == NULL ||
		allowed->organization.len != organization->len ||
		memcmp(allowed->organization.ptr, organization->ptr,
			   organization->len) != 0)
	{
		allowed->organization = *organization;
		allowed->answer = filter(organization);
	}
	return allowed->answer;
}

void
pfa_kpi_stats_rows(Oid schema, const char *organization_id, PfaKpiFilter filter,
				   Tuplestorestate *rows, TupleDesc desc)
{
	PfaKpiSet *set = pfa_kpi_read_set(schema, organization_id,
									  PFA_KPI_CATEGORY_SOURCE);
	MemoryContext caller = MemoryContextSwitchTo(set->row);
	Datum values[STATS_NATTS];
	bool nulls[STATS_NATTS];
	Row row = {values, nulls};
	Allowed allowed = {0};

	for (int i = 0; i < set->ngroups; i++)
	{
		const PfaKpiGroup *group = set->groups[i];

		if (group->records == 0 ||
			(filter != NULL &&
			 !is_allowed(filter, &allowed, &group->key.organization)))
			continue;
		form_stats(&row, group);
		tuplestore_putvalues(rows, desc, values, nulls);
		MemoryContextReset(set->row);
	}
	MemoryContextSwitchTo(caller);
	pfa_kpi_set_free(set);
}

static void
form_facet(Row *row, const PfaKpiGroup *group)
{
	const PfaKpiKey *key = &group->key;

	put_text(row, FACET_ORGANIZATION_ID, &key->organization);
	row->values[FACET_FACET] = Int16GetDatum(key->facet);
	row->nulls[FACET_FACET] = false;
	put_text(row, FACET_CATEGORY, &key->category);
	put_text(row, FACET_SOURCE, &key->source);
	put_text(row, FACET_DOR, &key->dor);
	put_flag(row, FACET_IS_ACTUALIZED, key->is_actualized);
	put_flag(row, FACET_IS_DISCONTINUED, key->is_discontinued);
	put_flag(row, FACET_IS_FUNDS_TRANSFERABLE, key->is_funds_transferable);
	put_int64(row, FACET_RECORD_COUNT, group->records);
	for (int i = 0; i < PFA_KPI_MONTHLY_RATE; i++)
		put_total(row, FACET_SUMS + i, &group->sums[i]);
	put_average(row, FACET_AVG_MONTHLY_RATE,
				&group->sums[PFA_KPI_MONTHLY_RATE]);
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
		put_int64(row, FACET_COUNTS + i, pfa_kpi_sum_count(&group->sums[i]));
}

void
pfa_kpi_facet_rows(Oid schema, Tuplestorestate *rows, TupleDesc desc)
{
	PfaKpiSet *set = pfa_kpi_read_set(schema, NULL, PFA_KPI_STATE);
	MemoryContext caller = MemoryContextSwitchTo(set->row);
	Datum values[FACET_NATTS];
	bool nulls[FACET_NATTS];
	Row row = {values, nulls};

	for (int i = 0; i < set->ngroups; i++)
	{
		const PfaKpiGroup *group = set->groups[i];

		if (pfa_kpi_group_is_zero(group))
			continue;
		form_facet(&row, group);
		tuplestore_putvalues(rows, desc, values, nulls);
		MemoryContextReset(set->row);
	}
	MemoryContextSwitchTo(caller);
	pfa_kpi_set_free(set);
}

/*
 * kpi_api.c
 *	  KPI and materialized views, for SQL.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "api/cached.h"
#include "catalog/user_organization.h"
#include "kpi/compact.h"
#include "kpi/refresh.h"
#include "generation.h"
#include "kpi/stats.h"
#include "metrics/counters.h"

PG_FUNCTION_INFO_V1(pfa_kpi_facets);
PG_FUNCTION_INFO_V1(pfa_kpi_compact);
PG_FUNCTION_INFO_V1(pfa_kpi_rebuild);

/* Whether the caller may see the organization. */
static bool
may_read(const PfaKpiText *organization)
{
	char *name = pnstrdup(organization->ptr, organization->len);
	bool may = pfa_caller_role(name) >= PFA_ROLE_VIEWER;

	pfree(name);
	return may;
}

/* The organization that is asked for; NULL: all that the caller may see. */
static char *
organization_argument(FunctionCallInfo fcinfo)
{
	char *organization_id;

	if (PG_ARGISNULL(0))
		return NULL;
	organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	pfa_caller_require(organization_id, PFA_ROLE_VIEWER);
	return organization_id;
}

/* The extension's schema, without a look into pg_extension. */
static Oid
own_schema(FunctionCallInfo fcinfo)
{
	return get_func_namespace(fcinfo->flinfo->fn_oid);
}

/* pfa_kpi_stats(organization_id text DEFAULT NULL) */
PFA_API_FUNCTION(pfa_kpi_stats, PFA_ENDPOINT_KPI_STATS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = organization_argument(fcinfo);

	InitMaterializedSRF(fcinfo, 0);
	/* One organization has been asked about, many are one by one. */
	pfa_kpi_stats_rows(own_schema(fcinfo), organization_id,
					   organization_id == NULL ? may_read : NULL,
					   result->setResult, result->setDesc);
	return (Datum) 0;
}

typedef struct StatsRequest
{
	Oid schema;
	const char *organization_id;
	const char *user_id;
} StatsRequest;

static Jsonb *
compute_stats(void *arg)
{
	StatsRequest *request = arg;

	return pfa_kpi_document(request->schema, request->organization_id,
							request->user_id);
}

/* pfa_stats(organization_id text), strict */
PFA_API_FUNCTION(pfa_stats, PFA_ENDPOINT_STATS)
{
	StatsRequest request;

	request.organization_id = organization_argument(fcinfo);
	request.schema = own_schema(fcinfo);
	request.user_id = pstrdup(pfa_caller_id());
	PG_RETURN_JSONB_P(pfa_cached_stats(request.organization_id, request.user_id,
									   compute_stats, &request));
}

/* pfa_kpi_facets() */
Datum
pfa_kpi_facets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	pfa_kpi_facet_rows(own_schema(fcinfo), result->setResult, result->setDesc);
	return (Datum) 0;
}

/* Whether the caller may see the row, by the organization in column 1. */
static bool
may_read_row(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum value = heap_getattr(tuple, 1, desc, &isnull);
	text *name;
	PfaKpiText organization;

	if (isnull)
		return false;
	name = DatumGetTextPP(value);
	organization.ptr = VARDATA_ANY(name);
	organization.len = VARSIZE_ANY_EXHDR(name);
	return may_read(&organization);
}

/*
 * Return the rows of a statement that the caller may see.  The statement runs
 * as the extension's owner, who may see all, so the caller is asked about when
 * it has ended.
 */
static void
return_rows(FunctionCallInfo fcinfo, const char *text, int nargs,
			const Oid *argtypes, Datum *values, const char *nulls)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	HeapTuple *tuples;
	uint64 nrows;

	InitMaterializedSRF(fcinfo, 0);
	nrows = pfa_spi_execute(text, nargs, argtypes, values, nulls, true);
	MemoryContextSwitchTo(caller);
	tuples = palloc_extended(sizeof(HeapTuple) * Max(nrows, 1),
							 MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < nrows; i++)
		tuples[i] = heap_copytuple(SPI_tuptable->vals[i]);
	pfa_spi_finish();
	for (uint64 i = 0; i < nrows; i++)
	{
		if (may_read_row(tuples[i], result->setDesc))
			tuplestore_puttuple(result->setResult, tuples[i]);
	}
}

/*
 * The recount reads pfa_mirror with the server's aggregates, and nothing that
 * the live KPI is made from.  Numbers are compared as they are shown, so the
 * decimal places count too.
 */
#define MEASURES(prefix) \
	"pg_catalog.jsonb_build_object(" \
	"'records', " prefix "record_count, " \
	"'planCost', " prefix "plan_cost::text, " \
	"'forecastCost', " prefix "forecast_cost::text, " \
	"'actualCost', " prefix "actual_cost::text, " \
	"'avgMonthlyRate', " prefix "avg_monthly_rate::text, " \
	"'counts', pg_catalog.jsonb_build_array(" prefix \
	"plan_cost_count, " prefix "forecast_cost_count, " prefix \
	"actual_cost_count, " prefix "monthly_rate_count))"

#define RECOUNTED \
	"pg_catalog.count(*) AS record_count, " \
	"pg_catalog.sum(plan_cost) AS plan_cost, " \
	"pg_catalog.sum(forecast_cost) AS forecast_cost, " \
	"pg_catalog.sum(actual_cost) AS actual_cost, " \
	"pg_catalog.avg(monthly_rate) AS avg_monthly_rate, " \
	"pg_catalog.count(plan_cost) AS plan_cost_count, " \
	"pg_catalog.count(forecast_cost) AS forecast_cost_count, " \
	"pg_catalog.count(actual_cost) AS actual_cost_count, " \
	"pg_catalog.count(monthly_rate) AS monthly_rate_count " \
	"FROM @.@.pfa_mirror "

static const char *const verify_text =
	"WITH live AS MATERIALIZED (SELECT organization_id, facet, category, "
	"source, dor, is_actualized, is_discontinued, is_funds_transferable, " MEASURES(
		"f.") " AS measures FROM @.@.pfa_kpi_facets() AS f), "
			  "recounted AS MATERIALIZED (SELECT organization_id, facet, category, "
			  "source, dor, is_actualized, is_discontinued, is_funds_transferable, " MEASURES(
				  "r.") " AS measures FROM ("
						"SELECT organization_id, 1::smallint AS facet, category, source, "
						"NULL::text AS dor, NULL::boolean AS is_actualized, "
						"NULL::boolean AS is_discontinued, NULL::boolean AS is_funds_transferable, " RECOUNTED
						"WHERE NOT is_discontinued "
						"GROUP BY organization_id, category, source UNION ALL "
						"SELECT organization_id, 2::smallint, NULL, NULL, dor, NULL, NULL, NULL, " RECOUNTED
						"WHERE NOT is_discontinued GROUP BY organization_id, dor "
						"UNION ALL "
						"SELECT organization_id, 3::smallint, NULL, NULL, NULL, is_actualized, "
						"is_discontinued, is_funds_transferable, " RECOUNTED
						"GROUP BY organization_id, is_actualized, is_discontinued, "
						"is_funds_transferable) AS r), "
						"difference AS (SELECT *, true AS is_live FROM ("
						"TABLE live EXCEPT ALL TABLE recounted) AS a UNION ALL "
						"SELECT *, false FROM (TABLE recounted EXCEPT ALL TABLE live) AS b) "
						"SELECT organization_id, CASE facet WHEN 1 THEN 'category and source' "
						"WHEN 2 THEN 'dor' ELSE 'state' END AS facet, category, source, dor, "
						"is_actualized, is_discontinued, is_funds_transferable, "
						"pg_catalog.jsonb_agg(measures) FILTER (WHERE is_live) -> 0 AS live, "
						"pg_catalog.jsonb_agg(measures) FILTER (WHERE NOT is_live) -> 0 "
						"AS recounted FROM difference GROUP BY 1, difference.facet, 3, 4, 5, 6, "
						"7, 8 ORDER BY 1, difference.facet, 3, 4, 5, 6, 7, 8";

/* pfa_kpi_verify(): one statement, so one snapshot. */
PFA_API_FUNCTION(pfa_kpi_verify, PFA_ENDPOINT_KPI_VERIFY)
{
	return_rows(fcinfo, verify_text, 0, NULL, NULL, NULL);
	return (Datum) 0;
}

/* pfa_timeline_bounds(organization_id text DEFAULT NULL) */
PFA_API_FUNCTION(pfa_timeline_bounds, PFA_ENDPOINT_TIMELINE_BOUNDS)
{
	char *organization_id = organization_argument(fcinfo);
	Oid argtypes[1] = {TEXTOID};
	Datum values[1];
	char nulls[1];

	pfa_spi_set_text(values, nulls, 0, organization_id);
	return_rows(fcinfo,
				"SELECT organization_id, plan_start, plan_end, "
				"forecast_start, forecast_end, actual_start, "
				"actual_end, record_count "
				"FROM @.@.mv_pfa_timeline_bounds "
				"WHERE $1 IS NULL OR organization_id = $1 "
				"ORDER BY organization_id",
				1, argtypes, values, nulls);
	return (Datum) 0;
}

/* pfa_kpi_compact() */
Datum
pfa_kpi_compact(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(pfa_kpi_compact_deltas());
}

/* pfa_kpi_rebuild() */
Datum
pfa_kpi_rebuild(PG_FUNCTION_ARGS)
{
	/* What was wrong may have been cached. */
	pfa_generation_note_everything();
	PG_RETURN_INT64(pfa_kpi_recount());
}

/* ---- materialized views ---- */

static bool
is_wanted(FunctionCallInfo fcinfo, PfaMv view)
{
	return PG_ARGISNULL(0) ||
		strcmp(text_to_cstring(PG_GETARG_TEXT_PP(0)), pfa_mv_name(view)) == 0;
}

static void
check_view_name(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < PFA_NMVS; i++)
	{
		if (is_wanted(fcinfo, i))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown materialized view \"%s\"",
					text_to_cstring(PG_GETARG_TEXT_PP(0))),
			 errdetail("Materialized views of pfa_vanguard are: %s, %s.",
					   pfa_mv_name(PFA_MV_KPI_STATS),
					   pfa_mv_name(PFA_MV_TIMELINE_BOUNDS)),
			 errhint("Without a name all of them are refreshed.")));
}

static Datum
microseconds_interval(int64 usecs)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = usecs;
	return IntervalPGetDatum(interval);
}

/* pfa_refresh_mv(view_name text DEFAULT NULL) */
PFA_API_FUNCTION(pfa_refresh_mv, PFA_ENDPOINT_REFRESH_MV)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool busy = false;

	PreventCommandDuringRecovery("pfa_refresh_mv()");
	check_view_name(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < PFA_NMVS; i++)
	{
		PfaRefreshResult refresh;
		Datum values[4];
		bool nulls[4] = {false};

		if (!is_wanted(fcinfo, i))
			continue;
		pfa_mv_refresh(i, &refresh);
		busy |= refresh.busy;
		values[0] = CStringGetTextDatum(pfa_mv_name(i));
		values[1] = BoolGetDatum(refresh.refreshed);
		values[2] = Int64GetDatum(refresh.rows);
		nulls[2] = refresh.rows < 0;
		values[3] = microseconds_interval(refresh.duration_us);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	/* What somebody else refreshes now may miss what the caller means. */
	if (busy)
		pfa_mv_request_refresh();
	return (Datum) 0;
}

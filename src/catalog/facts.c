/*
 * facts.c
 *	  What the metrics show of our tables: see facts.h.
 *
 * A handful of small statements each few seconds.  None of them counts rows of
 * a large table: what is waiting or open is found through partial indexes, and
 * the number of rows is the statistics system's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "access/xlog.h"
#include "catalog/extension.h"
#include "catalog/facts.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "metrics/counters.h"

/* May the table be read without waiting?  Locks it if so. */
static bool
can_read(const char *relname)
{
	Oid relid = get_relname_relid(relname, pfa_extension_schema());

	return OidIsValid(relid) &&
		ConditionalLockRelationOid(relid, AccessShareLock);
}

/* ---- organizations ---- */

static int
read_organizations(PfaOrganizationFacts **result)
{
	Oid argtypes[2] = {INT8OID, OIDOID};
	Datum values[2] = {Int64GetDatum((int64) GetSystemIdentifier()),
					   ObjectIdGetDatum(MyDatabaseId)};
	MemoryContext caller = CurrentMemoryContext;
	PfaOrganizationFacts *facts;
	int n;

	n = (int) pfa_spi_execute(
		"SELECT o.organization_id, s.last_success_at, "
		"s.next_sync_at, "
		"(EXTRACT(epoch FROM o.sync_interval) * 1000000)::bigint, "
		"s.failures::bigint, o.paused "
		"OR o.system_identifier <> $1 "
		"OR o.database_oid <> $2, o.created_at, "
		"COALESCE((SELECT NOT x.option_value::pg_catalog.bool "
		"FROM pg_catalog.pg_foreign_server f, "
		"pg_catalog.pg_options_to_table(f.srvoptions) x "
		"WHERE f.srvname = o.server_name "
		"AND x.option_name = 'verify_tls'), false) "
		"FROM @.@.pfa_organization o "
		"LEFT JOIN @.@.pfa_sync_state s "
		"ON s.organization_id = o.organization_id "
		"ORDER BY o.created_at, o.organization_id",
		2, argtypes, values, NULL, true);
	facts = MemoryContextAllocZero(caller, sizeof(*facts) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		char *id = pfa_spi_get_text(CurrentMemoryContext, i, 1);

		strlcpy(facts[i].organization_id, id, sizeof(facts[i].organization_id));
		facts[i].last_success_at = pfa_spi_get_time(i, 2);
		facts[i].next_sync_at = pfa_spi_get_time(i, 3);
		facts[i].interval_us = pfa_spi_get_int64(i, 4);
		facts[i].failures = pfa_spi_get_int64(i, 5);
		facts[i].idle = pfa_spi_get_bool(i, 6);
		facts[i].added_at = pfa_spi_get_time(i, 7);
		facts[i].unverified = pfa_spi_get_bool(i, 8);
		facts[i].rejected = -1;
		facts[i].write_back_pending = -1;
		facts[i].conflicts_open = -1;
	}
	pfa_spi_finish();
	*result = facts;
	return n;
}

/*
 * Set a number of each organization from rows of (organization, number): 0
 * where there is no row, nothing at all where the table is locked or missing.
 */
static void
read_counts(const char *relname, const char *text, PfaOrganizationFacts *facts,
			int nfacts, size_t offset)
{
	uint64 n;

	if (!can_read(relname))
		return;
	for (int i = 0; i < nfacts; i++)
		*(int64 *) ((char *) &facts[i] + offset) = 0;
	n = pfa_spi_execute(text, 0, NULL, NULL, NULL, true);
	for (uint64 row = 0; row < n; row++)
	{
		char *id = pfa_spi_get_text(CurrentMemoryContext, row, 1);

		for (int i = 0; i < nfacts; i++)
		{
			if (strcmp(facts[i].organization_id, id) == 0)
				*(int64 *) ((char *) &facts[i] +
							offset) = pfa_spi_get_int64(row, 2);
		}
	}
	pfa_spi_finish();
}

#define LAST_HOUR \
	"FROM @.@.pfa_sync_run WHERE status NOT IN ('queued', 'running') " \
	"AND direction = 'read' AND finished_at > pg_catalog.statement_timestamp() " \
	"- '1 hour'::pg_catalog.interval "

int
pfa_facts_organizations(PfaOrganizationFacts **facts)
{
	int n;

	*facts = NULL;
	if (!can_read("pfa_organization") || !can_read("pfa_sync_state"))
		return -1;
	n = read_organizations(facts);
	read_counts("pfa_rejected_record",
				"SELECT organization_id, pg_catalog.count(*) "
				"FROM @.@.pfa_rejected_record GROUP BY 1",
				*facts, n, offsetof(PfaOrganizationFacts, rejected));
	read_counts("pfa_modification",
				"SELECT organization_id, pg_catalog.count(*) "
				"FROM @.@.pfa_modification "
				"WHERE sync_state IN ('pending_sync', 'syncing') GROUP BY 1",
				*facts, n, offsetof(PfaOrganizationFacts, write_back_pending));
	read_counts("pfa_conflict",
				"SELECT organization_id, pg_catalog.count(*) "
				"FROM @.@.pfa_conflict WHERE status = 'open' GROUP BY 1",
				*facts, n, offsetof(PfaOrganizationFacts, conflicts_open));
	read_counts("pfa_sync_run",
				"SELECT organization_id, pg_catalog.count(*) " LAST_HOUR
				"GROUP BY 1",
				*facts, n, offsetof(PfaOrganizationFacts, finished_hour));
	read_counts("pfa_sync_run",
				"SELECT organization_id, pg_catalog.count(*) " LAST_HOUR
				"AND status = 'failed' GROUP BY 1",
				*facts, n, offsetof(PfaOrganizationFacts, failed_hour));
	return n;
}

/* ---- tables ---- */

/*
 * Size with indexes and TOAST, -1 where somebody would have to be waited for.
 * RowExclusiveLock, as it is in the way of REINDEX too, which locks an index
 * that the size is asked of.
 */
static int64
relation_size(Oid relid)
{
	if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
		return -1;
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return -1;
	return DatumGetInt64(
		DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(relid)));
}

int
pfa_facts_relations(PfaRelationFacts **result)
{
	Oid argtypes[1] = {OIDOID};
	Datum values[1] = {ObjectIdGetDatum(pfa_extension_oid(false))};
	MemoryContext caller = CurrentMemoryContext;
	PfaRelationFacts *facts;
	int n;

	n = (int) pfa_spi_execute(
		"SELECT c.oid, c.relname::text, "
		"COALESCE(NULLIF(pg_catalog.pg_stat_get_live_tuples(c.oid), 0), "
		"GREATEST(c.reltuples, 0)::bigint), "
		"COALESCE(pg_catalog.sum(pg_catalog.pg_stat_get_blocks_hit(i.indexrelid)), 0)::bigint, "
		"COALESCE(pg_catalog.sum(pg_catalog.pg_stat_get_blocks_fetched(i.indexrelid) "
		"- pg_catalog.pg_stat_get_blocks_hit(i.indexrelid)), 0)::bigint "
		"FROM pg_catalog.pg_depend d "
		"JOIN pg_catalog.pg_class c ON c.oid = d.objid "
		"LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid "
		"WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass "
		"AND d.refobjid = $1 AND d.deptype = 'e' "
		"AND d.classid = 'pg_catalog.pg_class'::regclass "
		"AND c.relkind IN ('r', 'm') "
		"GROUP BY c.oid, c.relname, c.reltuples "
		"ORDER BY c.oid LIMIT 48",
		1, argtypes, values, NULL, true);
	facts = MemoryContextAllocZero(caller, sizeof(*facts) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		bool isnull;

		facts[i].oid = DatumGetObjectId(pfa_spi_get_datum(i, 1, &isnull));
		namestrcpy(&facts[i].name,
				   pfa_spi_get_text(CurrentMemoryContext, i, 2));
		facts[i].rows = pfa_spi_get_int64(i, 3);
		facts[i].index_hit = pfa_spi_get_int64(i, 4);
		facts[i].index_read = pfa_spi_get_int64(i, 5);
	}
	pfa_spi_finish();
	for (int i = 0; i < n; i++)
		facts[i].size = relation_size(facts[i].oid);
	*result = facts;
	return n;
}

/* ---- materialized views ---- */

void
pfa_facts_views(void)
{
	uint64 n;

	if (!can_read("pfa_mv_refresh"))
		return;
	n = pfa_spi_execute("SELECT view_name, refreshed_at "
						"FROM @.@.pfa_mv_refresh",
						0, NULL, NULL, NULL, true);
	for (uint64 row = 0; row < n; row++)
	{
		char *name = pfa_spi_get_text(CurrentMemoryContext, row, 1);
		TimestampTz at = pfa_spi_get_time(row, 2);

		if (strcmp(name, "mv_pfa_kpi_stats") == 0)
			pfa_metrics_view_refreshed(PFA_VIEW_KPI_STATS, at);
		else if (strcmp(name, "mv_pfa_timeline_bounds") == 0)
			pfa_metrics_view_refreshed(PFA_VIEW_TIMELINE_BOUNDS, at);
	}
	pfa_spi_finish();
}

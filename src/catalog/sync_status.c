/*
 * sync_status.c
 *	  What the tables know of each organization's syncs, in one query.
 *
 * A run that has no slot in shared memory, because its session has none or its
 * process died, is seen by the pages that it has written.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "catalog/sync_status.h"

/* The first element of counts is rows_seen, see sync_page.c. */
#define STATUS_QUERY \
	"SELECT o.organization_id, o.server_name, o.paused, " \
	"o.system_identifier <> $1 OR o.database_oid <> $2, " \
	"EXISTS (SELECT 1 FROM pg_catalog.pg_foreign_server f " \
	"WHERE f.srvname = o.server_name), " \
	"EXISTS (SELECT 1 FROM pg_catalog.pg_roles u " \
	"WHERE u.rolname = o.owner), " \
	"r.run_id, r.status, " \
	"r.status = 'running' AND NOT EXISTS (SELECT 1 " \
	"FROM pg_catalog.pg_stat_get_activity(r.worker_pid) a " \
	"WHERE a.backend_start IS NULL " \
	"OR a.backend_start = r.worker_started_at), " \
	"r.started_at, r.finished_at, " \
	"CASE WHEN r.status = 'running' THEN (SELECT " \
	"COALESCE(pg_catalog.sum(p.counts[1]), 0)::int8 " \
	"FROM @.@.pfa_sync_page p WHERE p.run_id = r.run_id) " \
	"ELSE r.rows_seen END, r.rows_total, " \
	"NULLIF(s.next_sync_at, '-infinity'), s.last_success_at, s.failures, " \
	"s.last_error " \
	"FROM @.@.pfa_organization o " \
	"LEFT JOIN @.@.pfa_sync_state s ON s.organization_id = o.organization_id " \
	"LEFT JOIN LATERAL (SELECT * FROM @.@.pfa_sync_run r " \
	"WHERE r.organization_id = o.organization_id AND r.direction = 'read' " \
	"ORDER BY r.run_id DESC LIMIT 1) r ON true " \
	"ORDER BY o.organization_id"

static void
fill_status(PfaSyncStatus *status, uint64 row, MemoryContext ctx)
{
	char *name;

	status->organization_id = pfa_spi_get_text(ctx, row, 1);
	status->server_name = pfa_spi_get_text(ctx, row, 2);
	status->paused = pfa_spi_get_bool(row, 3);
	status->is_copy = pfa_spi_get_bool(row, 4);
	status->source_exists = pfa_spi_get_bool(row, 5);
	status->owner_exists = pfa_spi_get_bool(row, 6);
	status->run_id = pfa_spi_get_int64(row, 7);
	name = pfa_spi_get_text(ctx, row, 8);
	if (name != NULL)
		status->run_status = pfa_run_status_of_name(name);
	/* On a standby it is another server's process. */
	status->worker_gone = pfa_spi_get_bool(row, 9) && !RecoveryInProgress();
	status->started_at = pfa_spi_get_time(row, 10);
	status->finished_at = pfa_spi_get_time(row, 11);
	status->rows_seen = pfa_spi_get_int64(row, 12);
	status->rows_total = pfa_spi_get_int64(row, 13);
	status->next_sync_at = pfa_spi_get_time(row, 14);
	status->last_success_at = pfa_spi_get_time(row, 15);
	status->failures = pfa_spi_get_int32(row, 16);
	status->last_error = pfa_spi_get_text(ctx, row, 17);
}

PfaSyncStatus *
pfa_sync_status_list(int *nstatus)
{
	Oid argtypes[2] = {INT8OID, OIDOID};
	Datum values[2] = {Int64GetDatum((int64) GetSystemIdentifier()),
					   ObjectIdGetDatum(MyDatabaseId)};
	MemoryContext caller = CurrentMemoryContext;
	PfaSyncStatus *list;
	uint64 n;

	pgstat_clear_backend_activity_snapshot();
	n = pfa_spi_execute(STATUS_QUERY, 2, argtypes, values, NULL, true);
	list = MemoryContextAllocZero(caller, Max(n, 1) * sizeof(PfaSyncStatus));
	for (uint64 i = 0; i < n; i++)
		fill_status(&list[i], i, caller);
	pfa_spi_finish();
	*nstatus = (int) n;
	return list;
}

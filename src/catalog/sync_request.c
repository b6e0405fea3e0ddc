/*
 * sync_request.c
 *	  What users ask of the queue of runs: request, cancel, how did it end.
 *
 * A request is a row of pfa_sync_run, so it goes with its transaction: rolled
 * back, it never was.  The organization's row is locked first; two requests
 * for one organization thus come one after the other and never meet in the
 * unique index, and a pause comes before a request or after it.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/schedule.h"
#include "catalog/spi.h"
#include "catalog/sync_request.h"

/* How much a mode does: of two requests the stronger one holds. */
#define STRENGTH(mode) \
	"CASE " mode " WHEN 'force' THEN 3 WHEN 'full' THEN 2 ELSE 1 END"

static const char *const status_names[] = {[PFA_RUN_QUEUED] = "queued",
										   [PFA_RUN_RUNNING] = "running",
										   [PFA_RUN_COMPLETED] = "completed",
										   [PFA_RUN_CANCELLED] = "cancelled",
										   [PFA_RUN_FAILED] = "failed"};

const char *
pfa_run_status_name(PfaRunStatus status)
{
	return status_names[status];
}

PfaRunStatus
pfa_run_status_of_name(const char *name)
{
	for (int i = 0; i < (int) lengthof(status_names); i++)
	{
		if (strcmp(status_names[i], name) == 0)
			return (PfaRunStatus) i;
	}
	elog(ERROR, "unknown status of a sync run: \"%s\"", name);
}

/* ---- requests ---- */

/* Lock the organization's row; false where it cannot be synced. */
static bool
lock_organization(const char *organization_id, PfaRequest *request)
{
	Oid argtypes[3] = {TEXTOID, INT8OID, OIDOID};
	Datum values[3] = {CStringGetTextDatum(organization_id),
					   Int64GetDatum((int64) GetSystemIdentifier()),
					   ObjectIdGetDatum(MyDatabaseId)};

	request->outcome = PFA_REQUEST_NEW;
	if (pfa_spi_execute("SELECT paused, "
						"system_identifier = $2 AND database_oid = $3 "
						"FROM @.@.pfa_organization "
						"WHERE organization_id = $1 FOR UPDATE",
						3, argtypes, values, NULL, false) == 0)
		request->outcome = PFA_REQUEST_UNKNOWN;
	else if (!pfa_spi_get_bool(0, 2))
		request->outcome = PFA_REQUEST_COPY;
	else if (pfa_spi_get_bool(0, 1))
		request->outcome = PFA_REQUEST_PAUSED;
	pfa_spi_finish();
	return request->outcome == PFA_REQUEST_NEW;
}

/*
 * Whoever queues a run holds the organization's lock, so one that is found
 * missing is missing still.  The conflict is for snapshots that are older than
 * a run and do not see it: they get a serialization failure.
 */
static bool
insert_run(const char *organization_id, const char *mode, PfaRequest *request)
{
	Oid argtypes[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {CStringGetTextDatum(organization_id),
					   CStringGetTextDatum(mode)};

	if (pfa_spi_execute("INSERT INTO @.@.pfa_sync_run (organization_id, mode) "
						"VALUES ($1, $2) "
						"ON CONFLICT (organization_id, direction) "
						"WHERE status IN ('queued', 'running') "
						"DO NOTHING RETURNING run_id",
						2, argtypes, values, NULL, false) > 0)
		request->run_id = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	if (request->run_id == 0)
		return false;
	request->mode = pstrdup(mode);
	return true;
}

/*
 * A run that a worker began and left is not made stronger: part of its listing
 * has been read in the old mode.
 */
static void
strengthen(int64 run_id, const char *mode)
{
	Oid argtypes[2] = {INT8OID, TEXTOID};
	Datum values[2] = {Int64GetDatum(run_id), CStringGetTextDatum(mode)};

	(void) pfa_spi_run("UPDATE @.@.pfa_sync_run SET mode = $2 "
					   "WHERE run_id = (SELECT run_id FROM @.@.pfa_sync_run "
					   "WHERE run_id = $1 AND status = 'queued' "
					   "AND attempt = 1 AND " STRENGTH("mode") " < " STRENGTH(
						   "$2") " FOR UPDATE SKIP LOCKED)",
					   2, argtypes, values, NULL);
}

static bool
find_unfinished(const char *organization_id, PfaRequest *request)
{
	Oid argtypes[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(organization_id)};
	MemoryContext caller = CurrentMemoryContext;

	if (pfa_spi_execute("SELECT run_id, mode, status = 'running' "
						"FROM @.@.pfa_sync_run "
						"WHERE organization_id = $1 AND direction = 'read' "
						"AND status IN ('queued', 'running')",
						1, argtypes, values, NULL, false) > 0)
	{
		request->run_id = pfa_spi_get_int64(0, 1);
		request->mode = pfa_spi_get_text(caller, 0, 2);
		request->running = pfa_spi_get_bool(0, 3);
	}
	pfa_spi_finish();
	return request->run_id != 0;
}

void
pfa_run_request(const char *organization_id, const char *mode,
				PfaRequest *request)
{
	memset(request, 0, sizeof(PfaRequest));
	if (!lock_organization(organization_id, request))
		return;

	while (!find_unfinished(organization_id, request))
	{
		CHECK_FOR_INTERRUPTS();
		if (insert_run(organization_id, mode, request))
			return;
	}
	request->outcome = PFA_REQUEST_PRESENT;
	if (request->running)
		return;
	strengthen(request->run_id, mode);
	/* It may have begun meanwhile, or ended even: then it was present. */
	(void) find_unfinished(organization_id, request);
}

char **
pfa_organization_list(int *norganizations)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64 n;
	char **list;

	n = pfa_spi_execute("SELECT organization_id FROM @.@.pfa_organization "
						"ORDER BY organization_id",
						0, NULL, NULL, NULL, false);
	list = MemoryContextAlloc(caller, Max(n, 1) * sizeof(char *));
	for (uint64 i = 0; i < n; i++)
		list[i] = pfa_spi_get_text(caller, i, 1);
	pfa_spi_finish();
	*norganizations = (int) n;
	return list;
}

/* ---- cancelling ---- */

bool
pfa_run_cancel_queued(int64 run_id, const char *error)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};
	MemoryContext caller = CurrentMemoryContext;
	char *organization_id = NULL;
	bool read = false;

	if (pfa_spi_execute("SELECT organization_id, direction = 'read' "
						"FROM @.@.pfa_sync_run "
						"WHERE run_id = $1 AND status = 'queued' "
						"FOR UPDATE SKIP LOCKED",
						1, argtypes, values, NULL, false) > 0)
	{
		organization_id = pfa_spi_get_text(caller, 0, 1);
		read = pfa_spi_get_bool(0, 2);
	}
	pfa_spi_finish();
	if (organization_id == NULL)
		return false;
	pfa_run_finish(run_id, "cancelled", NULL, -1, error);
	pfa_page_forget(run_id);
	/* Else a run that was due would be queued again at once. */
	if (read)
		pfa_schedule_finished(organization_id, PFA_OUTCOME_CANCELLED, NULL);
	return true;
}

bool
pfa_run_interrupt(int pid, TimestampTz started_at)
{
	Oid argtypes[2] = {INT4OID, TIMESTAMPTZOID};
	Datum values[2] = {Int32GetDatum(pid), TimestampTzGetDatum(started_at)};

	pgstat_clear_backend_activity_snapshot();
	return pfa_spi_run("SELECT pg_catalog.pg_cancel_backend(a.pid) "
					   "FROM pg_catalog.pg_stat_get_activity($1) a "
					   "WHERE a.backend_start = $2",
					   2, argtypes, values, NULL) > 0;
}

/* ---- the end of a run ---- */

bool
pfa_run_read(int64 run_id, PfaRunEnd *end)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};
	MemoryContext caller = CurrentMemoryContext;
	bool found;

	memset(end, 0, sizeof(PfaRunEnd));
	found = pfa_spi_execute("SELECT status, mode, error, rows_seen, "
							"rows_inserted, rows_updated, rows_deleted, "
							"rows_unchanged, rows_rejected "
							"FROM @.@.pfa_sync_run WHERE run_id = $1",
							1, argtypes, values, NULL, false) > 0;
	if (found)
	{
		end->status = pfa_run_status_of_name(pfa_spi_get_text(caller, 0, 1));
		end->mode = pfa_spi_get_text(caller, 0, 2);
		end->error = pfa_spi_get_text(caller, 0, 3);
		end->rows_seen = pfa_spi_get_int64(0, 4);
		end->rows_inserted = pfa_spi_get_int64(0, 5);
		end->rows_updated = pfa_spi_get_int64(0, 6);
		end->rows_deleted = pfa_spi_get_int64(0, 7);
		end->rows_unchanged = pfa_spi_get_int64(0, 8);
		end->rows_rejected = pfa_spi_get_int64(0, 9);
	}
	pfa_spi_finish();
	return found;
}

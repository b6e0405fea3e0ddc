/*
 * sync_run.c
 *	  pfa_sync_run: the queue of runs, and their history.
 *
 * A run is queued, running, and then completed, failed or cancelled; a partial
 * unique index allows an organization one that is not ended.  A run is changed
 * only in the state in which it was expected: whoever comes second finds no
 * row and leaves it be.
 *
 * Lock order: the organization's row, then its run.  Requests (sync_request.c)
 * lock the organization, so that they never wait for each other's entry in the
 * unique index, and the scheduler can see from a locked row that it would have
 * to.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/schedule.h"
#include "catalog/spi.h"
#include "metrics/counters.h"
#include "registry.h"

/*
 * A run whose process ended is taken up again so often without a page read in
 * between; and so often where the whole cluster went with the process, which
 * may have been the run's fault.
 */
#define MAX_ATTEMPTS 20
#define MAX_CRASHES  5

#define NOTIFY_CHANNEL "pfa_sync"
#define MAX_NOTIFY     7900 /* bytes; the server's limit is just above */

/*
 * Runs that may be worked on; $1 and $2 are this cluster and this database.
 * Where they are not the stored ones the database is a copy, which stays away
 * from PEMS.
 */
#define CLAIMABLE \
	"FROM @.@.pfa_sync_run r JOIN @.@.pfa_organization o " \
	"ON o.organization_id = r.organization_id " \
	"WHERE r.status = 'queued' AND r.direction = 'read' AND NOT o.paused " \
	"AND o.system_identifier = $1 AND o.database_oid = $2 "

static uint64
run_with_id(const char *text, int64 run_id)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};

	return pfa_spi_run(text, 1, argtypes, values, NULL);
}

/* ---- counting ---- */

/* First column of the first row, 0 where there is no row. */
static int64
select_id(const char *text, int nargs, const Oid *argtypes, Datum *values)
{
	int64 id = 0;

	if (pfa_spi_execute(text, nargs, argtypes, values, NULL, false) > 0)
		id = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	return id;
}

int
pfa_run_count_queued(void)
{
	Oid argtypes[2] = {INT8OID, OIDOID};
	Datum values[2] = {Int64GetDatum((int64) GetSystemIdentifier()),
					   ObjectIdGetDatum(MyDatabaseId)};

	return (int) select_id("SELECT pg_catalog.count(*) " CLAIMABLE, 2, argtypes,
						   values);
}

/* ---- claims ---- */

/*
 * text selects the run to take from parameters 1 to 3, the last of which is
 * of use to one caller only; 4 and 5 are this process.
 */
static PfaRun *
claim(const char *text, int64 run_id)
{
	Oid argtypes[5] = {INT8OID, OIDOID, INT8OID, INT4OID, TIMESTAMPTZOID};
	Datum values[5];
	MemoryContext caller = CurrentMemoryContext;
	PfaRun *run = NULL;

	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = Int64GetDatum(run_id);
	values[3] = Int32GetDatum(MyProcPid);
	values[4] = TimestampTzGetDatum(MyStartTimestamp);
	if (pfa_spi_execute(text, 5, argtypes, values, NULL, false) > 0)
	{
		run = MemoryContextAllocZero(caller, sizeof(PfaRun));
		run->run_id = pfa_spi_get_int64(0, 1);
		run->organization_id = pfa_spi_get_text(caller, 0, 2);
		run->mode = pfa_spi_get_text(caller, 0, 3);
		run->attempt = pfa_spi_get_int32(0, 4);
		run->requested_at = pfa_spi_get_time(0, 5);
		run->started_at = pfa_spi_get_time(0, 6);
		run->extension = pfa_extension_oid(false);
	}
	pfa_spi_finish();
	return run;
}

/* A scalar subquery is run once; one in FROM could lock a run for each row. */
#define CLAIM(selection) \
	"UPDATE @.@.pfa_sync_run AS u SET status = 'running', " \
	"started_at = COALESCE(u.started_at, pg_catalog.clock_timestamp()), " \
	"worker_pid = $4, worker_started_at = $5 " \
	"WHERE u.run_id = (SELECT r.run_id " CLAIMABLE selection \
	"FOR UPDATE OF r SKIP LOCKED) " \
	"RETURNING u.run_id, u.organization_id, u.mode, u.attempt, " \
	"u.requested_at, u.started_at"

/*
 * A run that is taken up again has the time of its request still and so comes
 * before what was requested after it.
 */
PfaRun *
pfa_run_claim(void)
{
	return claim(CLAIM("AND $3 = 0 ORDER BY r.requested_at, r.run_id LIMIT 1 "),
				 0);
}

PfaRun *
pfa_run_claim_one(int64 run_id)
{
	return claim(CLAIM("AND r.run_id = $3 LIMIT 1 "), run_id);
}

/* ---- while it runs ---- */

void
pfa_run_set_mode(int64 run_id, const char *mode)
{
	Oid argtypes[2] = {INT8OID, TEXTOID};
	Datum values[2] = {Int64GetDatum(run_id), CStringGetTextDatum(mode)};

	(void) pfa_spi_run("UPDATE @.@.pfa_sync_run SET mode = $2 "
					   "WHERE run_id = $1 AND mode <> $2",
					   2, argtypes, values, NULL);
}

/* Parameters 2 to 11 of the statements that write counts. */
#define SET_COUNTS \
	"rows_total = COALESCE($2, rows_total), " \
	"rows_seen = COALESCE($3, rows_seen), " \
	"rows_inserted = COALESCE($4, rows_inserted), " \
	"rows_updated = COALESCE($5, rows_updated), " \
	"rows_deleted = COALESCE($6, rows_deleted), " \
	"rows_unchanged = COALESCE($7, rows_unchanged), " \
	"rows_rejected = COALESCE($8, rows_rejected), " \
	"bytes_received = COALESCE($9, bytes_received), " \
	"api_calls = COALESCE($10, api_calls), " \
	"retries = COALESCE($11, retries)"

#define NCOUNTS 10

/* counts NULL and a negative total keep what is stored. */
static void
fill_counts(const PfaRunCounts *counts, int64 rows_total, Oid *argtypes,
			Datum *values, char *nulls)
{
	int64 numbers[NCOUNTS] = {rows_total};

	if (counts != NULL)
	{
		numbers[1] = counts->rows_seen;
		numbers[2] = counts->rows_inserted;
		numbers[3] = counts->rows_updated;
		numbers[4] = counts->rows_deleted;
		numbers[5] = counts->rows_unchanged;
		numbers[6] = counts->rows_rejected;
		numbers[7] = counts->bytes_received;
		numbers[8] = counts->api_calls;
		numbers[9] = counts->retries;
	}
	for (int i = 0; i < NCOUNTS; i++)
	{
		argtypes[i] = INT8OID;
		values[i] = Int64GetDatum(numbers[i]);
		nulls[i] = (i == 0 ? rows_total < 0 : counts == NULL) ? 'n' : ' ';
	}
}

void
pfa_run_save_counts(int64 run_id, const PfaRunCounts *counts, int64 rows_total)
{
	Oid argtypes[1 + NCOUNTS] = {INT8OID};
	Datum values[1 + NCOUNTS] = {Int64GetDatum(run_id)};
	char nulls[1 + NCOUNTS] = {' '};

	fill_counts(counts, rows_total, argtypes + 1, values + 1, nulls + 1);
	(void) pfa_spi_run("UPDATE @.@.pfa_sync_run SET " SET_COUNTS
					   " WHERE run_id = $1 AND status = 'running'",
					   1 + NCOUNTS, argtypes, values, nulls);
}

/* ---- the end ---- */

/* What the NOTIFY tells of a run, in the order of RETURNING below. */
static const char *const told[] = {"rows_total",    "rows_seen",
								   "rows_inserted", "rows_updated",
								   "rows_deleted",  "rows_unchanged",
								   "rows_rejected"};

/* Row 0 of the current result, its error cut to max bytes. */
static char *
notification(int64 run_id, int max)
{
	StringInfoData json;
	char *error = pfa_spi_get_text(CurrentMemoryContext, 0, 4);

	initStringInfo(&json);
	appendStringInfo(&json, "{\"run_id\": %lld, \"organization_id\": ",
					 (long long) run_id);
	escape_json(&json, pfa_spi_get_text(CurrentMemoryContext, 0, 1));
	appendStringInfoString(&json, ", \"status\": ");
	escape_json(&json, pfa_spi_get_text(CurrentMemoryContext, 0, 2));
	appendStringInfoString(&json, ", \"mode\": ");
	escape_json(&json, pfa_spi_get_text(CurrentMemoryContext, 0, 3));
	for (int i = 0; i < (int) lengthof(told); i++)
	{
		bool isnull;

		(void) pfa_spi_get_datum(0, 5 + i, &isnull);
		if (isnull)
			appendStringInfo(&json, ", \"%s\": null", told[i]);
		else
			appendStringInfo(&json, ", \"%s\": %lld", told[i],
							 (long long) pfa_spi_get_int64(0, 5 + i));
	}
	appendStringInfoString(&json, ", \"error\": ");
	if (error == NULL)
		appendStringInfoString(&json, "null");
	else
	{
		error[pg_mbcliplen(error, strlen(error), max)] = '\0';
		escape_json(&json, error);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static char *
one_line(const char *text)
{
	char *line = pstrdup(text);

	for (char *p = line; *p != '\0'; p++)
	{
		if (*p == '\n' || *p == '\r' || *p == '\t')
			*p = ' ';
	}
	return line;
}

/*
 * A run that has ended already, because its organization was removed, keeps
 * the end that it had.
 */
void
pfa_run_finish(int64 run_id, const char *status, const PfaRunCounts *counts,
			   int64 rows_total, const char *error)
{
	Oid argtypes[3 + NCOUNTS] = {INT8OID};
	Datum values[3 + NCOUNTS] = {Int64GetDatum(run_id)};
	char nulls[3 + NCOUNTS] = {' '};
	MemoryContext caller = CurrentMemoryContext;
	char *payload = NULL;

	fill_counts(counts, rows_total, argtypes + 1, values + 1, nulls + 1);
	argtypes[1 + NCOUNTS] = TEXTOID;
	argtypes[2 + NCOUNTS] = TEXTOID;
	pfa_spi_set_text(values, nulls, 1 + NCOUNTS, status);
	pfa_spi_set_text(values, nulls, 2 + NCOUNTS,
					 error == NULL ? NULL : one_line(error));
	if (pfa_spi_execute("UPDATE @.@.pfa_sync_run SET " SET_COUNTS
						", status = $12, error = $13, worker_pid = NULL, "
						"worker_started_at = NULL, "
						"finished_at = pg_catalog.clock_timestamp() "
						"WHERE run_id = $1 AND status IN ('queued', 'running') "
						"RETURNING organization_id, status, mode, error, "
						"rows_total, rows_seen, rows_inserted, rows_updated, "
						"rows_deleted, rows_unchanged, rows_rejected",
						3 + NCOUNTS, argtypes, values, nulls, false) > 0)
	{
		/* Escapes can make a text six times as long. */
		int max = MAX_NOTIFY;

		do
		{
			payload = notification(run_id, max);
			max /= 2;
		} while (strlen(payload) > MAX_NOTIFY);
		payload = MemoryContextStrdup(caller, payload);
	}
	pfa_spi_finish();
	if (payload == NULL)
		return;
	Async_Notify(NOTIFY_CHANNEL, payload);
	pfree(payload);
}

void
pfa_run_requeue(int64 run_id)
{
	(void) run_with_id("UPDATE @.@.pfa_sync_run SET status = 'queued', "
					   "attempt = attempt + 1, worker_pid = NULL, "
					   "worker_started_at = NULL "
					   "WHERE run_id = $1 AND status = 'running'",
					   run_id);
}

/* ---- runs whose process died ---- */

typedef struct DeadRun
{
	int64 run_id;
	char *organization_id;
	int attempt;
	int64 pages; /* read by all attempts */
	Datum worker_pid;
	Datum worker_started_at;
	bool unnamed; /* no process was written down */
} DeadRun;

/*
 * A process is known by its pid and the time of its start.  It is looked for
 * after the snapshot that shows the run was taken, and so cannot be missed;
 * one that the caller may not see into is taken to be alive.
 */
static DeadRun *
find_dead(int *ndead)
{
	MemoryContext caller = CurrentMemoryContext;
	DeadRun *dead;
	uint64 n;

	pgstat_clear_backend_activity_snapshot();
	n = pfa_spi_execute("SELECT r.run_id, r.organization_id, r.attempt, "
						"r.worker_pid, r.worker_started_at, "
						"(SELECT pg_catalog.count(*) FROM @.@.pfa_sync_page p "
						"WHERE p.run_id = r.run_id) "
						"FROM @.@.pfa_sync_run r WHERE r.status = 'running' "
						"AND r.direction = 'read' "
						"AND (r.worker_pid IS NULL OR NOT EXISTS (SELECT 1 "
						"FROM pg_catalog.pg_stat_get_activity(r.worker_pid) a "
						"WHERE a.backend_start IS NULL "
						"OR a.backend_start = r.worker_started_at)) "
						"ORDER BY r.run_id",
						0, NULL, NULL, NULL, false);
	dead = MemoryContextAllocZero(caller, Max(n, 1) * sizeof(DeadRun));
	for (uint64 i = 0; i < n; i++)
	{
		dead[i].run_id = pfa_spi_get_int64(i, 1);
		dead[i].organization_id = pfa_spi_get_text(caller, i, 2);
		dead[i].attempt = pfa_spi_get_int32(i, 3);
		dead[i].worker_pid = pfa_spi_get_datum(i, 4, &dead[i].unnamed);
		dead[i].worker_started_at = TimestampTzGetDatum(pfa_spi_get_time(i, 5));
		dead[i].pages = pfa_spi_get_int64(i, 6);
	}
	pfa_spi_finish();
	*ndead = (int) n;
	return dead;
}

/*
 * Lock the run, if it is still that of the dead process: another may have
 * taken it back and handed it on.
 */
static bool
lock_dead(const DeadRun *dead)
{
	Oid argtypes[3] = {INT8OID, INT4OID, TIMESTAMPTZOID};
	Datum values[3] = {Int64GetDatum(dead->run_id), dead->worker_pid,
					   dead->worker_started_at};
	char nulls[3] = {' ', dead->unnamed ? 'n' : ' ', ' '};

	return pfa_spi_run("SELECT 1 FROM @.@.pfa_sync_run "
					   "WHERE run_id = $1 AND status = 'running' "
					   "AND worker_pid IS NOT DISTINCT FROM $2 "
					   "AND (worker_pid IS NULL OR worker_started_at = $3) "
					   "FOR UPDATE SKIP LOCKED",
					   3, argtypes, values, nulls) > 0;
}

static bool
is_given_up(const DeadRun *dead)
{
	bool crashed = pfa_registry_available() && !dead->unnamed &&
		DatumGetTimestampTz(dead->worker_started_at) <
			pfa_registry_started_at();

	if (crashed)
		return dead->attempt >= MAX_CRASHES;
	return dead->attempt >= MAX_ATTEMPTS + dead->pages;
}

static void
fail_dead(const DeadRun *dead)
{
	char *error = psprintf("worker died %d times", dead->attempt);

	pfa_run_finish(dead->run_id, "failed", NULL, -1, error);
	pfa_schedule_finished(dead->organization_id, PFA_OUTCOME_FAILED, error);
	pfa_event_write(WARNING, "scheduler", dead->organization_id, dead->run_id,
					"sync_failed", error, NULL);
	pfa_metrics_sync_finished(dead->organization_id, PFA_MODE_FULL,
							  PFA_SYNC_FAILED, PFA_ERROR_WORKER, 0, 0);
	pfa_page_forget(dead->run_id);
}

int
pfa_run_reap(void)
{
	DeadRun *dead;
	int ndead;
	int requeued = 0;

	dead = find_dead(&ndead);
	for (int i = 0; i < ndead; i++)
	{
		if (!lock_dead(&dead[i]))
			continue;
		if (is_given_up(&dead[i]))
		{
			fail_dead(&dead[i]);
			continue;
		}
		pfa_run_requeue(dead[i].run_id);
		pfa_event_write(
			LOG, "scheduler", dead[i].organization_id, dead[i].run_id,
			"sync_requeued",
			psprintf(
				"the worker of run %lld has gone, the run is taken up again",
				(long long) dead[i].run_id),
			NULL);
		requeued++;
	}
	pfree(dead);
	return requeued;
}

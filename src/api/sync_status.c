/*
 * sync_status.c
 *	  The rows of the view pfa_sync_status.
 *
 * What has been stored comes from the tables, as of the caller's snapshot; what
 * moves (progress, whether a worker could be had) from shared memory, as of
 * now.  Whatever does not run says why: an operator looks here first.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/sync_status.h"
#include "guc.h"
#include "registry.h"

PG_FUNCTION_INFO_V1(pfa_sync_status_rows);

/* ---- what is the same for all rows ---- */

typedef struct Server
{
	TimestampTz now;
	bool standby;
	bool template;  /* a template database has no workers */
	bool barred;    /* workers step aside for a command */
	bool scheduler; /* this database has one */
	bool full;      /* no worker can be had just now */
} Server;

static bool
is_template(void)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID,
									  ObjectIdGetDatum(MyDatabaseId));
	bool result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return result;
}

/* Has this database's scheduler tried to start a worker in vain? */
static bool
scheduler_waits(void)
{
	for (int i = 0; i < PFA_MAX_DATABASES; i++)
	{
		PfaDatabase entry;

		if (pfa_database_read(i, &entry) && entry.oid == MyDatabaseId)
			return entry.waiting_since != 0;
	}
	return false;
}

static void
look_at_server(Server *server)
{
	memset(server, 0, sizeof(Server));
	server->now = GetCurrentTimestamp();
	server->standby = RecoveryInProgress();
	server->template = is_template();
	if (!pfa_registry_available())
		return;
	server->barred = pfa_database_is_barred(MyDatabaseId);
	server->scheduler = pfa_worker_count(PFA_WORKER_SCHEDULER, MyDatabaseId) >
		0;
	server->full = scheduler_waits() ||
		pfa_worker_count(PFA_WORKER_SYNC, InvalidOid) +
				pfa_worker_count(PFA_WORKER_HELPER, InvalidOid) >=
			pfa_guc_max_concurrent_syncs;
}

/* ---- progress of a running run ---- */

typedef struct Live
{
	PfaPhase phase;
	uint64 rows_seen;
	uint64 rows_total; /* 0: not known */
	TimestampTz started_at;
	TimestampTz not_before;
} Live;

/* False where no process of this cluster shows the run in shared memory. */
static bool
read_live(int64 run_id, Live *live)
{
	PfaSlot *slot = pfa_slot_find(MyDatabaseId, run_id);

	if (slot == NULL)
		return false;
	live->phase = (PfaPhase) pg_atomic_read_u32(&slot->phase);
	live->rows_seen = pg_atomic_read_u64(&slot->rows_seen);
	live->rows_total = pg_atomic_read_u64(&slot->rows_total);
	live->not_before = (TimestampTz) pg_atomic_read_u64(&slot->not_before);
	live->started_at = slot->started_at;
	/* What was read is another run's if the slot has changed hands. */
	pg_read_barrier();
	return slot->run_id == run_id;
}

static const char *
phase_name(PfaPhase phase)
{
	switch (phase)
	{
		case PFA_PHASE_STARTING:
			return "starting";
		case PFA_PHASE_READING:
			return "reading";
		case PFA_PHASE_WAITING:
			return "waiting";
		case PFA_PHASE_SWEEPING:
			return "sweeping";
		case PFA_PHASE_FINISHING:
			return "finishing";
	}
	return NULL;
}

/* ---- state and reason ---- */

typedef struct Verdict
{
	const char *state;
	const char *reason; /* NULL only where it runs */
	bool due;           /* next_sync_at means something */
} Verdict;

static Verdict
verdict(const char *state, const char *reason)
{
	return (Verdict){state, reason, false};
}

static const char *
no_workers(void)
{
	return "no workers: pfa_vanguard is not in shared_preload_libraries, sync with CALL pfa_sync()";
}

static Verdict
judge_running(const Server *server, const Live *live)
{
	if (live == NULL || live->phase != PFA_PHASE_WAITING)
		return verdict("running",
					   server->standby ? "runs on the primary" : NULL);
	if (live->not_before > server->now)
		return verdict("waiting",
					   psprintf("PEMS asked to wait, %.0f s are left",
								ceil((live->not_before - server->now) /
									 (double) USECS_PER_SEC)));
	return verdict("waiting",
				   "PEMS failed to answer, it is asked again in a moment");
}

/* What keeps this database's workers from work; NULL where nothing does. */
static const char *
no_scheduler(const Server *server)
{
	if (server->barred)
		return "workers step aside for a command on this database";
	if (server->template)
		return "no workers: this database is a template";
	if (!server->scheduler)
		return "waiting for the scheduler of this database to start";
	if (pfa_database_waits_for_room())
		return "the disk is full, pfa_sync_now() tries at once";
	return NULL;
}

static Verdict
judge_queued(const Server *server)
{
	const char *reason;

	if (server->standby)
		reason = "this server is a standby, syncs run on the primary";
	else if (!pfa_registry_available())
		reason = no_workers();
	else if (!pfa_guc_enabled)
		reason = "switched off by pfa_vanguard.enabled";
	else if ((reason = no_scheduler(server)) == NULL)
		reason = server->full ? "waiting for a worker slot" :
								"a worker takes it up in a moment";
	return verdict("queued", reason);
}

/* Why the next sync would fail, as far as that can be seen from here. */
static const char *
source_trouble(const PfaSyncStatus *status)
{
	if (!status->source_exists)
		return psprintf("server \"%s\" does not exist", status->server_name);
	if (!status->owner_exists)
		return "the role that added the organization does not exist";
	return NULL;
}

static Verdict
judge_resting(const PfaSyncStatus *status, const Server *server)
{
	const char *trouble = source_trouble(status);
	bool due = status->next_sync_at <= server->now;
	Verdict result;

	if (server->standby)
		return verdict("idle",
					   "this server is a standby, syncs run on the primary");
	if (!pfa_guc_enabled)
		return verdict("paused", "switched off by pfa_vanguard.enabled");
	if (!pfa_registry_available())
		return verdict("idle", trouble != NULL ? trouble : no_workers());

	result.due = true;
	result.state = status->failures > 0 && !due ? "backoff" : "idle";
	result.reason = trouble != NULL ? trouble :
		due                         ? no_scheduler(server) :
									  NULL;
	if (result.reason != NULL)
		return result;
	if (due)
		result.reason = "due, it is queued in a moment";
	else if (status->failures > 0)
		result.reason = status->failures == 1 ?
			"the last sync failed" :
			psprintf("the last %d syncs failed", status->failures);
	else
		result.reason = "waiting until it is due";
	return result;
}

static Verdict
judge(const PfaSyncStatus *status, const Server *server, const Live *live)
{
	bool run = status->run_id != 0;

	if (run && status->run_status == PFA_RUN_RUNNING && !status->worker_gone)
		return judge_running(server, live);
	if (status->is_copy)
		return verdict(
			"copy",
			"this database is a copy, pfa_adopt_database() lets it sync");
	if (status->paused)
		return verdict("paused", "paused by pfa_pause_organization()");
	if (run && status->run_status == PFA_RUN_RUNNING)
		return verdict(
			"waiting",
			pfa_registry_available() ?
				"its process has gone, the run is taken up again in a moment" :
				"its process has gone, CALL pfa_sync() takes the run up again");
	if (run && status->run_status == PFA_RUN_QUEUED)
		return judge_queued(server);
	return judge_resting(status, server);
}

/* ---- rows ---- */

enum
{
	COL_ORGANIZATION_ID,
	COL_STATE,
	COL_REASON,
	COL_RUN_ID,
	COL_PHASE,
	COL_ROWS_SEEN,
	COL_ROWS_TOTAL,
	COL_PERCENT,
	COL_ROWS_PER_SECOND,
	COL_ETA,
	COL_LAST_SUCCESS_AT,
	COL_LAST_ERROR,
	COL_NEXT_SYNC_AT,
	NCOLUMNS
};

typedef struct Row
{
	Datum values[NCOLUMNS];
	bool nulls[NCOLUMNS];
} Row;

static void
set(Row *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

static void
set_text(Row *row, int column, const char *text)
{
	if (text != NULL)
		set(row, column, CStringGetTextDatum(text));
}

static void
set_time(Row *row, int column, TimestampTz time)
{
	if (time != 0)
		set(row, column, TimestampTzGetDatum(time));
}

/* Whole seconds, so that a screen that is redrawn each second reads well. */
static Datum
interval_of_seconds(double seconds)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) ceil(Min(seconds, 1e9)) * USECS_PER_SEC;
	return IntervalPGetDatum(interval);
}

/* total 0: not known; usecs 0: not begun. */
static void
set_progress(Row *row, int64 seen, int64 total, int64 usecs, bool running)
{
	double rate = usecs <= 0 ? 0 : seen * (double) USECS_PER_SEC / usecs;

	set(row, COL_ROWS_SEEN, Int64GetDatum(seen));
	if (total > 0)
	{
		double percent = Min(100.0 * seen / total, 100.0);

		set(row, COL_ROWS_TOTAL, Int64GetDatum(total));
		/* To one place, and not 100 before the last record. */
		set(row, COL_PERCENT, Float8GetDatum(floor(percent * 10) / 10));
	}
	if (usecs > 0)
		set(row, COL_ROWS_PER_SECOND, Float8GetDatum(rint(rate)));
	if (running && total > 0 && rate > 0)
		set(row, COL_ETA, interval_of_seconds(Max(total - seen, 0) / rate));
}

static void
set_run(Row *row, const PfaSyncStatus *status, const Live *live,
		TimestampTz now)
{
	set(row, COL_RUN_ID, Int64GetDatum(status->run_id));
	if (live != NULL)
	{
		set_text(row, COL_PHASE, phase_name(live->phase));
		set_progress(row, (int64) live->rows_seen, (int64) live->rows_total,
					 now - live->started_at, true);
	}
	else if (status->run_status == PFA_RUN_RUNNING)
		set_progress(row, status->rows_seen, status->rows_total,
					 now - status->started_at, !status->worker_gone);
	else if (pfa_run_has_ended(status->run_status))
		set_progress(row, status->rows_seen, status->rows_total,
					 status->started_at == 0 ?
						 0 :
						 status->finished_at - status->started_at,
					 false);
}

static void
put_status(ReturnSetInfo *rsinfo, const PfaSyncStatus *status,
		   const Server *server)
{
	Live buffer;
	Live *live = NULL;
	Verdict result;
	Row row;

	if (status->run_id != 0 && status->run_status == PFA_RUN_RUNNING &&
		read_live(status->run_id, &buffer))
		live = &buffer;
	result = judge(status, server, live);

	memset(row.nulls, true, sizeof(row.nulls));
	set_text(&row, COL_ORGANIZATION_ID, status->organization_id);
	set_text(&row, COL_STATE, result.state);
	set_text(&row, COL_REASON, result.reason);
	if (status->run_id != 0)
		set_run(&row, status, live, server->now);
	set_time(&row, COL_LAST_SUCCESS_AT, status->last_success_at);
	set_text(&row, COL_LAST_ERROR, status->last_error);
	if (result.due)
		set_time(&row, COL_NEXT_SYNC_AT, status->next_sync_at);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values,
						 row.nulls);
}

/* pfa_sync_status_rows() returns the rows of the view */
Datum
pfa_sync_status_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PfaSyncStatus *list;
	Server server;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	list = pfa_sync_status_list(&n);
	look_at_server(&server);
	for (int i = 0; i < n; i++)
		put_status(rsinfo, &list[i], &server);
	return (Datum) 0;
}

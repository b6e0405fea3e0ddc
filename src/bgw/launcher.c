/*
 * launcher.c
 *	  One a cluster: sees to it that each database that has the extension has
 *	  its scheduler.
 *
 * The launcher is connected to no database and sees shared catalogs only, so
 * it cannot know which databases have the extension.  It sends a scheduler
 * into each one, one at a time; where the extension is missing the scheduler
 * notes that in the registry and leaves.  CREATE EXTENSION has it look again.
 *
 * It compares what should run with what does at every turn, at least every
 * ten seconds, and keeps no state that a lost wake-up could make stale.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bgw/worker.h"
#include "metrics/counters.h"

/* The launcher comes back so soon after it died. */
#define RESTART_SECONDS 2

#define TURN_MS 10000

/* A look at a database that takes longer does not hold up the next one. */
#define LOOK_MS 10000

/* Longest wait before a scheduler that ran is started again, or one that
 * could not even begin. */
#define BACKOFF_RAN_MS   4000
#define BACKOFF_NEVER_MS 60000

/* A scheduler that lived so long has not failed at its start. */
#define HEALTHY_MS 60000

/* What the launcher alone knows of a database; parallel to the registry. */
typedef struct Child
{
	Oid database;
	BackgroundWorkerHandle *handle; /* NULL: none running that we started */
	TimestampTz started_at;
	TimestampTz not_before;
	int failures;
} Child;

static Child children[PFA_MAX_DATABASES];
static MemoryContext turn_context;
static TimestampTz warned_at;

void
pfa_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* A standby's launcher is started when the standby is promoted. */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, "pfa_vanguard", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pfa_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pfa_vanguard launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pfa_vanguard", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* ---- databases ---- */

/* Databases a scheduler may look into; existing: all there are. */
static List *
list_databases(List **existing)
{
	MemoryContext caller = CurrentMemoryContext;
	List *databases = NIL;
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		old = MemoryContextSwitchTo(caller);
		*existing = lappend_oid(*existing, form->oid);
		MemoryContextSwitchTo(old);

		/* -2: an interrupted DROP DATABASE left it unusable */
		if (!form->datallowconn || form->datistemplate ||
			form->datconnlimit == -2)
			continue;
		old = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

static void
forget_child(Child *child)
{
	if (child->handle != NULL)
		pfree(child->handle);
	memset(child, 0, sizeof(Child));
}

/* Bring the registry's list of databases up to date. */
static void
refresh_databases(void)
{
	List *existing = NIL;
	List *databases = list_databases(&existing);
	ListCell *cell;

	for (int i = 0; i < PFA_MAX_DATABASES; i++)
	{
		PfaDatabase entry;

		if (pfa_database_read(i, &entry) &&
			!list_member_oid(databases, entry.oid))
		{
			/* Dropped, or closed: nobody is let in, so nobody stays. */
			(void) pfa_database_dismiss(entry.oid);
			if (!list_member_oid(existing, entry.oid))
				pfa_metrics_forget_database(entry.oid);
			pfa_database_forget(i);
			forget_child(&children[i]);
		}
	}
	foreach(cell, databases)
	{
		if (pfa_database_enter(lfirst_oid(cell)) < 0)
		{
			ereport(DEBUG1,
					(errmsg_internal("more than %d databases",
									 PFA_MAX_DATABASES)));
			break;
		}
	}
}

/* ---- schedulers ---- */

/* Is a scheduler of this database running, or about to? */
static bool
is_alive(Child *child, const PfaDatabase *entry)
{
	pid_t pid;

	if (child->handle != NULL)
	{
		BgwHandleStatus status = GetBackgroundWorkerPid(child->handle, &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			return true;
		pfree(child->handle);
		child->handle = NULL;
	}
	/* One that an earlier launcher started. */
	return pfa_worker_count(PFA_WORKER_SCHEDULER, entry->oid) > 0;
}

static void
note_end(Child *child, const PfaDatabase *entry)
{
	TimestampTz now = GetCurrentTimestamp();
	long most = entry->state == PFA_DATABASE_UNKNOWN ? BACKOFF_NEVER_MS :
													   BACKOFF_RAN_MS;
	long wait;

	if (child->started_at == 0 || entry->dismissed ||
		TimestampDifferenceExceeds(child->started_at, now, HEALTHY_MS))
		child->failures = 0;
	if (child->started_at != 0 && entry->state == PFA_DATABASE_PRESENT)
		pfa_metrics_process_restarted(PFA_PROCESS_SCHEDULER, entry->oid);
	wait = Min(500L << Min(child->failures, 10), most);
	child->failures++;
	child->started_at = 0;
	child->not_before = TimestampTzPlusMilliseconds(now, wait);
}

static void
start_scheduler(int i, const PfaDatabase *entry)
{
	Child *child = &children[i];
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	PfaWorkerArgs args = {0};
	TimestampTz now = GetCurrentTimestamp();

	args.database = entry->oid;
	args.kind = PFA_WORKER_SCHEDULER;
	/* Before the start: a request of from now on may come too late for it. */
	pfa_database_clear_requests(i);
	/* TopMemoryContext: the handle is freed when the worker has ended. */
	if (pfa_worker_start(&args, "pfa_scheduler_main", "pfa_vanguard scheduler",
						 &child->handle))
	{
		child->database = entry->oid;
		child->started_at = now;
	}
	else
	{
		if (entry->requested)
			pfa_database_request(entry->oid);
		child->handle = NULL;
		child->not_before = TimestampTzPlusMilliseconds(now, 2000);
		if (warned_at == 0 || TimestampDifferenceExceeds(warned_at, now, 60000))
		{
			warned_at = now;
			ereport(
				WARNING,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg(
					 "no background worker slot is free for a pfa_vanguard scheduler"),
				 errhint("Increase max_worker_processes.")));
		}
	}
	MemoryContextSwitchTo(old);
}

/* One turn: start what should run and does not.  Milliseconds to wait. */
static long
supervise(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long wait = TURN_MS;
	bool looking = false;

	for (int pass = 0; pass < 2; pass++)
	{
		/* First those known to have the extension, then looks, one by one. */
		for (int i = 0; i < PFA_MAX_DATABASES; i++)
		{
			Child *child = &children[i];
			PfaDatabase entry;
			bool known;

			if (!pfa_database_read(i, &entry))
				continue;
			known = entry.state == PFA_DATABASE_PRESENT;
			if (known != (pass == 0))
				continue;
			if (child->database != entry.oid && child->database != InvalidOid)
				forget_child(child);
			if (is_alive(child, &entry))
			{
				looking |= entry.state == PFA_DATABASE_UNKNOWN &&
					!TimestampDifferenceExceeds(child->started_at, now,
												LOOK_MS);
				continue;
			}
			if (child->started_at != 0)
				note_end(child, &entry);
			if (entry.state == PFA_DATABASE_ABSENT)
			{
				child->failures = 0;
				if (!entry.requested)
					continue;
				child->not_before = 0;
			}
			if (pfa_database_is_barred(entry.oid) || (!known && looking))
				continue;
			/* The clock may have been set back. */
			if (child->not_before >
				TimestampTzPlusMilliseconds(now, BACKOFF_NEVER_MS))
				child->not_before = now;
			if (child->not_before > now)
			{
				wait = Min(wait,
						   TimestampDifferenceMilliseconds(now,
														   child->not_before) +
							   1);
				continue;
			}
			start_scheduler(i, &entry);
			looking |= !known;
		}
	}
	return wait;
}

void
pfa_launcher_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	(void) pfa_worker_enter(PFA_WORKER_LAUNCHER, InvalidOid);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pfa_worker_set_name("pfa_vanguard launcher");
	pfa_metrics_process_started(PFA_PROCESS_LAUNCHER, InvalidOid);
	turn_context = AllocSetContextCreate(TopMemoryContext,
										 "pfa_vanguard launcher turn",
										 ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		long wait;

		pfa_worker_check();
		MemoryContextSwitchTo(turn_context);
		refresh_databases();
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
		wait = supervise();
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(turn_context);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

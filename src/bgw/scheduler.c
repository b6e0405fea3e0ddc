/*
 * scheduler.c
 *	  One a database: decides what is due and has workers for it.
 *
 * The queue is pfa_sync_run.  A turn of the scheduler takes runs back from
 * workers that died, queues what is due, and starts as many sync workers as
 * the queue and max_concurrent_syncs allow; workers take runs from the queue
 * themselves.  So no run is tied to a worker that was never forked, and a
 * scheduler that dies in the middle of a turn leaves nothing half done.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bgw/worker.h"
#include "cache/cache.h"
#include "catalog/pfa_catalog.h"
#include "catalog/prewarm.h"
#include "catalog/schedule.h"
#include "events/ring.h"
#include "guc.h"
#include "kpi/maintain.h"
#include "metrics/gauges.h"

/* Longest wait: due times may change behind the scheduler's back. */
#define TURN_MS 10000

/* With runs waiting for a worker, look this often for a free one. */
#define WAITING_MS 1000

/* A worker that was asked for and has not shown itself counts as lost. */
#define START_MS 10000

/* What lasts is reported once in so long. */
#define REPORT_MS 60000

/* How often old history is removed; and the wait where there is more of it. */
#define PRUNE_MS       600000
#define PRUNE_SLICE_MS 50

/* Longest wait after workers that ended without having taken a run. */
#define BACKOFF_MS 60000

#define MAX_CHILDREN 64

typedef struct Child
{
	BackgroundWorkerHandle *handle;
	TimestampTz started_at;
	uint32 claims; /* of this database at that time */
} Child;

static struct
{
	bool named;
	Oid extension;
	Child children[MAX_CHILDREN];
	int nchildren;
	TimestampTz pruned_at;
	int run_retention; /* that it was pruned by */
	int event_retention;
	TimestampTz warned_at;
	int fruitless; /* workers in a row that ended without a run */
	TimestampTz start_after;
	int failed_with; /* SQLSTATE of the last error reported */
	TimestampTz failed_at;
} state;

/* ---- one turn's look at the tables ---- */

/*
 * Begin a transaction, if the extension is still what it was.  Where it has
 * gone, or was created anew, all workers leave: one that waits for PEMS would
 * not notice for a while.
 */
static void
begin(void)
{
	Oid extension;

	pfa_worker_start_transaction();
	extension = pfa_extension_oid(true);
	pfa_database_set_state(MyDatabaseId,
						   OidIsValid(extension) ? PFA_DATABASE_PRESENT :
												   PFA_DATABASE_ABSENT);
	if (!OidIsValid(state.extension))
		state.extension = extension;
	if (OidIsValid(extension) && extension == state.extension)
		return;
	(void) pfa_database_dismiss(MyDatabaseId);
	if (!OidIsValid(extension))
		pfa_gauges_forget();
	proc_exit(OidIsValid(extension) ? 1 : 0);
}

/* In a transaction: the database's name can be looked up. */
static void
set_name(void)
{
	char *database = get_database_name(MyDatabaseId);

	pfa_worker_set_name(psprintf("pfa_vanguard scheduler %s",
								 database != NULL ? database : ""));
	state.named = true;
}

/* Runs that are queued; *wait is shortened to the next due time. */
static int
look(long *wait)
{
	TimestampTz next;
	bool enabled = pfa_guc_enabled && !pfa_database_waits_for_room();
	int queued;
	int reaped;

	begin();
	if (!state.named)
		set_name();
	reaped = pfa_run_reap();
	while (reaped-- > 0)
		pfa_metrics_process_restarted(PFA_PROCESS_SYNC, MyDatabaseId);
	queued = enabled ? pfa_schedule_due() : 0;
	next = enabled ? pfa_schedule_next_due() : DT_NOEND;
	pfa_worker_end_transaction();
	if (next != DT_NOEND)
		*wait = Min(*wait,
					TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													next) +
						1);
	return queued;
}

/*
 * Remove old history, a bounded number of rows a turn: there is other work as
 * well.  True if there is more.
 */
static bool
prune(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool more;

	if (state.pruned_at != 0 && state.pruned_at <= now &&
		state.run_retention == pfa_guc_run_retention &&
		state.event_retention == pfa_guc_event_retention &&
		!TimestampDifferenceExceeds(state.pruned_at, now, PRUNE_MS))
		return false;
	state.run_retention = pfa_guc_run_retention;
	state.event_retention = pfa_guc_event_retention;
	begin();
	more = pfa_history_prune(pfa_guc_run_retention, pfa_guc_event_retention);
	pfa_worker_end_transaction();
	state.pruned_at = more ? 0 : now;
	return more;
}

/* ---- workers ---- */

/*
 * A worker has ended.  One that took no run although some are queued failed at
 * its start, and so may the next one: wait longer each time.
 */
static void
note_end(const Child *child)
{
	long wait;

	if (child->claims != pfa_database_claims())
	{
		state.fruitless = 0;
		return;
	}
	wait = Min(500L << Min(state.fruitless, 10), BACKOFF_MS);
	state.fruitless++;
	state.start_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													wait);
}

/* Milliseconds until a worker may be started. */
static long
start_delay(int queued)
{
	if (queued == 0)
		state.fruitless = 0;
	if (state.fruitless == 0)
		return 0;
	/* No longer than that, whatever the clock was set to. */
	return Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
											   state.start_after),
			   BACKOFF_MS);
}

/* Workers that were asked for and are not in the table of workers yet. */
static int
count_starting(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int starting = 0;
	int kept = 0;

	for (int i = 0; i < state.nchildren; i++)
	{
		Child *child = &state.children[i];
		pid_t pid = 0;
		BgwHandleStatus status = GetBackgroundWorkerPid(child->handle, &pid);

		if (status == BGWH_STOPPED || status == BGWH_POSTMASTER_DIED)
		{
			note_end(child);
			pfree(child->handle);
			continue;
		}
		if (!(status == BGWH_STARTED && pfa_worker_known(pid)) &&
			!TimestampDifferenceExceeds(child->started_at, now, START_MS))
			starting++;
		state.children[kept++] = *child;
	}
	state.nchildren = kept;
	return starting;
}

static bool
start_worker(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	PfaWorkerArgs args = {0};
	Child *child = &state.children[state.nchildren];
	bool started;

	args.database = MyDatabaseId;
	args.kind = PFA_WORKER_SYNC;
	/* TopMemoryContext: the handle is freed when the worker has ended. */
	started = pfa_worker_start(&args, "pfa_sync_worker_main",
							   "pfa_vanguard sync", &child->handle);
	MemoryContextSwitchTo(old);
	if (started)
	{
		child->started_at = GetCurrentTimestamp();
		child->claims = pfa_database_claims();
		state.nchildren++;
	}
	else if (state.warned_at == 0 ||
			 TimestampDifferenceExceeds(state.warned_at, GetCurrentTimestamp(),
										REPORT_MS))
	{
		state.warned_at = GetCurrentTimestamp();
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no background worker slot is free for a sync"),
				 errhint("Increase max_worker_processes.")));
	}
	return started;
}

/*
 * Start workers for the queue.  Each takes runs until none is queued, so no
 * more are started than there are runs.  Milliseconds to the next look: sooner
 * where runs have to wait.
 */
static long
start_workers(int queued)
{
	int starting = count_starting();
	int running = pfa_worker_count(PFA_WORKER_SYNC, InvalidOid) +
		pfa_worker_count(PFA_WORKER_HELPER, InvalidOid);
	long delay = start_delay(queued);
	bool wait = false;

	if (delay > 0)
	{
		pfa_database_set_waiting(MyDatabaseId, false);
		return delay;
	}
	queued -= starting;
	while (queued > 0 && !wait)
	{
		wait = running + starting >= pfa_guc_max_concurrent_syncs ||
			state.nchildren >= MAX_CHILDREN ||
			pfa_database_others_wait(MyDatabaseId) || !start_worker();
		starting++;
		queued--;
	}
	pfa_database_set_waiting(MyDatabaseId, wait);
	return wait ? WAITING_MS : TURN_MS;
}

/* Report the error being handled, one that lasts once a minute. */
static void
report_error(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ErrorData *edata;

	if (geterrcode() == state.failed_with &&
		!TimestampDifferenceExceeds(state.failed_at, now, REPORT_MS))
		return;
	state.failed_with = geterrcode();
	state.failed_at = now;
	EmitErrorReport();
	edata = CopyErrorData();
	pfa_metrics_process_failed(PFA_PROCESS_SCHEDULER, MyDatabaseId,
							   edata->message);
	pfa_event_post(PFA_LEVEL_ERROR, "scheduler", NULL, 0, "turn_failed",
				   edata->message, NULL);
}

/* Milliseconds to the next turn. */
static long
work(void)
{
	long due = TURN_MS;
	long next = start_workers(look(&due));

	next = Min(due, next);
	return prune() ? Min(next, PRUNE_SLICE_MS) : next;
}

static long
maintain(void)
{
	long due = pfa_kpi_maintain();

	return due >= 0 ? Min(due, TURN_MS) : TURN_MS;
}

static long
observe(void)
{
	pfa_scheduler_observe();
	return TURN_MS;
}

/* Once, when the scheduler begins: what a restart has emptied is filled. */
static void
prewarm(void)
{
	static bool done;

	if (done || !pfa_guc_prewarm)
		return;
	/* Even where it fails: it is not worth another try. */
	done = true;
	begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	pfa_prewarm_relations(NULL, NULL);
	PopActiveSnapshot();
	pfa_worker_end_transaction();
}

static long
warm(void)
{
	pfa_cache_maintain();
	prewarm();
	return TURN_MS;
}

/*
 * One step of a turn; milliseconds to the next.  What goes wrong in it (a lock
 * that is held, a full disk) is reported and tried again: a scheduler that
 * ended for it would have to be started anew each time.
 */
static long
take_step(MemoryContext turn_context, long (*step)(void))
{
	volatile long wait = TURN_MS;

	PG_TRY();
	{
		MemoryContextSwitchTo(turn_context);
		wait = step();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(turn_context);
		report_error();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		/* Nobody is to wait for a database that cannot use its turn. */
		pfa_database_set_waiting(MyDatabaseId, false);
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(turn_context);
	return wait;
}

void
pfa_scheduler_main(Datum arg)
{
	PfaWorkerArgs args;
	MemoryContext turn_context;

	pfa_worker_begin(&args);
	/* One that another launcher started before it died may be here already. */
	if (pfa_worker_count(PFA_WORKER_SCHEDULER, MyDatabaseId) > 1)
		proc_exit(0);
	turn_context = AllocSetContextCreate(TopMemoryContext,
										 "pfa_vanguard scheduler turn",
										 ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		long wait;

		pfa_worker_check();
		wait = take_step(turn_context, work);
		wait = Min(wait, take_step(turn_context, maintain));
		(void) take_step(turn_context, observe);
		(void) take_step(turn_context, warm);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

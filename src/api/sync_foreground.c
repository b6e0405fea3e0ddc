/*
 * sync_foreground.c
 *	  CALL pfa_sync(...): syncs in the caller's session.
 *
 * It does what a sync worker does, and works without shared_preload_libraries.
 * The run's pages are transactions of their own, with none open while PEMS is
 * waited for, so the call leaves the transaction in which it was made, as
 * VACUUM does, and enters another one before it returns.  That is possible at
 * top level only: within a transaction block, or a function or procedure of
 * another language, somebody relies on the transaction.
 *
 * An organization that somebody else is syncing already is not synced twice:
 * the call follows that run and ends with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/sync_arguments.h"
#include "catalog/pfa_catalog.h"
#include "catalog/sync_request.h"
#include "guc.h"
#include "kpi/maintain.h"
#include "metrics/counters.h"
#include "registry.h"
#include "sync/run.h"

/* Progress is told this often at most, and where it stands still this often. */
#define NOTICE_MS      1000
#define SAME_NOTICE_MS 10000

/* How often a run that another process performs is looked at. */
#define LOOK_MS 100

typedef struct Progress
{
	const char *organization_id;
	instr_time told_at;
	uint64 told_rows;
	uint32 told_phase;
} Progress;

/* What the call knows of one organization's sync. */
typedef struct Sync
{
	const char *organization_id;
	const char *mode;
	bool named; /* by the caller, not found by us */
	Progress progress;

	/* of the last look at the queue */
	PfaRequest request;
	PfaRun *run;  /* NULL: another process has it */
	bool at_work; /* it has it still */
	PfaRunEnd end;
} Sync;

/* ---- transactions ---- */

static void
begin(void)
{
	StartTransactionCommand();
	/* Runs change under us: we want to see them as they are. */
	XactIsoLevel = XACT_READ_COMMITTED;
}

/* Run body in a transaction of its own; what it allocates outlives that. */
static void
transact(void (*body)(Sync *sync), Sync *sync)
{
	MemoryContext caller = CurrentMemoryContext;

	begin();
	MemoryContextSwitchTo(caller);
	if (!OidIsValid(pfa_extension_oid(true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"pfa_vanguard\" has been dropped")));
	body(sync);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/* Leave the transaction of the CALL; as SPI_commit() does it. */
static void
leave_transaction(void)
{
	MemoryContext caller = CurrentMemoryContext;

	HoldPinnedPortals();
	ForgetPortalSnapshots();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

static void
return_to_transaction(void)
{
	MemoryContext caller = CurrentMemoryContext;

	StartTransactionCommand();
	MemoryContextSwitchTo(caller);
}

static void
check_context(FunctionCallInfo fcinfo)
{
	CallContext *context = (CallContext *) fcinfo->context;

	if (context != NULL && IsA(context, CallContext) && !context->atomic &&
		!SPI_inside_nonatomic_context())
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
		 errmsg(
			 "CALL pfa_sync cannot run inside a transaction block, function or procedure"),
		 errdetail("It commits each page of records by itself."),
		 errhint(
			 "Call it as a statement of its own, or request a sync with pfa_sync_now().")));
}

/* ---- progress ---- */

static const char *
phase_text(uint32 phase)
{
	switch ((PfaPhase) phase)
	{
		case PFA_PHASE_STARTING:
			return "starting";
		case PFA_PHASE_READING:
			return "reading";
		case PFA_PHASE_WAITING:
			return "waiting for PEMS";
		case PFA_PHASE_SWEEPING:
			return "removing vanished records";
		case PFA_PHASE_FINISHING:
			return "finishing";
	}
	return "working";
}

static double
elapsed_ms(instr_time since)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, since);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* PfaRunProgress */
static void
tell_progress(const PfaSlot *slot, void *arg)
{
	Progress *progress = arg;
	PfaSlot *live = unconstify(PfaSlot *, slot);
	uint64 rows = pg_atomic_read_u64(&live->rows_seen);
	uint64 total = pg_atomic_read_u64(&live->rows_total);
	uint32 phase = pg_atomic_read_u32(&live->phase);
	bool same = rows == progress->told_rows && phase == progress->told_phase;
	double seconds;

	if (elapsed_ms(progress->told_at) < (same ? SAME_NOTICE_MS : NOTICE_MS))
		return;
	INSTR_TIME_SET_CURRENT(progress->told_at);
	progress->told_rows = rows;
	progress->told_phase = phase;
	seconds = Max(GetCurrentTimestamp() - slot->started_at, 1) /
		(double) USECS_PER_SEC;
	if (total > 0)
		ereport(
			NOTICE,
			(errmsg(
				"organization \"%s\": %s, %llu of %llu records (%.0f%%), %.0f a second",
				progress->organization_id, phase_text(phase),
				(unsigned long long) rows, (unsigned long long) total,
				Min(100.0 * rows / total, 100.0), rows / seconds)));
	else
		ereport(NOTICE,
				(errmsg("organization \"%s\": %s, %llu records",
						progress->organization_id, phase_text(phase),
						(unsigned long long) rows)));
}

static void
tell_end(const Sync *sync)
{
	const PfaRunEnd *end = &sync->end;

	ereport(
		NOTICE,
		(errmsg(
			"organization \"%s\": %s sync completed, %lld records seen, %lld inserted, %lld updated, %lld deleted, %lld unchanged, %lld rejected",
			sync->organization_id, end->mode, (long long) end->rows_seen,
			(long long) end->rows_inserted, (long long) end->rows_updated,
			(long long) end->rows_deleted, (long long) end->rows_unchanged,
			(long long) end->rows_rejected)));
}

/* ---- one organization ---- */

/*
 * Request and claim in one transaction: no worker and no other session can
 * come between.  What a process that died has left is taken back first; with
 * no scheduler nobody else would.
 */
static void
take_run(Sync *sync)
{
	(void) pfa_run_reap();
	pfa_run_request(sync->organization_id, sync->mode, &sync->request);
	if (sync->named)
		pfa_sync_check_request(&sync->request, sync->organization_id);
	sync->run = sync->request.run_id == 0 ?
		NULL :
		pfa_run_claim_one(sync->request.run_id);
}

static void
read_end(Sync *sync)
{
	if (!pfa_run_read(sync->request.run_id, &sync->end))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sync run %lld does not exist",
						(long long) sync->request.run_id)));
}

static void
look_at_run(Sync *sync)
{
	PfaRunLook look;

	sync->at_work = pfa_run_look(sync->request.run_id, &look) &&
		look.status == PFA_RUN_RUNNING;
}

static void
give_back(Sync *sync)
{
	pfa_run_requeue(sync->run->run_id);
}

static void
perform(Sync *sync)
{
	PfaSlot *slot = pfa_slot_acquire(sync->run->run_id, sync->organization_id);

	if (slot == NULL)
	{
		transact(give_back, sync);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many syncs are running"),
				 errdetail("At most %d can run at a time.", PFA_MAX_SLOTS)));
	}
	/* The slot is shared: it is given back whatever happens. */
	PG_TRY();
	{
		(void) pfa_run_perform(sync->run, slot, pfa_registry_available(),
							   tell_progress, &sync->progress);
	}
	PG_FINALLY();
	{
		pfa_slot_release(slot);
	}
	PG_END_TRY();
}

/* Wait for another process to end the run, or to leave it. */
static void
follow(Sync *sync)
{
	do
	{
		PfaSlot *slot = pfa_slot_find(MyDatabaseId, sync->request.run_id);

		if (slot != NULL)
			tell_progress(slot, &sync->progress);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		transact(look_at_run, sync);
	} while (sync->at_work);
}

/* False where there was nothing to do. */
static bool
sync_organization(Sync *sync)
{
	sync->progress.organization_id = sync->organization_id;
	INSTR_TIME_SET_CURRENT(sync->progress.told_at);
	do
	{
		transact(take_run, sync);
		if (sync->request.run_id == 0)
			return false;
		if (sync->run != NULL)
		{
			ereport(NOTICE,
					(errmsg("organization \"%s\": run %lld begins",
							sync->organization_id,
							(long long) sync->run->run_id)));
			perform(sync);
		}
		else
		{
			ereport(
				NOTICE,
				(errmsg(
					"organization \"%s\": run %lld is at work in another process",
					sync->organization_id, (long long) sync->request.run_id)));
			pfa_sync_note_weaker(&sync->request, sync->organization_id,
								 sync->mode);
			follow(sync);
		}
		transact(read_end, sync);
	} while (!pfa_run_has_ended(sync->end.status));
	/* What a scheduler would do now. */
	if (!pfa_registry_available())
		(void) pfa_kpi_maintain();
	if (sync->end.status == PFA_RUN_COMPLETED)
		tell_end(sync);
	return true;
}

/* ---- the call ---- */

/*
 * One organization's failure is the call's; of several, the others are synced
 * all the same.  In the caller's new transaction.
 */
static void
report_failure(const Sync *sync, int elevel)
{
	ereport(elevel,
			(errcode(sync->end.status == PFA_RUN_CANCELLED ?
						 ERRCODE_QUERY_CANCELED :
						 ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("sync of organization \"%s\" %s: %s", sync->organization_id,
					sync->end.status == PFA_RUN_CANCELLED ? "was cancelled" :
															"failed",
					sync->end.error != NULL ? sync->end.error :
											  "no reason was given")));
}

static void
sync_one(const char *organization_id, const char *mode)
{
	Sync sync = {0};

	sync.organization_id = organization_id;
	sync.mode = mode;
	sync.named = true;
	leave_transaction();
	(void) sync_organization(&sync);
	return_to_transaction();
	if (sync.end.status != PFA_RUN_COMPLETED)
		report_failure(&sync, ERROR);
}

static void
sync_all(const char *mode)
{
	int n;
	char **list = pfa_organization_list(&n);
	int synced = 0;
	int failed = 0;

	leave_transaction();
	for (int i = 0; i < n; i++)
	{
		Sync sync = {0};

		CHECK_FOR_INTERRUPTS();
		sync.organization_id = list[i];
		sync.mode = mode;
		if (!sync_organization(&sync))
			continue;
		synced++;
		if (sync.end.status != PFA_RUN_COMPLETED)
		{
			failed++;
			report_failure(&sync, WARNING);
		}
	}
	return_to_transaction();
	if (synced == 0)
		ereport(NOTICE, (errmsg("there is no organization to sync")));
	if (failed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("%d of %d syncs did not complete", failed, synced)));
}

/* procedure pfa_sync(organization_id text, mode text) */
PFA_API_FUNCTION(pfa_sync, PFA_ENDPOINT_SYNC)
{
	char *organization_id = pfa_sync_organization_argument(fcinfo, 0);
	char *mode = pfa_sync_mode_argument(fcinfo, 1);

	check_context(fcinfo);
	pfa_sync_check_writable("CALL pfa_sync()");
	if (!pfa_guc_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("requests to PEMS are switched off"),
				 errhint("Set pfa_vanguard.enabled to on.")));
	if (organization_id != NULL)
		sync_one(organization_id, mode);
	else
		sync_all(mode);
	PG_RETURN_VOID();
}

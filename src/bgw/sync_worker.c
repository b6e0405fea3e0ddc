/*
 * sync_worker.c
 *	  Performs queued runs, one after the other, until none is left.
 *
 * Starting a process and warming its caches costs more than syncing a small
 * organization, so a worker goes on while there is work, unless another
 * database waits for a worker, or fewer are wanted.
 *
 * The same process, told so in its arguments, is the second worker of a large
 * run: it takes pages from the other end of the listing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "bgw/worker.h"
#include "catalog/pfa_catalog.h"
#include "guc.h"
#include "sync/run.h"

static PfaRun *
claim(void)
{
	MemoryContext caller = CurrentMemoryContext;
	PfaRun *run = NULL;

	pfa_worker_start_transaction();
	MemoryContextSwitchTo(caller);
	if (OidIsValid(pfa_extension_oid(true)))
		run = pfa_run_claim();
	pfa_worker_end_transaction();
	MemoryContextSwitchTo(caller);
	return run;
}

/*
 * Is this worker still wanted, or has the setting been lowered?  By rank, so
 * that of too many those that are too many leave, and not all.
 */
static bool
is_wanted(void)
{
	return pfa_guc_enabled && !pfa_database_waits_for_room() &&
		pfa_worker_rank(PFA_WORKER_SYNC) < pfa_guc_max_concurrent_syncs;
}

static void
work(void)
{
	MemoryContext turn_context;
	bool first = true;

	turn_context = AllocSetContextCreate(TopMemoryContext,
										 "pfa_vanguard sync turn",
										 ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		PfaRun *run;
		PfaSlot *slot;

		pfa_worker_check();
		if (!is_wanted() || (!first && pfa_database_others_wait(MyDatabaseId)))
			break;
		MemoryContextSwitchTo(turn_context);
		run = claim();
		if (run == NULL)
			break;
		pfa_database_note_claim();
		/* There are more slots than workers may be set to run. */
		slot = pfa_slot_acquire(run->run_id, run->organization_id);
		if (slot == NULL)
			break;
		pfa_worker_set_name(
			psprintf("pfa_vanguard sync %s", run->organization_id));
		(void) pfa_run_perform(run, slot, true, NULL, NULL);
		pfa_slot_release(slot);
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(turn_context);
		first = false;
	}
}

/* ---- the second worker of a run ---- */

bool
pfa_sync_worker_start_helper(PfaSlot *slot)
{
	PfaWorkerArgs args = {0};

	args.database = MyDatabaseId;
	args.kind = PFA_WORKER_HELPER;
	args.slot = pfa_slot_index(slot);
	args.run_id = slot->run_id;
	if (args.slot < 0)
		return false;
	/* Nobody waits for it: without it the leader reads every page. */
	return pfa_worker_start(&args, "pfa_sync_worker_main", "pfa_vanguard sync",
							NULL);
}

static PfaSlot *helped_slot;

static void
leave_run(int code, Datum arg)
{
	SpinLockAcquire(&helped_slot->mutex);
	if (helped_slot->helper_pid == MyProcPid)
		helped_slot->helper_pid = 0;
	SpinLockRelease(&helped_slot->mutex);
	/* The leader may be waiting for just this. */
	pfa_wake_slot(helped_slot);
}

static void
help(const PfaWorkerArgs *args)
{
	PfaSlot *slot = pfa_slot_by_index(args->slot);
	bool wanted;

	helped_slot = slot;
	before_shmem_exit(leave_run, (Datum) 0);
	SpinLockAcquire(&slot->mutex);
	wanted = slot->run_id == args->run_id && !slot->stop &&
		slot->helper_pid == 0 && slot->next_low < slot->next_high;
	if (wanted)
		slot->helper_pid = MyProcPid;
	SpinLockRelease(&slot->mutex);
	if (!wanted)
		return;
	pfa_worker_set_name(
		psprintf("pfa_vanguard sync %s", slot->organization_id));
	pfa_run_help(slot, args->run_id);
}

void
pfa_sync_worker_main(Datum arg)
{
	PfaWorkerArgs args;

	pfa_worker_begin(&args);
	if (args.kind == PFA_WORKER_HELPER)
		help(&args);
	else
		work();
	proc_exit(0);
}

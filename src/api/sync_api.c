/*
 * sync_api.c
 *	  Syncs by workers: ask for them, wait for them, cancel them.
 *
 * All three run with the caller's rights; what they do to our tables is done
 * as the extension's owner in catalog/.  The argument checks that the
 * foreground sync shares are in sync_arguments.c.
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/sync_arguments.h"
#include "catalog/pfa_catalog.h"
#include "catalog/sync_request.h"
#include "guc.h"
#include "metrics/counters.h"
#include "registry.h"

/* How often a waiting session looks at the runs it waits for. */
#define LOOK_MS 50

/* A cancelled run has this long to end before the caller is answered. */
#define CANCEL_MS      1000
#define CANCEL_LOOK_MS 10

/* ---- pfa_sync_now ---- */

static void
check_workers(void)
{
	if (pfa_registry_available())
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("no workers are running that could sync"),
		 errdetail("pfa_vanguard is not in shared_preload_libraries."),
		 errhint(
			 "Sync in the foreground with CALL pfa_sync(...), or add pfa_vanguard to shared_preload_libraries and restart the server.")));
}

static void
put_run(ReturnSetInfo *rsinfo, int64 run_id)
{
	Datum values[1] = {Int64GetDatum(run_id)};
	bool nulls[1] = {false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
request_one(ReturnSetInfo *rsinfo, const char *organization_id,
			const char *mode)
{
	PfaRequest request;

	pfa_run_request(organization_id, mode, &request);
	pfa_sync_check_request(&request, organization_id);
	pfa_sync_note_weaker(&request, organization_id, mode);
	put_run(rsinfo, request.run_id);
}

/* Organizations that cannot be synced now are none of the caller's concern. */
static void
request_all(ReturnSetInfo *rsinfo, const char *mode)
{
	int n;
	char **list = pfa_organization_list(&n);

	for (int i = 0; i < n; i++)
	{
		PfaRequest request;

		CHECK_FOR_INTERRUPTS();
		pfa_run_request(list[i], mode, &request);
		if (request.run_id == 0)
			continue;
		pfa_sync_note_weaker(&request, list[i], mode);
		put_run(rsinfo, request.run_id);
	}
}

/* pfa_sync_now(organization_id text, mode text) returns setof bigint */
PFA_API_FUNCTION(pfa_sync_now, PFA_ENDPOINT_SYNC_NOW)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = pfa_sync_organization_argument(fcinfo, 0);
	char *mode = pfa_sync_mode_argument(fcinfo, 1);

	pfa_sync_check_writable("pfa_sync_now()");
	check_workers();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	if (organization_id != NULL)
		request_one(rsinfo, organization_id, mode);
	else
		request_all(rsinfo, mode);
	if (!pfa_guc_enabled)
		ereport(
			NOTICE,
			(errmsg(
				"nothing is synced before setting \"pfa_vanguard.enabled\" is on")));
	/* Whoever asks may just have made room. */
	pfa_database_clear_disk_full();
	pfa_wake_scheduler_at_commit();
	return (Datum) 0;
}

/* ---- pfa_sync_wait ---- */

/* Milliseconds; negative where there is no limit. */
static double
timeout_argument(FunctionCallInfo fcinfo, int arg)
{
	Interval *interval;
	double ms;

	if (PG_ARGISNULL(arg))
		return -1;
	interval = PG_GETARG_INTERVAL_P(arg);
	/* In floating point: an interval may be longer than int64 microseconds. */
	ms = interval->time / 1000.0 +
		((double) interval->day + (double) interval->month * DAYS_PER_MONTH) *
			SECS_PER_DAY * 1000.0;
	if (ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return ms;
}

/* Raise an error where the run cannot begin while we wait for it. */
static void
check_can_begin(int64 run_id, const PfaRunLook *look)
{
	if (look->own)
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg(
				 "cannot wait for sync run %lld in the transaction that requested it",
				 (long long) run_id),
			 errdetail(
				 "The run does not begin before the transaction has committed."),
			 errhint("Commit first, then call pfa_sync_wait().")));
	if (look->status == PFA_RUN_QUEUED && !RecoveryInProgress())
		check_workers();
}

static bool
has_ended(int64 run_id, PfaRunStatus *worst)
{
	PfaRunLook look;

	if (!pfa_run_look(run_id, &look))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sync run %lld does not exist", (long long) run_id),
				 errhint("Runs are listed in pfa_sync_run.")));
	if (!pfa_run_has_ended(look.status))
	{
		check_can_begin(run_id, &look);
		return false;
	}
	*worst = Max(*worst, look.status);
	return true;
}

/* Drop the runs that have ended from ids; how many are left. */
static int
drop_ended(int64 *ids, int nids, PfaRunStatus *worst)
{
	int left = 0;

	for (int i = 0; i < nids; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!has_ended(ids[i], worst))
			ids[left++] = ids[i];
	}
	return left;
}

/* Nap; false where the time is up. */
static bool
nap(instr_time start, double timeout_ms)
{
	instr_time now;
	double left;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	left = timeout_ms < 0 ? LOOK_MS : timeout_ms - INSTR_TIME_GET_MILLISEC(now);
	if (left <= 0)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (long) ceil(Min(left, LOOK_MS)), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* pfa_sync_wait(run_id bigint, timeout interval) returns text */
PFA_API_FUNCTION(pfa_sync_wait, PFA_ENDPOINT_SYNC_WAIT)
{
	double timeout_ms = timeout_argument(fcinfo, 1);
	PfaRunStatus worst = PFA_RUN_QUEUED;
	int64 one;
	int64 *ids = &one;
	int nids = 1;
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	if (PG_ARGISNULL(0))
		ids = pfa_run_unfinished(&nids);
	else
		one = PG_GETARG_INT64(0);
	if (nids == 0)
		PG_RETURN_NULL();

	/* All have to end, so one is looked at at a time. */
	nids = drop_ended(ids, nids, &worst);
	for (int i = 0; i < nids; i++)
	{
		while (!has_ended(ids[i], &worst))
		{
			if (!nap(start, timeout_ms))
				PG_RETURN_TEXT_P(cstring_to_text("timeout"));
		}
	}
	PG_RETURN_TEXT_P(cstring_to_text(pfa_run_status_name(worst)));
}

/* ---- pfa_sync_cancel ---- */

/*
 * Have the process that works on the run stop.  False where none can be
 * reached: it is just starting, or has gone.
 */
static bool
stop_process(int64 run_id, const PfaRunLook *look)
{
	if (pfa_registry_available())
		return pfa_slot_cancel(run_id);
	return look->worker_pid != 0 && look->worker_pid != MyProcPid &&
		pfa_run_interrupt(look->worker_pid, look->worker_started_at);
}

/*
 * pfa_sync_cancel(run_id bigint) returns boolean, strict
 *
 * A queued run is cancelled with the caller's transaction.  A running one is
 * told to stop at once, whether the transaction commits or not, as by
 * pg_cancel_backend, and has a moment to do so.  A run whose process dies
 * meanwhile goes back to the queue, and is cancelled there.
 */
PFA_API_FUNCTION(pfa_sync_cancel, PFA_ENDPOINT_SYNC_CANCEL)
{
	int64 run_id = PG_GETARG_INT64(0);
	bool told = false;
	PfaRunLook look;

	pfa_sync_check_writable("pfa_sync_cancel()");
	for (int waited = 0;; waited += CANCEL_LOOK_MS)
	{
		if (!pfa_run_look(run_id, &look) || pfa_run_has_ended(look.status))
			PG_RETURN_BOOL(told);
		if (look.status == PFA_RUN_QUEUED &&
			pfa_run_cancel_queued(run_id, "cancelled by pfa_sync_cancel()"))
			break;
		if (look.status == PFA_RUN_RUNNING && !told)
			told = stop_process(run_id, &look);
		if (waited >= CANCEL_MS)
		{
			if (told)
				break;
			if (pfa_run_reap() == 0)
				ereport(
					ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("could not cancel sync run %lld",
							(long long) run_id),
					 errdetail(
						 "Another transaction is changing the run, or this transaction is older than it."),
					 errhint("Try again in a new transaction.")));
			waited = 0;
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 CANCEL_LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pfa_wake_scheduler_at_commit();
	PG_RETURN_BOOL(true);
}

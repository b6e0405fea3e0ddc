/*
 * worker.c
 *	  What all workers have in common: how they are started and how they begin.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "activity.h"
#include "bgw/worker.h"
#include "metrics/counters.h"

/* Longest wait for a lock on our tables. */
#define LOCK_TIMEOUT "2s"

bool
pfa_worker_start(const PfaWorkerArgs *args, const char *function,
				 const char *name, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	/* Who starts it looks after it. */
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pfa_vanguard", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pfa_vanguard", BGW_MAXLEN);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, args, sizeof(*args));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

void
pfa_worker_set_name(const char *name)
{
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(name);
}

void
pfa_worker_begin(PfaWorkerArgs *args)
{
	memcpy(args, MyBgworkerEntry->bgw_extra, sizeof(*args));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);

	/*
	 * Into the table first: whoever wants the database for himself must find
	 * this process before it is connected, or keep it from connecting.
	 */
	if (!pfa_worker_enter(args->kind, args->database))
		proc_exit(0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args->database, InvalidOid, 0);
	pfa_metrics_process_started(args->kind == PFA_WORKER_SCHEDULER ?
									PFA_PROCESS_SCHEDULER :
									PFA_PROCESS_SYNC,
								args->database);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
pfa_worker_start_transaction(void)
{
	pfa_activity_begin();
	StartTransactionCommand();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("synchronous_commit", "local", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void
pfa_worker_end_transaction(void)
{
	CommitTransactionCommand();
	pfa_activity_end();
}

void
pfa_worker_check(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

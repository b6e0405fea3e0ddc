/*
 * connections.c
 *	  Client connections by state: see connections.h.
 *
 * Read as pg_stat_activity reads it, but without its rule that only some may
 * see the state of others: numbers are nobody's secret.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "metrics/connections.h"

/* Lock waiters that are told apart; more count as active. */
#define MAX_WAITERS 1024

static int
find_waiters(int *pids)
{
	int n = 0;

	for (uint32 i = 0; i < ProcGlobal->allProcCount && n < MAX_WAITERS; i++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[i];
		uint32 event = *(const volatile uint32 *) &proc->wait_event_info;

		/* A process that ends just now may leave its number behind. */
		if (proc->pid != 0 && (event & 0xff000000) == PG_WAIT_LOCK)
			pids[n++] = proc->pid;
	}
	return n;
}

static PfaConnectionState
state_of(const PgBackendStatus *status, const int *waiters, int nwaiters)
{
	for (int i = 0; i < nwaiters; i++)
	{
		if (waiters[i] == status->st_procpid)
			return PFA_CONNECTION_WAITING;
	}
	switch (status->st_state)
	{
		case STATE_IDLE:
			return PFA_CONNECTION_IDLE;
		case STATE_IDLEINTRANSACTION:
		case STATE_IDLEINTRANSACTION_ABORTED:
			return PFA_CONNECTION_IDLE_IN_TRANSACTION;
		default:
			/* With track_activities off nothing else is known. */
			return PFA_CONNECTION_ACTIVE;
	}
}

void
pfa_connections_count(int64 counts[PFA_NCONNECTION_STATES])
{
	int *waiters = palloc(sizeof(int) * MAX_WAITERS);
	int nwaiters = find_waiters(waiters);
	int nbackends;

	memset(counts, 0, sizeof(int64) * PFA_NCONNECTION_STATES);
	/* A second look in the same transaction is to see what is now. */
	pgstat_clear_backend_activity_snapshot();
	nbackends = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= nbackends; i++)
	{
		const PgBackendStatus *status = pfa_backend_status(i);

		if (status != NULL && status->st_procpid != 0 &&
			status->st_backendType == B_BACKEND)
			counts[state_of(status, waiters, nwaiters)]++;
	}
	pfree(waiters);
}

static int
setting(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value == NULL ? 0 : atoi(value);
}

int
pfa_connections_max(void)
{
	return Max(MaxConnections - setting("superuser_reserved_connections") -
				   setting("reserved_connections"),
			   1);
}

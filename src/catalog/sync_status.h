/*
 * sync_status.h
 *	  What the tables know of each organization's syncs.
 */
#ifndef PFA_SYNC_STATUS_H
#define PFA_SYNC_STATUS_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "catalog/sync_request.h"

typedef struct PfaSyncStatus
{
	char *organization_id;
	char *server_name;
	bool paused;
	bool is_copy;
	bool source_exists; /* a foreign server of that name */
	bool owner_exists;  /* a role of the recorded name */

	/* the run that is queued or running, or the last one; 0: none yet */
	int64 run_id;
	PfaRunStatus run_status;
	bool worker_gone;       /* running, but its process has died */
	TimestampTz started_at; /* 0: not yet */
	TimestampTz finished_at;
	int64 rows_seen; /* -1: not known */
	int64 rows_total;

	/* the schedule */
	TimestampTz next_sync_at;    /* 0: never synced, due at once */
	TimestampTz last_success_at; /* 0: never */
	int failures;                /* in a row */
	char *last_error;            /* or NULL */
} PfaSyncStatus;

/* All organizations in order, as of the caller's snapshot; palloc'd. */
extern PfaSyncStatus *pfa_sync_status_list(int *nstatus);

#endif /* PFA_SYNC_STATUS_H */

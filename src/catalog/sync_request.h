/*
 * sync_request.h
 *	  What users ask of the queue of runs, and what they want to know of a run.
 */
#ifndef PFA_SYNC_REQUEST_H
#define PFA_SYNC_REQUEST_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* In the order of how bad an end is. */
typedef enum PfaRunStatus
{
	PFA_RUN_QUEUED,
	PFA_RUN_RUNNING,
	PFA_RUN_COMPLETED,
	PFA_RUN_CANCELLED,
	PFA_RUN_FAILED
} PfaRunStatus;

extern const char *pfa_run_status_name(PfaRunStatus status);
extern PfaRunStatus pfa_run_status_of_name(const char *name);

static inline bool
pfa_run_has_ended(PfaRunStatus status)
{
	return status >= PFA_RUN_COMPLETED;
}

/* ---- sync_request.c ---- */

typedef enum PfaRequestOutcome
{
	PFA_REQUEST_NEW,     /* a run was queued */
	PFA_REQUEST_PRESENT, /* one was queued or running already */
	PFA_REQUEST_UNKNOWN, /* no such organization */
	PFA_REQUEST_PAUSED,
	PFA_REQUEST_COPY /* this database is a copy */
} PfaRequestOutcome;

typedef struct PfaRequest
{
	PfaRequestOutcome outcome;
	int64 run_id; /* 0 unless new or present */
	char *mode;   /* what the run will do, or does */
	bool running;
} PfaRequest;

/*
 * Queue a run, or find the one that is queued or running.  A queued one is
 * made stronger if need be (auto and delta, full, force), so that a force is
 * not lost in an auto that came before it.  Locks the organization's row until
 * the end of the transaction.
 */
extern void pfa_run_request(const char *organization_id, const char *mode,
							PfaRequest *request);

/* All organizations, paused ones and copies too, in order. */
extern char **pfa_organization_list(int *norganizations);

/*
 * Cancel the run if it is queued and nobody has it locked: a worker that is
 * taking it, or a transaction that changes it.  Waits for nobody.
 */
extern bool pfa_run_cancel_queued(int64 run_id, const char *error);

/*
 * Send a query cancel to the process that works on a run, where it has no slot
 * in shared memory.  False where that process has gone.
 */
extern bool pfa_run_interrupt(int pid, TimestampTz started_at);

/* How a run ended; strings in the caller's memory context. */
typedef struct PfaRunEnd
{
	PfaRunStatus status;
	char *mode;
	char *error; /* or NULL */
	int64 rows_seen;
	int64 rows_inserted;
	int64 rows_updated;
	int64 rows_deleted;
	int64 rows_unchanged;
	int64 rows_rejected;
} PfaRunEnd;

/* False where there is no such run. */
extern bool pfa_run_read(int64 run_id, PfaRunEnd *end);

/* ---- run_watch.c ---- */

typedef struct PfaRunLook
{
	PfaRunStatus status;
	bool own;       /* this transaction wrote what was seen */
	int worker_pid; /* 0: none */
	TimestampTz worker_started_at;
} PfaRunLook;

/*
 * How a run stands at this moment, whatever snapshot the caller's transaction
 * has.  Needs a transaction; leaves no lock, so that it can be asked again and
 * again without standing in the way of DROP EXTENSION.  False where there is no
 * such run.
 */
extern bool pfa_run_look(int64 run_id, PfaRunLook *look);

/* Ids of all runs that are queued or running at this moment; palloc'd. */
extern int64 *pfa_run_unfinished(int *nruns);

#endif /* PFA_SYNC_REQUEST_H */

/*
 * schedule.h
 *	  When an organization is due, and what its last sync left behind.
 *
 * The due time lives in pfa_sync_state and moves only when a run ends, so a
 * run that finds no worker keeps its place in the queue.  A missing row (the
 * table is not dumped) means "due at once, never synced".  Every call runs in
 * the caller's transaction.
 */
#ifndef PFA_SCHEDULE_H
#define PFA_SCHEDULE_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* How a run ended, as far as the schedule is concerned. */
typedef enum PfaScheduleOutcome
{
	PFA_OUTCOME_COMPLETED,
	PFA_OUTCOME_FAILED,
	PFA_OUTCOME_DENIED, /* PEMS refused the credentials */
	PFA_OUTCOME_CANCELLED
} PfaScheduleOutcome;

/*
 * Queue a run for every organization that is due (not paused, not a copy, none
 * unfinished).  Waits for nobody: an organization whose row is locked, because
 * somebody requests, changes or removes it just now, is left for the next
 * turn.  Returns how many runs are queued and may be claimed, those of before
 * included.
 */
extern int pfa_schedule_due(void);

/*
 * Earliest due time among organizations without an unfinished run, DT_NOEND
 * where there is none.  Never sooner than in a second: what is due at the
 * moment was queued by pfa_schedule_due or is locked by somebody.
 */
extern TimestampTz pfa_schedule_next_due(void);

/*
 * Set the next due time after a run.  Completed: the previous due time plus
 * the interval, counted from now if that is past or if the run came before it
 * was due.  Failed: exponential back-off
 * with jitter.  Denied: at least an hour, see
 * pfa_schedule_credentials_changed.  Cancelled: an interval from now.
 * Call it in the transaction that finishes the run.
 */
extern void
pfa_schedule_finished(const char *organization_id, PfaScheduleOutcome outcome,
					  const char *error);

/*
 * Make organizations of this server due at once whose last sync failed: its
 * options or credentials were changed.  Returns how many.
 */
extern int pfa_schedule_credentials_changed(const char *server_name);

/*
 * Remember what a completed run learned.  watermark and layout NULL: keep what
 * is stored.  full: the listing was read as a whole.
 */
extern void
pfa_state_update(const char *organization_id, const char *watermark,
				 uint64 mapping_hash, const char *layout, bool full);

/*
 * Delete finished runs and events older than so many minutes, at most 1000 rows
 * of each a call; 0 keeps them for ever.  True if there may be more: call it
 * again, in another transaction.
 */
extern bool pfa_history_prune(int run_minutes, int event_minutes);

#endif /* PFA_SCHEDULE_H */

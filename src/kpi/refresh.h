/*
 * refresh.h
 *	  Refreshing the materialized views.
 */
#ifndef PFA_KPI_REFRESH_H
#define PFA_KPI_REFRESH_H

#include "postgres.h"
#include "catalog/mv_change.h"

typedef struct PfaRefreshResult
{
	bool refreshed;
	bool busy;         /* not, as somebody else is refreshing it */
	int64 rows;        /* of the view now; -1: not populated */
	int64 duration_us; /* of this refresh */
} PfaRefreshResult;

/*
 * Refresh the view in the caller's transaction, if the mirror has changed since
 * the last time.  Mends the view first where it cannot be refreshed without
 * blocking readers: fills it if it never was, creates its unique index if that
 * is gone.
 */
extern void pfa_mv_refresh(PfaMv view, PfaRefreshResult *result);

/*
 * For the scheduler, outside of a transaction: refresh what is due.  Returns
 * milliseconds until it is worth another look, -1 if that is up to whoever
 * changes the mirror.  Errors end in pfa_event_log; only what ends the process
 * is raised.
 */
extern long pfa_mv_refresh_due(void);

#endif /* PFA_KPI_REFRESH_H */

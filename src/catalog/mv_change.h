/*
 * mv_change.h
 *	  What has changed since the materialized views were refreshed.
 *
 * A row of pfa_mv_change says that the mirror has changed since.  A writer
 * appends one in its transaction; a refresh deletes those it sees, in the
 * transaction in which it reads the mirror.  So what is left stands for changes
 * that the refresh has not seen, whatever the order of commits, and a refresh
 * that fails leaves everything as it was.
 */
#ifndef PFA_MV_CHANGE_H
#define PFA_MV_CHANGE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

typedef enum PfaView
{
	PFA_VIEW_KPI_STATS,
	PFA_VIEW_TIMELINE_BOUNDS,
	PFA_NVIEWS
} PfaView;

extern const char *pfa_view_name(PfaView view);

/* The mirror has changed, in this transaction.  Costs one row a transaction. */
extern void pfa_mv_mark_changed(Oid schema);

/*
 * Have the scheduler refresh what has changed, soon after this transaction's
 * commit.
 */
extern void pfa_mv_request_refresh(void);

typedef struct PfaViewChanges
{
	bool		changed[PFA_NVIEWS];
	bool		requested;
	int			nrows;
} PfaViewChanges;

/* What the snapshot sees. */
extern void pfa_mv_changes(Oid schema, Snapshot snapshot,
						   PfaViewChanges *changes);
/*
 * The caller is about to refresh the view in this transaction, from a snapshot
 * not older than this one: delete the notes of changes.
 */
extern void pfa_mv_consume(Oid schema, PfaView view, Snapshot snapshot);
/* Many notes become one. */
extern void pfa_mv_collapse(Oid schema, Snapshot snapshot);

/* ---- pfa_mv_refresh: when a view was last refreshed ---- */

typedef struct PfaViewState
{
	TimestampTz refreshed_at;	/* 0: never */
	int64		duration_us;
	int64		rows;
} PfaViewState;

extern void pfa_mv_state_read(PfaView view, PfaViewState *state);
extern void pfa_mv_state_write(PfaView view, const PfaViewState *state);

#endif							/* PFA_MV_CHANGE_H */

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

typedef enum PfaMv
{
	PFA_MV_KPI_STATS,
	PFA_MV_TIMELINE_BOUNDS,
	PFA_NMVS
} PfaMv;

extern const char *pfa_mv_name(PfaMv view);

/* The mirror has changed, in this transaction.  Costs one row a transaction. */
extern void pfa_mv_mark_changed(Oid schema);

/*
 * Have the scheduler refresh what has changed, soon after this transaction's
 * commit.
 */
extern void pfa_mv_request_refresh(void);

typedef struct PfaMvChanges
{
	bool changed[PFA_NMVS];
	bool requested;
	int nrows;
} PfaMvChanges;

/* What the snapshot sees. */
extern void
pfa_mv_changes(Oid schema, Snapshot snapshot, PfaMvChanges *changes);
/*
 * The caller is about to refresh the view in this transaction, from a snapshot
 * not older than this one: delete the notes of changes.
 */
extern void pfa_mv_consume(Oid schema, PfaMv view, Snapshot snapshot);
/* Many notes become one. */
extern void pfa_mv_collapse(Oid schema, Snapshot snapshot);

/* ---- pfa_mv_refresh: when a view was last refreshed ---- */

typedef struct PfaMvState
{
	TimestampTz refreshed_at; /* 0: never */
	int64 duration_us;
	int64 rows;
} PfaMvState;

extern void pfa_mv_state_read(PfaMv view, PfaMvState *state);
extern void pfa_mv_state_write(PfaMv view, const PfaMvState *state);

#endif /* PFA_MV_CHANGE_H */

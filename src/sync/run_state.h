/*
 * run_state.h
 *	  What the files of one run share.  Nobody outside sync/ includes it.
 */
#ifndef PFA_RUN_STATE_H
#define PFA_RUN_STATE_H

#include "catalog/pfa_catalog.h"
#include "pems/grid.h"
#include "registry.h"
#include "sync/apply.h"
#include "sync/coverage.h"
#include "sync/run.h"

typedef struct PfaRunState
{
	MemoryContext ctx; /* lives as long as the run */
	PfaSlot *slot;
	int64 run_id;
	Oid extension; /* whose run it is */
	bool leader;
	bool full;  /* else delta */
	bool force; /* full, without the deletion guard */
	bool keyset;
	bool stopped;         /* somebody asked the run to stop, see
								 * pfa_run_check_stop */
	bool recording;       /* its end is being written: too late to stop */
	char *modified_since; /* delta: from here on */

	PfaOrganization *organization;
	PfaSource *source;
	PfaMapping *mapping;
	uint64 mapping_hash;
	PfaApply *apply;
	PfaGridClient *client;
	PfaCoverage *coverage;

	int64 page_rows; /* rows asked for a page */
	int64 page_step; /* positions from page to page */
	int64 total;     /* rows of the listing, -1: not told */
	int64 end_page;  /* page that was the last one, -1: not seen */
	int64 reached;   /* position behind the last row seen */
	int64 foreign;   /* rows of other organizations seen */

	/*
	 * What this process did since it last wrote a row of pfa_sync_page; rows
	 * that are there already are not here.
	 */
	PfaRunCounts unsaved;
	int64 calls_saved; /* of the client's counters */
	int64 bytes_saved;

	PfaRunProgress progress;
	void *progress_arg;
} PfaRunState;

/*
 * Run body in a transaction of its own and commit it; again in a fresh one
 * where it failed for a reason that passes (deadlock, lock timeout, a unique
 * key that the other worker of the run inserted first).  With relaxed, the
 * commit does not wait for the disk.
 */
extern void
pfa_run_transaction(PfaRunState *state, bool relaxed,
					void (*body)(PfaRunState *state, void *arg), void *arg);

/* Raise an error if someone asked the run to stop. */
extern void pfa_run_check_stop(PfaRunState *state);

/* pages.c */

/* The first page: learns total, page size and whether there are more. */
extern void pfa_pages_first(PfaRunState *state);
/* Claim and read pages until none is left to claim. */
extern void pfa_pages_read(PfaRunState *state);
/* The leader's end: read what is still missing, until coverage is proven. */
extern void pfa_pages_complete(PfaRunState *state);

/* sweep.c */
extern int64 pfa_sweep(PfaRunState *state, int64 rows_known);

#endif /* PFA_RUN_STATE_H */

/*
 * sweep.c
 *	  Remove from the mirror what a complete listing did not have.
 *
 * The pages of the run have left their candidates in pfa_sync_vanished.  They
 * are deleted only when the whole listing is covered, in batches that commit
 * by themselves, and not at all where too large a part of the mirror would go:
 * a permission that was taken away in PEMS looks just like deletion.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "guc.h"
#include "metrics/counters.h"
#include "sync/run_state.h"

#define SWEEP_BATCH 1000

typedef struct Sweep
{
	char *after; /* id the last batch ended with */
	int nids;
	int64 candidates;
	int64 deleted;
	int64 deleted_today;
	int64 batch_deleted;
} Sweep;

static void
count_candidates(PfaRunState *state, void *arg)
{
	Sweep *sweep = arg;

	sweep->candidates = pfa_vanished_count(state->run_id);
	sweep->deleted_today =
		pfa_run_deleted_since(state->organization->organization_id,
							  USECS_PER_DAY);
}

static void
delete_batch(PfaRunState *state, void *arg)
{
	Sweep *sweep = arg;
	const char **ids;

	ids = pfa_vanished_next(state->run_id, sweep->after, SWEEP_BATCH,
							&sweep->nids);
	sweep->batch_deleted = 0;
	if (sweep->nids == 0)
		return;
	sweep->batch_deleted = pfa_apply_delete(state->apply, ids, sweep->nids);
	sweep->after = MemoryContextStrdup(state->ctx, ids[sweep->nids - 1]);
}

/* Deletions of the last day count too: five runs of 15% are as bad as one. */
static void
guard(PfaRunState *state, const Sweep *sweep, int64 rows_known)
{
	double stored = (double) rows_known + sweep->candidates;

	if (state->force || sweep->candidates == 0)
		return;
	if (sweep->candidates <= pfa_guc_max_delete_fraction * stored &&
		sweep->candidates + sweep->deleted_today <=
			pfa_guc_max_delete_fraction * (stored + sweep->deleted_today))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_DATA_EXCEPTION),
		 errmsg(
			 "%lld of %lld records are no longer in PEMS, more than pfa_vanguard.max_delete_fraction (%g) allows",
			 (long long) sweep->candidates, (long long) stored,
			 pfa_guc_max_delete_fraction),
		 errdetail(
			 "Nothing was deleted by this run; %lld records were deleted in the last 24 hours.",
			 (long long) sweep->deleted_today),
		 errhint(
			 "If they are really gone, run SELECT pfa_sync_now('%s', 'force').",
			 state->organization->organization_id)));
}

/*
 * rows_known: records of the listing that the mirror has.  Returns how many
 * rows were deleted.
 */
int64
pfa_sweep(PfaRunState *state, int64 rows_known)
{
	Sweep sweep = {0};
	PfaSyncProgress progress = {0};

	pg_atomic_write_u32(&state->slot->phase, PFA_PHASE_SWEEPING);
	pfa_run_transaction(state, false, count_candidates, &sweep);
	guard(state, &sweep, rows_known);
	if (sweep.candidates == 0)
		return 0;
	do
	{
		pfa_run_check_stop(state);
		pfa_run_transaction(state, true, delete_batch, &sweep);
		sweep.deleted += sweep.batch_deleted;
		progress.deleted = sweep.batch_deleted;
		pfa_metrics_sync_progress(state->organization->organization_id,
								  &progress);
	} while (sweep.nids == SWEEP_BATCH);
	return sweep.deleted;
}

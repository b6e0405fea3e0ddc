/*
 * apply.h
 *	  Write decoded records into pfa_mirror.
 */
#ifndef PFA_APPLY_H
#define PFA_APPLY_H

#include "postgres.h"
#include "record/record.h"

typedef struct PfaApplyResult
{
	int64 inserted;
	int64 updated;
	int64 unchanged;
	int nvanished;            /* stored ids in the range that no record has */
	const char **vanished;    /* palloc'd in the caller's context */
	int nrejected;            /* records that no index entry can hold */
	const PfaReject *rejects; /* palloc'd; beside those of the batch */
	const char *max_version;  /* greatest pemsVersion, or NULL; palloc'd */
} PfaApplyResult;

typedef struct PfaApply PfaApply;

/* State of one organization's run; mapping outlives it. */
extern PfaApply *
pfa_apply_create(MemoryContext ctx, const char *organization_id,
				 const PfaMapping *mapping);

/*
 * Compare the batch with what is stored and write what differs, in the
 * caller's transaction.  Records are sorted by id in place; of two with one id
 * the later wins.
 *
 * With judge, stored ids between lower (exclusive, NULL: none) and upper
 * (inclusive if upper_inclusive, NULL: none) that are neither in the batch nor
 * among its rejects are returned as vanished.  Without, only the batch's own
 * ids are looked up.
 */
extern void pfa_apply_batch(PfaApply *apply, PfaBatch *batch, bool judge,
							const char *lower, const char *upper,
							bool upper_inclusive, PfaApplyResult *result);

/*
 * Delete those of the ids that are stored.  Returns how many were.
 */
extern int64 pfa_apply_delete(PfaApply *apply, const char **ids, int nids);

#endif /* PFA_APPLY_H */

/*
 * modification.h
 *	  Writing pfa_modification: the drafts of a user, and their commit.
 *
 * Rows of several records are locked in the order of pfa_id, so that two calls
 * cannot wait for one another.  Everything returned is palloc'd in the caller's
 * memory context.
 */
#ifndef PFA_MODIFICATION_H
#define PFA_MODIFICATION_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* Whose drafts. */
typedef struct PfaDraftOwner
{
	const char *organization_id;
	const char *user_id;
} PfaDraftOwner;

typedef struct PfaDraft
{
	int64 modification_id; /* 0: not stored */
	int64 version;
	int64 base_version;
	char *pfa_id;
	uint32 id_len;
	char *session_id;    /* or NULL */
	char *change_reason; /* or NULL */
	Jsonb *delta;
	Jsonb *base;
} PfaDraft;

/* Lock the owner's draft of a record; false where there is none. */
extern bool
pfa_draft_lock(const PfaDraftOwner *owner, const char *pfa_id, PfaDraft *draft);

/*
 * Store a draft as version 1, and set its id; false where a concurrent call of
 * the same user has stored one of the record first.
 */
extern bool pfa_draft_insert(const PfaDraftOwner *owner, PfaDraft *draft);

/* Store a locked draft as the next version. */
extern void pfa_draft_update(PfaDraft *draft);
extern void pfa_draft_delete(int64 modification_id);

/* Lock the owner's drafts, those of one session if it is not NULL. */
extern PfaDraft *
pfa_drafts_lock(const PfaDraftOwner *owner, const char *session_id, int *n);

/* Locked drafts become pending_sync, and their versions grow. */
extern void pfa_drafts_commit(PfaDraft *drafts, int n);

/*
 * Delete drafts, and the owner's changes that PEMS has refused: of one session,
 * of some records (a text[]), or, where both are NULL, all.
 */
extern PfaDraft *
pfa_drafts_discard(const PfaDraftOwner *owner, const char *session_id,
				   Datum pfa_ids, bool have_ids, int *n);

#endif /* PFA_MODIFICATION_H */

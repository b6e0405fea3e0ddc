/*
 * draft.h
 *	  Drafts: save, commit, discard.  Whoever calls has checked that the user
 *	  may.
 */
#ifndef PFA_DRAFT_H
#define PFA_DRAFT_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "catalog/modification.h"

/* Answers of the SQL calls of these names. */
extern Jsonb *pfa_draft_save(const PfaDraftOwner *owner, const char *session_id,
							 Jsonb *modifications);
extern Jsonb *
pfa_draft_commit(const PfaDraftOwner *owner, const char *session_id);
extern Jsonb *
pfa_draft_discard(const PfaDraftOwner *owner, const char *session_id,
				  Datum pfa_ids, bool have_ids);

#endif /* PFA_DRAFT_H */

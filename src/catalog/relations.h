/*
 * relations.h
 *	  Our tables and indexes by OID, for code that reads them past the
 *	  executor.
 */
#ifndef PFA_RELATIONS_H
#define PFA_RELATIONS_H

#include "postgres.h"

typedef enum PfaRelation
{
	PFA_REL_MIRROR,
	PFA_REL_MODIFICATION,
	PFA_REL_USER_ORGANIZATION,
	PFA_REL_ORGANIZATION,
	PFA_REL_SYNC_STATE,
	PFA_REL_FIELD_MAPPING,
	/* indexes */
	PFA_REL_MIRROR_KEY,
	PFA_REL_MODIFICATION_DRAFT,
	PFA_REL_MODIFICATION_DRAFT_TOUCHED,
	PFA_REL_MODIFICATION_COMMITTED,
	PFA_REL_MODIFICATION_COMMITTED_TOUCHED,
	PFA_REL_USER_ORGANIZATION_KEY,
	PFA_REL_ORGANIZATION_KEY,
	PFA_REL_SYNC_STATE_KEY,
	PFA_REL_FIELD_MAPPING_KEY
} PfaRelation;

#define PFA_NRELATIONS (PFA_REL_FIELD_MAPPING_KEY + 1)

/* An error where it is missing. */
extern Oid pfa_relation_oid(PfaRelation relation);

#endif /* PFA_RELATIONS_H */
